"""Writes what must survive the worker: the log in text, and checkpoints. One task a session, nobody waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from parley.v1 import fabric_pb2
from services.fabric.conversation_log import ConversationLog
from services.fabric.errors import ServiceError
from services.fabric.process import stop_tasks
from services.fabric.records import SessionRecords

log = structlog.get_logger()

_MAX_WAITING = 1000
"""Entries that may wait for JetStream. Beyond it the session takes no more input (backpressure)."""


class Recorder:
    """In order: log entries as they come, and the newest checkpoint whenever the log is quiet."""

    def __init__(
        self,
        records: SessionRecords,
        conversation: ConversationLog,
        session: str,
        stored: Callable[[int], None],
        checkpointed: Callable[[fabric_pb2.CheckpointRecord], None],
    ) -> None:
        self._records = records
        self._conversation = conversation
        self._session = session
        self._stored = stored
        self._checkpointed = checkpointed
        self._entries: deque[tuple[fabric_pb2.LogEntry, int]] = deque()
        self._checkpoint: fabric_pb2.CheckpointRecord | None = None
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._drained = asyncio.Event()
        self._drained.set()
        self.own_revision = 0
        self.task: asyncio.Task[None] | None = None
        """Runs `run`."""

    def log(self, entry: fabric_pb2.LogEntry, seq: int = 0) -> None:
        """Store an entry; `stored(seq)` is called when it is safe (seq 0: nobody asks)."""
        self._entries.append((entry, seq))
        self._drained.clear()
        if len(self._entries) >= _MAX_WAITING:
            self._room.clear()
        self._wake.set()

    def checkpoint(self, record: fabric_pb2.CheckpointRecord) -> None:
        """Store a checkpoint; only the newest counts. `checkpointed` is called when it is safe."""
        self._checkpoint = record
        self._wake.set()

    @property
    def idle(self) -> bool:
        """Every entry is stored."""
        return self._drained.is_set()

    @property
    def waiting(self) -> int:
        """Entries that are not stored."""
        return len(self._entries)

    async def room(self) -> None:
        """Wait until entries can be taken."""
        await self._room.wait()

    async def flush(self, timeout: float) -> None:
        """Wait until every entry is stored, at most `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._drained.wait()
        except TimeoutError:
            log.warning("log entries not stored in time", session=self._session, entries=len(self._entries))

    async def stop(self) -> None:
        """Return when every entry is stored and nothing more is being written. What `run` raises."""
        assert self.task is not None
        drained = asyncio.ensure_future(self._drained.wait())
        try:
            await asyncio.wait({drained, self.task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await stop_tasks([drained])
        if not self.task.done():
            await stop_tasks([self.task])
        elif not self.task.cancelled():
            self.task.result()

    async def write_checkpoint(self, record: fabric_pb2.CheckpointRecord) -> None:
        """Store this one now, after `stop`. FencedError; ServiceError."""
        await self._records.write_checkpoint(self._session, self.own_revision, record)

    async def run(self) -> None:
        """Write for ever. FencedError when the session belongs to somebody else."""
        # Retries end with the session: the records either come back or ownership lapses.
        patiently = AsyncRetrying(
            retry=retry_if_exception_type(ServiceError),
            wait=wait_random_exponential(multiplier=0.1, max=2),
            reraise=True,
        )
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._entries:
                entry, seq = self._entries[0]
                await patiently(self._conversation.append, entry)
                self._entries.popleft()
                if len(self._entries) < _MAX_WAITING // 2:
                    self._room.set()
                if seq:
                    self._stored(seq)
            self._drained.set()
            if self._checkpoint is not None:
                newest, self._checkpoint = self._checkpoint, None
                try:
                    await self._records.write_checkpoint(self._session, self.own_revision, newest)
                except ServiceError as error:
                    # A newer one comes soon; until then recovery starts from an older state, and acks wait.
                    log.warning("checkpoint not written", session=self._session, error=str(error))
                else:
                    self._checkpointed(newest)
