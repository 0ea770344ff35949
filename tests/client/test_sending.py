"""The contract of `send_*`: when a send waits, what ends the wait, what a cancelled one leaves, what is kept."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest

import parley
from parley import _connect, errors
from parley._framing import Framer
from parley._outbox import Outbox
from parley._sender import Sender
from parley.v1 import live_pb2 as pb
from tests.client.fake_gateway import Stream, fake_gateway
from tests.support.eventually import eventually

FRAME = b"\1\0" * 640
"""40 ms."""
SECOND = 32_000
"""Bytes."""


class Gate:
    """A service that opens, and reads nothing more until it may."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, stream: Stream) -> None:
        await stream.opened()
        await self.go_on.wait()
        await stream.read_until("end")
        await stream.ended()


def audio_of(stream: Stream) -> bytes:
    return b"".join(frame for request in stream.of("audio") for frame in request.audio.frames)


# -- when it returns, when it waits ----------------------------------------------------------------------------------


async def test_a_send_returns_when_its_message_is_queued_not_when_the_service_has_it():
    gate = Gate()
    async with fake_gateway(gate) as gateway, parley.connect(gateway.target, profile="p") as session:
        await session.send_text("hello")
        assert not gateway.streams[0].of("text")
        gate.go_on.set()


@pytest.mark.parametrize("frame_ms", [20, 40])
async def test_audio_is_at_most_some_seconds_ahead_of_a_service_that_does_not_read(frame_ms):
    gate = Gate()
    speech = bytes(range(250)) * 128 * 60  # a minute
    async with fake_gateway(gate) as gateway:
        async with parley.connect(gateway.target, profile="p", frame_ms=frame_ms) as session:
            sending = asyncio.create_task(session.send_audio(speech))
            await eventually(lambda: session.stats.waiting_messages == 64)
            assert session.stats.unacked_bytes <= 4 * SECOND  # in gRPC's windows; nothing of it was read
            assert not sending.done()
            gate.go_on.set()
            await sending
        stream = gateway.streams[0]
    assert audio_of(stream) == speech
    assert stream.numbered() == list(range(1, len(stream.numbered()) + 1))
    # What waited left together, within the second that the service allows.
    joined = [sum(map(len, request.audio.frames)) for request in stream.of("audio")]
    assert len(FRAME) < max(joined) <= SECOND


async def test_pictures_wait_by_their_bytes():
    gate = Gate()
    async with fake_gateway(gate) as gateway, parley.connect(gateway.target, profile="p") as session:

        async def send() -> None:
            for number in range(20):
                await session.send_video(bytes([number]) * (100 << 10))

        sending = asyncio.create_task(send())
        # 256 KiB: two pictures and the one that goes beyond.
        await eventually(lambda: session.stats.waiting_messages == 3)
        await eventually(lambda: session.stats.sent_messages)
        assert session.stats.waiting_messages <= 3
        gate.go_on.set()
        await sending
        await session.end()
        await gateway.streams[0].finished.wait()
        assert [request.video.image.data[0] for request in gateway.streams[0].of("video")] == list(range(20))


async def test_text_that_is_not_acked_stops_the_sends_until_it_is():
    texts, size = 80, 64 << 10
    ack = asyncio.Event()

    async def script(stream: Stream) -> None:
        await stream.opened()
        await stream.send(text=pb.TextOutput(text="something to ack"))
        reading = asyncio.create_task(stream.read_until("end"))
        await ack.wait()
        while not reading.done():  # as the worker does: whenever something is in the log
            await stream.context.write(pb.ConverseResponse(acked_seq=max(stream.numbered(), default=0)))
            await asyncio.wait([reading], timeout=0.01)
        await stream.ended()

    async with fake_gateway(script) as gateway, parley.connect(gateway.target, profile="p") as session:

        async def send() -> None:
            for number in range(texts):
                await session.send_text(chr(97 + number % 26) * size)

        sending = asyncio.create_task(send())
        stream = await gateway.stream()
        await eventually(lambda: len(stream.of("text")) == 32)
        await eventually(lambda: session._streams.uplink.ring.full and session.stats.waiting_messages == 4)
        assert not sending.done()
        assert session.stats.sent_messages == len(stream.of("text")) == 32
        assert session.stats.dropped_messages == 0
        # What the caller took is acked all the same: both directions waiting for each other would be a deadlock.
        await anext(session)
        await anext(session)
        await eventually(lambda: stream.of("ack"))
        ack.set()
        await sending
        await eventually(lambda: len(stream.of("text")) == texts)


