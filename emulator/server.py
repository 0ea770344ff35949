"""The emulator as a whole: both ports, what all connections share, start and stop."""

import asyncio
import functools
import gc
import json
import os
import secrets
import signal
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from emulator import handshake, scenario, voice
from emulator.certificates import server_context
from emulator.connection import Admitted, Connection, Counters, Limits
from emulator.control import application
from emulator.conversation import Conversation
from emulator.echo import Echo
from emulator.errors import Refusal, reason_bytes
from emulator.handles import HandleStore, Session, Snapshot
from emulator.hearing.ears import Ears
from emulator.hearing.grammar import jsgf
from emulator.protocol import Decoder, Setup
from emulator.record import Archive, LinkFacts
from emulator.scenario import Scenario
from emulator.settings import EmulatorSettings
from emulator.setup import Config, accept
from emulator.speech import Pace
from emulator.vad import Sensitivity

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
        self._voice = voice.recorded()
        self._pace = Pace(settings.generation_speed, settings.playback_speed, settings.chunk.total_seconds())
        self._limits = Limits(
            setup_timeout=settings.setup_timeout.total_seconds(),
            close_timeout=settings.close_timeout.total_seconds(),
            outbox_bytes=settings.outbox_bytes,
        )
        self._handles = HandleStore(ttl=settings.handle_ttl.total_seconds(), limit=settings.handle_limit)
        self._archive = Archive(
            kept=settings.kept_conversations,
            items=settings.kept_items,
            audio_limit=settings.kept_audio_bytes if settings.keep_audio else 0,
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
        endpoint = handshake.endpoint(path)
        if endpoint is None:
            raise web.HTTPNotFound(text="no such method")
        chosen = self._scenarios.get(request.headers.get(handshake.SCENARIO_HEADER, self._default.name))
        conversation = request.headers.get(handshake.CONVERSATION_HEADER) or f"conv_{secrets.token_hex(8)}"
        if chosen is None or not handshake.valid_conversation_id(conversation):
            raise web.HTTPBadRequest(text="unknown scenario" if chosen is None else "bad conversation id")
        refusal = handshake.authorise(handshake.credential(request.headers, request.query), self._keys)
        if refusal is not None and self.settings.wrong_key == "http":
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
            decoder=Decoder(endpoint.backend, endpoint.api_version, strict=self.settings.strict),
            admit=functools.partial(self._admit, endpoint, path, chosen, conversation),
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

    def _admit(
        self, endpoint: handshake.Endpoint, path: str, chosen: Scenario, conversation: str, setup: Setup
    ) -> Admitted:
        """Check the setup, find what it resumes, and make the mind. Raises :class:`emulator.errors.Refusal`."""
        config = accept(setup.body, backend=endpoint.backend, api_version=endpoint.api_version)
        now = self._clock()
        snapshot = Snapshot()
        resumed_from: int | None = None
        session = Session(conversation, config.model)
        if config.handle is not None:
            restored = self._handles.resume(config.handle, config.model, now)
            session, snapshot, resumed_from = restored.session, restored.snapshot, restored.link
        archived = self._archive.open(session.conversation, chosen.name)
        record = archived.add_link(
            LinkFacts(
                index=archived.next_link_index(),
                model=config.model,
                path=path,
                api_version=endpoint.api_version,
                setup=setup.received,
                opened=round(now, 3),
                resumed_from=resumed_from,
            )
        )
        if chosen.echoes:
            return Admitted(Echo(record), session, record, chosen.name)
        mind = Conversation(
            config,
            scenario=chosen,
            voice=self._voice,
            pace=self._pace,
            sensitivity=self._sensitivity(config),
            gate=self.settings.vad_loudness,
            snapshot=snapshot,
            record=record,
        )
        return Admitted(mind, session, record, chosen.name)

    def _sensitivity(self, config: Config) -> Sensitivity:
        wanted = config.detection
        sensitivity = Sensitivity(
            prefix=self.settings.vad_prefix.total_seconds(),
            silence=self.settings.vad_silence.total_seconds(),
            longest=self.settings.max_utterance.total_seconds(),
            easy_start=wanted.easy_start,
            easy_end=wanted.easy_end,
        )
        if wanted.prefix_ms is not None:
            sensitivity = replace(sensitivity, prefix=wanted.prefix_ms / 1000)
        if wanted.silence_ms is not None:
            sensitivity = replace(sensitivity, silence=wanted.silence_ms / 1000)
        return sensitivity


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
