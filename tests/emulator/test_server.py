"""The emulator as a process, and clients that do as they should not: raw sockets, no SDK."""

import asyncio
import json
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from emulator.settings import EmulatorSettings
from tests.emulator.behaviour import behaviour, patched
from tests.emulator.conftest import Here, running
from tests.emulator.patience import LIMIT, in_time
from tests.support.emulator import RunningEmulator, start_emulator
from tests.support.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
VERTEX = "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent"
SETUP = {"setup": {"model": "models/gemini-3.8-live"}}
HELLO = {"realtimeInput": {"text": "hello"}}
INVALID = "Request contains an invalid argument."
KEY = {"x-goog-api-key": "key"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def emulator() -> AsyncIterator[RunningEmulator]:
    async with start_emulator(
        outbox_bytes=2**20,
        max_frame_bytes=65536,
        generation_speed=100,
        playback_speed=5,
        kept_conversations=50,
    ) as process:
        yield process


class Client:
    """A raw WebSocket."""

    def __init__(
        self, emulator: RunningEmulator | Here, path: str = PATH, headers: dict[str, str] | None = None
    ) -> None:
        self._emulator = emulator
        self._url = emulator.address + path
        self._headers = KEY if headers is None else headers

    async def __aenter__(self) -> "Client":
        self._http = aiohttp.ClientSession()
        try:
            self.socket = await self._http.ws_connect(
                self._url, ssl=self._emulator.ssl_context, headers=self._headers, compress=15
            )
        except BaseException:
            await self._http.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()
        await self._http.close()

    async def send(self, *frames: Any, binary: bool = False) -> None:
        for frame in frames:
            body = frame if isinstance(frame, str | bytes) else json.dumps(frame)
            if binary or isinstance(body, bytes):
                await self.socket.send_bytes(body if isinstance(body, bytes) else body.encode())
            else:
                await self.socket.send_str(body)

    async def next(self) -> aiohttp.WSMessage:
        async with in_time(in_vain=10.0):
            return await self.socket.receive()

    async def closed(self) -> tuple[int | None, str]:
        """The close code and reason, whatever comes before."""
        while True:
            message = await self.next()
            if message.type is aiohttp.WSMsgType.CLOSE:
                return message.data, message.extra or ""
            if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
                return self.socket.close_code, ""


async def settled(emulator: RunningEmulator) -> dict[str, Any]:
    """The numbers once no connection is left."""
    numbers: dict[str, Any] = {}

    async def idle() -> bool:
        numbers.update(await emulator.stats())
        return bool(numbers["connections"] == 0)

    await eventually(idle, timeout=LIMIT)
    return numbers


async def test_server_frames_are_binary_and_clients_may_send_either(emulator: RunningEmulator) -> None:
    for binary in (False, True):
        async with Client(emulator) as client:
            assert client.socket.compress == 0
            await client.send(SETUP, HELLO, binary=binary)
            first = await client.next()
            assert first.type is aiohttp.WSMsgType.BINARY
            assert json.loads(first.data) == {"setupComplete": {}}
            assert "modelTurn" in json.loads((await client.next()).data)["serverContent"]


async def test_pings_are_answered(emulator: RunningEmulator) -> None:
    async with aiohttp.ClientSession() as http:
        connect = http.ws_connect(emulator.address + PATH, ssl=emulator.ssl_context, headers=KEY, autoping=False)
        async with connect as raw:
            await raw.send_str(json.dumps(SETUP))
            await raw.ping(b"there?")
            async with in_time():
                seen = [(await raw.receive()).type for _ in range(2)]
    assert aiohttp.WSMsgType.PONG in seen


@pytest.mark.parametrize(
    ("frames", "code", "reason"),
    [
        ([HELLO], 1007, "setup must be the first message"),
        (["garbage"], 1007, "Invalid JSON payload received. Unexpected token.\ngarbage\n^"),
        ([b"\xff\x00"], 1007, "Invalid JSON payload received. Encountered non UTF-8 code points."),
        ([SETUP, SETUP], 1007, "setup must be the first message and only the first"),
        ([SETUP, "{}"], 1007, INVALID),
        ([SETUP, {"what": 1}], 1007, 'Invalid JSON payload received. Unknown name "what": Cannot find field.'),
        ([SETUP, {"realtimeInput": {"mediaChunks": []}}], 1007, "realtime_input.media_chunks is deprecated."),
        ([SETUP, {"realtimeInput": {"audio": {"data": "AA==", "mimeType": "video/mp4"}}}],
         1007, "Audio must be audio/pcm of 8000 to 48000 Hz"),
        ([{"setup": {"model": "models/none"}}], 1008, "models/none is not found for API version v1beta, or is not sup"),
        ([{"setup": {"model": "models/gemini-3.8-live", "generationConfig": {"responseModalities": ["TEXT"]}}}],
         1007, "The requested combination of response modalities (TEXT) is not supported by the model"),
        ([{"setup": {"model": "models/gemini-3.8-live", "generationConfig": {"enableAffectiveDialog": True}}}, HELLO],
         1007, INVALID),
        ([{"setup": {"model": "models/gemini-3.8-live", "proactivity": {"proactiveAudio": True}}}],
         1007, "Invalid JSON payload received. Unknown name \"proactivity\" at 'setup'"),
        ([SETUP, "x" * 70_000], 1009, ""),
    ],
)  # fmt: skip
async def test_bad_clients_are_closed_with_the_documented_code_and_reason(
    emulator: RunningEmulator, frames: list[Any], code: int, reason: str
) -> None:
    async with Client(emulator) as client:
        await client.send(*frames)
        closed = await client.closed()
    assert closed[0] == code
    assert closed[1].startswith(reason)
    assert len(closed[1].encode()) <= 123


@pytest.mark.parametrize(
    ("headers", "query", "code"),
    [
        (KEY, "", None),
        ({}, "?key=k", None),
        ({}, "?access_token=k", None),
        ({"Authorization": "Bearer k"}, "", None),
        ({"Authorization": "Token k"}, "", None),
        ({}, "", 1008),
    ],
)
async def test_forms_of_authentication(
    emulator: RunningEmulator, headers: dict[str, str], query: str, code: int | None
) -> None:
    for path, model in ((PATH, "models/gemini-3.8-live"), (VERTEX, "publishers/google/models/gemini-3.8-live")):
        async with Client(emulator, path + query, headers) as client:
            await client.send({"setup": {"model": model}})
            first = await client.next()
            if code is None:
                assert json.loads(first.data) == {"setupComplete": {}}
            else:
                assert (first.data, (first.extra or "")[:24]) == (code, "Method doesn't allow unr")


async def test_wrong_keys_are_closed_or_refused_as_configured() -> None:
    async with start_emulator(api_keys="right, also-right") as emulator:
        async with Client(emulator, headers={"x-goog-api-key": "also-right"}) as client:
            await client.send(SETUP)
            assert (await client.next()).type is aiohttp.WSMsgType.BINARY
        async with Client(emulator) as client:
            assert await client.closed() == (1007, "API key not valid. Please pass a valid API key.")
        assert "right" not in emulator.log_file.read_text()
    async with running(EmulatorSettings(api_keys="right", wrong_key="http")) as emulator:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with Client(emulator):
                pass
        assert caught.value.status == 401


@behaviour("10.4", off=patched("emulator.endpoint.handshake.authorise", lambda *_, **__: None))
async def test_a_wrong_key_is_closed_or_answered_401() -> None:
    async with (
        running(EmulatorSettings(api_keys="right", setup_timeout="300ms")) as emulator,
        Client(emulator) as client,
    ):
        assert await client.closed() == (1007, "API key not valid. Please pass a valid API key.")
    async with running(EmulatorSettings(api_keys="right", wrong_key="http")) as emulator:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with Client(emulator):
                pass
        assert caught.value.status == 401


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/elsewhere", {}, 404),
        (PATH, {"x-emulator-scenario": "none"}, 400),
        (PATH, {"x-emulator-conversation": "a b"}, 400),
    ],
)
async def test_what_is_not_there_is_refused_at_the_upgrade(
    emulator: RunningEmulator, path: str, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with Client(emulator, path, {**KEY, **headers}):
            pass
    assert caught.value.status == status


DEAF_FRAMES = 240


async def deaf(emulator: RunningEmulator) -> asyncio.StreamWriter:
    """A client of the echo that sends more than the kernel's buffers hold and never reads what comes back."""
    host, port = emulator.address.removeprefix("https://").split(":")
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, (host, int(port)))
    reader, writer = await asyncio.open_connection(
        sock=plain, ssl=emulator.ssl_context, server_hostname="localhost", limit=1024
    )
    upgrade = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    upgrade += "x-emulator-scenario: echo\r\nx-emulator-conversation: deaf\r\n"
    upgrade += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nx-goog-api-key: k\r\n\r\n"
    writer.write(upgrade.encode())
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(_masked(json.dumps(SETUP)))
    audio = {"data": "AAAA" * 12_500, "mimeType": "audio/pcm;rate=16000"}
    frame = _masked(json.dumps({"realtimeInput": {"audio": audio}}))
    for _ in range(DEAF_FRAMES):
        writer.write(frame)
    return writer


