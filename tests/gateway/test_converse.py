"""The gateway between real gRPC sockets and a real nats-server, with a worker that does as it is told."""

from __future__ import annotations

import asyncio
import hashlib

import grpc
import grpc.aio
import pytest

from parley.v1 import errors_pb2, fabric_pb2, live_pb2
from services.fabric.bus import settle
from services.fabric.errors import ServiceError
from services.gateway.server import Gateway
from tests.gateway.conftest import OTHER_KEY, StartGateway, channel_to, converse, open_request, opened, read, refusal
from tests.gateway.fake_worker import FakeWorker, audio, interrupted, skip, start_worker, text
from tests.support.eventually import eventually
from tests.support.nats import NatsServer, nats_server

RING = 64
"""Messages: the smallest bound that may be set."""


def audio_in(seq: int, data: bytes = b"\1\2" * 320) -> live_pb2.ConverseRequest:
    return live_pb2.ConverseRequest(seq=seq, audio=live_pb2.AudioInput(frames=[data]))


def text_in(seq: int, words: str = "hi") -> live_pb2.ConverseRequest:
    return live_pb2.ConverseRequest(seq=seq, text=live_pb2.TextInput(text=words))


def ack(seq: int) -> live_pb2.ConverseRequest:
    return live_pb2.ConverseRequest(ack=live_pb2.Ack(seq=seq))


async def test_open_places_the_session_and_uplink_arrives_as_it_was_sent(
    channel: grpc.aio.Channel, worker: FakeWorker, gateway: Gateway
) -> None:
    call = converse(channel)
    sent = [audio_in(1), audio_in(2, b"\3\4" * 100), text_in(3)]
    await call.write(open_request(labels={"team": "sales"}))
    for request in sent:  # at once, without waiting for `opened`
        await call.write(request)
    first = await read(call)
    assert first.opened.session_id.startswith("ses_")
    assert first.opened.next_uplink_seq == 1
    assert not first.opened.existing
    assert first.opened.resume_window.seconds == 120
    spec = worker.sessions[first.opened.session_id]
    assert (spec.tenant, spec.principal, spec.profile) == ("acme", "acme-bot", "support")
    assert spec.config.instructions == "Be brief."
    assert spec.labels == {"team": "sales"}
    assert spec.gateway == gateway.id
    assert spec.resume_token_sha256 == hashlib.sha256(first.opened.resume_token.encode()).digest()
    await eventually(lambda: len(worker.requests) == 3)
    assert worker.requests == [request.SerializeToString() for request in sent]
    assert worker.envelopes[-1].last_seq == 3
    assert {(e.epoch, e.attach_generation) for e in worker.envelopes} == {(1, 1)}


async def test_opened_comes_before_downlink_that_overtook_the_reply(
    channel: grpc.aio.Channel, worker: FakeWorker
) -> None:
    async def speak_first() -> None:
        (session,) = worker.sessions
        await worker.say(session, text(1))
        await settle(worker.client)

    worker.before_reply = speak_first
    call = converse(channel)
    await opened(call)
    assert (await read(call)).text.text == "hello"


async def test_downlink_is_put_in_order_and_what_is_missing_is_asked_for(
    channel: grpc.aio.Channel, worker: FakeWorker
) -> None:
    call = converse(channel)
    session = (await opened(call)).session_id
    await worker.say(session, text(1, "one"))
    await worker.say(session, text(3, "three"))
    await eventually(lambda: any(e.downlink_missing for e in worker.envelopes))
    asked = next(e.downlink_missing[0] for e in worker.envelopes if e.downlink_missing)
    assert (asked.from_seq, asked.to_seq) == (2, 2)
    await worker.say(session, text(2, "two"))
    assert [(await read(call)).text.text for _ in range(3)] == ["one", "two", "three"]
    await eventually(lambda: worker.envelopes[-1].downlink_received_seq == 3)


@pytest.mark.parametrize("stale", [{"epoch": 0}, {"attach_generation": 0}, {"attach_generation": 2}])
async def test_downlink_of_another_epoch_or_generation_never_reaches_the_caller(
    channel: grpc.aio.Channel, worker: FakeWorker, gateway: Gateway, stale: dict[str, int]
) -> None:
    call = converse(channel)
    session = (await opened(call)).session_id
    failure = ServiceError(errors_pb2.ERROR_REASON_SUPERSEDED, "for another stream").to_failure()
    await worker.say(session, text(1, "stale"), stream_end=fabric_pb2.StreamEnd(failure=failure), **stale)
    await worker.say(session, text(1, "mine"))
    assert (await read(call)).text.text == "mine"
    assert gateway.counts()["dropped_downlink_stale_envelopes"] == 1


