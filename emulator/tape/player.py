"""``parley emulator replay``: a server that plays recorded connections to whoever dials it."""

import asyncio
import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from aiohttp import ClientError, WSMsgType, web

from emulator.endpoint import handshake
from emulator.tape.captured import NO_CODE
from emulator.tape.listener import Listener
from emulator.tape.load import load
from emulator.tape.playback import Manner, Mismatch, Playback
from emulator.tape.recording import Answer, Closed, Connection
from emulator.tape.sides import hang_up, send_close
from emulator.tape.upstream import passed_on

log = structlog.get_logger(__name__)

GOING_AWAY = (1001, "The replay is stopping.")
_REPORTED = 1000
"""Connections that are remembered for the report."""


@dataclass(frozen=True)
class PlayerOptions:
    """What a player is told; times in seconds."""

    file: Path
    host: str = "127.0.0.1"
    port: int = 0
    control_host: str = "127.0.0.1"
    control_port: int = 0
    ca_file: Path | None = None
    manner: Manner = field(default_factory=Manner)
    loop: bool = False
    """Whether the first connection follows the last."""
    close_timeout: float = 2.0
    max_message_bytes: int = 64 * 1024 * 1024


@dataclass
class _Played:
    """One connection here, and how it went."""

    connection: Connection
    playback: Playback
    state: str = "playing"
    mismatch: dict[str, Any] | None = None

    def view(self) -> dict[str, Any]:
        """For the report."""
        facts = {"connection": self.connection.number, "state": self.state, "dropped": self.connection.dropped}
        return facts | self.playback.progress() | {"mismatch": self.mismatch}


