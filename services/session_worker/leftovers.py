"""What is still to be removed of sessions that are over: records whose retention ends, and what NATS did not take."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from nats.js import JetStreamContext

from services.fabric.conversation_log import ConversationLog
from services.fabric.errors import ServiceError
from services.fabric.records import SessionRecords

log = structlog.get_logger()

Chore = Callable[[], Awaitable[None]]
"""Safe to repeat; raises ServiceError while JetStream cannot do it."""

_LOOK_EVERY: Final = 0.1
_AT_ONCE: Final = 16
_PAUSE: Final = 2.0
_TRIES: Final = 300
"""Ten minutes of pauses; after that an operator has to look (RUNBOOK)."""
_KEPT: Final = 100_000
"""Chores kept at most; what is beyond ages out with its stream."""


class Leftovers:
    """Chores of this worker, each done when it is due and again until it succeeds."""

    def __init__(self, js: JetStreamContext, records: SessionRecords, retention: float) -> None:
        """`retention`: seconds that log and request id of an ended session are kept."""
        self._js = js
        self._records = records
        self._retention = retention
        self._waiting: list[tuple[float, int, str, Chore, int]] = []
        self._order = itertools.count()
        self._doing = 0
        self.given_up = 0

    def __len__(self) -> int:
        return len(self._waiting) + self._doing

    def add(self, session: str, request_key: str) -> None:
        """A session has ended: its log and request id go after the retention."""

        async def forget() -> None:
            await ConversationLog(self._js, session, epoch=0).forget()
            if request_key:
                await self._records.forget_request(request_key)

        self._later(self._retention, session, forget, 0)

    def again(self, session: str, chore: Chore) -> None:
        """Something could not be done now: do it soon."""
        self._later(_PAUSE, session, chore, 1)

    def _later(self, delay: float, session: str, chore: Chore, tries: int) -> None:
        if len(self._waiting) >= _KEPT or tries > _TRIES:
            self.given_up += 1
            log.error("records of a session stay until they age out", session=session)
            return
        heapq.heappush(self._waiting, (time.monotonic() + delay, next(self._order), session, chore, tries))

    async def run(self) -> None:
        """Do what is due, for ever."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            due: list[tuple[str, Chore, int]] = []
            while self._waiting and self._waiting[0][0] <= time.monotonic() and len(due) < _AT_ONCE:
                due.append(heapq.heappop(self._waiting)[2:])
            self._doing = len(due)
            await asyncio.gather(*(self._do(*one) for one in due))
            self._doing = 0

    async def _do(self, session: str, chore: Chore, tries: int) -> None:
        try:
            await chore()
        except ServiceError as error:
            log.warning("records of a session are not removed yet", session=session, error=str(error))
            self._later(_PAUSE, session, chore, tries + 1)
