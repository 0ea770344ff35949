"""Fences on a real nats-server."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import nats.errors
import nats.js.errors
import pytest
from nats.js import JetStreamContext

from parley.v1 import fabric_pb2, sessions_pb2
from services.fabric import ids, subjects
from services.fabric.errors import ServiceError
from services.fabric.records import FencedError, SessionRecords, request_key
from tests.support.eventually import eventually

STREAM = subjects.SESSIONS_STREAM
WRONG_LAST_SEQUENCE = 10071


def own_record(session: str, worker: str = "worker-1", epoch: int = 1) -> fabric_pb2.OwnRecord:
    record = fabric_pb2.OwnRecord(schema_version=1, session=sessions_pb2.Session(session_id=session))
    record.epochs.add(epoch=epoch, first_downlink_seq=1)
    record.request_key = worker
    return record


async def take_over(js: JetStreamContext, session: str, revision: int) -> int:
    """What a newer owner does; the write itself belongs to a later release."""
    record = own_record(session, "worker-2", epoch=2)
    ack = await js.publish(
        subjects.own(session),
        record.SerializeToString(),
        headers={"Nats-Expected-Last-Subject-Sequence": str(revision), "Nats-Rollup": "sub"},
    )
    return ack.seq


async def test_own_is_created_once(records: SessionRecords) -> None:
    session = ids.session_id()
    assert await records.read_own(session) is None
    revision = await records.create_own(session, own_record(session))
    assert await records.read_own(session) == (own_record(session), revision)
    with pytest.raises(FencedError):
        await records.create_own(session, own_record(session, "worker-2"))
    assert await records.read_own(session) == (own_record(session), revision)


async def test_same_own_written_again_counts_as_success(records: SessionRecords) -> None:
    # The first write may have timed out for its writer although the server took it.
    session = ids.session_id()
    revision = await records.create_own(session, own_record(session))
    assert await records.create_own(session, own_record(session)) == revision


async def test_of_many_creators_one_wins(records: SessionRecords) -> None:
    session = ids.session_id()
    attempts = [records.create_own(session, own_record(session, f"worker-{number}")) for number in range(20)]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(result, int) for result in results) == 1
    assert sum(isinstance(result, FencedError) for result in results) == 19


Write = Callable[[SessionRecords, str, int, int], Any]


def checkpoint(records: SessionRecords, session: str, own: int, number: int) -> Any:
    return records.write_checkpoint(session, own, fabric_pb2.CheckpointRecord(covered_uplink_seq=number))


def attachment(records: SessionRecords, session: str, own: int, number: int) -> Any:
    return records.write_attachment(session, own, fabric_pb2.AttachmentRecord(attach_generation=number))


async def read(records: SessionRecords, write: Write, session: str) -> int | None:
    if write is checkpoint:
        found = await records.read_checkpoint(session)
        return None if found is None else found.covered_uplink_seq
    attached = await records.read_attachment(session)
    return None if attached is None else attached.attach_generation


@pytest.mark.parametrize("write", [checkpoint, attachment])
async def test_owner_writes_again_and_again(records: SessionRecords, js: JetStreamContext, write: Write) -> None:
    session = ids.session_id()
    own = await records.create_own(session, own_record(session))
    assert await read(records, write, session) is None
    for number in range(1, 6):
        await write(records, session, own, number)
        assert await read(records, write, session) == number
    info = await js.stream_info(STREAM, subjects_filter=subjects.session_records(session))
    assert info.state.subjects is not None
    assert set(info.state.subjects.values()) == {1}


@pytest.mark.parametrize("write", [checkpoint, attachment])
async def test_after_a_takeover_the_old_owner_is_refused(
    records: SessionRecords, js: JetStreamContext, write: Write
) -> None:
    session = ids.session_id()
    old = await records.create_own(session, own_record(session))
    await write(records, session, old, 1)
    new = await take_over(js, session, old)
    with pytest.raises(FencedError):
        await write(records, session, old, 2)
    assert await read(records, write, session) == 1
    await write(records, session, new, 3)
    assert await read(records, write, session) == 3
    with pytest.raises(FencedError):
        await records.end_own(session, old, own_record(session, "ended"), timedelta(seconds=60))


async def test_write_that_meets_another_in_flight_is_tried_again(
    records: SessionRecords, js: JetStreamContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only a cluster answers so; the code is the server's (10164).
    publish, refusals = js.publish, [10164, 10164]

    async def busy(*args: Any, **kwargs: Any) -> Any:
        if refusals:
            raise nats.js.errors.BadRequestError(code=400, err_code=refusals.pop())
        return await publish(*args, **kwargs)

    monkeypatch.setattr(js, "publish", busy)
    session = ids.session_id()
    revision = await records.create_own(session, own_record(session))
    assert not refusals
    assert await records.read_own(session) == (own_record(session), revision)


@pytest.mark.parametrize("write", [checkpoint, attachment])
async def test_without_ownership_nothing_is_written(records: SessionRecords, write: Write) -> None:
    session = ids.session_id()
    with pytest.raises(FencedError):
        await write(records, session, 4711, 1)
    assert await read(records, write, session) is None


async def test_tombstone_is_removed_by_the_server(records: SessionRecords) -> None:
    session = ids.session_id()
    own = await records.create_own(session, own_record(session))
    tombstone = own_record(session, "ended")
    revision = await records.end_own(session, own, tombstone, timedelta(seconds=0.2))  # at least a second, says NATS
    assert await records.read_own(session) == (tombstone, revision)
    assert await records.end_own(session, own, tombstone, timedelta(seconds=1)) == revision

    async def gone() -> bool:
        return await records.read_own(session) is None

    await eventually(gone)


async def test_write_without_roll_up_is_create_only(records: SessionRecords, js: JetStreamContext) -> None:
    # What tool claims stand on: the first writer wins, also among those whose fence is right.
    session = ids.session_id()
    own = await records.create_own(session, own_record(session))
    subject = f"parley.session.{session}.claim.abc"
    fence = {
        "Nats-Expected-Last-Subject-Sequence": str(own),
        "Nats-Expected-Last-Subject-Sequence-Subject": subjects.own(session),
    }
    await js.publish(subject, b"first", headers=fence)
    with pytest.raises(nats.js.errors.APIError) as caught:
        await js.publish(subject, b"second", headers=fence)
    assert "maximum messages per subject exceeded" in str(caught.value)
    assert (await js.get_last_msg(STREAM, subject)).data == b"first"
    # And it replaced nothing by accident: neither `own` nor another claim.
    await js.publish(f"parley.session.{session}.claim.def", b"other", headers=fence)
    assert (await records.read_own(session)) == (own_record(session), own)


async def test_fence_across_streams_is_refused_always(records: SessionRecords, js: JetStreamContext) -> None:
    # Why the log has its own chain: the server looks for the fenced subject in the stream that is written.
    session = ids.session_id()
    own = await records.create_own(session, own_record(session))
    with pytest.raises(nats.js.errors.APIError) as caught:
        await js.publish(
            subjects.log(session),
            b"entry",
            headers={
                "Nats-Expected-Last-Subject-Sequence": str(own),
                "Nats-Expected-Last-Subject-Sequence-Subject": subjects.own(session),
            },
        )
    assert caught.value.err_code == WRONG_LAST_SEQUENCE


async def test_forgetting_leaves_nothing(records: SessionRecords, js: JetStreamContext) -> None:
    session = ids.session_id()
    own = await records.create_own(session, own_record(session))
    await records.write_checkpoint(session, own, fabric_pb2.CheckpointRecord())
    await records.write_attachment(session, own, fabric_pb2.AttachmentRecord())
    await records.forget_work(session)
    assert await records.read_checkpoint(session) is None
    assert await records.read_attachment(session) is None
    assert await records.read_own(session) is not None
    await records.forget(session)
    info = await js.stream_info(STREAM, subjects_filter=subjects.session_records(session))
    assert not info.state.subjects


async def test_request_id_belongs_to_the_first_session_that_claims_it(records: SessionRecords) -> None:
    key = request_key("tenant", "caller", ids.sortable_id())
    first, second = ids.session_id(), ids.session_id()
    assert await records.claim_request(key, first) == first
    assert await records.claim_request(key, second) == first
    assert await records.claim_request(key, first) == first
    await records.forget_request(key)
    assert await records.claim_request(key, second) == second


async def test_of_many_claims_of_a_request_id_one_wins(records: SessionRecords) -> None:
    key = request_key("tenant", "caller", ids.sortable_id())
    winners = await asyncio.gather(*(records.claim_request(key, ids.session_id()) for _ in range(20)))
    assert len(set(winners)) == 1


def test_request_ids_of_different_callers_do_not_meet() -> None:
    keys = {
        request_key("a", "b", "c"),
        request_key("a", "bc", ""),
        request_key("ab", "", "c"),
        request_key("", "ab", "c"),
        request_key("a", "b", "d"),
    }
    assert len(keys) == 5
    assert all(key.isalnum() for key in keys)


async def test_list_finds_every_session_oldest_first(records: SessionRecords, js: JetStreamContext) -> None:
    await js.purge_stream(STREAM)
    assert await records.list_own() == []
    sessions = [ids.session_id() for _ in range(30)]
    for session in reversed(sessions):
        own = await records.create_own(session, own_record(session))
        await records.write_checkpoint(session, own, fabric_pb2.CheckpointRecord())
    ended = sessions[3]
    found = await records.read_own(ended)
    assert found is not None
    await records.end_own(ended, found[1], own_record(ended, "ended"), timedelta(minutes=5))
    await records.forget(sessions[4])
    listed = await records.list_own()
    assert [record.session.session_id for record in listed] == sorted(set(sessions) - {sessions[4]})
    assert [record.request_key for record in listed if record.session.session_id == ended] == ["ended"]


class Moving:
    """Records that change while they are read: what the server sends one by one, and what is there meanwhile.

    Real servers do just this, but only where a thousand sessions and their writers meet within some milliseconds.
    """

    def __init__(self, there: list[int], sent: list[tuple[int, str, str]]) -> None:
        """`there`: the newest sequence each time that it is asked for, 0 for none; `sent`: sequence, session, owner."""
        self._there = deque(there)
        self._sent = deque(sent)

    async def get_last_msg(self, _stream: str, _subject: str) -> Any:
        newest = self._there.popleft() if len(self._there) > 1 else self._there[0]
        if not newest:
            raise nats.js.errors.NotFoundError
        return SimpleNamespace(data=b"", seq=newest)

    async def subscribe(self, *_: Any, **__: Any) -> Moving:
        return self

    async def next_msg(self, timeout: float) -> Any:
        if not self._sent:
            raise nats.errors.TimeoutError
        sequence, session, worker = self._sent.popleft()
        data = own_record(session, worker).SerializeToString()
        metadata = SimpleNamespace(sequence=SimpleNamespace(stream=sequence))
        return SimpleNamespace(subject=subjects.own(session), data=data, metadata=metadata)

    async def unsubscribe(self) -> None:
        assert not self._sent


@pytest.mark.parametrize(
    ("there", "sent", "listed"),
    [
        pytest.param([0], [], {}, id="none"),
        pytest.param([3], [(1, "a", "1"), (3, "c", "1")], {"a": "1", "c": "1"}, id="one was removed"),
        pytest.param([2, 1], [(1, "a", "1")], {"a": "1"}, id="the last was removed"),
        pytest.param([2, 0], [], {}, id="all were removed"),
        pytest.param(
            [2, 3],
            [(1, "a", "1"), (2, "b", "1"), (3, "a", "2")],
            {"a": "2", "b": "1"},
            id="one was written after its turn",
        ),
        pytest.param(
            [3, 5],
            [(1, "a", "1"), (3, "c", "1"), (4, "d", "1"), (5, "b", "2")],
            {"a": "1", "b": "2", "c": "1", "d": "1"},
            id="one was written before its turn, and one is new",
        ),
    ],
)
async def test_sessions_that_change_while_they_are_listed_are_listed_once(
    there: list[int], sent: list[tuple[int, str, str]], listed: dict[str, str]
) -> None:
    found = await SessionRecords(cast(JetStreamContext, Moving(there, sent))).list_own()
    assert [record.session.session_id for record in found] == sorted(listed)
    assert {record.session.session_id: record.request_key for record in found} == listed


async def test_listing_leaves_no_consumers_behind_for_long(records: SessionRecords, js: JetStreamContext) -> None:
    for _ in range(5):
        await records.list_own()
    # The server removes by itself what is temporary and has nobody subscribed.

    async def nobody_is_subscribed() -> bool:
        return not any(consumer.push_bound for consumer in await js.consumers_info(STREAM))

    await eventually(nobody_is_subscribed)
    for consumer in await js.consumers_info(STREAM):
        assert consumer.config.durable_name is None
        assert consumer.config.inactive_threshold is not None
        assert consumer.config.inactive_threshold <= 10


async def test_ensure_leaves_what_an_operator_changed(records: SessionRecords, js: JetStreamContext) -> None:
    info = await js.stream_info(STREAM)
    info.config.max_bytes = 128 * 1024 * 1024
    await js.update_stream(info.config)
    await records.ensure(1)
    assert (await js.stream_info(STREAM)).config.max_bytes == 128 * 1024 * 1024


async def test_many_processes_may_ensure_at_once(js: JetStreamContext) -> None:
    for name in (STREAM, f"KV_{subjects.REQUESTS_BUCKET}"):
        with contextlib.suppress(nats.js.errors.NotFoundError):
            await js.delete_stream(name)
    await asyncio.gather(*(SessionRecords(js).ensure(1) for _ in range(8)))
    assert (await js.stream_info(STREAM)).config.discard_new_per_subject


async def test_missing_stream_is_unavailable_not_fenced(records: SessionRecords, js: JetStreamContext) -> None:
    await js.delete_stream(STREAM)
    session = ids.session_id()
    try:
        with pytest.raises(ServiceError, match="FABRIC_UNAVAILABLE"):
            await records.create_own(session, own_record(session))
        with pytest.raises(ServiceError, match="FABRIC_UNAVAILABLE"):
            await records.write_checkpoint(session, 1, fabric_pb2.CheckpointRecord())
    finally:
        await records.ensure(1)
