"""Reading what happened to a session, and which sessions a trace belongs to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from parley.v1 import fabric_pb2, timeline_pb2
from services.fabric import ids, subjects
from services.fabric.records import unavailable

MOST_SESSIONS: Final = 100
"""Of one trace."""
_READ_LIMIT: Final = 5.0
"""Seconds that reading may take."""
_BATCH: Final = 100
_INACTIVE: Final = 30.0
"""Seconds after which the server removes the consumer of a reader that is gone."""
_REMOVAL: Final = 2.0
"""Seconds that removing it may take."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A record, and when and where the stream has it."""

    record: fabric_pb2.TimelineRecord
    at: datetime
    seq: int


@dataclass(frozen=True, slots=True)
class Read:
    """What there is of a session."""

    tenant: str
    events: list[timeline_pb2.TimelineEvent]
    """In order of time."""
    last: int
    """Where to read on after."""


def in_order(stored: Iterable[Stored]) -> list[timeline_pb2.TimelineEvent]:
    """Each event once, with its time, in order of time; what one process saw, in the order in which it did. Plain code.

    The clocks of processes are not compared. Each is set by the record of it that reached JetStream soonest.
    """
    records = list(stored)
    differs: dict[str, datetime] = {}
    for one in records:
        zero = one.at - one.record.published.ToTimedelta()
        differs[one.record.writer] = min(zero, differs.get(one.record.writer, zero))
    found: dict[tuple[str, int], tuple[datetime, timeline_pb2.TimelineEvent]] = {}
    for one in records:
        for note in one.record.notes:
            key = one.record.writer, note.number
            if key in found:
                continue
            happened = differs[one.record.writer] + note.at.ToTimedelta()
            event = timeline_pb2.TimelineEvent()
            event.CopyFrom(note.event)
            event.time.FromDatetime(happened)
            found[key] = happened, event
    return [event for _, (_, event) in sorted(found.items(), key=lambda item: (item[1][0], item[0]))]


async def read_timeline(js: JetStreamContext, session: str, after: int = 0) -> Read | None:
    """What happened to a session, as far as it was stored behind `after`; None when nothing is. ServiceError
    FABRIC_UNAVAILABLE."""
    filter_subject = subjects.timeline(session, "*")
    stored = [
        Stored(
            fabric_pb2.TimelineRecord.FromString(message.data),
            message.metadata.timestamp,
            message.metadata.sequence.stream,
        )
        async for message in _messages(js, filter_subject, after)
    ]
    if not stored:
        return None
    return Read(stored[0].record.tenant, in_order(stored), max(one.seq for one in stored))


async def sessions_of_trace(js: JetStreamContext, trace: str, tenant: str) -> list[str]:
    """A tenant's sessions that the trace belongs to, oldest first. ServiceError FABRIC_UNAVAILABLE."""
    found: list[str] = []
    async with contextlib.aclosing(_messages(js, subjects.timeline_trace(trace, "*"), 0)) as messages:
        async for message in messages:
            if fabric_pb2.TimelineTrace.FromString(message.data).tenant == tenant:
                found.append(subjects.session_of(message.subject))
            if len(found) == MOST_SESSIONS:
                break
    return sorted(found)


async def _messages(js: JetStreamContext, filter_subject: str, after: int) -> AsyncGenerator[Msg, None]:
    """Everything that is there now."""
    name = f"timeline-{ids.sortable_id()}"
    config = ConsumerConfig(
        name=name,
        filter_subject=filter_subject,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE if after else DeliverPolicy.ALL,
        opt_start_seq=after + 1 if after else None,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=_INACTIVE,
        mem_storage=True,
        num_replicas=1,
    )
    try:
        async with asyncio.timeout(_READ_LIMIT):
            subscription = await js.pull_subscribe_bind(name, subjects.TIMELINE_STREAM)
            try:
                left = (await js.add_consumer(subjects.TIMELINE_STREAM, config)).num_pending or 0
                while left > 0:
                    for message in await subscription.fetch(min(_BATCH, left), timeout=_READ_LIMIT):
                        left = min(left - 1, message.metadata.num_pending)
                        yield message
            finally:
                with contextlib.suppress(nats.errors.Error, TimeoutError):
                    async with asyncio.timeout(_REMOVAL):
                        await subscription.unsubscribe()
                        await js.delete_consumer(subjects.TIMELINE_STREAM, name)
    except nats.js.errors.NotFoundError:
        return  # nobody has made the stream yet
    except (nats.errors.Error, TimeoutError) as error:
        raise unavailable(error) from error
