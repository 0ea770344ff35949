"""A recorder or a replay in this process, endpoints of any manner behind it, and clients that see every frame."""

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web
from yarl import URL

from emulator.tape.listener import Listener
from emulator.tape.player import Player, PlayerOptions
from emulator.tape.recorder import Recorder, RecorderOptions
from tests.emulator.patience import in_time

PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def endpoint(handler: Handler) -> AsyncIterator[dict[str, str]]:
    """A TLS server that answers with ``handler``; its ``address`` and ``ca_file``."""
    listener = Listener("127.0.0.1", None)
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    try:
        yield await listener.serve(app, 0)
    finally:
        await listener.stop()


@asynccontextmanager
async def recording(upstream: dict[str, str], out: Path, **options: Any) -> AsyncIterator[Recorder]:
    """A recorder before an endpoint; it has closed its file when the block ends."""
    ca_file = Path(upstream["ca_file"]) if "ca_file" in upstream else None
    chosen = RecorderOptions(upstream["address"], out, upstream_ca=ca_file, **options)
    async with Recorder(chosen) as recorder:
        yield recorder
    assert recorder.complete


@asynccontextmanager
async def replaying(file: Path, **options: Any) -> AsyncIterator[Player]:
    """A replay of ``file``."""
    async with Player(PlayerOptions(file, **options)) as player:
        yield player


@asynccontextmanager
async def dialled(
    where: dict[str, Any], path: str = PATH, **options: Any
) -> AsyncIterator[aiohttp.ClientWebSocketResponse[bool]]:
    """A client's WebSocket that leaves everything to the test: it answers neither pings nor closes."""
    context = ssl.create_default_context(cafile=where["ca_file"])
    chosen = {"autoclose": False, "autoping": False, "decode_text": False, "max_msg_size": 0, **options}
    async with aiohttp.ClientSession() as http:
        socket = await http.ws_connect(URL(where["address"] + path, encoded=True), ssl=context, **chosen)
        try:
            yield socket
        finally:
            await socket.close()


def upgraded(**options: Any) -> web.WebSocketResponse[bool]:
    """The endpoint's side of such a WebSocket."""
    chosen = {"autoclose": False, "autoping": False, "decode_text": False, "max_msg_size": 0, "compress": False}
    return web.WebSocketResponse(**{**chosen, **options})


async def received(socket: Any) -> tuple[WSMsgType, Any, Any]:
    """The next frame: its type, its data, and of a close its reason."""
    async with in_time(in_vain=5.0):
        message = await socket.receive()
    return message.type, message.data, message.extra


def lines(path: Path) -> list[dict[str, Any]]:
    """A recording; every line must be whole."""
    text = path.read_bytes()
    assert text.endswith(b"\n")
    return [json.loads(line) for line in text.splitlines()]
