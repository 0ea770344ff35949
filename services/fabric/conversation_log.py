"""The conversation in text: `parley.log.<session>`, appended by the session's owner alone.

A fence on `own` cannot protect this stream, because the server looks for the fenced subject in the stream that is
written (tests/fabric proves it). So each append carries the sequence of the append before it: whoever takes a session
over appends `epoch_begins`, and from then on every append of the old owner is refused.
"""

from __future__ import annotations

import asyncio
from typing import Final

import nats.errors
import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import StorageType, StreamConfig

from parley.v1 import fabric_pb2
from services.fabric import subjects
from services.fabric.records import FencedError, ensure_stream, unavailable

_WRONG_LAST_SEQUENCE: Final = 10071
_MIB: Final = 1024 * 1024
_ATTEMPTS: Final = 4
"""Of one append: the older owner may come between a few times before `epoch_begins` is in."""


async def ensure_log(js: JetStreamContext, replicas: int, max_age_seconds: float) -> None:
    """Create the stream when it is missing."""
    await ensure_stream(
        js,
        StreamConfig(
            name=subjects.LOG_STREAM,
            subjects=["parley.log.*"],
            max_age=max_age_seconds,
            max_bytes=2048 * _MIB,
            max_msg_size=4 * _MIB,
            allow_direct=True,
            num_replicas=replicas,
            storage=StorageType.FILE,
        ),
    )


class ConversationLog:
    """Appends of one owner to one session's log."""

    def __init__(self, js: JetStreamContext, session: str, epoch: int) -> None:
        self._js = js
        self._session = session
        self._epoch = epoch
        self._subject = subjects.log(session)
        self._last = 0
        self._lock = asyncio.Lock()

    async def begin(self, worker: str) -> None:
        """Start the epoch: from here on nobody older can append. FencedError when somebody newer has."""
        current = await self._newest()
        if current is not None and current[0].epoch > self._epoch:
            raise FencedError(self._subject)
        self._last = 0 if current is None else current[1]
        await self.append(fabric_pb2.LogEntry(epoch_begins=fabric_pb2.EpochBegins(worker=worker)))

    async def append(self, entry: fabric_pb2.LogEntry) -> None:
        """Store one entry. Returns when it is safe. FencedError; ServiceError when JetStream is not available."""
        entry.schema_version = 1
        entry.epoch = self._epoch
        payload = entry.SerializeToString()
        async with self._lock:
            for _ in range(_ATTEMPTS):
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
                    self._last = ack.seq
                    return
        raise unavailable(FencedError("refused again and again although the log is ours"))

    async def _stored_already(self, payload: bytes) -> bool:
        """Look where the log is. FencedError when somebody newer appends; else True when `payload` is the newest.

        An append that timed out may have succeeded; an older owner may append until a newer one has begun; a log that
        was quiet for long has aged away. None of them means that the session belongs to somebody else.
        """
        current = await self._newest()
        self._last = 0 if current is None else current[1]
        if current is None:
            return False
        if current[0].epoch > self._epoch:
            raise FencedError(self._subject)
        return current[2] == payload

    async def _newest(self) -> tuple[fabric_pb2.LogEntry, int, bytes] | None:
        try:
            message = await self._js.get_last_msg(subjects.LOG_STREAM, self._subject)
        except nats.js.errors.NotFoundError:
            return None
        except (nats.errors.Error, TimeoutError) as error:
            raise unavailable(error) from error
        data = message.data or b""
        return fabric_pb2.LogEntry.FromString(data), message.seq or 0, data

    async def forget(self) -> None:
        """Remove the whole log of the session."""
        try:
            await self._js.purge_stream(subjects.LOG_STREAM, subject=self._subject)
        except (nats.errors.Error, TimeoutError) as error:
            raise unavailable(error) from error
