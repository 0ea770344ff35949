"""The emulator as a whole: both ports, what all connections share, start and stop."""

import asyncio
import gc
import json
import os
import secrets
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from emulator import handshake, scenario, switches, voice
from emulator.admission import Admission, Request
from emulator.certificates import server_context
from emulator.connection import Connection, Counters, Limits
from emulator.control import application
from emulator.errors import Refusal, reason_bytes
from emulator.handles import HandleStore
from emulator.hearing.ears import Ears
from emulator.hearing.grammar import jsgf
from emulator.protocol import Decoder
from emulator.record import Archive
from emulator.settings import EmulatorSettings
from emulator.switches import Switches

log = structlog.get_logger(__name__)


class Emulator:
    """``async with Emulator(settings) as emulator``: it serves inside the block, on the running loop."""

    def __init__(self, settings: EmulatorSettings) -> None:
        self.settings = settings
        self.id = f"emu_{secrets.token_hex(4)}"
        self.port = 0
        self.control_port = 0
        self._keys = frozenset(key.get_secret_value() for key in settings.api_keys)
        self._default = scenario.named(settings.scenario)
        files = [scenario.load(path) for path in settings.scenarios]
        self._scenarios = {one.name: one for one in (*scenario.packaged(), *files, self._default)}
        self._switches = Switches(**{name: getattr(settings, name) for name in Switches.model_fields})
        self._limits = Limits(
            setup_timeout=settings.setup_timeout.total_seconds(),
            close_timeout=settings.close_timeout.total_seconds(),
            outbox_bytes=settings.outbox_bytes,
        )
        self._handles = HandleStore(ttl=self._switches.scaled(settings.handle_ttl), limit=settings.handle_limit)
        self._archive = Archive(
            kept=settings.kept_conversations,
            items=settings.kept_items,
            audio_limit=settings.kept_audio_bytes if settings.keep_audio else 0,
        )
        self._admission = Admission(
            handles=self._handles, archive=self._archive, voice=voice.recorded(), clock=self._clock
        )
        self._ears = Ears(
            {one.name: jsgf(one) for one in self._scenarios.values() if not one.echoes},
            doubt=settings.hearing_doubt,
            queue=settings.hearing_queue,
            timeout=settings.hearing_timeout.total_seconds(),
        )
        self._counters = Counters()
        self._connections: set[Connection] = set()
        self._started = time.monotonic()
        self._runners: list[web.AppRunner] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.ca_file = settings.ca_file or Path()

    async def __aenter__(self) -> "Emulator":
        if self.settings.ca_file is None:
            self._folder = tempfile.TemporaryDirectory(prefix="live-emulator-")
            self.ca_file = Path(self._folder.name) / "ca.pem"
        try:
            await self._ears.start()
            context = server_context(self.ca_file)
            live = web.Application()
            live.router.add_route("*", "/{tail:.*}", self._dialled)
            self.port = await self._listen(live, self.settings.host, self.settings.port, context)
            control = application(self._archive, self._stats, keep_audio=self.settings.keep_audio)
            host, port = self.settings.control_host, self.settings.control_port
            self.control_port = await self._listen(control, host, port, None)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        connections = list(self._connections)
        for connection in connections:
            connection.end(Refusal(1001, "The server is going away."))
        await asyncio.gather(*(connection.wait_ended() for connection in connections))
        for runner in reversed(self._runners):
            await runner.cleanup()
        await self._ears.stop()
        if self._folder is not None:
            self._folder.cleanup()

    def ready(self) -> dict[str, Any]:
        """What a parent process wants to know."""
        return {
            "ready": "emulator",
            "id": self.id,
            "pid": os.getpid(),
            "address": f"https://{self.settings.host}:{self.port}",
            "ca_file": str(self.ca_file),
            "control": f"http://{self.settings.control_host}:{self.control_port}",
        }

    def _clock(self) -> float:
        return time.monotonic() - self._started

    async def _listen(self, app: web.Application, host: str, port: int, context: Any) -> int:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, host, port, ssl_context=context, backlog=1024).start()
        return int(runner.addresses[0][1])

    def _stats(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "connections": len(self._connections),
            "handles": len(self._handles),
            "totals": asdict(self._counters),
            "hearing": asdict(self._ears.counters),
        }

    async def _dialled(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        asked = self._asked(request, path)
        refusal = handshake.authorise(handshake.credential(request.headers, request.query), self._keys)
        if refusal is not None and asked.switches.wrong_key == "http":
            raise web.HTTPUnauthorized(text=refusal.text)
        socket = web.WebSocketResponse(
            compress=False,
            timeout=self.settings.close_timeout.total_seconds(),
            max_msg_size=self.settings.max_frame_bytes,
        )
        if not socket.can_prepare(request).ok:
            raise web.HTTPUpgradeRequired(text="a WebSocket is wanted here")
        await socket.prepare(request)
        if refusal is not None:
            self._counters.refused += 1
            await socket.close(code=refusal.code, message=reason_bytes(refusal.text))
            return socket
        connection = Connection(
            socket=socket,
            transport=request.transport,
            decoder=Decoder(asked.endpoint.backend, asked.endpoint.api_version, strict=asked.switches.strict),
            admit=self._admission.of(asked),
            handles=self._handles,
            ears=self._ears,
            clock=self._clock,
            limits=self._limits,
            counters=self._counters,
        )
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)
            self._archive.trim()
        return socket

    def _asked(self, request: web.Request, path: str) -> Request:
        """What the upgrade request says beside its credential. Raises an HTTP error."""
        endpoint = handshake.endpoint(path)
        if endpoint is None:
            raise web.HTTPNotFound(text="no such method")
        wishes = handshake.wishes(request.headers, request.query)
        chosen = self._scenarios.get(wishes.get(handshake.SCENARIO, self._default.name))
        if chosen is None:
            raise web.HTTPBadRequest(text=f"unknown scenario; there are: {', '.join(sorted(self._scenarios))}")
        conversation = wishes.get(handshake.CONVERSATION) or f"conv_{secrets.token_hex(8)}"
        if not handshake.valid_conversation_id(conversation):
            raise web.HTTPBadRequest(text="a conversation id has 1 to 128 letters, digits, dots, colons, - or _")
        try:
            switched = self._switches.changed(chosen.file.switches)
            switched = switched.changed(switches.parse(wishes.get(handshake.SWITCHES, "")))
        except switches.SwitchError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        return Request(endpoint, path, chosen, switched, conversation)


async def run(settings: EmulatorSettings) -> None:
    """Serve until SIGTERM or SIGINT; one JSON line on stdout says when it is ready."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Emulator(settings) as emulator:
        # What set-up made stays for good; told so, the collector paces itself by what connections leave behind.
        gc.collect()
        gc.freeze()
        gc.collect()
        sys.stdout.write(json.dumps(emulator.ready()) + "\n")
        sys.stdout.flush()
        log.info("ready", id=emulator.id, port=emulator.port, control_port=emulator.control_port)
        await stop.wait()
        log.info("stopping", id=emulator.id)
