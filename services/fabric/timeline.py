"""What happened to sessions: `parley.timeline.session.<session>.*`, written by whichever process saw it.

Nobody waits for it. Events are noted in memory and stored a moment later by one task; while the message bus is away
they wait, and what their bound does not hold is counted. What a process notes in the last tenth of a second before it
is killed is lost.

Nor does anybody depend on it: where its stream cannot be had, calls go on without.

Not fenced, unlike a session's records: that a worker lost its session is news, too. Times are of a clock that only its
process knows; JetStream's own say how that differs (`timeline_reader`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import nats.errors
import nats.js.errors
import structlog
from nats.js import JetStreamContext

from parley.v1 import fabric_pb2, timeline_pb2
from services.fabric import subjects
from services.fabric.bus import Bus
from services.fabric.errors import ServiceError
from services.fabric.process import stop_tasks
from services.fabric.records import unavailable
from services.fabric.streams import MismatchError, StreamUnavailableError, ensure_stream
from services.fabric.timeline_outbox import Batch, TimelineOutbox
from services.fabric.topology import timeline_stream

log = structlog.get_logger()

_WRONG_LAST_SEQUENCE: Final = 10071
_PAUSE: Final = 0.1
"""Seconds between two rounds: what happens together is stored together."""
_AT_ONCE: Final = 16
_ACK: Final = 5.0
"""Seconds for the answer to one message."""
_AGAIN: Final = (0.5, 2.0)
"""Seconds after a round that failed, by chance between these."""
_LAST_WORDS: Final = 2.0
"""Seconds that a process which ends takes for what is not stored yet."""


async def ensure_timeline(js: JetStreamContext, replicas: int, retention: timedelta) -> None:
    """Create the stream when it is missing, else look at it. MismatchError, StreamUnavailableError."""
    await ensure_stream(js, timeline_stream(replicas, retention))


class Timeline:
    """What this process saw."""

    def __init__(self, bus: Bus, me: str, now: Callable[[], float] = time.monotonic) -> None:
        """`me`: id of the process, another one at every start."""
        self._bus = bus
        self._me = me
        self._now = now
        self._outbox = TimelineOutbox()
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._failing = False
        self._pause = _PAUSE

    def note(self, session: str, tenant: str, event: timeline_pb2.TimelineEvent, *, since: float | None = None) -> None:
        """Something happened to a session: now, or as it began, which was at `since` (monotonic seconds). Never
        waits. The event is not to be changed afterwards."""
        self._outbox.add(session, tenant, event, self._now() if since is None else since)
        self._idle.clear()
        self._news.set()

    @property
    def counts(self) -> dict[str, int]:
        """For /debug/vars."""
        return {"timeline_waiting": len(self._outbox), "timeline_dropped": self._outbox.dropped}

    def start(self, replicas: int, retention: timedelta) -> None:
        """Begin to store, in a stream that is made so where there is none."""
        self._task = asyncio.create_task(self._run(replicas, retention), name="timeline")

    async def stop(self) -> None:
        """Store what is left, if the message bus takes it within a moment."""
        if self._task is None:
            return
        self._pause = 0.0  # there are no calls any more that it could hold up
        with contextlib.suppress(TimeoutError):
            hopeless = self._failing or not self._bus.connected.is_set()
            async with asyncio.timeout(0 if hopeless else _LAST_WORDS):
                await self._idle.wait()
        await stop_tasks([self._task])
        if len(self._outbox):
            log.warning("timeline events not stored", events=len(self._outbox))

    async def _run(self, replicas: int, retention: timedelta) -> None:
        await self._have_stream(replicas, retention)
        while True:
            await self._news.wait()
            self._news.clear()
            while len(self._outbox):
                await self._bus.connected.wait()
                batches = self._outbox.batches(_AT_ONCE)
                done = await asyncio.gather(*(self._store(batch) for batch in batches))
                if all(done):
                    self._failing = False
                    await asyncio.sleep(self._pause)
                else:  # what waits is bounded, so are the tries: they end with the process
                    await asyncio.sleep(random.uniform(*_AGAIN))
                    await self._have_stream(replicas, retention)
            self._idle.set()

    async def _have_stream(self, replicas: int, retention: timedelta) -> None:
        """Tried for as long as it takes: nobody serves the less where this cannot be stored."""
        while True:
            await self._bus.connected.wait()
            try:
                await ensure_timeline(self._bus.js, replicas, retention)
            except MismatchError as error:
                log.warning("timelines are not kept as they should be", error=error.message)
            except StreamUnavailableError as error:
                self._fails(error.message)
                await asyncio.sleep(random.uniform(*_AGAIN))
                continue
            return

    def _fails(self, error: str, **about: str) -> None:
        if not self._failing:
            self._failing = True
            log.warning("timeline not stored", error=error, **about)

    async def _store(self, batch: Batch) -> bool:
        try:
            for trace in batch.traces:
                await self._store_trace(trace, batch)
            payload = batch.record(self._me, self._now()).SerializeToString()
            await self._bus.js.publish(batch.subject, payload, timeout=_ACK)
        except (nats.errors.Error, TimeoutError, ServiceError) as error:
            self._fails(str(error) or type(error).__name__, session=batch.session)
            return False
        except Exception:
            # A fault of ours: the others' events go on, and those would fail again.
            log.exception("timeline cannot be stored", session=batch.session, events=len(batch.notes))
            self._outbox.dropped += len(batch.notes)
        self._outbox.stored(batch)
        return True

    async def _store_trace(self, trace: str, batch: Batch) -> None:
        """Once: others of the session's processes may have been faster."""
        if self._outbox.is_known(trace, batch.session):
            return
        subject = subjects.timeline_trace(trace, batch.session)
        record = fabric_pb2.TimelineTrace(schema_version=1, tenant=batch.tenant)
        try:
            headers = {"Nats-Expected-Last-Subject-Sequence": "0"}
            await self._bus.js.publish(subject, record.SerializeToString(), headers=headers, timeout=_ACK)
        except nats.js.errors.APIError as error:
            if error.err_code != _WRONG_LAST_SEQUENCE:
                raise unavailable(error) from error
        self._outbox.trace_stored(trace, batch.session)
