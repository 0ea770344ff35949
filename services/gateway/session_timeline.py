"""What happened to sessions, as their gateway saw it: for `parley session timeline`."""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration

from parley.v1 import live_pb2, timeline_pb2
from parley.v1 import timeline_pb2 as kinds
from services.fabric import telemetry
from services.fabric.errors import ServiceError
from services.fabric.timeline import Timeline
from services.gateway.stream import Stream


class GatewayTimeline:
    """Notes of one gateway."""

    def __init__(self, timeline: Timeline, me: str) -> None:
        self._timeline = timeline
        self._me = me

    def note(
        self, session: str, tenant: str, kind: kinds.TimelineEventType, *, since: float | None = None, **fields: Any
    ) -> None:
        """Note that this happened; `since`: when it began, if that was before, in monotonic seconds."""
        event = timeline_pb2.TimelineEvent(type=kind, gateway=self._me, **fields)
        self._timeline.note(session, tenant, event, since=since)

    def opened(self, stream: Stream, *, model: str, profile: str, tries: int, since: float, now: float) -> None:
        """The stream has a new session, and its worker."""
        self.note(
            stream.session,
            stream.tenant,
            kinds.TIMELINE_EVENT_TYPE_OPENED,
            since=since,
            duration=seconds(now - since),
            worker=stream.worker,
            epoch=stream.epoch,
            attach_generation=stream.generation,
            model=model,
            profile=profile,
            tries=tries,
            trace_id=telemetry.trace_id(),
        )

    def refused(
        self, session: str, tenant: str, error: ServiceError, *, profile: str, since: float, now: float
    ) -> None:
        """There will be no such session."""
        self.note(
            session,
            tenant,
            kinds.TIMELINE_EVENT_TYPE_REFUSED,
            since=since,
            duration=seconds(now - since),
            profile=profile,
            cause=error.reason_name,
            message=error.message,
            trace_id=telemetry.trace_id(),
        )

    def attached(self, stream: Stream, *, since: float, now: float) -> None:
        """The stream has a session that was there."""
        self.note(
            stream.session,
            stream.tenant,
            kinds.TIMELINE_EVENT_TYPE_ATTACHED,
            since=since,
            duration=seconds(now - since),
            worker=stream.worker,
            epoch=stream.epoch,
            attach_generation=stream.generation,
            trace_id=telemetry.trace_id(),
        )

    def detached(self, stream: Stream, end: BaseException | None) -> None:
        """The stream is over; None: with status OK."""
        if not stream.attached:
            return  # it never had the session
        message = ""
        if isinstance(end, ServiceError):
            cause, message = end.reason_name, end.message
        elif end is not None:
            cause = "CALLER_GONE"
        else:
            cause = "CALLER_CLOSED" if stream.half_closed else "SESSION_ENDED"
        self.note(
            stream.session,
            stream.tenant,
            kinds.TIMELINE_EVENT_TYPE_DETACHED,
            attach_generation=stream.generation,
            cause=cause,
            message=message,
        )

    def draining(self, stream: Stream, time_left: float) -> None:
        """The caller is told that this gateway goes away."""
        if stream.attached:
            self.note(
                stream.session,
                stream.tenant,
                kinds.TIMELINE_EVENT_TYPE_GATEWAY_DRAINING,
                duration=seconds(time_left),
                attach_generation=stream.generation,
                cause="GATEWAY_DRAINING",
            )

    def bus_was_lost(self, stream: Stream, since: float, now: float) -> None:
        """This process had no connection to NATS since then."""
        if stream.attached:
            self.note(
                stream.session,
                stream.tenant,
                kinds.TIMELINE_EVENT_TYPE_BUS_LOST,
                since=since,
                duration=seconds(now - since),
                cause="BUS_LOST",
            )

    def gap(self, stream: Stream, gap: live_pb2.Gap) -> None:
        """This gateway told the caller that something did not come."""
        self.note(stream.session, stream.tenant, kinds.TIMELINE_EVENT_TYPE_GAP, cause=gap.reason, gap=gap)

    def ended(self, session: str, tenant: str, reason: live_pb2.EndReason, message: str = "") -> None:
        """This gateway ended a session that no worker held."""
        cause = live_pb2.EndReason.Name(reason).removeprefix("END_REASON_")
        self.note(session, tenant, kinds.TIMELINE_EVENT_TYPE_ENDED, cause=cause, end_reason=reason, message=message)


def seconds(value: float) -> Duration:
    """As a protobuf duration."""
    duration = Duration()
    duration.FromMilliseconds(round(value * 1000))
    return duration
