"""What happened to one session, as its worker saw it: for `parley session timeline`.

Most of it is what the caller is told, too, so it is taken from there (`told`): the two cannot differ. Nothing of what
was said is noted: no words, no arguments, no results, and no error of a function, which may quote them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from opentelemetry.context import Context

from parley.v1 import fabric_pb2, live_pb2, timeline_pb2
from parley.v1 import timeline_pb2 as kinds
from services.fabric import subjects, telemetry
from services.fabric.bus import Bus, NoResponderError
from services.fabric.errors import ServiceError
from services.fabric.timeline import Timeline
from services.session_worker import responses
from services.session_worker.input_queue import PACE
from services.session_worker.turns import Turn

_MOST_CALLS: Final = 128
"""Calls that the caller runs of which it is remembered when they began."""
_GATEWAY_ANSWERS: Final = 1.0
"""Seconds in which NATS says that nobody listens where a gateway would."""
_HOW: Final = {"WORKER_LOST": kinds.TIMELINE_EVENT_TYPE_RECOVERED, "DRAIN": kinds.TIMELINE_EVENT_TYPE_MIGRATED}
_HOW["MOVED"] = kinds.TIMELINE_EVENT_TYPE_MIGRATED


class SessionTimeline:
    """Notes of one session."""

    def __init__(
        self, timeline: Timeline, spec: fabric_pb2.OpenSession, worker: str, epoch: int, context: Callable[[], Context]
    ) -> None:
        """`context`: the trace of the moment."""
        self._timeline = timeline
        self._session, self._tenant = spec.session_id, spec.tenant
        self._worker = worker
        self._epoch = epoch
        self._context = context
        self._trace = ""
        self._cause = ""
        """Why there is no link."""
        self._close = ""
        """How the link ended, in words."""
        self._lost_at = 0.0
        """When it was noted that there is no link."""
        self._began: dict[str, float] = {}
        self._over = False

    def note(self, kind: kinds.TimelineEventType, *, since: float | None = None, **fields: Any) -> None:
        """Note that this happened; `since`: when it began, if that was before, in monotonic seconds. Where nothing else
        is said, it is about this worker. Nothing follows the end."""
        if self._over:
            return
        fields.setdefault("worker", self._worker)
        event = timeline_pb2.TimelineEvent(type=kind, epoch=self._epoch, **fields)
        trace = telemetry.trace_id(self._context())
        if trace != self._trace:
            event.trace_id = self._trace = trace
        self._timeline.note(self._session, self._tenant, event, since=since)

    # What the caller is told

    def told(self, response: live_pb2.ConverseResponse) -> None:
        """The caller is told this. Not called for media."""
        match response.WhichOneof("payload"):
            case "link_state" if response.link_state.HasField("rotating"):
                self._cause, close, self._close = response.link_state.rotating.cause, self._close, ""
                self._lost_at = time.monotonic()
                if self._cause not in _HOW:  # else how the session left its worker is noted
                    kind = kinds.TIMELINE_EVENT_TYPE_LINK_LOST
                    self.note(kind, since=self._lost_at, cause=self._cause, message=close)
            case "link_state" if self._cause:  # else a link that was there is asked again
                self._link_is_back(response.link_state.recovered)
            case "gap" if response.gap.reason != PACE:
                self.note(kinds.TIMELINE_EVENT_TYPE_GAP, cause=response.gap.reason, gap=response.gap)
            case "tool_activity" if response.tool_activity.phase == live_pb2.TOOL_PHASE_FINISHED:
                self._tool_ended(response.tool_activity)
            case "tool_call" if len(self._began) < _MOST_CALLS:
                self._began[response.tool_call.call_id] = time.monotonic()
            case "tool_call_cancelled":
                for call_id in response.tool_call_cancelled.call_ids:
                    self._began.pop(call_id, None)
            case "ended":
                reason = live_pb2.EndReason.Name(response.ended.reason).removeprefix("END_REASON_")
                self.note(
                    kinds.TIMELINE_EVENT_TYPE_ENDED,
                    cause=reason,
                    end_reason=response.ended.reason,
                    message=response.ended.message,
                )
                self._over = True
            case _:
                pass

    def _link_is_back(self, recovered: live_pb2.Recovered) -> None:
        kind = _HOW.get(self._cause, kinds.TIMELINE_EVENT_TYPE_ROTATED)
        since = time.monotonic() - recovered.gap.ToTimedelta().total_seconds()
        if kind == kinds.TIMELINE_EVENT_TYPE_ROTATED:
            since = max(since, self._lost_at)  # the model heard the caller last a moment before that was noted
        self.note(
            kind,
            since=since,
            duration=recovered.gap,
            cause=self._cause,
            method=recovered.method,
            state_restored=recovered.state_restored,
            replayed=_messages(recovered.replayed),
            dropped=_messages(recovered.dropped),
        )
        self._cause = ""

    def _tool_ended(self, activity: live_pb2.ToolActivity) -> None:
        took = activity.duration.ToTimedelta().total_seconds()
        self.note(
            kinds.TIMELINE_EVENT_TYPE_TOOL_CALL,
            since=time.monotonic() - took,
            duration=activity.duration,
            tool=activity.name,
            outcome=activity.outcome,
        )

    # What it is not told, or not so

    def link_over(self, close: str) -> None:
        """How the link ended, in words; that it did is noted when the caller is told."""
        self._close = close

    def link_refused(self, step: str, tries: int, error: ServiceError) -> None:
        """An attempt to get a link failed: RESUME or SEED."""
        self.note(
            kinds.TIMELINE_EVENT_TYPE_LINK_REFUSED,
            cause=error.reason_name,
            method=step,
            tries=tries,
            message=error.message,
        )

    def turn_over(self, turn: Turn) -> None:
        """A turn is over."""
        event: dict[str, Any] = {}
        if turn.first_audio is not None:
            event["first_audio"] = responses.duration(turn.first_audio - turn.began)
        self.note(
            kinds.TIMELINE_EVENT_TYPE_TURN,
            since=turn.began,
            duration=responses.duration(time.monotonic() - turn.began),
            turn=turn.number,
            interrupted=turn.interrupted,
            **event,
        )

    def turn_restarted(self, turn: Turn) -> None:
        """The link was lost in the middle of it."""
        self.note(kinds.TIMELINE_EVENT_TYPE_TURN_RESTARTED, turn=turn.number)

    def caller_answered(self, call_id: str, name: str, outcome: live_pb2.ToolOutcome) -> None:
        """The caller ran a function, or did not."""
        now = time.monotonic()
        began = self._began.pop(call_id, now)
        self.note(
            kinds.TIMELINE_EVENT_TYPE_TOOL_CALL,
            since=began,
            duration=responses.duration(now - began),
            tool=name,
            outcome=outcome,
            message="run by the caller",
        )

    def tool_trouble(self, tool: str, cause: str, message: str) -> None:
        """A call did not go as it should."""
        self.note(kinds.TIMELINE_EVENT_TYPE_TOOL_TROUBLE, tool=tool, cause=cause, message=message)

    def worker_lost(self, request: fabric_pb2.TakeOver) -> None:
        """The session is taken over from another worker."""
        if request.proof == fabric_pb2.PROOF_OF_DEATH_RELEASED:
            return  # it noted that itself
        silence = request.silence.ToTimedelta().total_seconds()
        proof = fabric_pb2.ProofOfDeath.Name(request.proof).removeprefix("PROOF_OF_DEATH_")
        self.note(
            kinds.TIMELINE_EVENT_TYPE_WORKER_LOST,
            since=time.monotonic() - silence,
            worker=request.from_worker,
            gateway=request.gateway,
            cause=proof,
            duration=request.silence,
        )

    def gateway_back(self, gateway: str) -> None:
        """A gateway that counted as gone was heard again, and goes on with its stream."""
        self.note(kinds.TIMELINE_EVENT_TYPE_ATTACHED, gateway=gateway, cause="GATEWAY_BACK")

    def ownership_lost(self) -> None:
        """The session turned out to be another worker's."""
        self.note(kinds.TIMELINE_EVENT_TYPE_OWNERSHIP_LOST, cause="FENCED")

    def released(self, cause: str, since: float, problem: str = "") -> None:
        """This worker let go of the session; it began to at `since`."""
        took = responses.duration(time.monotonic() - since)
        self.note(kinds.TIMELINE_EVENT_TYPE_RELEASED, since=since, duration=took, cause=cause, message=problem)

    def bus_lost(self, since: float) -> None:
        """This process had no connection to NATS since then."""
        away = responses.duration(time.monotonic() - since)
        self.note(kinds.TIMELINE_EVENT_TYPE_BUS_LOST, since=since, duration=away, cause="BUS_LOST")

    async def look_for_gateway(self, bus: Bus, gateway: str, since: float, *, elsewhere: bool) -> None:
        """Of a stream's gateway nothing was heard since then (monotonic seconds): is it there? `elsewhere`: its caller
        has come back by another one."""
        cause = "" if elsewhere else "GATEWAY_SILENT"
        try:
            # An envelope of nothing, which a gateway that is there drops.
            await bus.request(
                subjects.downlink(gateway, self._session),
                fabric_pb2.DownlinkEnvelope(),
                fabric_pb2.DownlinkEnvelope,
                _GATEWAY_ANSWERS,
            )
        except NoResponderError:
            cause = "GATEWAY_LOST"  # nobody listens where it would
        except ServiceError:
            pass  # it is there and does not answer this, or nobody knows
        if cause:
            silence = responses.duration(time.monotonic() - since)
            self.note(kinds.TIMELINE_EVENT_TYPE_DETACHED, since=since, duration=silence, gateway=gateway, cause=cause)


def _messages(ranges: Any) -> int:
    return sum(span.to_seq - span.from_seq + 1 for span in ranges)
