"""Faults on real sockets: what a client sees, and that nothing of a connection is left in the emulator."""

import asyncio
import functools
import itertools
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import websockets
from aiohttp import WSMsgType, web

from emulator.actions import Wire
from emulator.faults.text import MODELS
from emulator.settings import EmulatorSettings
from tests.emulator.behaviour import behaviour, patched
from tests.emulator.conftest import Here, running
from tests.emulator.patience import LIMIT, Patience, in_time
from tests.emulator.raw import (
    HELLO,
    KEY,
    PATH,
    SETUP,
    Socket,
    Stream,
    ask,
    dial,
    fired,
    gone,
    headers,
    masked,
)
from tests.support.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

names = (f"wire-{number}" for number in itertools.count())
ON_CALLS = {"duplicate_call", "cancel_calls"}
"""Faults that need a function call to happen at."""
EFFECTS_OFF = patched("emulator.faults.effects.Effects.of", lambda *_: [])
AUDIO = "inlineData"
COMPLETE = "turnComplete"


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nothing_left(here: Here) -> AsyncIterator[None]:
    """Whatever the fault was: in the end neither connection nor task is left."""
    yield
    await gone(here, LIMIT)


def websocket(here: Here, faults: str, **options: Any) -> Any:
    """The library that the Python SDK uses."""
    url = here.address.replace("https", "wss") + PATH
    return websockets.connect(url, ssl=here.ssl_context, additional_headers=headers(faults), **options)


async def lasting(here: Here, conversation: str, fault: dict[str, Any]) -> Callable[[], Awaitable[Any]]:
    """Order a fault for an open connection; what ends it. How long it lasts is not left to the machine."""
    status, (order,) = await ask(here, "POST", f"/conversations/{conversation}/faults", fault)
    assert status == 201
    return functools.partial(ask, here, "DELETE", f"/faults/{order['id']}")


@behaviour(
    "10.34",
    "2.4.22",
    "fault.reset",
    off=patched("emulator.endpoint.wire.WireControl.abort", lambda self, reset=False: None),
)
async def test_a_reset_is_one(here: Here) -> None:
    stream = await dial(here, "reset")
    stream.send(SETUP)
    with pytest.raises(ConnectionResetError):
        async with in_time():
            while await stream.reader.read(100):
                pass
    stream.writer.close()


@behaviour("fault.reset", off=patched("emulator.endpoint.connection.Connection._break_off", lambda self, reset: None))
async def test_an_orderly_end_without_a_close_frame(here: Here) -> None:
    stream = await dial(here, "reset how=fin on=connect")
    try:
        async with in_time():
            assert await stream.reader.read(100) == b""
    finally:
        stream.writer.close()


@behaviour("10.6", "fault.half_open", off=patched("emulator.endpoint.connection.Connection._rewire", lambda *_: None))
async def test_a_half_open_connection_neither_reads_nor_writes_nor_answers_pings(here: Here) -> None:
    name = next(names)
    async with Socket(here, conversation=name) as client:
        await client.send(SETUP)
        await client.next()
        over = await lasting(here, name, {"do": "half_open", "on": "first_audio"})
        await client.send(HELLO)
        await client.until(AUDIO)
        await client.socket.ping()
        await client.send({"realtimeInput": {"text": "goodbye"}})

        async def caught() -> Any:
            return await fired(here, name)

        assert await eventually(caught, timeout=Patience.seconds()) == ["half_open"]
        heard = await here.get(f"/conversations/{name}")
        assert heard["texts"] == ["hello"]
        await over()
        # What was held back comes, in order.
        frames = await client.until(COMPLETE)
        kinds = [frame.type for frame in frames]
        assert aiohttp.WSMsgType.PONG in [*kinds, *(frame.type for frame in await client.until(COMPLETE))]