class Player:
    """``async with Player(options) as player``: it serves inside the block. Raises TapeError for a bad file."""

    def __init__(self, options: PlayerOptions) -> None:
        self._options = options
        self._recording = load(options.file)
        self._order = list(self._recording.connections.values())
        self._asked: dict[tuple[str, str], int] = {}
        self._accepted = 0
        self._played: deque[_Played] = deque(maxlen=_REPORTED)
        self._listener = Listener(options.host, options.ca_file)
        self._where: dict[str, str] = {}
        self._stopping = asyncio.Event()
        self._running: set[asyncio.Event] = set()

    async def __aenter__(self) -> "Player":
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._dialled)
        control = web.Application()
        control.router.add_get("/healthz", self._healthy)
        control.router.add_get("/report", self._reported)
        options = self._options
        try:
            self._where = await self._listener.serve(app, options.port)
            address = await self._listener.serve_control(control, options.control_host, options.control_port)
            self._where["control"] = address
        except BaseException:
            await self._listener.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()
        await asyncio.gather(*(ended.wait() for ended in list(self._running)))
        await self._listener.stop()

    def ready(self) -> dict[str, Any]:
        """What a parent process wants to know."""
        facts = {"ready": "replay", "pid": os.getpid(), "file": str(self._options.file)}
        return facts | {"connections": len(self._order)} | self._where

    def report(self) -> dict[str, Any]:
        """How far each connection has been played, the oldest first, and where a client did otherwise."""
        return {
            "file": str(self._options.file),
            "recorded": len(self._order),
            "accepted": self._accepted,
            "connections": [played.view() for played in self._played],
        }

    async def _healthy(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _reported(self, _: web.Request) -> web.Response:
        return web.json_response(self.report())

    async def _dialled(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("upgrade", "").lower() != "websocket":
            return self._exchange(request)
        connection = self._choose(request)
        if connection.refused is not None:
            return _response(connection.refused)
        socket: web.WebSocketResponse[bool] = web.WebSocketResponse(
            autoclose=False,
            timeout=self._options.close_timeout,
            compress=False,
            max_msg_size=self._options.max_message_bytes,
            decode_text=False,
        )
        await socket.prepare(request)
        played = _Played(connection, Playback(connection, self._options.manner))
        self._played.append(played)
        ended = asyncio.Event()
        self._running.add(ended)
        try:
            await _Performance(socket, played, self._stopping, self._options.close_timeout).run()
        finally:
            hang_up(request.transport, self._options.close_timeout)
            self._running.discard(ended)
            ended.set()
        return socket

    def _choose(self, request: web.Request) -> Connection:
        """The connection for a client: the one it wants, or the next. Raises an HTTP error."""
        wanted = handshake.wishes(request.headers, request.query, request.raw_path.partition("?")[0])
        if (name := wanted.get(handshake.REPLAY)) is not None:
            chosen = self._recording.connections.get(int(name)) if name.isascii() and name.isdigit() else None
            if chosen is None:
                raise web.HTTPBadRequest(text=f"{handshake.REPLAY}: there are {', '.join(self._numbers())}")
            return chosen
        if not self._order or (self._accepted >= len(self._order) and not self._options.loop):
            raise web.HTTPServiceUnavailable(text=f"all {len(self._order)} recorded connections have been played")
        chosen = self._order[self._accepted % len(self._order)]
        self._accepted += 1
        return chosen

    def _numbers(self) -> list[str]:
        return [str(connection.number) for connection in self._order]

    def _exchange(self, request: web.Request) -> web.Response:
        """The next recorded answer to such a request; the last one again and again."""
        key = (request.method, request.raw_path.partition("?")[0])
        answers = self._recording.exchanges.get(key)
        if answers is None:
            raise web.HTTPNotFound(text=f"no {key[0]} {key[1]} was recorded")
        index = self._asked.get(key, 0)
        self._asked[key] = index + 1
        return _response(answers[min(index, len(answers) - 1)])


class _Performance:
    """Plays one connection over one socket."""

    def __init__(
        self, socket: web.WebSocketResponse[bool], played: _Played, stopping: asyncio.Event, close_timeout: float
    ) -> None:
        self._socket = socket
        self._played = played
        self._playback = played.playback
        self._stopping = stopping
        self._close_timeout = close_timeout
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Until the client is gone or the recording says so."""
        reader = asyncio.create_task(self._read(), name="replay reader")
        writer = asyncio.create_task(self._write(), name="replay writer")
        stopping = asyncio.create_task(self._stopping.wait(), name="replay stop")
        tasks = (reader, writer, stopping)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            farewell = self._farewell(reader, writer)
            if farewell is not None:
                async with asyncio.timeout(self._close_timeout):
                    await send_close(self._socket, *farewell)
                    await self._answered(reader)
        except (ClientError, ConnectionError, TimeoutError) as error:
            log.debug("client gone", connection=self._played.connection.number, error=str(error))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _farewell(
        self, reader: "asyncio.Task[Closed | None]", writer: "asyncio.Task[Closed]"
    ) -> tuple[int, str] | None:
        """The close frame to send; None where the connection is to be dropped, or has gone."""
        played = self._played
        if writer.done() and (error := writer.exception()) is None:
            closed = writer.result()
            played.state = "finished"
            return None if closed.code is None else (closed.code, closed.reason)
        if reader.done():
            error = reader.exception()
            if isinstance(error, Mismatch):
                played.state, played.mismatch = "mismatch", error.facts
                log.warning("not as recorded", connection=played.connection.number, **error.facts)
                return 1007, str(error)
            if error is not None:
                raise error
            closing = reader.result()
            played.state = "client lost" if closing is None else "client closed"
            if closing is None:
                return None
            answer = self._playback.answer_to_close or closing
            return (answer.code, answer.reason) if answer.code is not None else None
        if writer.done():
            played.state = "client lost"
            return None
        played.state = "stopped"
        return GOING_AWAY

    async def _answered(self, reader: "asyncio.Task[Closed | None]") -> None:
        """Wait for the client's close frame, unless that came first: closing on unread data would reset TCP."""
        if not reader.done():
            await reader
        elif reader.exception() is not None:
            await self._read()

    async def _read(self) -> Closed | None:
        """The client's close; None when it went without one. Raises Mismatch."""
        while True:
            message = await self._socket.receive()
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                if self._played.state == "playing":
                    self._playback.received_frame(message.data, _now())
                    self._moved.set()
            elif message.type is WSMsgType.CLOSE:
                return Closed(0.0, 0, True, message.data or NO_CODE, message.extra or "")
            else:
                return None

    async def _write(self) -> Closed:
        """How the server ended the connection; for ever where it did not."""
        while True:
            self._moved.clear()
            while (step := self._playback.take(_now())) is not None:
                if isinstance(step, Closed):
                    return step
                await self._socket.send_frame(step.data, WSMsgType(step.opcode))
            due = self._playback.due(_now())
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due - _now())):
                    await self._moved.wait()
            except TimeoutError:
                continue


def _response(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, headers=passed_on(answer.headers), body=answer.body)


def _now() -> float:
    return asyncio.get_running_loop().time()