async def test_a_client_that_does_not_read_is_dropped(emulator: RunningEmulator) -> None:
    before = (await emulator.stats())["totals"]["dropped"]
    writer = await deaf(emulator)

    async def dropped() -> bool:
        return bool((await emulator.stats())["totals"]["dropped"] == before + 1)

    await eventually(dropped, timeout=LIMIT)
    writer.transport.abort()
    numbers = await settled(emulator)
    assert numbers["totals"]["dropped_bytes"] > 0


async def test_a_client_that_does_not_read_does_not_hold_up_the_end() -> None:
    async with start_emulator(outbox_bytes=2**26, close_timeout="300ms") as emulator:
        writer = await deaf(emulator)

        async def all_heard() -> bool:
            return bool((await emulator.conversation("deaf"))["audio"]["chunks"] == DEAF_FRAMES)

        await eventually(all_heard, timeout=LIMIT)
        assert (await emulator.stats())["connections"] == 1
        assert await emulator.stop() == 0
        writer.transport.abort()


def _masked(text: str) -> bytes:
    body = text.encode()
    length = bytes([0x80 | len(body)]) if len(body) < 126 else b"\xfe" + struct.pack(">H", len(body))
    return b"\x81" + length + b"\0\0\0\0" + body


def _cut(connected: socket.socket) -> None:
    """Cut the connection off, without a close frame before."""
    # The loop lends its socket out without this.
    with socket.fromfd(connected.fileno(), connected.family, connected.type) as own:
        own.shutdown(socket.SHUT_RDWR)