async def test_what_waits_behind_a_half_open_connection_is_not_let_through_by_another_such_fault(here: Here) -> None:
    async with Socket(here) as client:
        await client.send(SETUP)
        await client.next()
        (connection,) = here.emulator.connections
        connection._rewire(Wire(writing=False))
        connection._pong(b"held back")
        connection._rewire(Wire(writing=False))
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(connection._outbox) == 1
        connection._rewire(Wire(writing=True))
        assert bytes((await client.frame()).data) == b"held back"


@behaviour("10.6", "fault.half_open", off=patched("emulator.endpoint.wire.WireControl._pause", lambda self: None))
async def test_a_half_open_connection_makes_the_client_s_buffers_fill(here: Here) -> None:
    stream = await dial(here, "half_open on=connect")
    picture = {"realtimeInput": {"video": {"data": "A" * 1_000_000, "mimeType": "image/jpeg"}}}
    try:
        with pytest.raises(TimeoutError):
            # More than any kernel buffers. Each frame that is not taken stands still for good.
            for _ in range(64):
                stream.send(picture)
                async with asyncio.timeout(0.5):
                    await stream.writer.drain()
    finally:
        stream.leave()


@behaviour("2.4.7", "fault.half_open", off=EFFECTS_OFF)
async def test_a_client_gives_a_half_open_connection_up_and_it_is_freed(here: Here) -> None:
    with pytest.raises(websockets.ConnectionClosedError) as caught:
        options = {"ping_interval": 0.1, "ping_timeout": 0.1, "close_timeout": 0.1}
        async with in_time(), websocket(here, "half_open", **options) as client:
            await client.send(json.dumps(SETUP))
            async for _ in client:
                pass
    assert caught.value.sent is not None
    assert (caught.value.sent.code, caught.value.sent.reason) == (1011, "keepalive ping timeout")
    await gone(here)


@behaviour("fault.half_open", off=patched("select.EPOLLRDHUP", 0))
async def test_a_client_that_hangs_up_is_noticed_though_nobody_reads(here: Here) -> None:
    stream = await dial(here, "half_open on=connect")
    # Something unread lies before the end of the stream.
    stream.send(SETUP)
    await stream.writer.drain()
    stream.writer.transport.abort()
    try:
        await gone(here)
    finally:
        for connection in list(here.emulator.connections):
            connection._wire.abort()


async def test_a_frozen_connection_is_dropped_in_the_end() -> None:
    async with running(EmulatorSettings(frozen_limit="200ms", setup_timeout="50ms")) as here:
        async with Socket(here, "half_open on=connect") as client:
            assert await client.closed() == (1006, "")
        await gone(here)


async def test_frozen_connections_do_not_hold_up_the_end() -> None:
    async with running(EmulatorSettings(close_timeout="100ms")) as here:
        streams = [
            await dial(here, fault)
            for fault in ("half_open on=connect", "stop_reading on=connect", "drip on=connect rate=1")
        ]
        for stream in streams:
            stream.send(SETUP)

        async def all_open() -> bool:
            return (await here.get("/stats"))["faults"] == 3

        await eventually(all_open, timeout=Patience.seconds())
    for stream in streams:
        stream.writer.transport.abort()


@behaviour("10.6", "2.4.7", "fault.pongs", off=patched("emulator.endpoint.wire.WireControl.apply", lambda *_: None))
async def test_late_pongs_come_behind_what_was_sent_later(here: Here) -> None:
    async with Socket(here, "pongs delay=300ms") as client:
        await client.send(SETUP)
        await client.next()
        await client.socket.ping(b"there?")
        await client.send({"realtimeInput": {"text": "stop"}})
        assert COMPLETE in json.dumps((await client.next())["serverContent"])
        pong = await client.frame()
        assert (pong.type, bytes(pong.data)) == (aiohttp.WSMsgType.PONG, b"there?")


