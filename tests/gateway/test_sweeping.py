"""Sessions that have lost their worker and their caller: some gateway ends them, and no other session."""

from __future__ import annotations

from datetime import timedelta

import grpc.aio

from parley.v1 import fabric_pb2, live_pb2, sessions_pb2
from services.fabric import ids, subjects
from services.fabric.conversation_log import ConversationLog, ensure_log
from services.gateway.sweeping import Ownerless
from tests.gateway.conftest import StartGateway, channel_to, converse, open_request, opened
from tests.gateway.fake_worker import FakeWorker, start_worker
from tests.support.eventually import eventually
from tests.support.nats import NatsServer

ENDED = sessions_pb2.SESSION_STATE_ENDED
SOON = {"sweep_every": "50ms", "abandoned_after": "300ms"}


def test_a_session_is_abandoned_when_it_stayed_without_a_worker_and_unchanged_for_long_enough() -> None:
    ownerless = Ownerless(10.0)
    assert not ownerless.seen("a", 1, 100.0)
    assert not ownerless.seen("a", 1, 109.9)
    assert ownerless.seen("a", 1, 110.0)


def test_a_session_that_had_an_owner_meanwhile_begins_anew() -> None:
    ownerless = Ownerless(10.0)
    ownerless.seen("taken", 1, 100.0)
    ownerless.seen("back", 1, 100.0)
    ownerless.all_seen()
    assert not ownerless.seen("taken", 2, 115.0)  # somebody wrote it
    ownerless.all_seen()  # the worker of the other is heard again
    assert not ownerless.seen("back", 1, 120.0)
    assert ownerless.seen("taken", 2, 125.0)


def test_what_is_kept_in_mind_is_bounded() -> None:
    ownerless = Ownerless(10.0, most=2)
    for session in ("a", "b", "c"):
        assert not ownerless.seen(session, 1, 100.0)
    assert len(ownerless) == 2
    assert not ownerless.seen("c", 1, 120.0)
    assert ownerless.seen("a", 1, 120.0)


async def test_of_all_sessions_only_the_abandoned_are_ended_and_nothing_of_them_stays(
    own_nats: NatsServer,
    start_gateway: StartGateway,
) -> None:
    dead = await start_worker(own_nats.url)
    gateways = [await start_gateway(own_nats.url, **SOON) for _ in range(2)]
    async with channel_to(gateways[0]) as channel:
        lost = [await open_and_leave(channel) for _ in range(3)]
        dead.capacity = 0
        await dead.announce()
        lives = await start_worker(own_nats.url, "wk-lives")
        kept = await open_and_leave(channel)
        assert kept in lives.sessions
    js = lives.client.jetstream()
    await ensure_log(js, 1, timedelta(hours=1))
    for session in lost:
        await ConversationLog(js, session, epoch=1).begin("somebody")
        await lives.records.write_attachment(session, dead.own[session], fabric_pb2.AttachmentRecord())
    await dead.stop()

    async def nothing_stays() -> bool:
        info = await js.stream_info(subjects.SESSIONS_STREAM, subjects_filter="parley.session.>")
        logs = await js.stream_info(subjects.LOG_STREAM)
        of_the_lost = {subject for subject in info.state.subjects or {} if kept not in subject}
        return not logs.state.messages and of_the_lost == {subjects.own(session) for session in lost}

    await eventually(nothing_stays)
    for session in lost:
        found = await lives.records.read_own(session)
        assert found is not None
        assert (found[0].session.state, found[0].session.end_reason) == (ENDED, live_pb2.END_REASON_ABANDONED)
    assert await state_of(lives, kept) != ENDED
    requests = await js.stream_info(f"KV_{subjects.REQUESTS_BUCKET}")
    assert requests.state.messages == 1  # of the one that is kept
    # Each was ended by one of them.
    await eventually(lambda: sum(int(gateway.counts()["sessions_swept"]) for gateway in gateways) == len(lost))
    await lives.stop()


async def test_a_worker_that_is_not_heard_but_answers_keeps_what_it_has(
    own_nats: NatsServer, start_gateway: StartGateway
) -> None:
    worker = await start_worker(own_nats.url)
    gateway = await start_gateway(own_nats.url, **SOON)
    async with channel_to(gateway) as channel:
        held = await open_and_leave(channel)
    not_held = ids.session_id()
    session = sessions_pb2.Session(session_id=not_held, worker=worker.name)
    await worker.records.create_own(not_held, fabric_pb2.OwnRecord(schema_version=1, session=session))
    worker.unheard = True
    await eventually(lambda: gateway.counts()["sessions_swept"] == 1)
    assert await state_of(worker, not_held) == ENDED
    assert worker.asked("ping")
    assert await state_of(worker, held) != ENDED
    await worker.stop()


async def open_and_leave(channel: grpc.aio.Channel) -> str:
    """A session whose caller hangs up."""
    call = converse(channel)
    session = (await opened(call, open_request())).session_id
    call.cancel()
    return session


async def state_of(worker: FakeWorker, session: str) -> sessions_pb2.SessionState:
    found = await worker.records.read_own(session)
    assert found is not None
    return found[0].session.state
