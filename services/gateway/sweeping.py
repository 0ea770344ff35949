"""Ends sessions whose worker is gone and that nobody came back to: their records would stay for ever.

Each gateway looks through all sessions now and then, a page at a time. Records carry no time that could be compared
with a clock here, so a session counts as abandoned when this gateway has seen it unchanged and without its worker for
long enough, on its own clock; then the worker is asked. Several gateways may come to that at once: the records decide.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from parley.v1 import fabric_pb2, live_pb2, sessions_pb2
from services.fabric.bus import Bus
from services.fabric.errors import ServiceError
from services.fabric.records import FencedError, SessionRecords, handed_over
from services.gateway.burial import bury
from services.gateway.placement import WorkerTable
from services.gateway.session_timeline import GatewayTimeline
from services.gateway.settings import GatewaySettings

log = structlog.get_logger()

_PAGE: Final = 100
_PAUSE: Final = 0.1
"""Seconds between two pages: nobody waits for this."""
_MOST_WATCHED: Final = 10_000
"""Sessions without a worker that are kept in mind; the others have their turn when these are ended."""


class Ownerless:
    """Since when which sessions have been seen without a worker. Plain code: times are monotonic seconds."""

    def __init__(self, after: float, most: int = _MOST_WATCHED) -> None:
        """`after`: seconds after which a session counts as abandoned."""
        self._after = after
        self._most = most
        self._since: dict[str, tuple[int, float]] = {}
        self._seen: set[str] = set()

    def __len__(self) -> int:
        return len(self._since)

    def seen(self, session: str, revision: int, now: float) -> bool:
        """This session, whose `own` has this revision, has no worker now; whether it is abandoned."""
        known = self._since.get(session)
        if known is None and len(self._since) >= self._most:
            return False
        self._seen.add(session)
        if known is None or known[0] != revision:
            self._since[session] = revision, now
            return False
        return now - known[1] >= self._after

    def all_seen(self) -> None:
        """All sessions have been looked through: forget those that were not among the ownerless any more."""
        self._since = {session: known for session, known in self._since.items() if session in self._seen}
        self._seen.clear()


class Sweeper:
    """Looks for abandoned sessions, for ever."""

    def __init__(
        self,
        settings: GatewaySettings,
        bus: Bus,
        records: SessionRecords,
        table: WorkerTable,
        *,
        timeline: GatewayTimeline,
        prove_gone: Callable[[str, str], Awaitable[fabric_pb2.ProofOfDeath | None]],
        rng: Callable[[], float] = random.random,
    ) -> None:
        """`prove_gone`: that a worker does not hold a session; None when it does, ServiceError when it is not clear.

        `rng`: numbers from 0 to 1; gateways that were started together do not look all at once."""
        self._every = settings.sweep_every.total_seconds()
        self._retention = settings.ended_retention
        self._bus = bus
        self._records = records
        self._table = table
        self._timeline = timeline
        self._prove_gone = prove_gone
        self._rng = rng
        self._ownerless = Ownerless(settings.abandoned_after.total_seconds())
        self.swept = 0
        """Sessions that this gateway ended."""

    async def run(self) -> None:
        """Sweep for ever, each time after a pause."""
        while True:
            await asyncio.sleep(self._every * (0.5 + self._rng()))
            try:
                await self._bus.connected.wait()
                await self._sweep()
            except ServiceError as error:
                log.warning("abandoned sessions are looked for later", error=str(error))

    async def _sweep(self) -> None:
        unclear: set[str] = set()
        """Workers that hang: nothing is known of their sessions, and each question would take its time."""
        async with contextlib.aclosing(self._records.pages_of_own(_PAGE)) as pages:
            async for page in pages:
                for own, revision in page:
                    if self._abandoned(own, revision) and own.session.worker not in unclear:
                        try:
                            await self._end(own, revision)
                        except ServiceError as error:
                            unclear.add(own.session.worker)
                            log.warning("session not swept", session=own.session.session_id, error=str(error))
                await asyncio.sleep(_PAUSE)
        self._ownerless.all_seen()

    def _abandoned(self, own: fabric_pb2.OwnRecord, revision: int) -> bool:
        session = own.session
        if session.state == sessions_pb2.SESSION_STATE_ENDED:
            return False
        if session.worker in self._table and not handed_over(own):
            return False
        return self._ownerless.seen(session.session_id, revision, time.monotonic())

    async def _end(self, own: fabric_pb2.OwnRecord, revision: int) -> None:
        session = own.session.session_id
        if not handed_over(own) and await self._prove_gone(own.session.worker, session) is None:
            return
        try:
            await bury(
                self._bus.js,
                self._records,
                own,
                revision,
                reason=live_pb2.END_REASON_ABANDONED,
                retention=self._retention,
            )
        except FencedError:
            return  # somebody else was faster, or it has an owner again
        self.swept += 1
        why = f"nobody came back, and its worker {own.session.worker} was gone"
        self._timeline.ended(session, own.session.tenant, live_pb2.END_REASON_ABANDONED, why)
        log.info("abandoned session ended", session=session, worker=own.session.worker)