async def test_media_that_is_not_acked_never_stops_the_sends_and_what_is_forgotten_is_counted():
    pictures, speech = 30, FRAME * 25 * 60

    async def script(stream: Stream) -> None:
        await stream.opened()
        await stream.read_until("end")
        await stream.ended()

    async with fake_gateway(script) as gateway:
        async with parley.connect(gateway.target, profile="p") as session:
            await session.send_text("kept")
            await session.send_audio(speech)
            for _ in range(pictures):
                await session.send_video(bytes(100 << 10))
            await eventually(lambda: session.stats.waiting_messages == 0)
            stats = session.stats
            kept = [request.WhichOneof("payload") for request in session._streams.uplink.ring.after(0)]
        stream = gateway.streams[0]
    assert audio_of(stream) == speech
    assert len(stream.of("video")) == pictures
    assert stats.unacked_bytes <= 2 << 20
    assert stats.dropped_messages == stats.sent_messages - stats.unacked_messages > 0
    assert stats.dropped_bytes == len("kept") + 2 + len(speech) + pictures * (100 << 10) - stats.unacked_bytes
    # Pictures go before sound does, and text stays.
    assert kept[0] == "text"
    assert kept.count("audio") == len(stream.of("audio"))


# -- what ends a wait ------------------------------------------------------------------------------------------------


async def test_a_stream_that_ends_wakes_every_send_that_waits_with_its_error():
    fail = asyncio.Event()

    async def script(stream: Stream) -> None:
        await stream.opened()
        await fail.wait()
        await stream.context.abort(grpc.StatusCode.UNAVAILABLE, "worker lost")

    async with fake_gateway(script) as gateway, parley.connect(gateway.target, profile="p") as session:
        sends = [
            asyncio.create_task(coroutine)
            for coroutine in (
                session.send_audio(bytes(60 * SECOND)),
                session.send_text("hello"),
                session.send_video(b"\xff\xd8"),
                session.end(),
            )
        ]
        await eventually(lambda: session.stats.waiting_messages == 64)
        fail.set()
        ends = await asyncio.gather(*sends, return_exceptions=True)
        assert [(type(end), end.message) for end in ends] == [(errors.Unavailable, "worker lost")] * 4
        with pytest.raises(errors.Unavailable, match="worker lost"):
            await session.send_audio(FRAME)
        # What was queued and never left is counted, not forgotten in silence.
        assert (session.stats.unsent_messages, session.stats.unsent_bytes) == (64, 64 * len(FRAME))


