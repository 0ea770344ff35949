"""Changes of a session's `own` and `att`, from JetStream.

A consumer of its own for each watch, pulled one message at a time: nothing is queued for a watcher that is busy. The
stream keeps the newest message of a subject only, so what such a watcher misses are states that are over already.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy

from parley.v1 import fabric_pb2
from services.fabric import ids, subjects
from services.fabric.records import unavailable

CONSUMER_PREFIX: Final = "watch-"
_INACTIVE: Final = 30.0
"""Seconds after which the server removes a consumer that nobody pulls from: its process was killed, or NATS was away
when it was to be removed."""
_REMOVAL: Final = 2.0
"""Seconds that removing a consumer may take."""
_removals: Final[set[asyncio.Task[None]]] = set()
"""That go on when whoever watched has gone."""


class RecordWatch:
    """The records of one session: as they are, then as they change."""

    def __init__(self, subscription: JetStreamContext.PullSubscription, session: str) -> None:
        self._subscription = subscription
        self._own = subjects.own(session)

    async def next(
        self, timeout: float
    ) -> tuple[fabric_pb2.OwnRecord, int] | tuple[fabric_pb2.AttachmentRecord, int] | None:
        """The next record with its revision; None when there is none within `timeout` seconds.

        ServiceError FABRIC_UNAVAILABLE when the consumer is lost: watch anew.
        """
        try:
            (message,) = await self._subscription.fetch(1, timeout=timeout)
        except TimeoutError:
            return None
        except nats.errors.Error as error:
            raise unavailable(error) from error
        revision = message.metadata.sequence.stream
        if message.subject == self._own:
            return fabric_pb2.OwnRecord.FromString(message.data), revision
        return fabric_pb2.AttachmentRecord.FromString(message.data), revision


@contextlib.asynccontextmanager
async def watch_records(js: JetStreamContext, session: str) -> AsyncIterator[RecordWatch]:
    """Watch the records of one session; on the way out the consumer is removed. ServiceError FABRIC_UNAVAILABLE."""
    # Named here and not by the server, so that one whose creation was cancelled halfway can be removed, too.
    name = f"{CONSUMER_PREFIX}{ids.sortable_id()}"
    config = ConsumerConfig(
        name=name,
        filter_subjects=[subjects.own(session), subjects.attachment(session)],
        deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=_INACTIVE,
        mem_storage=True,
        num_replicas=1,
    )
    try:
        subscription = await js.pull_subscribe_bind(name, subjects.SESSIONS_STREAM)
    except (nats.errors.Error, TimeoutError) as error:
        raise unavailable(error) from error
    creation = asyncio.create_task(js.add_consumer(subjects.SESSIONS_STREAM, config), name=f"create {name}")
    try:
        try:
            await asyncio.shield(creation)
        except (nats.errors.Error, TimeoutError) as error:
            raise unavailable(error) from error
        yield RecordWatch(subscription, session)
    finally:
        removal = asyncio.create_task(_remove(js, name, subscription, creation), name=f"remove {name}")
        _removals.add(removal)
        removal.add_done_callback(_removals.discard)
        await asyncio.shield(removal)  # whoever is in a hurry cancels more than once


async def _remove(
    js: JetStreamContext,
    name: str,
    subscription: JetStreamContext.PullSubscription,
    creation: asyncio.Task[ConsumerInfo],
) -> None:
    # The server does not answer requests in their order: what is removed before it is created stays.
    await asyncio.wait({creation})
    if not creation.cancelled():
        creation.exception()  # looked at; whether there is a consumer all the same is not known then
    with contextlib.suppress(nats.errors.Error, TimeoutError):
        async with asyncio.timeout(_REMOVAL):
            await subscription.unsubscribe()
            await js.delete_consumer(subjects.SESSIONS_STREAM, name)
