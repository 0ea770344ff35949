"""Watching a session's records, on a real nats-server."""

import asyncio
from typing import Any

import pytest
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo

from parley.v1 import fabric_pb2, sessions_pb2
from services.fabric import ids, subjects
from services.fabric.errors import ServiceError
from services.fabric.process import stop_tasks
from services.fabric.record_watch import CONSUMER_PREFIX, watch_records
from services.fabric.records import SessionRecords
from tests.support.eventually import eventually

STREAM = subjects.SESSIONS_STREAM


def own_record(session: str) -> fabric_pb2.OwnRecord:
    return fabric_pb2.OwnRecord(schema_version=1, session=sessions_pb2.Session(session_id=session))


def attachment(generation: int) -> fabric_pb2.AttachmentRecord:
    return fabric_pb2.AttachmentRecord(schema_version=1, attach_generation=generation)


async def watching(js: JetStreamContext) -> bool:
    return any(consumer.name.startswith(CONSUMER_PREFIX) for consumer in await js.consumers_info(STREAM))


async def test_records_come_as_they_are_and_then_as_they_change(records: SessionRecords, js: JetStreamContext) -> None:
    session, other = ids.session_id(), ids.session_id()
    for one in (other, session):
        revision = await records.create_own(one, own_record(one))
    await records.write_attachment(session, revision, attachment(1))
    async with watch_records(js, session) as changes:
        assert await changes.next(5) == (own_record(session), revision)
        first = await changes.next(5)
        assert first is not None
        assert first[0] == attachment(1)
        # Checkpoints, which are large and many, are nothing to a watcher.
        await records.write_checkpoint(session, revision, fabric_pb2.CheckpointRecord())
        assert await changes.next(0.05) is None
        for generation in (2, 3):
            await records.write_attachment(session, revision, attachment(generation))
        newest = await changes.next(5)
        assert newest is not None
        assert newest[0] == attachment(3)  # the one before it is not there any more
        assert newest[1] > first[1]
        assert await watching(js)
    assert not await watching(js)


async def test_a_watch_that_is_cancelled_at_any_moment_leaves_no_consumer(
    records: SessionRecords, js: JetStreamContext
) -> None:
    async def watch() -> None:
        async with watch_records(js, ids.session_id()) as changes:
            await changes.next(30)

    for moment in range(15):
        task = asyncio.create_task(watch())
        await asyncio.sleep(moment / 5_000)
        await stop_tasks([task])

    async def nobody() -> bool:
        return not await watching(js)

    await eventually(nobody)


async def test_a_consumer_that_is_made_after_its_watch_was_cancelled_goes_too(
    records: SessionRecords, js: JetStreamContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may create and delete in another order than it was asked to."""
    create, asked, goes_on = js.add_consumer, asyncio.Event(), asyncio.Event()

    async def at_the_server(*arguments: Any) -> ConsumerInfo:
        asked.set()
        await goes_on.wait()
        return await create(*arguments)

    async def add_consumer(*arguments: Any) -> ConsumerInfo:
        return await asyncio.shield(asyncio.create_task(at_the_server(*arguments)))

    async def watch() -> None:
        async with watch_records(js, ids.session_id()):
            pass

    monkeypatch.setattr(js, "add_consumer", add_consumer)
    task = asyncio.create_task(watch())
    await asked.wait()
    await stop_tasks([task])
    made = js._nc.stats["in_msgs"]
    goes_on.set()
    await eventually(lambda: js._nc.stats["in_msgs"] >= made + 2)  # it was created, and removed

    async def nobody() -> bool:
        return not await watching(js)

    await eventually(nobody, timeout=10)  # sooner than the server does it


async def test_a_consumer_that_is_lost_is_said_to_be(records: SessionRecords, js: JetStreamContext) -> None:
    async with watch_records(js, ids.session_id()) as changes:
        for consumer in await js.consumers_info(STREAM):
            await js.delete_consumer(STREAM, consumer.name)
        with pytest.raises(ServiceError, match="FABRIC_UNAVAILABLE"):
            await changes.next(5)


async def test_without_the_stream_there_is_nothing_to_watch(records: SessionRecords, js: JetStreamContext) -> None:
    await js.delete_stream(STREAM)
    try:
        with pytest.raises(ServiceError, match="FABRIC_UNAVAILABLE"):
            async with watch_records(js, ids.session_id()):
                pytest.fail("there is no stream")
    finally:
        await records.ensure(1)
