"""The span of each turn. It begins with the first sign of the turn and never outlives it."""

from __future__ import annotations

import time

from opentelemetry import trace
from opentelemetry.context import Context

from parley.v1 import fabric_pb2
from services.fabric import names, telemetry
from services.session_worker import events
from services.session_worker.turns import Turn


class TurnSpans:
    """Follows a session's turns; gives tool calls their parent."""

    def __init__(self, session: fabric_pb2.OpenSession, parent: Context) -> None:
        self._session = session
        self._parent = parent
        self._span: trace.Span | None = None
        self._number = 0

    @property
    def context(self) -> Context:
        """The context of the turn in progress, or of the session between turns."""
        return self._parent if self._span is None else trace.set_span_in_context(self._span, self._parent)

    def on_event(self, event: events.Event, turn: Turn | None, now: float) -> None:
        """Follow an event that belongs to `turn` (None: between turns)."""
        if turn is None:
            return
        if self._span is None or turn.number != self._number:
            self.finish(None)
            self._number = turn.number
            start = time.time_ns() - round((now - turn.began) * 1e9)
            self._span = telemetry.tracer().start_span(
                names.SPAN_TURN, self._parent, trace.SpanKind.INTERNAL, start_time=start
            )
            self._span.set_attributes(
                {
                    names.SESSION_ID: self._session.session_id,
                    names.TENANT: self._session.tenant,
                    names.PROFILE: self._session.profile,
                    names.GEN_AI_SYSTEM: "gcp.gemini",
                    names.GEN_AI_MODEL: self._session.config.model,
                    names.TURN_NUMBER: turn.number,
                }
            )
        match event:
            case events.Audio() if turn.first_audio is not None and turn.audio_seconds * event.rate * 2 <= len(
                event.pcm
            ):
                self._span.add_event(names.EVENT_FIRST_AUDIO)
            case events.InputTranscript(finished=True):
                self._span.add_event(names.EVENT_INPUT_TRANSCRIBED)
            case events.FunctionCall(name=name):
                self._span.add_event(names.EVENT_TOOL_CALL, {names.GEN_AI_TOOL_NAME: name})
            case events.Interrupted():
                self._span.add_event(names.EVENT_INTERRUPTED)
            case events.GenerationComplete():
                self._span.add_event(names.EVENT_GENERATION_COMPLETE)
            case _:
                pass

    def finish(self, turn: Turn | None, error: str = "") -> None:
        """End the span of the turn in progress; None: it never completed."""
        span, self._span = self._span, None
        if span is None:
            return
        if turn is not None:
            span.set_attribute(names.TURN_INTERRUPTED, turn.interrupted)
            span.set_attribute(names.AUDIO_SECONDS, round(turn.audio_seconds, 3))
            if turn.first_audio is not None:
                span.set_attribute(names.FIRST_AUDIO_MS, round((turn.first_audio - turn.began) * 1000, 1))
            if turn.usage is not None:
                span.set_attribute(names.GEN_AI_INPUT_TOKENS, turn.usage.prompt)
                span.set_attribute(names.GEN_AI_OUTPUT_TOKENS, turn.usage.response)
        if error:
            span.set_status(trace.StatusCode.ERROR, error)
        span.end()