class Cable:
    """TCP between a client and a gateway that can be cut without either end being told."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.whole = asyncio.Event()
        self.whole.set()
        self.tasks: set[asyncio.Task[None]] = set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        for ends in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self.carry(*ends))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                await self.whole.wait()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def cable(target: str):
    between = Cable(int(target.rpartition(":")[2]))
    server = await asyncio.start_server(between.connected, "127.0.0.1", 0)
    try:
        yield between, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        tasks = set(between.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_host_that_is_gone_ends_the_stream(monkeypatch):
    def quicker(name: str, value: int | str) -> int | str:
        return int(value) // 50 if "keepalive_time" in name or "ping_timeout" in name else value

    options = dict(_connect.CHANNEL_OPTIONS)
    assert options["grpc.keepalive_time_ms"] + options["grpc.http2.ping_timeout_ms"] == 30_000
    quick = {name: quicker(name, value) for name, value in options.items()}
    monkeypatch.setattr(_connect, "CHANNEL_OPTIONS", tuple(quick.items()))
    gate = Gate()
    async with fake_gateway(gate) as gateway, cable(gateway.target) as (between, target):
        async with parley.connect(target, profile="p") as session:
            sending = asyncio.create_task(session.send_audio(bytes(60 * SECOND)))
            await eventually(lambda: session.stats.waiting_messages == 64)
            between.whole.clear()
            with pytest.raises(errors.Unavailable):
                await sending
        gate.go_on.set()
        between.whole.set()


# -- the order, and what a cancelled send leaves ---------------------------------------------------------------------


class Drained:
    """A sender with an outbox for two messages, and what leaves it."""

    def __init__(self) -> None:
        self.outbox = Outbox(lambda: None, max_items=2)
        self.framer = Framer(rate=8000, frame_ms=20)  # 320 bytes
        self.sender = Sender(self.outbox, self.framer)
        self.left: list[str | bytes] = []

    def take(self) -> bool:
        taken = self.outbox.take(max_audio_bytes=1)
        self.left += [item.message if item.payload == "audio" else item.message.text for item in taken]
        return bool(taken)

    async def take_all(self) -> None:
        idle = 0
        while idle < 3:
            await asyncio.sleep(0)
            idle = 0 if self.take() else idle + 1


def frame(letter: str) -> bytes:
    return letter.encode() * 320


async def test_messages_leave_in_the_order_of_the_calls_also_when_they_wait():
    drained = Drained()
    calls = [
        drained.sender.audio(frame("a") + frame("b") + frame("c") + b"dd"),
        drained.sender.vital("text", pb.TextInput(text="first")),
        drained.sender.audio(frame("e")[2:] + frame("f")),
        drained.sender.vital("text", pb.TextInput(text="second")),
    ]
    tasks = [asyncio.create_task(call) for call in calls]
    await drained.take_all()
    await asyncio.gather(*tasks)
    assert drained.left == [
        frame("a"), frame("b"), frame("c"), b"dd", "first",
        frame("e")[2:] + b"ff", frame("f")[2:], "second",
    ]  # fmt: skip


@pytest.mark.parametrize("taken", range(5))
async def test_of_a_cancelled_piece_exactly_the_frames_queued_so_far_are_sent(taken):
    drained = Drained()
    await drained.sender.audio(b"aa")
    sending = asyncio.create_task(drained.sender.audio(frame("b") * 5 + b"cc"))
    await asyncio.sleep(0)
    for _ in range(taken):
        drained.take()
        await asyncio.sleep(0)
    cancelled = sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await drained.take_all()
    await drained.sender.vital("text", pb.TextInput(text="after"))
    await drained.take_all()
    whole = b"aa" + frame("b") * 5
    if cancelled:
        assert drained.left == [whole[at : at + 320] for at in range(0, 320 * (taken + 2), 320)] + ["after"]
    else:
        assert b"".join(drained.left[:-1]) == whole + b"cc"
    assert cancelled == (taken < 3)


@pytest.mark.parametrize("rest_left", [False, True])
async def test_a_cancelled_text_takes_no_audio_of_an_earlier_send_with_it(rest_left):
    drained = Drained()
    await drained.sender.audio(frame("a") + b"bb")
    if not rest_left:
        await drained.sender.audio(frame("c")[2:])
        await drained.sender.audio(b"bb")
    sending = asyncio.create_task(drained.sender.vital("text", pb.TextInput(text="lost")))
    await asyncio.sleep(0)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await drained.take_all()
    await drained.sender.vital("text", pb.TextInput(text="after"))
    await drained.take_all()
    audio = b"".join(item for item in drained.left if isinstance(item, bytes))
    assert audio == frame("a") + (b"bb" if rest_left else b"bb" + frame("c")[2:] + b"bb")
    assert drained.left[-1] == "after"
    assert "lost" not in drained.left


async def test_a_timeout_round_a_send_leaves_the_session_as_it_was():
    gate = Gate()
    async with fake_gateway(gate) as gateway:
        async with parley.connect(gateway.target, profile="p") as session:
            full = asyncio.create_task(session.send_audio(bytes(60 * SECOND)))
            await eventually(lambda: session.stats.waiting_messages == 64)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await session.send_text("too late")
            full.cancel()
            gate.go_on.set()
            await session.send_text("still here")
        stream = gateway.streams[0]
    assert [request.text.text for request in stream.of("text")] == ["still here"]
    assert stream.numbered() == list(range(1, len(stream.numbered()) + 1))


async def test_an_end_may_be_said_twice_at_once():
    gate = Gate()
    async with fake_gateway(gate) as gateway:
        async with parley.connect(gateway.target, profile="p") as session:
            full = asyncio.create_task(session.send_audio(bytes(60 * SECOND)))
            await eventually(lambda: session.stats.waiting_messages == 64)
            ends = [asyncio.create_task(session.end()) for _ in range(2)]
            gate.go_on.set()
            await asyncio.gather(full, *ends)
            with pytest.raises(errors.SessionEnded, match=r"end\(\)"):
                await session.send_text("more")
        assert len(gateway.streams[0].of("end")) == 1
