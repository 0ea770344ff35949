"""Clients without an SDK: WebSocket frames, and the bytes below them."""

import asyncio
import base64
import json
import socket
import struct
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.emulator.conftest import Here
from tests.emulator.patience import Patience, in_time
from tests.support.eventually import eventually

PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
KEY = {"x-goog-api-key": "key"}
SETUP = {"setup": {"model": "models/gemini-3.8-live"}}
HELLO = {"realtimeInput": {"text": "hello"}}


def headers(faults: str = "", conversation: str = "", **switches: Any) -> dict[str, str]:
    """Of an upgrade request."""
    found = dict(KEY)
    if faults:
        found["x-emulator-faults"] = faults
    if conversation:
        found["x-emulator-conversation"] = conversation
    if switches:
        found["x-emulator-switches"] = "; ".join(f"{name}={value}" for name, value in switches.items())
    return found


def audio(pcm: bytes) -> dict[str, Any]:
    """A message of speech at 16 kHz."""
    return {"realtimeInput": {"audio": {"data": base64.b64encode(pcm).decode(), "mimeType": "audio/pcm;rate=16000"}}}


class Socket:
    """A WebSocket by aiohttp. Pings are not answered and pongs are seen, so that tests can tell."""

    def __init__(
        self, here: Here, faults: str = "", conversation: str = "", *, path: str = PATH, **switches: Any
    ) -> None:
        self._here = here
        self._path = path
        self.headers = headers(faults, conversation, **switches)
        """Of its upgrade request."""
        self.compress = 0
        self.close_timeout = 0.3
        """Seconds for the emulator to answer a close frame; some faults keep it from that."""

    async def __aenter__(self) -> "Socket":
        self._http = aiohttp.ClientSession()
        try:
            self.socket = await self._http.ws_connect(
                self._here.address + self._path,
                ssl=self._here.ssl_context,
                headers=self.headers,
                autoping=False,
                compress=self.compress,
                timeout=aiohttp.ClientWSTimeout(ws_close=self.close_timeout),
                max_msg_size=0,
            )
        except BaseException:
            await self._http.close()
            raise
        connection = self.socket._response.connection
        assert connection is not None and connection.transport is not None
        self._transport = connection.transport
        return self

    async def __aexit__(self, *_: object) -> None:
        # Not politely: a server that does not read would be waited for.
        self._transport.abort()
        await self._http.close()

    async def send(self, *messages: Any) -> None:
        for message in messages:
            if isinstance(message, bytes):
                await self.socket.send_bytes(message)
            else:
                await self.socket.send_str(message if isinstance(message, str) else json.dumps(message))

    async def frame(self) -> aiohttp.WSMessage:
        """The next frame, of whatever kind."""
        async with in_time():
            return await self.socket.receive()

    async def next(self) -> Any:
        """The next message."""
        frame = await self.frame()
        assert frame.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), frame
        return json.loads(frame.data)

    async def until(self, key: str) -> list[aiohttp.WSMessage]:
        """All frames up to one that has ``key`` in it."""
        frames = []
        async with in_time():
            while True:
                frame = await self.socket.receive()
                assert frame.type not in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR), (
                    frame
                )
                frames.append(frame)
                if frame.data and key in (frame.data if isinstance(frame.data, str) else frame.data.decode()):
                    return frames

    async def closed(self) -> tuple[int | None, str]:
        """Code and reason of the close frame, whatever comes before it; 1006 without one."""
        while True:
            frame = await self.frame()
            if frame.type is aiohttp.WSMsgType.CLOSE:
                return frame.data, frame.extra or ""
            if frame.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
                return self.socket.close_code, ""


@dataclass
class Stream:
    """A TLS connection after the upgrade."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, message: Any) -> None:
        """One text frame."""
        self.writer.write(masked(0x1, json.dumps(message).encode()))

    def ping(self, payload: bytes = b"") -> None:
        self.writer.write(masked(0x9, payload))

    def leave(self) -> None:
        """Reset the connection: the server learns of it even where it has not read all."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def frame(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload."""
        async with in_time():
            first, length = await self.reader.readexactly(2)
            assert first & 0xF0 == 0x80
            if length == 126:
                (length,) = struct.unpack(">H", await self.reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", await self.reader.readexactly(8))
            return first & 0xF, await self.reader.readexactly(length)


async def dial(here: Here, faults: str = "", conversation: str = "", *, limit: int = 2**16, **switches: Any) -> Stream:
    """An upgraded connection whose bytes can be looked at."""
    port = int(here.address.rpartition(":")[2])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=here.ssl_context, server_hostname="localhost", limit=limit
    )
    lines = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **headers(faults, conversation, **switches),
    }
    request = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(f"GET {PATH} HTTP/1.1\r\n{request}\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101"), head
    return Stream(reader, writer)


def masked(opcode: int, body: bytes) -> bytes:
    """A client's frame."""
    if len(body) < 126:
        length = bytes([0x80 | len(body)])
    elif len(body) < 1 << 16:
        length = b"\xfe" + struct.pack(">H", len(body))
    else:
        length = b"\xff" + struct.pack(">Q", len(body))
    # The mask of zeros changes nothing.
    return bytes([0x80 | opcode]) + length + bytes(4) + body


async def ask(here: Here, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and answer of the control API."""
    async with aiohttp.ClientSession() as http:
        data = body if isinstance(body, str) or body is None else json.dumps(body)
        async with http.request(method, here.control + path, data=data) as response:
            told = await response.json()
            return response.status, told["error"] if response.status >= 400 else told


async def gone(here: Here, limit: float | None = None) -> dict[str, Any]:
    """The numbers once no connection is left and nothing that served one.

    ``limit``: seconds to wait, where it shall not be those of the present test.
    """

    def left() -> list[str]:
        return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("connection ")]

    async def settled() -> Any:
        numbers = await here.get("/stats")
        return numbers if numbers["connections"] == 0 and not left() else None

    numbers: dict[str, Any] = await eventually(settled, timeout=limit or Patience.seconds())
    return numbers


async def fired(here: Here, conversation: str) -> list[str]:
    """The names of the faults that have fired in a conversation."""
    return [one["fault"]["do"] for one in (await here.get(f"/conversations/{conversation}/faults"))["fired"]]
