"""Brings a session its next link: one step of the ladder after another, in one span that says why the call paused."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link as SpanLink

from parley.v1 import fabric_pb2
from services.fabric import names, telemetry
from services.session_worker.closes import LinkError, LinkFailure
from services.session_worker.connecting import Connecting
from services.session_worker.ladder import Budget, Fail, Ladder, Resume, Step
from services.session_worker.link import Dialer, Link
from services.session_worker.measured import Replacing
from services.session_worker.replay_span import ReplaySpan
from services.session_worker.restoration import Restoration
from services.session_worker.sent_input import Item
from services.session_worker.seq_ranges import Range
from services.session_worker.session_context import SessionContext
from services.session_worker.session_trace import SessionTrace
from services.session_worker.settings import WorkerSettings
from services.session_worker.takeover import WORKER_LOST

log = structlog.get_logger()

Restored = Callable[[bool], Restoration]
"""What a link is to begin with, which resumes (True) or begins from nothing."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which a session has no link."""

    cause: str
    """As callers are told."""
    began: float
    """When the model heard the caller last; monotonic seconds."""
    replayed: Sequence[Range] = ()
    """Uplink that the model may have heard before and that comes again, beside what the link begins with."""
    taken_over: Context | None = None
    """The session was another worker's; the context of whoever asked for the takeover."""

    @property
    def span_name(self) -> str:
        """Of the span that tells of it."""
        if self.taken_over is None:
            return names.SPAN_ROTATE
        return names.SPAN_RECOVER if self.cause == WORKER_LOST else names.SPAN_MIGRATE


class NextLink:
    """Where the links of one session come from."""

    def __init__(
        self,
        spec: fabric_pb2.OpenSession,
        settings: WorkerSettings,
        dialer: Dialer,
        context: SessionContext,
        session_trace: SessionTrace,
        *,
        refused: Callable[[str, int, LinkError], None],
    ) -> None:
        """`refused`: a try to replace a link failed; told what was tried (RESUME or SEED) and how many that makes."""
        self._spec = spec
        self._refused = refused
        self._trace = session_trace
        self._connecting = Connecting(spec, settings, dialer, context, session_trace)
        budget = Budget(
            settings.recovery_tries, settings.recovery_time.total_seconds(), settings.healthy_link.total_seconds()
        )
        self._ladder = Ladder(budget, random.random)
        self._number = 0
        self._brought = Context()
        """Of the span that tells of the newest link."""

    async def first(self, begins_with: Restoration, parent: Context) -> tuple[Link, Restoration]:
        """Of a new session. LinkError (BACKEND_*)."""
        return self._connected(await self._connecting.connect(1, "", begins_with, parent)), begins_with

    async def replace(
        self, outage: Outage, failure: LinkFailure | None, handle: str, restoration: Restored
    ) -> tuple[Link, Restoration]:
        """After a link that ended like this, or was left on purpose (None). LinkError when nothing helps."""
        return await self._bring(outage, self._next_step(failure, handle), restoration)

    async def reopen(
        self, outage: Outage, handle: str, restoration: Restored, *, cut_off: bool
    ) -> tuple[Link, Restoration]:
        """After a time in which none was wanted here. LinkError when nothing helps. `cut_off`: the last one may be open
        still, as the service sees it."""
        step = self._ladder.reopen(time.monotonic(), handle=handle, can_seed=True, takeover=cut_off)
        return await self._bring(outage, step, restoration)

    async def _bring(self, outage: Outage, step: Step, restoration: Restored) -> tuple[Link, Restoration]:
        with self._span(outage) as span, Replacing(outage.cause, outage.began) as replacing:
            tries = 0
            while not isinstance(step, Fail):
                await asyncio.sleep(step.delay)
                tries += 1
                resumed = isinstance(step, Resume)
                handle = step.handle if isinstance(step, Resume) else ""
                begins_with = restoration(resumed)
                try:
                    link = await self._connecting.connect(self._number + 1, handle, begins_with, self._brought)
                except LinkError as error:
                    log.warning("no new link", session=self._spec.session_id, error=str(error))
                    self._refused("RESUME" if resumed else "SEED", tries, error)
                    step = self._next_step(error.failure, handle)
                    continue
                span.set_attributes(
                    {
                        names.LINK: self._number + 1,
                        names.LINK_METHOD: begins_with.method,
                        names.LINK_STATE_RESTORED: begins_with.state_restored,
                        names.LINK_TRIES: tries,
                        names.LINK_GAP_MS: round((time.monotonic() - outage.began) * 1000, 1),
                    }
                )
                replacing.connected(begins_with.method)
                return self._connected(link), begins_with
            span.set_attribute(names.LINK_TRIES, tries)
            raise step.error

    def _connected(self, link: Link) -> Link:
        self._number += 1
        self._ladder.connected(time.monotonic())
        return link

    def _next_step(self, failure: LinkFailure | None, handle: str) -> Step:
        now = time.monotonic()
        if failure is None:
            return self._ladder.rotate(now, handle=handle, can_seed=True)
        return self._ladder.failed(failure, now, handle=handle, can_seed=True)

    @contextmanager
    def _span(self, outage: Outage) -> Iterator[trace.Span]:
        """From when the model heard the caller last, until it can again."""
        parent, links = self._trace.context, []
        if outage.taken_over is not None:
            asked = telemetry.span_context(outage.taken_over)
            if asked.trace_id == telemetry.span_context(parent).trace_id:
                parent = outage.taken_over
            elif asked.is_valid:  # the session has gone on in another trace since its stream was opened
                links = [SpanLink(asked)]
        with self._trace.span(outage.span_name, parent=parent, began=outage.began, links=links, vital=True) as span:
            span.set_attribute(names.LINK_CAUSE, outage.cause)
            self._brought = trace.set_span_in_context(span, parent)
            yield span

    def replay(self, items: Sequence[Item], seconds: float) -> ReplaySpan | None:
        """The span of what the newest link is given again: these, which sound so long. None where that is nothing."""
        return ReplaySpan(self._trace, self._brought, len(items), seconds) if items else None
