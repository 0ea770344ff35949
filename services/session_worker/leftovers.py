"""What stays of ended sessions for a while: their logs and request ids, removed when the retention is over."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

import structlog
from nats.js import JetStreamContext

from services.fabric.conversation_log import ConversationLog
from services.fabric.errors import ServiceError
from services.fabric.records import SessionRecords

log = structlog.get_logger()

_LOOK_EVERY: Final = 0.1
_AT_ONCE: Final = 16
_KEPT: Final = 100_000
"""Sessions remembered at most; the records of older ones age out with their streams."""


class Leftovers:
    """Sessions that this worker ended."""

    def __init__(self, js: JetStreamContext, records: SessionRecords, retention: float) -> None:
        """`retention`: seconds."""
        self._js = js
        self._records = records
        self._retention = retention
        self._waiting: deque[tuple[float, str, str]] = deque(maxlen=_KEPT)
        self._removing = 0

    def __len__(self) -> int:
        return len(self._waiting) + self._removing

    def add(self, session: str, request_key: str) -> None:
        """A session has ended."""
        self._waiting.append((time.monotonic() + self._retention, session, request_key))

    async def run(self) -> None:
        """Remove what is due, for ever."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            due: list[tuple[str, str]] = []
            while self._waiting and self._waiting[0][0] <= time.monotonic() and len(due) < _AT_ONCE:
                due.append(self._waiting.popleft()[1:])
            self._removing = len(due)
            await asyncio.gather(*(self._remove(*one) for one in due))
            self._removing = 0

    async def _remove(self, session: str, request_key: str) -> None:
        try:
            await ConversationLog(self._js, session, epoch=0).forget()
            if request_key:
                await self._records.forget_request(request_key)
        except ServiceError as error:
            log.warning("records of an ended session stay until they age out", session=session, error=str(error))