async def test_downlink_that_never_comes_is_named_in_a_gap(channel: grpc.aio.Channel, worker: FakeWorker) -> None:
    call = converse(channel)
    session = (await opened(call)).session_id
    await worker.say(session, audio(1))
    await worker.say(session, audio(3))
    await read(call)
    gap = (await read(call)).gap
    assert (gap.direction, gap.from_seq, gap.to_seq) == (live_pb2.DIRECTION_DOWNLINK, 2, 2)
    assert (await read(call)).seq == 3


async def test_uplink_is_sent_again_when_the_worker_misses_it(channel: grpc.aio.Channel, worker: FakeWorker) -> None:
    call = converse(channel)
    session = (await opened(call)).session_id
    for seq in range(1, 5):
        await call.write(audio_in(seq, bytes([seq, 0])))
    await eventually(lambda: len(worker.requests) == 4)
    worker.envelopes.clear()
    await worker.say(session, uplink_acked_seq=1, uplink_missing=[live_pb2.SeqRange(from_seq=2, to_seq=3)])
    await eventually(lambda: len(worker.requests) == 2)
    assert [live_pb2.ConverseRequest.FromString(raw).seq for raw in worker.requests] == [2, 3]


async def test_a_full_ring_stops_the_caller_until_the_worker_acks(
    nats: NatsServer, worker: FakeWorker, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(nats.url, uplink_ring_items=RING)
    async with channel_to(gateway) as channel:
        call = converse(channel)
        session = (await opened(call)).session_id
        for seq in range(1, 2 * RING + 1):
            await call.write(text_in(seq))
        await eventually(lambda: len(worker.requests) == RING)
        beats = len(worker.envelopes)
        await eventually(lambda: len(worker.envelopes) >= beats + 2)
        assert len(worker.requests) == RING
        await worker.say(session, uplink_acked_seq=RING)
        await eventually(lambda: len(worker.requests) == 2 * RING)
        await worker.say(session, uplink_acked_seq=2 * RING)
        await eventually(lambda: gateway.counts()["uplink_ring_bytes"] == 0)


async def test_an_interruption_overtakes_audio_that_is_held_back(channel: grpc.aio.Channel, worker: FakeWorker) -> None:
    call = converse(channel)
    session = (await opened(call)).session_id
    await call.write(ack(0))
    await call.write(text_in(1))
    await eventually(lambda: worker.requests)
    await worker.say(session, *[audio(seq) for seq in range(1, 31)])
    heard = [await read(call) for _ in range(4)]  # 400 ms beyond the ack
    assert [response.seq for response in heard] == [1, 2, 3, 4]
    await eventually(lambda: worker.envelopes[-1].downlink_received_seq == 4)
    await worker.say(session, interrupted(51, 3, 50), skips=[skip(31, 50)])
    last = await read(call)
    assert last.seq == 51
    assert last.interrupted.void_to_seq == 50
    await eventually(lambda: worker.envelopes[-1].downlink_received_seq == 51)
    await call.write(ack(51))
    await eventually(lambda: worker.envelopes[-1].downlink_acked_seq == 51)


async def test_acks_let_more_audio_through_and_a_caller_that_never_acks_is_not_held_back(
    channel: grpc.aio.Channel, worker: FakeWorker
) -> None:
    call = converse(channel)
    session = (await opened(call)).session_id
    await worker.say(session, *[audio(seq) for seq in range(1, 9)])
    assert [(await read(call)).seq for _ in range(8)] == list(range(1, 9))
    await call.write(ack(8))
    await call.write(text_in(1))
    await eventually(lambda: worker.requests)
    await worker.say(session, *[audio(seq) for seq in range(9, 15)])
    assert [(await read(call)).seq for _ in range(4)] == [9, 10, 11, 12]
    await call.write(ack(10))
    assert [(await read(call)).seq for _ in range(2)] == [13, 14]


async def test_the_session_lets_go_of_the_stream_after_everything_was_written(
    channel: grpc.aio.Channel, worker: FakeWorker, gateway: Gateway
) -> None:
    call = converse(channel)
    session = (await opened(call)).session_id
    await worker.say(session, text(1), text(2), stream_end=fabric_pb2.StreamEnd())
    assert [(await read(call)).seq for _ in range(2)] == [1, 2]
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK
    await eventually(lambda: gateway.counts()["calls"] == 0)
    assert not any(envelope.detached for envelope in worker.envelopes)


async def test_a_failure_of_the_session_ends_the_stream_with_its_status(
    channel: grpc.aio.Channel, worker: FakeWorker
) -> None:
    call = converse(channel)
    session = (await opened(call)).session_id
    failure = ServiceError(errors_pb2.ERROR_REASON_BACKEND_QUOTA, "no quota").to_failure()
    await worker.say(session, text(1), stream_end=fabric_pb2.StreamEnd(failure=failure))
    refused = await refusal(call)
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "BACKEND_QUOTA")
    assert refused.retry == 30


