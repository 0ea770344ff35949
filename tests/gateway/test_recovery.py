"""A stream whose worker is gone: another one is found for it, and the caller's side goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc.aio
import pytest

from parley.v1 import errors_pb2, fabric_pb2, live_pb2
from services.fabric.errors import ServiceError
from services.gateway.server import Gateway
from tests.gateway.conftest import converse, open_request, opened, refusal
from tests.gateway.fake_worker import FakeWorker, audio, start_worker, text
from tests.support.eventually import eventually
from tests.support.nats import NatsServer


@pytest.fixture
async def other(nats: NatsServer, gateway: Gateway) -> AsyncIterator[FakeWorker]:
    """A second worker, which comes when the sessions are placed."""
    started = await start_worker(nats.url, "wk-other")
    await eventually(lambda: gateway.counts()["workers"] == 2)
    yield started
    await started.stop()


def said(seq: int, words: str) -> live_pb2.ConverseRequest:
    return live_pb2.ConverseRequest(seq=seq, text=live_pb2.TextInput(text=words))


Call = grpc.aio.StreamStreamCall[live_pb2.ConverseRequest, live_pb2.ConverseResponse]


@pytest.fixture
async def call(channel: grpc.aio.Channel, worker: FakeWorker, request: pytest.FixtureRequest) -> Call:
    """Open at the first worker, which has said three things and been told two."""
    call = converse(channel)
    session = (await opened(call, open_request(request.node.name))).session_id
    for seq in (1, 2):
        await call.write(said(seq, "hello"))
    await eventually(lambda: len(worker.requests) == 2)
    await worker.say(session, text(1), audio(2), text(3))
    for seq in (1, 2, 3):
        response = await call.read()
        assert response.seq == seq
    return call


async def test_the_stream_goes_on_with_another_worker(
    call: Call, worker: FakeWorker, other: FakeWorker, gateway: Gateway
) -> None:
    [session] = worker.sessions
    await worker.say(session, last_seq=5)  # two more are on their way, and never come
    other.next_uplink_seq = 2

    async def early() -> None:
        await other.say(session, text(4, "from the new one"))

    other.before_reply = early
    await worker.stop(quietly=True)
    response = await call.read()
    assert (response.seq, response.text.text) == (4, "from the new one")
    [command] = other.asked("take_over")
    assert (command.from_worker, command.from_epoch, command.proof) == (
        "wk-fake",
        1,
        fabric_pb2.PROOF_OF_DEATH_DEAD,
    )
    assert (command.tenant, command.attach_generation) == ("acme", 1)
    assert (command.floor, command.last_audio_seq) == (3, 2)
    assert (command.uplink_acked_seq, command.uplink_sent_seq) == (0, 2)
    assert command.silence.ToTimedelta().total_seconds() > 0
    await call.write(said(3, "go on"))
    await eventually(lambda: len(other.requests) == 2)
    requests = [live_pb2.ConverseRequest.FromString(raw) for raw in other.requests]
    assert [request.seq for request in requests] == [2, 3]
    assert {(each.epoch, each.attach_generation) for each in other.envelopes} == {(2, 2)}
    assert gateway.counts()["sessions_recovered"] == 1


async def test_what_the_old_owner_still_says_does_not_reach_the_caller(
    nats: NatsServer, call: Call, worker: FakeWorker, other: FakeWorker, gateway: Gateway
) -> None:
    [session] = worker.sessions
    worker.sessions.clear()  # it answers, and says that it has not got it
    worker.silent = True
    await eventually(lambda: session in other.sessions or session in worker.epochs)
    taken = other if session in other.sessions else worker
    ghost = await start_worker(nats.url, "wk-ghost")
    ghost.gateways[session] = worker.gateways[session]
    await ghost.say(session, text(4, "of the old one"), epoch=1)
    await ghost.stop()
    await eventually(lambda: gateway.counts()["dropped_downlink_stale_envelopes"] >= 1)
    await taken.say(session, text(4, "of the new one"))
    assert (await call.read()).text.text == "of the new one"


async def test_a_worker_that_refuses_or_dies_costs_one_more_try(
    nats: NatsServer, call: Call, worker: FakeWorker, other: FakeWorker, gateway: Gateway
) -> None:
    third = await start_worker(nats.url, "wk-third")
    await eventually(lambda: gateway.counts()["workers"] == 3)
    other.refuse = ServiceError(errors_pb2.ERROR_REASON_NO_CAPACITY, "full")
    [session] = worker.sessions
    await worker.stop(quietly=True)
    await eventually(lambda: session in third.sessions)
    await third.say(session, text(4, "here"))
    assert (await call.read()).text.text == "here"
    # The next owner dies, too; now the one that was full has room.
    other.refuse = None
    await third.stop(quietly=True)
    await eventually(lambda: session in other.sessions)
    await other.say(session, text(5, "and here"))
    assert (await call.read()).text.text == "and here"
    assert [command.from_epoch for command in other.asked("take_over")][-1] == 2


async def test_an_answer_that_was_lost_is_looked_up(
    call: Call, worker: FakeWorker, other: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first to be asked took the session over, and its answer did not come."""
    monkeypatch.setattr("services.gateway.recovery._TAKE_OVER_TIMEOUT", 0.5)
    [session] = worker.sessions

    async def lost() -> None:
        other.before_reply = None
        await asyncio.sleep(0.6)  # the time limit, and a little more

    other.before_reply = lost
    await worker.stop(quietly=True)
    [attach] = await eventually(lambda: other.asked("attach"))
    assert (attach.last_received_seq, attach.passed_on_seq) == (0, 3), "the caller has acked none of what it was given"
    assert len(other.asked("take_over")) == 1
    await other.say(session, text(4, "here"))
    assert (await call.read()).text.text == "here"


async def test_a_session_of_another_stream_is_let_go(call: Call, worker: FakeWorker, other: FakeWorker) -> None:
    other.refuse = ServiceError(errors_pb2.ERROR_REASON_SUPERSEDED, "another stream took this session over")
    await worker.stop(quietly=True)
    refused = await refusal(call)
    assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "SUPERSEDED")


async def test_a_caller_that_comes_back_finds_its_session_with_another_worker(
    channel: grpc.aio.Channel, worker: FakeWorker, other: FakeWorker, gateway: Gateway
) -> None:
    call = converse(channel)
    session = await opened(call, open_request("comes-back"))
    call.cancel()
    await eventually(lambda: gateway.counts()["streams"] == 0)
    held, taker = (other, worker) if session.session_id in other.sessions else (worker, other)
    await held.stop(quietly=True)
    back = converse(channel)
    resume = live_pb2.Resume(session_id=session.session_id, resume_token=session.resume_token, last_received_seq=7)
    found = await opened(back, live_pb2.ConverseRequest(open=live_pb2.Open(resume=resume)))
    assert found.existing
    [command] = taker.asked("take_over")
    assert (command.floor, command.attach_generation) == (7, 0)
    assert len(command.presented_token_sha256) == 32
