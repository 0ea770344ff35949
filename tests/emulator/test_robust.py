"""Clients that mean no good: slow, many, large, rude. The emulator says what is wrong, or drops them, and goes on."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from emulator.endpoint.body import read_body
from emulator.endpoint.handshake import credential
from emulator.settings import EmulatorSettings
from emulator.switches import SwitchError, Switches
from tests.emulator.behaviour import behaviour, patched
from tests.emulator.conftest import Here, running
from tests.emulator.patience import LIMIT, in_time
from tests.emulator.raw import HELLO, KEY, PATH, SETUP, Socket, dial, gone, masked
from tests.support.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hurried() -> AsyncIterator[Here]:
    """An emulator with little patience: for clients that let it wait, never for those that it is to serve."""
    settings = EmulatorSettings(generation_speed=50, playback_speed=50, setup_timeout="300ms", close_timeout="200ms")
    async with running(settings) as here:
        yield here


async def a_neighbour_is_well(here: Here) -> None:
    async with Socket(here) as client:
        await client.send(SETUP, {"realtimeInput": {"text": "stop"}})
        assert await client.next() == {"setupComplete": {}}
        assert (await client.next())["serverContent"]["turnComplete"]


async def test_many_connections_that_never_send_a_setup_end_in_time() -> None:
    async def closed(here: Here) -> tuple[int | None, str]:
        async with Socket(here) as client:
            return await client.closed()

    # Only the set-up is hurried: who answers its close late, while so many connect, would be aborted.
    async with running(EmulatorSettings(setup_timeout="300ms")) as here:
        ends = await asyncio.gather(*(closed(here) for _ in range(120)))
        assert set(ends) == {(1008, "Setup was not received in time.")}
        numbers = await gone(here)
        assert numbers["totals"]["refused"] >= 120


@behaviour("fault.full", off=patched("emulator.endpoint.upgrade.Origin._full", property(lambda self: False)))
async def test_one_connection_too_many_is_refused_in_googles_form() -> None:
    # With all the patience there is: none of those that are open leaves before the next one has come.
    async with running(EmulatorSettings(max_connections=3)) as here, contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            client = await stack.enter_async_context(Socket(here))
            await client.send(SETUP)
            await client.next()
        asked = {"ssl": here.ssl_context, "headers": KEY}
        async with aiohttp.ClientSession() as http, http.get(here.address + PATH, **asked) as response:
            assert response.status == 503
            assert (await response.json())["error"]["status"] == "UNAVAILABLE"
        await stack.aclose()
        assert (await gone(here))["totals"]["turned_away"] == 1
        await a_neighbour_is_well(here)


async def test_a_client_that_does_not_get_to_its_upgrade_is_dropped() -> None:
    async with running(EmulatorSettings(upgrade_timeout="300ms")) as here:
        port = int(here.address.rpartition(":")[2])

        async def stops(where: str) -> None:
            context = {"ssl": here.ssl_context, "server_hostname": "localhost"} if where != "before TLS" else {}
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, **context)
                if where == "in the request":
                    writer.write(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nx-".encode())
                async with in_time():
                    assert await reader.read(1000) == b""
            except (ConnectionResetError, ssl.SSLError):
                return
            writer.close()

        await asyncio.gather(*(stops(where) for where in ("before TLS", "before the request", "in the request")))


@pytest.mark.parametrize("whole", [True, False])
async def test_ten_megabytes_are_refused_with_1009(here: Here, whole: bool) -> None:
    async with Socket(here) as client:
        await client.send(SETUP)
        await client.next()
        if whole:
            sending = asyncio.create_task(client.send("x" * 10_000_000))
            assert (await client.closed())[0] == 1009
            await asyncio.gather(sending, return_exceptions=True)
        else:
            stream = await dial(here)
            # Fragments of one message, without an end.
            for opcode in (0x1, *[0x0] * 9):
                stream.writer.write(bytes([opcode]) + masked(opcode, b"x" * 1_000_000)[1:])
            async with in_time():
                opcode, payload = await stream.frame()
            assert (opcode, int.from_bytes(payload[:2], "big")) == (0x8, 1009)
            stream.leave()
    await gone(here)
    await a_neighbour_is_well(here)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x00" * 1000,
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"setup":' * 5000,
        json.dumps({"a": "\ud800"}).encode(),
        b"1e999",
    ],
)
async def test_binary_garbage_is_refused_and_nothing_else(here: Here, frame: bytes) -> None:
    for first in ([], [SETUP]):
        async with Socket(here) as client:
            await client.send(*first, frame)
            code, reason = await client.closed()
            assert code == 1007
            assert 0 < len(reason.encode()) <= 123
    await a_neighbour_is_well(here)


@pytest.mark.parametrize("junk", [b"\xff\xff\xff\xff", masked(0x3, b""), masked(0x9, b"x" * 126), b"\x81\x05hello"])
async def test_what_is_no_websocket_frame_is_a_protocol_error(here: Here, junk: bytes) -> None:
    stream = await dial(here)
    stream.writer.write(junk)
    async with in_time():
        while (frame := await stream.frame())[0] != 0x8:
            pass
    assert int.from_bytes(frame[1][:2], "big") in (1002, 1007)
    stream.leave()
    await gone(here)


@pytest.mark.parametrize("faults", ["pongs delay=1h", ""])
async def test_a_flood_of_pings_is_bounded(here: Here, faults: str) -> None:
    async with Socket(here, faults) as client:
        await client.send(SETUP)
        await client.next()
        for number in range(2000):
            await client.socket.ping(str(number).encode())
        await client.send({"realtimeInput": {"text": "stop"}})
        frames = await client.until("turnComplete")
        pongs = [frame for frame in frames if frame.type is aiohttp.WSMsgType.PONG]
        assert len(pongs) == (0 if faults else 2000)
        (connection,) = here.emulator.connections
        assert len(connection._wire._pongs) == (64 if faults else 0)
    await gone(here)


async def test_a_client_that_says_goodbye_and_listens_no_more_is_let_go(hurried: Here) -> None:
    stream = await dial(hurried)
    stream.writer.transport.pause_reading()  # type: ignore[attr-defined]
    stream.send(SETUP)
    for _ in range(20):
        stream.send(HELLO)
    stream.writer.write(masked(0x8, b"\x03\xe8"))

    async def let_go() -> bool:
        return bool((await hurried.get("/stats"))["connections"] == 0)

    await eventually(let_go, timeout=LIMIT)
    stream.leave()


TOKENS = "/v1alpha/auth_tokens"


async def status_of(http: aiohttp.ClientSession, method: str, url: str, **options: Any) -> tuple[int, str]:
    async with http.request(method, url, **options) as response:
        return response.status, await response.text()


@pytest.mark.parametrize("port", ["live", "control"])
async def test_a_body_that_never_comes_is_not_waited_for(
    here: Here, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emulator.faults.routes.read_body", lambda request: read_body(request, 0.3))
    monkeypatch.setattr(here.emulator._origin._auth_tokens, "_patience", 0.3)
    origin, path = (here.address, TOKENS) if port == "live" else (here.control, "/faults")
    context = {"ssl": here.ssl_context, "server_hostname": "localhost"} if port == "live" else {}
    reader, writer = await asyncio.open_connection("127.0.0.1", int(origin.rpartition(":")[2]), **context)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nx-goog-api-key: k\r\nContent-Length: 100000\r\n\r\n{{"
    writer.write(head.encode())
    try:
        async with in_time():
            assert b" 408 " in await reader.readline()
            while await reader.read(1000):
                pass
    except (ConnectionResetError, ssl.SSLError):
        pass
    finally:
        writer.close()


async def test_requests_that_make_no_sense_are_told_so(here: Here) -> None:
    key = {**KEY}
    live: list[tuple[dict[str, Any], int, str]] = [
        ({"headers": {**key, "x-emulator-switches": "connection_limit=99999999999999999999h"}}, 400, "thousand years"),
        ({"headers": {**key, "x-emulator-switches": "bogus=1"}}, 400, "unknown switch"),
        ({"headers": {**key, "x-emulator-faults": "reset after=99999999999999999999h"}}, 400, "thousand years"),
        ({"headers": {**key, **UPGRADE, "Sec-WebSocket-Key": "no key"}}, 426, "WebSocket"),
    ]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
        for options, status, said in live:
            found = await status_of(http, "GET", here.address + PATH, ssl=here.ssl_context, **options)
            assert found[0] == status and said in found[1], (options, found)
        body = {"data": b"no gzip", "headers": {**key, "Content-Encoding": "gzip"}}
        found = await status_of(http, "POST", here.address + TOKENS, ssl=here.ssl_context, **body)
        assert found[0] == 400 and "INVALID_ARGUMENT" in found[1], found
        control: list[tuple[dict[str, Any], int, str]] = [
            (body, 400, "cannot be read"),
            ({"json": {"fault": "a" * 100_000}}, 400, "at most 16384"),
            ({"json": {"fault": "reset after=99999999999999999999h"}}, 400, "thousand years"),
        ]
        for options, status, said in control:
            found = await status_of(http, "POST", here.control + "/faults", **options)
            assert found[0] == status and said in found[1], (options, found)
        # A number that nobody has counted to changes none of those to come.
        numbered = {"json": {"fault": "reset", "reach": "future"}, "headers": {"x-emulator-number-from": "9" * 4000}}
        status, text = await status_of(http, "POST", here.control + "/faults", **numbered)
        assert status == 201 and len(text) < 1000
        await status_of(http, "DELETE", here.control + "/faults")
    await a_neighbour_is_well(here)


@pytest.mark.parametrize("mime_type", ["audio/pcm;rate=0", "audio/pcm;rate=999999", "audio/mp3"])
@pytest.mark.parametrize("scenario", ["support", "echo"])
async def test_audio_that_cannot_be_heard_is_refused_in_every_scenario(
    here: Here, scenario: str, mime_type: str
) -> None:
    client = Socket(here)
    client.headers["x-emulator-scenario"] = scenario
    async with client:
        await client.send(SETUP, {"realtimeInput": {"audio": {"data": "AAAA", "mimeType": mime_type}}})
        code, said = await client.closed()
        assert code == 1007 and mime_type in said, said


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"realtimeInput": {"audio": {"data": "AAAA", "mimeType": f"audio/pcm;rate={'9' * 5000}"}}}, ""),
        ({"clientContent": {"turns": [{}] * 60_000}}, "Request contains an invalid argument."),
        ('{"toolResponse": {"functionResponses": [{"id": "a", "name": "b", "response": {"a": 1e999}}]}}', "double"),
    ],
    ids=["rate", "values", "infinite"],
)
async def test_a_message_beyond_all_measure_is_refused(here: Here, message: Any, reason: str) -> None:
    async with Socket(here) as client:
        await client.send(SETUP, message)
        code, said = await client.closed()
        assert code == 1007 and reason in said, said
    await gone(here)
    await a_neighbour_is_well(here)


async def test_a_fault_of_its_own_is_told_as_the_service_would(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(message: Any) -> bytes:
        raise ValueError("half a character")

    async with Socket(here) as client:
        await client.send(SETUP)
        await client.next()
        monkeypatch.setattr("emulator.endpoint.connection.encode", broken)
        await client.send(HELLO)
        assert await client.closed() == (1011, "Internal error encountered.")
    monkeypatch.undo()
    await gone(here)


async def test_a_key_that_is_no_text_can_be_kept() -> None:
    given = credential({"x-goog-api-key": "k\udcff"}, {})
    assert given is not None and given.value == "k\\xff"
    given.value.encode()
    with pytest.raises(SwitchError) as caught:
        Switches().changed({"\udcff": "1"})
    str(caught.value).encode()


class Counted:
    """A transport whose writes are counted."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


async def test_who_reads_gets_an_answer_that_is_produced_faster_than_it_may_wait() -> None:
    settings = EmulatorSettings(generation_speed=1000, playback_speed=1000, outbox_bytes=50_000)
    async with running(settings) as here, Socket(here) as client:
        await client.send(SETUP, HELLO)
        frames = await client.until("turnComplete")
        assert sum(len(frame.data) for frame in frames) > 2 * settings.outbox_bytes
        assert here.emulator._origin.counters.dropped == 0


async def test_what_one_decision_brings_goes_out_in_one_write(here: Here) -> None:
    async with Socket(here) as client:
        await client.send(SETUP)
        await client.next()
        (connection,) = here.emulator.connections
        assert connection._transport is not None
        connection._outbox._transport = counted = Counted(connection._transport)  # type: ignore[assignment]
        await client.send(HELLO)
        frames = await client.until("turnComplete")
        # Fifty seconds of speech in a second, in bursts of forty milliseconds.
        assert 0 < counted.writes < len(frames) / 3
        assert not len(connection._outbox) and not connection._outbox.size
    await gone(here)