async def test_half_close_reaches_the_worker_after_every_request(channel: grpc.aio.Channel, worker: FakeWorker) -> None:
    call = converse(channel)
    session = (await opened(call)).session_id
    await call.write(text_in(1))
    await call.done_writing()
    await eventually(lambda: any(envelope.half_closed for envelope in worker.envelopes))
    assert worker.requests == [text_in(1).SerializeToString()]  # in that envelope at the latest
    await worker.say(session, text(1), stream_end=fabric_pb2.StreamEnd())
    assert (await read(call)).seq == 1
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK
    # Half-closed is not gone: the worker decides when it lets go.
    assert not any(envelope.detached for envelope in worker.envelopes)


async def test_after_half_close_the_answer_does_not_wait_for_acks(
    channel: grpc.aio.Channel, worker: FakeWorker
) -> None:
    call = converse(channel)
    session = (await opened(call)).session_id
    await call.write(ack(0))
    await call.write(text_in(1))
    await eventually(lambda: worker.requests)
    await worker.say(session, *[audio(seq) for seq in range(1, 21)], stream_end=fabric_pb2.StreamEnd())
    assert [(await read(call)).seq for _ in range(4)] == [1, 2, 3, 4]  # 400 ms beyond the ack
    await call.done_writing()
    assert [(await read(call)).seq for _ in range(16)] == list(range(5, 21))
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_caller_that_leaves_is_reported_and_leaves_nothing_behind(
    channel: grpc.aio.Channel, worker: FakeWorker, gateway: Gateway
) -> None:
    # One call first: what gRPC and NATS set up once stays.
    call = converse(channel)
    await opened(call)
    call.cancel()
    await eventually(lambda: any(envelope.detached for envelope in worker.envelopes))
    await eventually(lambda: not gateway.counts()["calls"])
    tasks = await settled()
    subscriptions = gateway.counts()["subscriptions"]
    for number in range(10):
        worker.envelopes.clear()
        call = converse(channel)
        session = (await opened(call, open_request(f"leaves-{number}"))).session_id
        await call.write(text_in(1))
        await worker.say(session, *[audio(seq) for seq in range(1, 100)])
        await read(call)
        call.cancel()
        await eventually(lambda: any(envelope.detached for envelope in worker.envelopes))
        assert not any(envelope.half_closed for envelope in worker.envelopes)
        assert text_in(1).SerializeToString() in worker.requests
    await eventually(lambda: not gateway.counts()["calls"])
    counts = await eventually(lambda: counts if not (counts := gateway.counts())["stream_tasks"] else None)
    assert (counts["streams"], counts["streams_closing"]) == (0, 0) or await eventually(
        lambda: not gateway.counts()["streams_closing"]
    )
    assert counts["subscriptions"] == subscriptions
    assert await settled() <= tasks


async def settled() -> int:
    """Number of tasks once it has stopped falling."""
    least = len(asyncio.all_tasks())
    for _ in range(20):
        await asyncio.sleep(0)
        least = min(least, len(asyncio.all_tasks()))
    return least


async def test_a_caller_that_leaves_while_its_session_opens_is_reported_when_it_is_open(
    channel: grpc.aio.Channel, worker: FakeWorker, gateway: Gateway
) -> None:
    worker.open_gate = asyncio.Event()
    call = converse(channel)
    await call.write(open_request("leaves-early"))
    await eventually(lambda: worker.sessions)
    call.cancel()
    await eventually(lambda: not gateway.counts()["calls"])
    worker.open_gate.set()
    await eventually(lambda: any(envelope.detached for envelope in worker.envelopes))
    await eventually(lambda: not gateway.counts()["streams"])