@behaviour("10.6", "2.4.7", "fault.pongs", off=EFFECTS_OFF)
async def test_without_pongs_a_client_ends_with_a_keepalive_timeout(here: Here) -> None:
    with pytest.raises(websockets.ConnectionClosedError) as caught:
        async with in_time(), websocket(here, "pongs", ping_interval=0.1, ping_timeout=0.1) as client:
            await client.send(json.dumps(SETUP))
            async for _ in client:
                pass
    assert caught.value.sent is not None
    assert caught.value.sent.reason == "keepalive ping timeout"


@behaviour("10.6", off=patched("emulator.endpoint.wire.WireControl.ping", lambda *_: None))
async def test_pings_are_answered_otherwise(here: Here) -> None:
    async with websocket(here, "", ping_interval=None) as client:
        await client.send(json.dumps(SETUP))
        await client.recv()
        for _ in range(3):
            async with in_time():
                await (await client.ping())


@behaviour("10.6", "fault.stop_reading", off=patched("emulator.endpoint.wire.WireControl._pause", lambda self: None))
async def test_a_server_that_stops_reading_goes_on_sending(here: Here) -> None:
    name = next(names)
    async with Socket(here, "stop_reading on=first_audio", name) as client:
        await client.send(SETUP, HELLO)
        await client.until(AUDIO)
        await client.socket.ping()
        await client.send({"realtimeInput": {"text": "goodbye"}})
        frames = await client.until(COMPLETE)
        assert aiohttp.WSMsgType.PONG not in [frame.type for frame in frames]
        assert (await here.get(f"/conversations/{name}"))["texts"] == ["hello"]


@behaviour("10.43", "fault.drip", off=patched("emulator.endpoint.wire.WireControl.apply", lambda *_: None))
async def test_frames_trickle_and_stay_whole(here: Here) -> None:
    stream = await dial(here, "drip on=connect rate=400")
    stream.send(SETUP)
    stream.ping(b"in between")
    async with in_time():
        # 20 bytes at a time: the first do not make a frame.
        first = await stream.reader.read(1000)
    rest = Stream(asyncio.StreamReader(), stream.writer)
    rest.reader.feed_data(first)

    async def go_on() -> None:
        while some := await stream.reader.read(1000):
            rest.reader.feed_data(some)

    pump = asyncio.create_task(go_on())
    try:
        assert len(first) <= 20
        frames = sorted([await rest.frame(), await rest.frame()])
        assert frames == [(0x2, b'{"setupComplete":{}}'), (0xA, b"in between")]
    finally:
        pump.cancel()
        stream.writer.close()


async def test_what_follows_a_drip_waits_for_its_last_frame(here: Here) -> None:
    stream = await dial(here, "drip on=connect rate=100; frame on=connect what=oversized size=2000")
    first = await stream.reader.readexactly(1)
    (connection,) = here.emulator.connections
    # Both before the writer, which is in the middle of the frame, sees anything of it.
    connection._rewire(Wire(bytes_per_second=math.inf))
    connection._pong(b"behind it")
    rest = Stream(asyncio.StreamReader(), stream.writer)
    rest.reader.feed_data(first)
    async with in_time():
        while b"behind it" not in bytes(rest.reader._buffer):  # type: ignore[attr-defined]
            rest.reader.feed_data(await stream.reader.read(4096))
    rest.reader.feed_eof()
    assert [len((await rest.frame())[1]) >= 2000, await rest.frame()] == [True, (0xA, b"behind it")]
    stream.leave()


@pytest.mark.parametrize("leaves", ["close", "abort"])
async def test_a_client_may_leave_in_the_middle_of_a_dripping_frame(here: Here, leaves: str) -> None:
    leaver = Socket(here, "drip on=turn_began rate=200")
    leaver.close_timeout = LIMIT
    async with leaver as client:
        await client.send(SETUP, HELLO)
        await client.until("setupComplete")
        if leaves == "close":
            async with in_time():
                # The frame under way is finished, so that the close frame behind it can be understood.
                assert await client.socket.close(code=1000)
            assert client.socket.close_code == 1000