async def test_connections_that_end_badly_leave_nothing_behind(emulator: RunningEmulator) -> None:
    async def one(number: int) -> None:
        async with Client(emulator) as client:
            match number % 5:
                case 0:
                    await client.send("garbage")
                case 1:
                    await client.send(SETUP, HELLO)
                    await client.next()
                case 2:
                    await client.send(SETUP, HELLO)
                    await client.next()
                    await client.next()
                    _cut(client.socket.get_extra_info("socket"))
                case 3:
                    pass
                case 4:
                    audio = {"data": "AAAA" * 4000, "mimeType": "audio/pcm;rate=24000"}
                    await client.send(SETUP, {"realtimeInput": {"audio": audio}})

    async def batch(count: int) -> None:
        for start in range(0, count, 10):
            await asyncio.gather(*(one(start + number) for number in range(10)))

    # Caches fill and the heap finds its size first.
    await batch(300)
    before = await settled(emulator)
    await batch(200)
    after = await settled(emulator)
    assert after["tasks"] == before["tasks"]
    assert after["conversations"] == before["conversations"] == 50
    assert after["rss_bytes"] - before["rss_bytes"] < 4 * 1024 * 1024
    assert not any(line["level"] == "error" for line in emulator.logs())


async def test_a_caller_who_hangs_up_is_not_answered_any_further(emulator: RunningEmulator) -> None:
    def named(name: str) -> Client:
        return Client(emulator, headers={**KEY, "x-emulator-conversation": name})

    async with named("gone") as gone, named("stays") as stays:
        await gone.send(SETUP, HELLO)
        await gone.next()
        await gone.next()
        await gone.socket.close()
        await stays.send(SETUP, HELLO)
        # The same answer, begun later: when it is over, the other one would be over too.
        while b"turnComplete" not in (await stays.next()).data:
            pass
    record = await emulator.conversation("gone")
    assert (record["links"][0]["close_code"], record["said"]) == (1000, [])
    assert "turn_complete" not in [event["kind"] for event in record["events"]]