async def test_a_repeated_open_finds_the_session_and_takes_over_its_stream(
    channel: grpc.aio.Channel, worker: FakeWorker
) -> None:
    first = converse(channel)
    one = await opened(first, open_request("again"))
    worker.next_uplink_seq = 3
    second = converse(channel)
    two = await opened(second, open_request("again"))
    assert (two.session_id, two.existing, two.next_uplink_seq) == (one.session_id, True, 3)
    assert two.resume_token != one.resume_token
    (attach,) = worker.asked("attach")
    assert not attach.presented_token_sha256
    assert attach.new_token_sha256 == hashlib.sha256(two.resume_token.encode()).digest()
    superseded = ServiceError(errors_pb2.ERROR_REASON_SUPERSEDED, "taken over").to_failure()
    end = fabric_pb2.StreamEnd(failure=superseded)
    await worker.say(one.session_id, attach_generation=1, stream_end=end)
    refused = await refusal(first)
    assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "SUPERSEDED")
    for seq in range(1, 4):  # what the session has already is dropped
        await second.write(text_in(seq))
    await worker.say(one.session_id, text(1))
    assert (await read(second)).text.text == "hello"
    await eventually(lambda: worker.requests)
    assert worker.requests == [text_in(3).SerializeToString()]
    # Another caller with the same request id is another request.
    other = converse(channel, key=OTHER_KEY)
    assert (await opened(other, open_request("again"))).session_id != one.session_id


async def test_a_stream_is_over_whose_session_another_has_though_the_worker_is_not_heard(
    channel: grpc.aio.Channel, worker: FakeWorker, gateway: Gateway
) -> None:
    first, second = converse(channel), converse(channel)
    one = await opened(first, open_request("lost"))
    two = await opened(second, open_request("lost"))
    assert (two.session_id, two.existing) == (one.session_id, True)
    refused = await refusal(first)
    assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "SUPERSEDED")
    await eventually(lambda: gateway.counts()["streams"] == 1)
    await worker.say(one.session_id, text(1), attach_generation=2)
    assert (await read(second)).text.text == "hello"


async def test_a_repeated_open_waits_for_the_first_one(channel: grpc.aio.Channel, worker: FakeWorker) -> None:
    worker.open_gate = asyncio.Event()
    first, second = converse(channel), converse(channel)
    await first.write(open_request("twice"))
    await eventually(lambda: worker.sessions)
    await second.write(open_request("twice"))
    await eventually(lambda: worker.asked("attach"))
    worker.open_gate.set()
    one, two = (await read(first)).opened, (await read(second)).opened
    assert one.session_id == two.session_id
    assert (one.existing, two.existing) == (False, True)


async def test_resume_checks_tenant_and_token(channel: grpc.aio.Channel, worker: FakeWorker) -> None:
    first = converse(channel)
    session = await opened(first, open_request("resumes"))
    first.cancel()

    def resume(session_id: str, token: str) -> live_pb2.ConverseRequest:
        body = live_pb2.Resume(session_id=session_id, resume_token=token, last_received_seq=7)
        return live_pb2.ConverseRequest(open=live_pb2.Open(resume=body))

    back = converse(channel)
    found = await opened(back, resume(session.session_id, session.resume_token))
    assert (found.session_id, found.existing) == (session.session_id, True)
    assert worker.asked("attach")[-1].last_received_seq == 7
    for key, request, reason in (
        (OTHER_KEY, resume(session.session_id, session.resume_token), "SESSION_UNKNOWN"),
        ("key-of-acme", resume(session.session_id, "wrong"), "RESUME_REFUSED"),
        ("key-of-acme", resume("ses_" + "0" * 26, "wrong"), "SESSION_UNKNOWN"),
        ("key-of-acme", resume("ses_>.*", "wrong"), "SESSION_UNKNOWN"),
    ):
        call = converse(channel, key=key)
        await call.write(request)
        assert (await refusal(call)).reason == reason


