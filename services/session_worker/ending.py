"""How a session ends on this worker: told and recorded, or in silence because it goes on elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
from opentelemetry.trace import StatusCode

from parley.v1 import errors_pb2, live_pb2
from services.fabric import names
from services.fabric.errors import ServiceError
from services.fabric.records import FencedError
from services.session_worker import measured

if TYPE_CHECKING:
    from services.session_worker.parts import Parts

log = structlog.get_logger()

_LINGER: Final = 3.0
"""Seconds that an ended session waits for a slow gateway to take its last messages; half of them at least from when
everything else of it is over."""


@dataclass(frozen=True)
class EndCause:
    """Why and when a session ended."""

    reason: live_pb2.EndReason
    """UNSPECIFIED: it goes on elsewhere."""
    message: str
    since: float
    """Monotonic seconds."""
    failure: str = ""
    """Reason of the error that ended it."""

    @property
    def elsewhere(self) -> bool:
        """Whoever has the session now speaks for it."""
        return self.reason == live_pb2.END_REASON_UNSPECIFIED


class Ending:
    """One session's: `finish`, `fail` or `let_go` once, then `close`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.cause: EndCause | None = None
        """Set once. The worker then calls `close`."""
        self.leaving = False
        """It is being let go, and speaks no more: whoever has it next comes upon the same end, if it is one."""
        self.recorded = False
        """It was ours when it ended, and nobody can take it any more."""
        self.disposed = False
        """The session's parts are gone."""
        self._closed = 0.0

    def finish(self, reason: live_pb2.EndReason, message: str, failure: ServiceError | None = None) -> None:
        """Tell the caller that it is over."""
        if self.cause is not None or self.leaving:
            return
        parts = self._parts
        parts.say(live_pb2.ConverseResponse(ended=live_pb2.Ended(reason=reason, message=message)))
        parts.downlink.end_stream(None if failure is None else failure.to_failure())
        error = "" if failure is None else failure.reason_name
        self.cause = EndCause(reason, message, time.monotonic(), error)
        parts.wake()

    @property
    def told(self) -> bool:
        """The caller was told that it is over: whatever the model goes on with has no effect."""
        return self.cause is not None and not self.cause.elsewhere

    def let_go(self, why: str) -> None:
        """It goes on elsewhere, or waits in its records: say nothing more."""
        if self.cause is None:
            self.cause = EndCause(live_pb2.END_REASON_UNSPECIFIED, why, time.monotonic())

    def fail(self, error: BaseException) -> None:
        """Something that the session cannot do without has failed."""
        session = self._parts.spec.session_id
        if isinstance(error, FencedError):
            if self.cause is None:
                log.warning("ownership lost", session=session)
                self._parts.timeline.ownership_lost()
                measured.fenced()
            self.let_go("fenced")
            self._parts.downlink.detach()
        elif isinstance(error, ServiceError):
            self.finish(live_pb2.END_REASON_BACKEND, error.message, error)
        else:
            log.error("session failed", session=session, exc_info=error)
            failure = ServiceError(errors_pb2.ERROR_REASON_INTERNAL, f"the session failed ({type(error).__name__})")
            self.finish(live_pb2.END_REASON_BACKEND, failure.message, failure)

    async def close(self) -> None:
        """Stop every task, close the link, replace the record by a tombstone. Never raises."""
        parts, cause = self._parts, self.cause
        assert cause is not None
        # Who has the session now wants what its tools run.
        await parts.tools.close(hand_over=cause.elsewhere)
        if not cause.elsewhere:
            await parts.recorder.flush(timeout=2)
        await parts.tasks.stop()
        parts.spans.finish(parts.turns.current, "the session ended in the middle of the turn")
        await parts.links.close()
        if not cause.elsewhere:
            self._trace(cause)
            await self._record(cause)
        self._closed = time.monotonic()

    def _trace(self, cause: EndCause) -> None:
        reason = live_pb2.EndReason.Name(cause.reason).removeprefix("END_REASON_")
        with self._parts.trace.span(names.SPAN_END, attributes={names.END_REASON: reason}, vital=True) as span:
            if cause.failure:
                span.set_attribute(names.ERROR_REASON, cause.failure)
                span.set_status(StatusCode.ERROR, cause.failure)

    async def _record(self, cause: EndCause) -> None:
        parts = self._parts
        # It may be done when the parts are gone.
        retention, generation = parts.services.settings.record_retention, parts.attachment.generation
        ownership, downlink, writer = parts.ownership, parts.downlink, parts.services.writer

        async def record() -> None:
            await ownership.end(cause.reason, generation, retention)
            self.recorded = not ownership.lost
            downlink.muted = not self.recorded
            writer.wake(downlink)

        try:
            await record()
        except ServiceError as error:
            session = parts.spec.session_id
            log.warning("the end of a session is not recorded yet", session=session, error=str(error))
            parts.services.leftovers.again(session, record)

    def lingers(self, now: float) -> bool:
        """The end is not yet with the gateway, and there is still reason to wait for that."""
        assert self.cause is not None
        since = self.cause.since
        if now - since > _LINGER / 2:
            self._parts.downlink.drop_queued_audio()
            self._parts.wake()
        return not self._parts.downlink.drained and now < max(since + _LINGER, self._closed + _LINGER / 2)
