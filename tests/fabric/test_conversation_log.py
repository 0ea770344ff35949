"""The log's chain of appends on a real nats-server."""

from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from parley.v1 import fabric_pb2
from services.fabric import ids, subjects
from services.fabric.conversation_log import ConversationLog
from services.fabric.errors import ServiceError
from services.fabric.records import FencedError, SessionRecords
from services.fabric.topology import MOST_LOG_ENTRIES

pytestmark = pytest.mark.usefixtures("records")


def said(text: str) -> fabric_pb2.LogEntry:
    return fabric_pb2.LogEntry(model_said=fabric_pb2.ModelSaid(text=text))


async def stored(js: JetStreamContext, session: str) -> list[str]:
    """Who begins and what was said, in order, with epochs."""
    found: list[str] = []
    sequence = 0
    while True:
        try:
            message = await js.get_msg(subjects.LOG_STREAM, seq=sequence + 1, subject=subjects.log(session), next=True)
        except nats.errors.Error:
            return found
        sequence = message.seq or 0
        entry = fabric_pb2.LogEntry.FromString(message.data or b"")
        assert entry.schema_version == 1
        found.append(f"{entry.epoch}:{entry.epoch_begins.worker or entry.model_said.text}")


class LossyJetStream:
    """Takes a publish, and loses its ack."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self.lose = 0

    async def publish(self, *arguments: Any, **options: Any) -> Any:
        ack = await self._js.publish(*arguments, **options)
        if self.lose:
            self.lose -= 1
            raise nats.errors.TimeoutError
        return ack

    def __getattr__(self, name: str) -> Any:
        return getattr(self._js, name)


async def test_owner_appends_in_order(js: JetStreamContext) -> None:
    session = ids.session_id()
    log = ConversationLog(js, session, 1)
    await log.begin("worker-1")
    for text in ("a", "b", "c"):
        await log.append(said(text))
    assert await stored(js, session) == ["1:worker-1", "1:a", "1:b", "1:c"]
    await log.forget()
    assert await stored(js, session) == []


async def test_sessions_do_not_disturb_each_other(js: JetStreamContext) -> None:
    logs = [ConversationLog(js, ids.session_id(), 1) for _ in range(3)]
    for log in logs:
        await log.begin("worker-1")
    for text in ("a", "b"):
        for log in logs:
            await log.append(said(text))
    for log in logs:
        assert await stored(js, log._session) == ["1:worker-1", "1:a", "1:b"]


async def test_old_owner_is_refused_from_the_moment_the_new_one_begins(js: JetStreamContext) -> None:
    session = ids.session_id()
    old, new = ConversationLog(js, session, 1), ConversationLog(js, session, 2)
    await old.begin("worker-1")
    await old.append(said("a"))
    await new.begin("worker-2")
    with pytest.raises(FencedError):
        await old.append(said("b"))
    await new.append(said("c"))
    with pytest.raises(FencedError):
        await old.append(said("d"))
    with pytest.raises(FencedError):
        await old.begin("worker-1")
    assert await stored(js, session) == ["1:worker-1", "1:a", "2:worker-2", "2:c"]


async def test_old_owner_that_appends_while_the_new_one_begins_does_not_stop_it(js: JetStreamContext) -> None:
    session = ids.session_id()
    old = ConversationLog(js, session, 1)
    await old.begin("worker-1")

    class Racing(LossyJetStream):
        """The old owner appends between the read and the write of the new one, twice."""

        def __init__(self, js: JetStreamContext) -> None:
            super().__init__(js)
            self.races = 2

        async def publish(self, *arguments: Any, **options: Any) -> Any:
            if self.races:
                self.races -= 1
                await old.append(said(f"race {self.races}"))
            return await self._js.publish(*arguments, **options)

    new = ConversationLog(Racing(js), session, 2)  # type: ignore[arg-type]
    await new.begin("worker-2")
    await new.append(said("mine"))
    with pytest.raises(FencedError):
        await old.append(said("late"))
    assert await stored(js, session) == ["1:worker-1", "1:race 1", "1:race 0", "2:worker-2", "2:mine"]


async def test_append_repeated_after_a_lost_ack_is_stored_once(js: JetStreamContext) -> None:
    session = ids.session_id()
    lossy = LossyJetStream(js)
    log = ConversationLog(lossy, session, 1)  # type: ignore[arg-type]
    await log.begin("worker-1")
    lossy.lose = 1
    with pytest.raises(ServiceError, match="FABRIC_UNAVAILABLE"):
        await log.append(said("a"))
    await log.append(said("a"))
    await log.append(said("b"))
    assert await stored(js, session) == ["1:worker-1", "1:a", "1:b"]


async def test_other_append_after_a_lost_ack_is_no_loss_of_ownership(js: JetStreamContext) -> None:
    # Fenced means that somebody newer is there, nothing else.
    session = ids.session_id()
    lossy = LossyJetStream(js)
    log = ConversationLog(lossy, session, 1)  # type: ignore[arg-type]
    await log.begin("worker-1")
    lossy.lose = 1
    with pytest.raises(ServiceError):
        await log.append(said("a"))
    await log.append(said("b"))
    assert await stored(js, session) == ["1:worker-1", "1:a", "1:b"]


async def test_log_that_has_aged_away_is_no_loss_of_ownership(js: JetStreamContext) -> None:
    session = ids.session_id()
    log = ConversationLog(js, session, 1)
    await log.begin("worker-1")
    await js.purge_stream(subjects.LOG_STREAM, subject=subjects.log(session))
    await log.append(said("after a long silence"))
    assert await stored(js, session) == ["1:after a long silence"]


async def test_begin_repeated_after_a_lost_ack_succeeds(js: JetStreamContext, records: SessionRecords) -> None:
    session = ids.session_id()
    lossy = LossyJetStream(js)
    log = ConversationLog(lossy, session, 1)  # type: ignore[arg-type]
    lossy.lose = 1
    with pytest.raises(ServiceError):
        await log.begin("worker-1")
    await log.begin("worker-1")
    await log.append(said("a"))
    assert (await stored(js, session))[-1] == "1:a"


def words(entries: list[fabric_pb2.LogEntry]) -> list[str]:
    return [f"{entry.epoch}:{entry.position}:{entry.epoch_begins.worker or entry.model_said.text}" for entry in entries]


async def test_what_was_appended_is_read_back_in_order_with_positions_that_go_on(js: JetStreamContext) -> None:
    session = ids.session_id()
    old, new = ConversationLog(js, session, 1), ConversationLog(js, session, 2)
    await old.begin("worker-1")
    for text in ("a", "b"):
        await old.append(said(text))
    await new.begin("worker-2")
    await new.append(said("c"))
    assert words(await new.read()) == ["1:0:worker-1", "1:1:a", "1:2:b", "2:2:worker-2", "2:3:c"]


async def test_reading_ends_where_its_owner_is(js: JetStreamContext) -> None:
    session = ids.session_id()
    old, new = ConversationLog(js, session, 1), ConversationLog(js, session, 2)
    assert await old.read() == []
    await old.begin("worker-1")
    await new.begin("worker-2")
    await new.append(said("a"))
    assert words(await old.read()) == ["1:0:worker-1"]


async def test_other_sessions_are_not_read(js: JetStreamContext) -> None:
    logs = [ConversationLog(js, ids.session_id(), 1) for _ in range(2)]
    for log in logs:
        await log.begin("worker-1")
    for log in logs:
        await log.append(said("a"))
    for log in logs:
        assert words(await log.read()) == ["1:0:worker-1", "1:1:a"]


async def test_of_a_long_log_the_newest_are_read(js: JetStreamContext) -> None:
    log = ConversationLog(js, ids.session_id(), 1)
    await log.begin("worker-1")
    for number in range(1, 61):
        await log.append(said(f"{number}"))
    assert words(await log.read())[1:] == [f"1:{number}:{number}" for number in range(1, 61)]
    assert words(await log.read(most=3)) == ["1:58:58", "1:59:59", "1:60:60"]
    (newest,) = await log.read(most=1)
    assert words(await log.read(most_bytes=2 * newest.ByteSize())) == ["1:59:59", "1:60:60"]
    assert await log.read(most_bytes=newest.ByteSize() - 1) == []


async def test_positions_count_what_is_stored_once_though_its_ack_was_lost(js: JetStreamContext) -> None:
    session = ids.session_id()
    lossy = LossyJetStream(js)
    log = ConversationLog(lossy, session, 1)  # type: ignore[arg-type]
    await log.begin("worker-1")
    for text in ("a", "b"):
        lossy.lose = 1
        with pytest.raises(ServiceError):
            await log.append(said(text))
        await log.append(said(text))
    lossy.lose = 1
    with pytest.raises(ServiceError):
        await log.append(said("c"))
    await log.append(said("d"))
    assert words(await log.read()) == ["1:0:worker-1", "1:1:a", "1:2:b", "1:3:c", "1:4:d"]


async def test_positions_go_on_when_the_log_has_aged_away(js: JetStreamContext) -> None:
    session = ids.session_id()
    log = ConversationLog(js, session, 1)
    await log.begin("worker-1")
    await log.append(said("a"))
    await js.purge_stream(subjects.LOG_STREAM, subject=subjects.log(session))
    await log.append(said("b"))
    assert words(await log.read()) == ["1:2:b"]


async def test_the_server_keeps_so_many_entries_of_a_session(js: JetStreamContext) -> None:
    info = await js.stream_info(subjects.LOG_STREAM)
    assert info.config.max_msgs_per_subject == MOST_LOG_ENTRIES


async def test_no_consumer_is_left_behind(js: JetStreamContext, monkeypatch: pytest.MonkeyPatch) -> None:
    log = ConversationLog(js, ids.session_id(), 1)
    await log.begin("worker-1")
    await log.read()
    monkeypatch.setattr("services.fabric.conversation_log._READ_LIMIT", 0.1)
    log._last += 1_000  # never there
    with pytest.raises(ServiceError, match="FABRIC_UNAVAILABLE"):
        await log.read()
    assert not await js.consumers_info(subjects.LOG_STREAM)


async def test_a_log_that_comes_with_a_hole_is_not_taken_for_the_whole(
    js: JetStreamContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ConversationLog(js, ids.session_id(), 1)
    await log.begin("worker-1")
    await log.append(said("a"))
    await log.append(said("b"))
    fetch = JetStreamContext.PullSubscription.fetch

    async def holed(*arguments: Any, **options: Any) -> Any:
        first, _, last = await fetch(*arguments, **options)
        return [first, last]

    monkeypatch.setattr(JetStreamContext.PullSubscription, "fetch", holed)
    with pytest.raises(ServiceError, match="FABRIC_UNAVAILABLE"):
        await log.read()


async def test_reading_on_a_closed_connection_fails_with_a_reason(client: Client) -> None:
    log = ConversationLog(client.jetstream(timeout=5), ids.session_id(), 1)
    await log.begin("worker-1")
    await client.close()
    with pytest.raises(ServiceError, match="FABRIC_UNAVAILABLE"):
        await log.read()