async def test_a_full_worker_costs_one_more_try(
    nats: NatsServer, start_gateway: StartGateway, worker: FakeWorker
) -> None:
    worker.refuse = ServiceError(errors_pb2.ERROR_REASON_NO_CAPACITY, "full")
    other = await start_worker(nats.url, "wk-other")
    try:
        gateway = await start_gateway(nats.url)
        await eventually(lambda: gateway.counts()["workers"] == 2)
        async with channel_to(gateway) as channel:
            for number in range(6):
                await opened(converse(channel), open_request(f"placed-{number}"))
        assert len(other.sessions) == 6
        assert not worker.sessions
        # Nobody left: the refusal says when to come back, and the request id is free again.
        other.refuse = worker.refuse
        async with channel_to(gateway) as channel:
            call = converse(channel)
            await call.write(open_request("refused"))
            refused = await refusal(call)
            assert (refused.reason, refused.retry) == ("NO_CAPACITY", 2)
            other.refuse = None
            assert not (await opened(converse(channel), open_request("refused"))).existing
    finally:
        await other.stop()


async def test_a_worker_that_died_is_noticed_and_without_another_one_the_stream_ends(
    channel: grpc.aio.Channel, worker: FakeWorker, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.streams.SILENT", 0.2)
    monkeypatch.setattr(gateway._recovery, "_window", 0.5)
    worker.silent = True
    call = converse(channel)
    await opened(call, open_request("dies"))
    await worker.stop(quietly=True)
    refused = await refusal(call)
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "WORKER_LOST")
    assert refused.retry == 1
    assert gateway.counts()["workers"] == 0


async def test_no_worker(nats: NatsServer, start_gateway: StartGateway) -> None:
    gateway = await start_gateway(nats.url, ready=False, worker_wait="100ms")
    async with channel_to(gateway) as channel:
        call = converse(channel)
        await call.write(open_request("nobody"))
        refused = await refusal(call)
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "NO_WORKER")
    assert refused.retry == 2
    assert not gateway.ready()


async def test_no_nats_server(start_gateway: StartGateway) -> None:
    gateway = await start_gateway("nats://127.0.0.1:1", ready=False, fabric_wait="100ms")
    async with channel_to(gateway) as channel:
        call = converse(channel)
        await call.write(open_request("nowhere"))
        refused = await refusal(call)
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "FABRIC_UNAVAILABLE")
    assert refused.retry == 2


async def test_a_nats_server_that_restarts_costs_nothing(start_gateway: StartGateway) -> None:
    async with nats_server() as server:
        worker = await start_worker(server.url)
        gateway = await start_gateway(server.url)
        async with channel_to(gateway) as channel:
            call = converse(channel)
            await opened(call)
            server.kill()
            await eventually(lambda: not gateway.counts()["bus_connected"])
            for seq in range(1, 21):
                await call.write(audio_in(seq))
            await call.write(text_in(21))
            await asyncio.to_thread(server.start)
            await eventually(lambda: worker.client.is_connected and gateway.counts()["bus_connected"])
            await eventually(lambda: worker.envelopes and worker.envelopes[-1].last_seq == 21)
            # Who was back first may have spoken to nobody: the worker sees that by `last_seq`, and asks.
            worker.envelopes.clear()
            (session,) = worker.sessions
            await worker.say(session, uplink_missing=[live_pb2.SeqRange(from_seq=1, to_seq=21)])
            await eventually(lambda: len(worker.requests) == 21)
            assert [live_pb2.ConverseRequest.FromString(raw).seq for raw in worker.requests] == list(range(1, 22))
            await worker.say(session, text(1))
            assert (await read(call)).seq == 1
        await worker.stop()


@pytest.mark.parametrize(
    ("request_", "code", "reason", "field"),
    [
        (text_in(1), "INVALID_ARGUMENT", "OPEN_MISPLACED", "open"),
        (open_request(profile="nope"), "NOT_FOUND", "PROFILE_UNKNOWN", "open.profile"),
        (open_request(request_id="with space"), "INVALID_ARGUMENT", "FIELD_INVALID", "open.request_id"),
        (
            live_pb2.ConverseRequest(
                open=live_pb2.Open(request_id="r", config=live_pb2.SessionConfig(model="gpt")),
            ),
            "INVALID_ARGUMENT",
            "MODEL_UNKNOWN",
            "open.config.model",
        ),
        (
            live_pb2.ConverseRequest(
                open=live_pb2.Open(
                    request_id="r", config=live_pb2.SessionConfig(model="gemini-3.8-live", tools=["no_such_tool"])
                ),
            ),
            "INVALID_ARGUMENT",
            "TOOL_UNKNOWN",
            "open.config.tools[0]",
        ),
    ],
)
async def test_a_bad_first_message_is_refused(
    channel: grpc.aio.Channel, request_: live_pb2.ConverseRequest, code: str, reason: str, field: str
) -> None:
    call = converse(channel)
    await call.write(request_)
    refused = await refusal(call)
    assert (refused.code.name, refused.reason, refused.fields) == (code, reason, [field])


