"""The span of each turn. It begins with the first sign of the turn and never outlives it."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.context import Context

from services.fabric import names, telemetry
from services.session_worker import events
from services.session_worker.session_trace import SessionTrace
from services.session_worker.turns import Turn


class TurnSpans:
    """Follows a session's turns; gives tool calls their parent."""

    def __init__(self, session_trace: SessionTrace) -> None:
        self._trace = session_trace
        self._parent = session_trace.context
        self._span: trace.Span | None = None
        self._number = 0

    @property
    def context(self) -> Context:
        """The context of the turn in progress, or of the session between turns and where the turn has no span."""
        if self._span is None or not self._span.is_recording():
            return self._trace.context
        return trace.set_span_in_context(self._span, self._parent)

    @property
    def traceparent(self) -> str:
        """Of the turn in progress; empty between turns and where the turn has no span."""
        recorded = self._span is not None and self._span.is_recording()
        return telemetry.headers(self.context).get(telemetry.TRACEPARENT, "") if recorded else ""

    def on_event(self, event: events.Event, turn: Turn | None) -> bool:
        """Follow an event that belongs to `turn` (None: between turns); whether it is the first of that turn."""
        if turn is None:
            return False
        span, begins = self._span, turn.number != self._number
        if span is None or begins:
            begins = True
            self.finish(None)
            self._number = turn.number
            self._trace.roll_over(turn.began)
            self._parent = self._trace.context
            attributes: dict[str, str | int] = {names.GEN_AI_SYSTEM: "gcp.gemini", names.TURN_NUMBER: turn.number}
            span = self._span = self._trace.start(names.SPAN_TURN, began=turn.began, attributes=attributes)
        match event:
            case events.Audio() if turn.first_audio is not None and turn.audio_seconds * event.rate * 2 <= len(
                event.pcm
            ):
                span.add_event(names.EVENT_FIRST_AUDIO)
            case events.InputTranscript(finished=True):
                span.add_event(names.EVENT_INPUT_TRANSCRIBED)
            case events.FunctionCall(name=name):
                span.add_event(names.EVENT_TOOL_CALL, {names.GEN_AI_TOOL_NAME: name})
            case events.Interrupted():
                span.add_event(names.EVENT_INTERRUPTED)
            case events.GenerationComplete():
                span.add_event(names.EVENT_GENERATION_COMPLETE)
            case _:
                pass
        return begins

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
