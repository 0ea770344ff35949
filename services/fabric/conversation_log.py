"""The conversation in text: `parley.log.<session>`, appended by the session's owner alone.

A fence on `own` cannot protect this stream, because the server looks for the fenced subject in the stream that is
written (tests/fabric proves it). So each append carries the sequence of the append before it: whoever takes a session
over appends `epoch_begins`, and from then on every append of the old owner is refused. Reading up to one's own
`epoch_begins` therefore is reading everything.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Final

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from parley.v1 import fabric_pb2
from services.fabric import ids, subjects
from services.fabric.records import FencedError, unavailable
from services.fabric.streams import ensure_stream
from services.fabric.topology import MOST_LOG_ENTRIES, log_stream

_WRONG_LAST_SEQUENCE: Final = 10071
_MIB: Final = 1024 * 1024
_ATTEMPTS: Final = 4
"""Of one append: the older owner may come between a few times before `epoch_begins` is in."""

_MOST_BYTES: Final = 8 * _MIB
_READ_LIMIT: Final = 5.0
"""Seconds that reading a log may take."""
_BATCH: Final = 25
"""Messages of one pull. All of them together, at 4 MiB each, stay below what the client lets wait (128 MiB)."""
_INACTIVE: Final = 30.0
"""Seconds after which the server removes the consumer of a reader that is gone."""
_REMOVAL: Final = 2.0
"""Seconds that removing it may take."""


async def ensure_log(js: JetStreamContext, replicas: int, retention: timedelta) -> None:
    """Create the stream when it is missing, else look at it. MismatchError, StreamUnavailableError."""
    await ensure_stream(js, log_stream(replicas, retention))


class ConversationLog:
    """One session's log, for its owner."""

    def __init__(self, js: JetStreamContext, session: str, epoch: int) -> None:
        self._js = js
        self._session = session
        self._epoch = epoch
        self._subject = subjects.log(session)
        self._last = 0
        """Sequence of the newest message."""
        self._position = 0
        """Of the newest entry."""
        self._lock = asyncio.Lock()

    async def begin(self, worker: str) -> None:
        """Start the epoch: from here on nobody older can append. FencedError when somebody newer has."""
        current = await self._newest()
        if current is not None and current[0].epoch > self._epoch:
            raise FencedError(self._subject)
        self._found(current)
        await self.append(fabric_pb2.LogEntry(epoch_begins=fabric_pb2.EpochBegins(worker=worker)))

    async def append(self, entry: fabric_pb2.LogEntry) -> None:
        """Store one entry. Returns when it is safe. FencedError; ServiceError when JetStream is not available."""
        entry.schema_version = 1
        entry.epoch = self._epoch
        async with self._lock:
            for _ in range(_ATTEMPTS):
                entry.position = self._position + (0 if entry.HasField("epoch_begins") else 1)
                payload = entry.SerializeToString()
                try:
                    ack = await self._js.publish(
                        self._subject, payload, headers={"Nats-Expected-Last-Subject-Sequence": str(self._last)}
                    )
                except nats.js.errors.APIError as error:
                    if error.err_code != _WRONG_LAST_SEQUENCE:
                        raise unavailable(error) from error
                    if await self._stored_already(payload):
                        return
                except (nats.errors.Error, TimeoutError) as error:
                    raise unavailable(error) from error
                else:
                    self._last, self._position = ack.seq, entry.position
                    return
        raise unavailable(FencedError("refused again and again although the log is ours"))

    async def _stored_already(self, payload: bytes) -> bool:
        """Look where the log is. FencedError when somebody newer appends; else True when `payload` is the newest.

        An append that timed out may have succeeded; an older owner may append until a newer one has begun; a log that
        was quiet for long has aged away. None of them means that the session belongs to somebody else.
        """
        current = await self._newest()
        self._found(current)
        if current is None:
            return False
        if current[0].epoch > self._epoch:
            raise FencedError(self._subject)
        return current[2] == payload

    def _found(self, newest: tuple[fabric_pb2.LogEntry, int, bytes] | None) -> None:
        if newest is None:
            self._last = 0  # aged away; positions go on
        else:
            self._last, self._position = newest[1], newest[0].position

    async def _newest(self) -> tuple[fabric_pb2.LogEntry, int, bytes] | None:
        try:
            message = await self._js.get_last_msg(subjects.LOG_STREAM, self._subject)
        except nats.js.errors.NotFoundError:
            return None
        except (nats.errors.Error, TimeoutError) as error:
            raise unavailable(error) from error
        data = message.data or b""
        return fabric_pb2.LogEntry.FromString(data), message.seq or 0, data

    async def read(self, most: int = MOST_LOG_ENTRIES, most_bytes: int = _MOST_BYTES) -> list[fabric_pb2.LogEntry]:
        """Everything up to the newest append of this owner, who must have begun: in order, entries of older epochs
        first. Of more than `most` entries or `most_bytes` the newest. ServiceError when JetStream is not available or
        slow; it is as good to try again."""
        entries: deque[tuple[fabric_pb2.LogEntry, int]] = deque()
        size, last = 0, self._last
        try:
            async with asyncio.timeout(_READ_LIMIT), contextlib.aclosing(self._messages(last)) as messages:
                async for message in messages:
                    entries.append((fabric_pb2.LogEntry.FromString(message.data), len(message.data)))
                    size += len(message.data)
                    while len(entries) > most or size > most_bytes:
                        size -= entries.popleft()[1]
        except (nats.errors.Error, TimeoutError) as error:
            raise unavailable(error) from error
        return [entry for entry, _ in entries]

    async def _messages(self, last: int) -> AsyncGenerator[Msg, None]:
        """Up to the message with sequence `last`, which is there: a server that is behind catches up with it."""
        if not last:
            return
        name = f"log-{ids.sortable_id()}"
        config = ConsumerConfig(
            name=name,
            filter_subject=self._subject,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=_INACTIVE,
            mem_storage=True,
            num_replicas=1,
        )
        subscription = await self._js.pull_subscribe_bind(name, subjects.LOG_STREAM)
        try:
            await self._js.add_consumer(subjects.LOG_STREAM, config)
            seen = count = 0
            while seen < last:
                for message in await subscription.fetch(_BATCH, timeout=_READ_LIMIT):
                    seen, count = message.metadata.sequence.stream, count + 1
                    if message.metadata.sequence.consumer != count:
                        raise nats.errors.Error("part of the log was lost on its way")
                    if seen <= last:
                        yield message
        finally:
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                async with asyncio.timeout(_REMOVAL):
                    await subscription.unsubscribe()
                    await self._js.delete_consumer(subjects.LOG_STREAM, name)

    async def forget(self) -> None:
        """Remove the whole log of the session."""
        try:
            await self._js.purge_stream(subjects.LOG_STREAM, subject=self._subject)
        except nats.js.errors.NotFoundError:
            pass  # no worker has been here that could have written one
        except (nats.errors.Error, TimeoutError) as error:
            raise unavailable(error) from error