async def test_the_record_is_listed_found_and_cleared() -> None:
    async with running(EmulatorSettings(keep_audio=True)) as emulator:
        async with Client(emulator, headers={**KEY, "x-emulator-conversation": "mine"}) as client:
            await client.send(SETUP)
            for pcm in ("AAAB", "AgAD"):
                await client.send({"realtimeInput": {"audio": {"data": pcm, "mimeType": "audio/pcm"}}})
            await client.send({"realtimeInput": {"text": "stop"}})
            await client.next()
            await client.next()
            assert [one["id"] for one in await emulator.get("/conversations")] == ["mine"]
            assert (await emulator.get("/conversations/mine"))["open"] == 1
            async with aiohttp.ClientSession() as http:
                async with http.delete(emulator.control + "/conversations") as response:
                    assert response.status == 204
                async with http.get(emulator.control + "/conversations/mine/audio") as response:
                    assert (await response.read())[44:] == b"\0\0\1\2\0\3"
                async with http.get(emulator.control + "/conversations/other") as response:
                    assert response.status == 404
                async with http.get(emulator.control + "/healthz") as response:
                    assert response.status == 200
        # Under way, it was not cleared.
        record = await emulator.get("/conversations/mine")
        assert record["audio"]["chunks"] == 2
        kinds = [event["kind"] for event in record["events"]]
        assert kinds[:4] == ["opened", "audio", "texts", "turn_complete"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_cleanly_with_callers_connected(number: int) -> None:
    async with start_emulator() as emulator, Client(emulator) as client:
        await client.send(SETUP)
        await client.next()
        children = [int(pid) for pid in _children(emulator.pid)]
        assert children
        os.kill(emulator.pid, number)
        assert await client.closed() == (1001, "The server is going away.")
        assert await emulator.stop() == 0
        await eventually(lambda: not any(_alive(pid) for pid in children), LIMIT)


async def test_its_recogniser_does_not_outlive_a_killed_emulator() -> None:
    with pytest.raises(AssertionError, match="exited with -9"):
        async with start_emulator() as emulator:
            children = [int(pid) for pid in _children(emulator.pid)]
            assert children
            emulator.process.kill()
            await emulator.process.wait()
    await eventually(lambda: not any(_alive(pid) for pid in children), LIMIT)


def _children(pid: int) -> list[str]:
    with open(f"/proc/{pid}/task/{pid}/children") as listing:  # noqa: PTH123
        return listing.read().split()


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"port": "x"}, "setting port: "),
        ({"scenario": "/nowhere.yaml"}, "setting scenario: /nowhere.yaml: cannot be read"),
        ({"ca_file": "/proc/nope/ca.pem"}, "setting host, port, control_port, ca_file or certificate_file: "),
        ({"certificate_file": "/proc/nope.pem"}, "setting host, port, control_port, ca_file or certificate_file: "),
    ],
)
async def test_wrong_settings_are_named_in_one_line(settings: dict[str, str], reason: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        async with start_emulator(**settings):
            pass
    said = str(caught.value).removeprefix("the emulator did not start: ")
    assert said.startswith(f"emulator: {reason}")
    assert said.count("\n") == 1
