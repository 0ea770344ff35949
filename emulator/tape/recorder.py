"""``parley emulator record``: a server that hands every request on to an endpoint and keeps what passes."""

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from emulator.tape.captured import Answer, Headers, Lost, Note, Request, Upgrade, Upgraded
from emulator.tape.errors import OptionError
from emulator.tape.file import TapeFile
from emulator.tape.listener import Listener
from emulator.tape.relay import Relay
from emulator.tape.scribe import Scribe
from emulator.tape.sides import Side
from emulator.tape.upstream import Opened, Reply, UnreachableError, Upstream, decoded, passed_on

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RecorderOptions:
    """What a recorder is told; times in seconds."""

    upstream: str
    out: Path
    host: str = "127.0.0.1"
    port: int = 0
    ca_file: Path | None = None
    upstream_ca: Path | None = None
    max_audio_bytes: int | None = None
    """Bytes kept of each blob; None keeps all."""
    max_bytes: int = 256 * 1024 * 1024
    """Size of the file at which recording stops; relaying does not."""
    queue_bytes: int = 64 * 1024 * 1024
    """What may wait for the disk."""
    max_message_bytes: int = 64 * 1024 * 1024
    """Largest message that is relayed; a larger one closes with 1009."""
    connect_timeout: float = 30.0
    close_timeout: float = 2.0
    drain_timeout: float = 10.0
    """For the disk to take what waits when the recorder stops."""


class Recorder:
    """``async with Recorder(options) as recorder``: it relays and records inside the block."""

    def __init__(self, options: RecorderOptions) -> None:
        self._options = options
        self._upstream = Upstream(
            options.upstream,
            options.upstream_ca,
            max_bytes=options.max_message_bytes,
            connect_timeout=options.connect_timeout,
            close_timeout=options.close_timeout,
        )
        scribe = Scribe(options.max_audio_bytes)
        self.tape = TapeFile(options.out, scribe, max_bytes=options.max_bytes, queue_bytes=options.queue_bytes)
        self._listener = Listener(options.host, options.ca_file)
        self._where: dict[str, str] = {}
        self.relays: dict[Relay, asyncio.Event] = {}
        """Those that run, each with what is set when it has ended."""
        self._connections = 0
        self._exchanges = 0
        self.complete = False
        """Once it has stopped: whether everything that the file can hold is in it."""

    async def __aenter__(self) -> "Recorder":
        app = web.Application(client_max_size=self._options.max_message_bytes)
        app.router.add_route("*", "/{tail:.*}", self._asked)
        try:
            await self._upstream.open()
            self._where = await self._listener.serve(app, self._options.port)
            self._open_tape()
        except BaseException:
            await self._listener.stop()
            await self._upstream.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        ended = list(self.relays.values())
        for relay in self.relays:
            relay.stop()
        await asyncio.gather(*(event.wait() for event in ended))
        await self._listener.stop()
        await self._upstream.close()
        self.complete = await asyncio.to_thread(self.tape.close, self._options.drain_timeout)
        log.info("recorded", file=str(self._options.out), complete=self.complete, dropped=self.tape.dropped)

    def ready(self) -> dict[str, Any]:
        """What a parent process wants to know."""
        return {"ready": "recorder", "pid": os.getpid(), "file": str(self._options.out)} | self._where

    def _open_tape(self) -> None:
        facts = {
            "upstream": self._upstream.address,
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
            "max_audio_bytes": self._options.max_audio_bytes,
        }
        try:
            self.tape.open(Note("capture: parley emulator record; secrets are replaced by names", facts))
        except FileExistsError as error:
            raise OptionError(f"--out: {self._options.out} exists; name another file, or remove it") from error
        except OSError as error:
            raise OptionError(f"--out: {self._options.out} cannot be written: {error}") from error

    async def _asked(self, request: web.Request) -> web.StreamResponse:
        if not request.raw_path.startswith("/"):
            raise web.HTTPBadRequest(text="this is no proxy: the target of a request is a path")
        protocols = [name.strip() for name in request.headers.get("sec-websocket-protocol", "").split(",") if name]
        # What is no proper request for a WebSocket is for the endpoint to refuse.
        if web.WebSocketResponse(protocols=protocols).can_prepare(request).ok:
            return await self._upgrade(request, protocols)
        return await self._exchange(request)

    async def _exchange(self, request: web.Request) -> web.StreamResponse:
        self._exchanges += 1
        number, began = self._exchanges, self._now()
        headers, body = decoded(request.raw_headers), await request.read()
        self.tape.put(Request(number, request.method, request.raw_path, headers, body))
        try:
            reply = await self._upstream.request(request.method, request.raw_path, headers, body)
        except UnreachableError as error:
            reply = self._bad_gateway(error)
        self.tape.put(Answer(number, self._now() - began, reply.status, reply.headers, reply.body))
        return _response(reply)

    async def _upgrade(self, request: web.Request, protocols: list[str]) -> web.StreamResponse:
        self._connections += 1
        number, began = self._connections, self._now()
        headers = decoded(request.raw_headers)
        offered = request.headers.get("sec-websocket-extensions", "")
        try:
            answer = await self._upstream.upgrade(
                request.raw_path, headers, protocols, deflate="permessage-deflate" in offered
            )
        except UnreachableError as error:
            answer = self._bad_gateway(error)
        if isinstance(answer, Reply):
            self.tape.put(Upgrade(number, request.raw_path, headers, None))
            self.tape.put(Upgraded(number, self._now() - began, answer.status, answer.headers, answer.body))
            return _response(answer)
        return await self._relay(request, answer, number, began)

    async def _relay(self, request: web.Request, opened: Opened, number: int, began: float) -> web.StreamResponse:
        upstream = opened.side()
        chosen = opened.socket.protocol
        socket: web.WebSocketResponse[bool] = web.WebSocketResponse(
            timeout=self._options.close_timeout,
            autoclose=False,
            autoping=False,
            protocols=[chosen] if chosen else (),
            compress=bool(opened.socket.compress),
            max_msg_size=self._options.max_message_bytes,
            decode_text=False,
        )
        for name, value in passed_on(opened.headers):
            socket.headers.add(name, value)
        headers = decoded(request.raw_headers)
        try:
            await socket.prepare(request)
        except BaseException:
            upstream.hang_up(self._options.close_timeout)
            self.tape.put(Upgrade(number, request.raw_path, headers, None))
            self.tape.put(Lost(number, self._now() - began, True, "gone before the endpoint had answered"))
            raise
        extensions = socket.headers.get("Sec-WebSocket-Extensions")
        self.tape.put(Upgrade(number, request.raw_path, headers, extensions))
        self.tape.put(Upgraded(number, self._now() - began, 101, opened.headers))
        client = Side(socket, request.transport, lambda: None)
        limit = self._options.close_timeout
        relay = Relay(number, client, upstream, put=self.tape.put, began=began, limit=limit)
        ended = self.relays[relay] = asyncio.Event()
        try:
            await relay.run()
        finally:
            del self.relays[relay]
            ended.set()
        return socket

    def _bad_gateway(self, error: UnreachableError) -> Reply:
        log.warning("endpoint unreachable", upstream=self._upstream.address, error=str(error))
        text = f"the recorder cannot reach {self._upstream.address}: {error}"
        headers: Headers = (("Content-Type", "text/plain; charset=utf-8"),)
        return Reply(502, "Bad Gateway", headers, text.encode())

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _response(reply: Reply) -> web.Response:
    return web.Response(status=reply.status, reason=reply.reason, headers=passed_on(reply.headers), body=reply.body)