async def test_a_bad_later_message_ends_the_stream_and_what_came_before_arrives(
    channel: grpc.aio.Channel, worker: FakeWorker
) -> None:
    call = converse(channel)
    await opened(call)
    await call.write(text_in(1))
    await call.write(text_in(3))
    refused = await refusal(call)
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "SEQUENCE_BROKEN")
    await eventually(lambda: any(envelope.detached for envelope in worker.envelopes))
    assert worker.requests == [text_in(1).SerializeToString()]


async def test_a_caller_that_does_not_read_holds_the_worker_back_and_is_told_when_it_reads_again(
    worker: FakeWorker, gateway: Gateway
) -> None:
    # The windows of the downlink are the caller's to set; these are those of our own client.
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 64 * 1024)]
    async with grpc.aio.insecure_channel(gateway.address, options=options) as channel:
        call = converse(channel)
        session = (await opened(call)).session_id
        await worker.say(session, *[audio(seq) for seq in range(1, 51)])  # 5 s: the worker's window
        await eventually(lambda: gateway.counts()["downlink_waiting_items"] > 20)
        await eventually(lambda: worker.envelopes and 0 < worker.envelopes[-1].downlink_received_seq < 30)
        await call.write(text_in(7))
        await eventually(lambda: any(envelope.detached for envelope in worker.envelopes))
        assert (await refusal(call)).reason == "SEQUENCE_BROKEN"
    await eventually(lambda: not gateway.counts()["calls"] and not gateway.counts()["stream_tasks"])


async def test_a_stream_too_many_is_refused(nats: NatsServer, worker: FakeWorker, start_gateway: StartGateway) -> None:
    gateway = await start_gateway(nats.url, max_streams=1)
    async with channel_to(gateway) as channel:
        call = converse(channel)
        await opened(call)
        refused = await refusal(converse(channel))
        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "NO_CAPACITY")
        assert refused.retry == 2
        call.cancel()
        await eventually(lambda: not gateway.counts()["calls"])
        await opened(converse(channel))


async def test_bytes_that_are_no_message_are_refused(channel: grpc.aio.Channel) -> None:
    call = channel.stream_stream("/parley.v1.LiveService/Converse")(metadata=[("x-parley-api-key", "key-of-acme")])
    await call.write(b"\xff\xff\xff")
    assert (await refusal(call)).reason == "MESSAGE_INVALID"


@pytest.mark.parametrize("key", ["", "wrong"])
async def test_a_wrong_key_is_refused(channel: grpc.aio.Channel, key: str) -> None:
    call = converse(channel, key=key)
    refused = await refusal(call)
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID")


async def test_a_silent_caller_is_sent_away(nats: NatsServer, worker: FakeWorker, start_gateway: StartGateway) -> None:
    gateway = await start_gateway(nats.url, open_timeout="50ms")
    async with channel_to(gateway) as channel:
        refused = await refusal(converse(channel))
    assert (refused.code, refused.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "OPEN_TIMEOUT")
    await eventually(lambda: not gateway.counts()["stream_tasks"])


async def test_a_draining_gateway_says_so_and_ends_its_streams(
    nats: NatsServer, worker: FakeWorker, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(nats.url, shutdown_grace="300ms")
    async with channel_to(gateway) as channel:
        call = converse(channel)
        await opened(call)
        stopping = asyncio.create_task(gateway.stop())
        assert (await read(call)).gateway_draining.time_left.nanos == 300_000_000
        assert not gateway.ready()
        late = converse(channel)
        await late.write(open_request("late"))
        assert (await refusal(late)).reason == "GATEWAY_DRAINING"
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "GATEWAY_DRAINING")
        await stopping
    await eventually(lambda: any(envelope.detached for envelope in worker.envelopes))
