"""The log's chain of appends on a real nats-server."""

from typing import Any

import nats.errors
import pytest
from nats.js import JetStreamContext

from parley.v1 import fabric_pb2
from services.fabric import ids, subjects
from services.fabric.conversation_log import ConversationLog
from services.fabric.errors import ServiceError
from services.fabric.records import FencedError, SessionRecords

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
    # Fenced means that somebody newer is there, nothing else (design, section 5).
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
