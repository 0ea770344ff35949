"""A session that its worker wishes to let go, or an operator to move: where it goes, and when it stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc.aio
import pytest

from parley.v1 import errors_pb2, fabric_pb2, fleet_pb2, fleet_pb2_grpc, live_pb2, sessions_pb2, sessions_pb2_grpc
from services.fabric import ids
from services.fabric.errors import ServiceError
from services.gateway.server import Gateway
from tests.gateway.conftest import KEY, OTHER_KEY, Refusal, StartGateway, converse, open_request, opened
from tests.gateway.fake_worker import FakeWorker, start_worker, text
from tests.support.eventually import eventually
from tests.support.nats import NatsServer

Call = grpc.aio.StreamStreamCall[live_pb2.ConverseRequest, live_pb2.ConverseResponse]
WISH = fabric_pb2.MoveWish()
RELEASED = fabric_pb2.PROOF_OF_DEATH_RELEASED
AUTH = [("authorization", f"Bearer {KEY}")]
OTHER = [("authorization", f"Bearer {OTHER_KEY}")]


@pytest.fixture
async def other(nats: NatsServer, gateway: Gateway) -> AsyncIterator[FakeWorker]:
    """A second worker, which comes when the session is placed."""
    started = await start_worker(nats.url, "wk-other")
    await eventually(lambda: gateway.counts()["workers"] == 2)
    yield started
    await started.stop()


@pytest.fixture
async def call(channel: grpc.aio.Channel, worker: FakeWorker, request: pytest.FixtureRequest) -> Call:
    """Open at the first worker, which has said one thing."""
    call = converse(channel)
    session = (await opened(call, open_request(request.node.name))).session_id
    await worker.say(session, text(1))
    assert (await call.read()).seq == 1
    return call


async def refused(call: grpc.aio.UnaryUnaryCall[object, object]) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return Refusal(error.value)


async def test_it_goes_to_a_worker_that_keeps_a_place_for_it(
    call: Call, worker: FakeWorker, other: FakeWorker, gateway: Gateway
) -> None:
    [session] = worker.sessions
    worker.wish = WISH
    await eventually(lambda: session in other.sessions)
    [reserved], [released], [taken] = other.asked("reserve"), worker.asked("release"), other.asked("take_over")
    assert (reserved.session_id, released.session_id, released.to_worker) == (session, session, "wk-other")
    assert not released.force
    assert (taken.proof, taken.from_worker, taken.from_epoch, taken.floor) == (RELEASED, "wk-fake", 1, 1)
    await other.say(session, text(2, "from the new one"))
    assert (await call.read()).text.text == "from the new one"
    assert gateway.counts()["sessions_moved"] == 1
    assert not worker.asked("ping"), "what its record says needs no proof"


async def test_it_stays_while_nobody_has_a_place(
    call: Call, worker: FakeWorker, other: FakeWorker, gateway: Gateway
) -> None:
    other.refuse = ServiceError(errors_pb2.ERROR_REASON_NO_CAPACITY, "full")
    [session] = worker.sessions
    worker.wish = WISH
    await eventually(lambda: other.asked("reserve"))
    await worker.say(session, text(2, "still here"))
    assert (await call.read()).text.text == "still here"
    assert not worker.asked("release")
    other.refuse = None
    await eventually(lambda: session in other.sessions)


async def test_it_stays_while_its_worker_is_busy(call: Call, worker: FakeWorker, other: FakeWorker) -> None:
    worker.busy = True
    [session] = worker.sessions
    worker.wish = WISH
    await eventually(lambda: worker.asked("release"))
    await worker.say(session, text(2, "still here"))
    assert (await call.read()).text.text == "still here"
    worker.busy = False
    worker.wish = fabric_pb2.MoveWish(force=True)
    await eventually(lambda: session in other.sessions)
    assert worker.asked("release")[-1].force


async def test_what_is_said_until_it_has_gone_reaches_the_caller(
    call: Call, worker: FakeWorker, other: FakeWorker
) -> None:
    worker.released_gate = asyncio.Event()
    [session] = worker.sessions
    worker.generations.setdefault(session, 1)
    worker.wish = WISH
    await eventually(lambda: worker.asked("release"))
    await worker.say(session, text(2, "the last word"), attach_generation=1)
    assert (await call.read()).text.text == "the last word"
    worker.released_gate.set()
    await eventually(lambda: session in other.sessions)
    assert other.asked("take_over")[0].floor == 2


async def test_one_that_was_let_go_already_is_taken_over_at_once(
    call: Call, worker: FakeWorker, other: FakeWorker
) -> None:
    [session] = worker.sessions
    await worker.let_go(session)
    worker.draining = True
    await worker.announce()
    worker.wish = fabric_pb2.MoveWish(released=True)
    await eventually(lambda: session in other.sessions)
    assert not other.asked("reserve")
    assert other.asked("take_over")[0].proof == RELEASED


async def test_the_place_it_was_let_go_for_comes_first(
    nats: NatsServer, call: Call, worker: FakeWorker, other: FakeWorker, gateway: Gateway
) -> None:
    more = [await start_worker(nats.url, f"wk-more-{number}") for number in range(3)]
    await eventually(lambda: gateway.counts()["workers"] == 5)
    [session] = worker.sessions
    worker.wish = fabric_pb2.MoveWish(to_worker="wk-other")
    await eventually(lambda: session in other.sessions)
    for each in more:
        assert not each.commands
        await each.stop()


async def test_the_next_one_is_asked_when_that_place_is_gone(
    nats: NatsServer, call: Call, worker: FakeWorker, other: FakeWorker, gateway: Gateway
) -> None:
    third = await start_worker(nats.url, "wk-third")
    await eventually(lambda: gateway.counts()["workers"] == 3)
    worker.released_gate = asyncio.Event()
    [session] = worker.sessions
    worker.wish = fabric_pb2.MoveWish(to_worker="wk-other")
    await eventually(lambda: worker.asked("release"))
    await other.stop(quietly=True)
    worker.draining = True
    await worker.announce()
    worker.released_gate.set()
    await eventually(lambda: session in third.sessions)
    await third.stop()


async def test_a_worker_of_the_release_before_keeps_no_places(
    call: Call, worker: FakeWorker, other: FakeWorker
) -> None:
    async def answer_as_of_old() -> None:
        other.refuse = ServiceError(errors_pb2.ERROR_REASON_NOT_IMPLEMENTED, "unknown command None")
        worker.released_gate = asyncio.Event()

    await answer_as_of_old()
    [session] = worker.sessions
    worker.wish = WISH
    await eventually(lambda: worker.asked("release"))
    other.refuse = None
    assert worker.released_gate is not None
    worker.released_gate.set()
    await eventually(lambda: session in other.sessions)


async def test_a_caller_that_comes_back_gets_a_session_that_was_let_go(
    channel: grpc.aio.Channel, worker: FakeWorker, other: FakeWorker, gateway: Gateway
) -> None:
    call = converse(channel)
    session = await opened(call, open_request("let-go"))
    call.cancel()
    await eventually(lambda: gateway.counts()["streams"] == 0)
    holder, taker = (other, worker) if session.session_id in other.sessions else (worker, other)
    await holder.let_go(session.session_id)
    holder.draining = True
    await holder.announce()
    asked_before = len(holder.commands)
    resume = live_pb2.Resume(session_id=session.session_id, resume_token=session.resume_token, last_received_seq=7)
    assert (await opened(converse(channel), live_pb2.ConverseRequest(open=live_pb2.Open(resume=resume)))).existing
    assert taker.asked("take_over")[0].proof == RELEASED
    assert len(holder.commands) == asked_before, "it has nothing to say any more"


async def test_a_session_that_was_let_go_is_swept_although_its_worker_lives(
    own_nats: NatsServer, start_gateway: StartGateway
) -> None:
    worker = await start_worker(own_nats.url)
    gateway = await start_gateway(own_nats.url, sweep_every="100ms", abandoned_after="100ms")
    records = worker.records
    made = {}
    for epoch in (3, 2):  # the second was let go by an owner before this one
        session = ids.session_id()
        record = fabric_pb2.OwnRecord(
            schema_version=1,
            session=sessions_pb2.Session(session_id=session, worker=worker.name, epoch=3),
            handover=fabric_pb2.Handover(cause="DRAIN", epoch=epoch),
        )
        await records.create_own(session, record)
        made[epoch] = session
    await eventually(lambda: gateway.counts()["sessions_swept"] == 1)
    for epoch, ended in ((3, True), (2, False)):
        found = await records.read_own(made[epoch])
        assert found is not None
        assert (found[0].session.state == sessions_pb2.SESSION_STATE_ENDED) is ended
    await worker.stop()


# Operators


async def test_an_operator_moves_a_session(
    call: Call, channel: grpc.aio.Channel, worker: FakeWorker, other: FakeWorker
) -> None:
    [session] = worker.sessions
    sessions = sessions_pb2_grpc.SessionServiceStub(channel)
    request = sessions_pb2.MoveSessionRequest(session_id=session, worker="wk-other")
    moving = asyncio.ensure_future(sessions.MoveSession(request, metadata=AUTH))
    await eventually(lambda: worker.asked("move"))
    assert worker.asked("move")[0].to_worker == "wk-other"
    worker.wish = fabric_pb2.MoveWish(to_worker="wk-other")
    answer = await moving
    assert (answer.session.worker, answer.session.epoch) == ("wk-other", 2)
    again = await sessions.MoveSession(request, metadata=AUTH)
    assert again.session.worker == "wk-other", "it is there already"


async def test_a_move_that_cannot_be_is_refused(
    call: Call, channel: grpc.aio.Channel, worker: FakeWorker, gateway: Gateway
) -> None:
    [session] = worker.sessions
    sessions = sessions_pb2_grpc.SessionServiceStub(channel)

    async def refusal(metadata: list[tuple[str, str]] = AUTH, **fields: str) -> Refusal:
        return await refused(sessions.MoveSession(sessions_pb2.MoveSessionRequest(**fields), metadata=metadata))

    alone = await refusal(session_id=session)
    assert (alone.code, alone.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "NO_CAPACITY")
    assert alone.retry
    nobody = await refusal(session_id=session, worker="wk-nobody")
    assert (nobody.code, nobody.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["worker"])
    assert (await refusal(session_id="ses_0")).reason == "SESSION_UNKNOWN"
    assert (await refusal(OTHER, session_id=session)).reason == "SESSION_UNKNOWN"
    assert (await refusal(session_id="")).fields == ["session_id"]
    assert not worker.asked("move")

    other = await start_worker(worker.client.connected_url.geturl() if worker.client.connected_url else "", "wk-busy")
    other.draining = True
    await other.announce()
    await eventually(lambda: gateway.counts()["workers"] == 2)
    assert (await refusal(session_id=session, worker="wk-busy")).reason == "NO_CAPACITY"
    await other.stop()

    worker.sessions.clear()
    third = await start_worker(worker.client.connected_url.geturl() if worker.client.connected_url else "", "wk-third")
    await eventually(lambda: gateway.counts()["workers"] == 2)
    lost = await refusal(session_id=session)
    assert (lost.code, lost.reason) == (grpc.StatusCode.UNAVAILABLE, "WORKER_LOST")
    await third.stop()


async def test_a_session_without_a_caller_is_only_let_go(
    channel: grpc.aio.Channel, worker: FakeWorker, other: FakeWorker, gateway: Gateway
) -> None:
    call = converse(channel)
    session = (await opened(call, open_request("only-let-go"))).session_id
    call.cancel()
    await eventually(lambda: gateway.counts()["streams"] == 0)
    holder = other if session in other.sessions else worker
    alone = fabric_pb2.AttachmentRecord(attach_generation=1)
    await holder.records.write_attachment(session, holder.own[session], alone)
    sessions = sessions_pb2_grpc.SessionServiceStub(channel)
    request = sessions_pb2.MoveSessionRequest(session_id=session)
    moving = asyncio.ensure_future(sessions.MoveSession(request, metadata=AUTH))
    await eventually(lambda: holder.asked("move"))
    await holder.let_go(session)
    assert (await moving).session.gateway == ""
    await sessions.MoveSession(request, metadata=AUTH)  # it is nowhere already
    assert len(holder.asked("move")) == 1
    await sessions.EndSession(sessions_pb2.EndSessionRequest(session_id=session), metadata=AUTH)
    ended = await refused(sessions.MoveSession(request, metadata=AUTH))
    assert (ended.code, ended.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SESSION_ENDED")


async def test_an_operator_drains_a_worker_and_takes_it_back(
    channel: grpc.aio.Channel, worker: FakeWorker, gateway: Gateway
) -> None:
    fleet = fleet_pb2_grpc.FleetServiceStub(channel)
    answer = await fleet.DrainWorker(fleet_pb2.DrainWorkerRequest(worker="wk-fake"), metadata=AUTH)
    assert (answer.worker.worker, answer.worker.draining) == ("wk-fake", True)

    async def listed() -> bool:
        workers = (await fleet.ListWorkers(fleet_pb2.ListWorkersRequest(), metadata=AUTH)).workers
        return workers[0].draining

    await eventually(listed)
    undrained = await fleet.UndrainWorker(fleet_pb2.UndrainWorkerRequest(worker="wk-fake"), metadata=AUTH)
    assert not undrained.worker.draining
    not_his = await refused(fleet.DrainWorker(fleet_pb2.DrainWorkerRequest(worker="wk-fake"), metadata=OTHER))
    assert (not_his.code, not_his.reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED")
    for name in ("", "wk-nobody"):
        nobody = await refused(fleet.DrainWorker(fleet_pb2.DrainWorkerRequest(worker=name), metadata=AUTH))
        assert (nobody.code, nobody.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["worker"])
    await worker.stop(quietly=True)
    gone = await refused(fleet.UndrainWorker(fleet_pb2.UndrainWorkerRequest(worker="wk-fake"), metadata=AUTH))
    assert (gone.code, gone.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["worker"])