@behaviour("fault.delay", off=EFFECTS_OFF)
async def test_delayed_frames_come_after_the_pong(here: Here) -> None:
    async with Socket(here, "delay by=300ms") as client:
        await client.send(SETUP)
        await client.next()
        await client.send({"realtimeInput": {"text": "stop"}})
        await client.socket.ping()
        assert (await client.frame()).type is aiohttp.WSMsgType.PONG
        assert "turnComplete" in (await client.next())["serverContent"]


UPGRADE_OFF = patched("emulator.faults.plan.FaultPlan.at_upgrade", lambda *_: [])


@behaviour("10.4", "2.4.19", "fault.refuse_upgrade", off=UPGRADE_OFF)
@pytest.mark.parametrize("status", [401, 403, 429, 503, 418])
async def test_upgrades_are_refused(here: Here, status: int) -> None:
    name = next(names)
    faults = f"refuse_upgrade status={status} retry_after=1500ms link=1"
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with Socket(here, faults, name):
            pass
    assert caught.value.status == status
    assert caught.value.headers is not None and caught.value.headers["Retry-After"] == "2"
    # The reconnect is spared.
    async with Socket(here, faults, name) as client:
        await client.send(SETUP)
        assert await client.next() == {"setupComplete": {}}
    assert await fired(here, name) == ["refuse_upgrade"]


@behaviour("fault.refuse_upgrade", off=UPGRADE_OFF)
async def test_a_refusal_has_googles_form_or_a_body_of_its_own(here: Here) -> None:
    async with aiohttp.ClientSession() as http:
        for fault, expected in (("", '"RESOURCE_EXHAUSTED"'), ('body="<h1>no</h1>"', "<h1>no</h1>")):
            asked = {**KEY, "x-emulator-faults": f"refuse_upgrade status=429 {fault}"}
            async with http.get(here.address + PATH, ssl=here.ssl_context, headers=asked) as response:
                assert response.status == 429
                assert expected in await response.text()


@behaviour("fault.slow_upgrade", off=UPGRADE_OFF)
async def test_a_slow_upgrade_is_given_up_and_leaves_nothing(here: Here) -> None:
    name = next(names)
    with pytest.raises(TimeoutError):
        async with websocket(here, "slow_upgrade by=1h", open_timeout=0.3):
            pass
    await eventually(lambda: here.emulator._origin._upgrades == 0, timeout=Patience.seconds())
    async with Socket(here, "slow_upgrade by=50ms", name) as client:
        await client.send(SETUP)
        assert await client.next() == {"setupComplete": {}}
    assert await fired(here, name) == ["slow_upgrade"]


@behaviour("10.7", off=patched("emulator.switches.Switches.changed", lambda self, values: self))
async def test_deflate_is_negotiated_or_refused(here: Here) -> None:
    for deflate in ("no", "yes"):
        client = Socket(here, deflate=deflate)
        client.compress = 15
        async with client:
            assert bool(client.socket.compress) is (deflate == "yes")
            await client.send(SETUP, HELLO)
            frames = await client.until(COMPLETE)
            assert AUDIO in str(frames[1].data)


@behaviour("10.5", off=patched("emulator.switches.Switches.changed", lambda self, values: self))
async def test_frames_are_binary_or_text(here: Here) -> None:
    for frames, kind in (("binary", aiohttp.WSMsgType.BINARY), ("text", aiohttp.WSMsgType.TEXT)):
        async with Socket(here, frames=frames) as client:
            await client.send(SETUP)
            assert (await client.frame()).type is kind


@behaviour("10.8", off=patched("emulator.errors.MAX_REASON_BYTES", 10))
async def test_close_reasons_are_cut_at_123_bytes(here: Here) -> None:
    async with Socket(here, "close reason=" + "ä" * 100) as client:
        await client.send(SETUP)
        assert await client.closed() == (1011, "ä" * 61)


async def answer(here: Here, faults: str) -> list[str]:
    """What the answer to a greeting consists of, without repetitions."""
    async with Socket(here, faults) as client:
        await client.send(SETUP)
        await client.next()
        await client.send(HELLO)
        messages = [json.loads(frame.data) for frame in await client.until(COMPLETE)]
        parts = [part for message in messages for part in message.get("serverContent", {})]
        return [part for part, _ in itertools.groupby(parts) if part != "interactionStatus"]


ANSWER = ["modelTurn", "generationComplete", COMPLETE]


@behaviour("fault.interrupt", off=EFFECTS_OFF)
async def test_the_model_interrupts_itself(here: Here) -> None:
    assert await answer(here, "") == ANSWER
    assert await answer(here, "interrupt") == ["modelTurn", "interrupted", COMPLETE]


@behaviour("fault.empty_turns", off=EFFECTS_OFF)
async def test_the_model_answers_with_an_empty_turn(here: Here) -> None:
    assert await answer(here, "empty_turns") == [COMPLETE]


@behaviour("fault.mute", "fault.stall", off=EFFECTS_OFF)
@pytest.mark.parametrize(("fault", "before"), [("mute", []), ("stall", [AUDIO])])
async def test_a_model_falls_silent_and_may_speak_again(here: Here, fault: str, before: list[str]) -> None:
    name = next(names)
    async with Socket(here, conversation=name) as client:
        await client.send(SETUP)
        await client.next()
        # What is to be kept has to have an end.
        over = await lasting(here, name, {"do": fault, "for": "1h"})
        await client.send(HELLO)
        for key in before:
            await client.until(key)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                raise AssertionError(await client.socket.receive())
        await over()
        assert AUDIO in str((await client.until(COMPLETE))[0].data)


async def test_every_fault_ends_with_its_connection(here: Here) -> None:
    def files() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    async def hit(fault: str, leaves: bool) -> None:
        name = next(names)
        try:
            async with Socket(here, fault, name) as client:
                await client.send(SETUP, HELLO)
                await eventually(lambda: here.emulator._orders.fired(name), timeout=LIMIT)
                if not leaves:
                    await client.socket.close()
        except (aiohttp.ClientError, ConnectionError):
            # Refused, or lost: that is what the fault is for.
            assert here.emulator._orders.fired(name)

    async def settled() -> bool:
        return len(asyncio.all_tasks()) <= tasks and files() <= descriptors

    await gone(here)
    tasks, descriptors = len(asyncio.all_tasks()), files()
    wanted = [name + (" by=10ms" if name == "slow_upgrade" else "") for name in MODELS if name not in ON_CALLS]
    await asyncio.gather(*(hit(fault, leaves) for fault in wanted for leaves in (True, False)))
    await gone(here)
    await eventually(settled, timeout=LIMIT)


async def _cut_behind_the_close_frame(
    self: web.WebSocketResponse, *, code: int = 1000, message: bytes = b"", drain: bool = True
) -> bool:
    if not self.closed:
        await self.send_frame(code.to_bytes(2, "big") + message, WSMsgType.CLOSE)
        transport = self._req and self._req.transport
        if transport is not None:
            transport.close()
    return True


@behaviour("2.4.2", off=patched("aiohttp.web.WebSocketResponse.close", _cut_behind_the_close_frame))
async def test_a_client_has_time_to_answer_a_close_frame(here: Here) -> None:
    stream = await dial(here, "close preset=go_away")
    stream.send(SETUP)
    async with in_time():
        while (frame := await stream.frame())[0] != 8:
            pass
    assert int.from_bytes(frame[1][:2], "big") == 1008
    # Whoever is slow to read finds the connection as it was, and not reset with the frame still unread.
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await stream.reader.read(1)
    stream.writer.write(masked(0x8, frame[1][:2]))
    async with in_time():
        assert await stream.reader.read(1) == b""
    stream.leave()
    await gone(here)
