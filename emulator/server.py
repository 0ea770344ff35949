"""The emulator as a whole: both ports, what all connections share, start and stop."""

import asyncio
import functools
import json
import os
import resource
import secrets
import signal
import ssl
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from emulator import texts, voice
from emulator.certificates import server_context
from emulator.chance import Chance
from emulator.control import application
from emulator.endpoint.admission import Admission
from emulator.endpoint.connection import Connection
from emulator.endpoint.head import FirstHead
from emulator.endpoint.quota import Quota
from emulator.endpoint.upgrade import Origin
from emulator.faults.orders import Orders
from emulator.hearing.ears import Bounds, Ears
from emulator.hearing.grammar import jsgf
from emulator.hearing.recogniser import HearingError
from emulator.memory import settle
from emulator.processes.crew import HOST, Crew
from emulator.record import Archive
from emulator.scenarios import scenario
from emulator.session.handles import HandleStore
from emulator.session.tokens import TokenStore
from emulator.settings import EmulatorSettings

log = structlog.get_logger(__name__)


class Emulator:
    """``async with Emulator(settings) as emulator``: it serves inside the block, on the running loop."""

    def __init__(self, settings: EmulatorSettings, crew: Crew | None = None) -> None:
        """``crew``: the processes of which this is one; the parent of them speaks for it."""
        self._crew = crew
        self.settings = settings
        self.id = f"emu_{secrets.token_hex(4)}"
        self.port = 0
        self.plain_port: int | None = None
        self.control_port = 0
        self.crew_port = 0
        """Where other processes pass connections on."""
        default = scenario.named(settings.scenario)
        files = [scenario.load(path) for path in settings.scenarios]
        self._scenarios = scenarios = {one.name: one for one in (*scenario.packaged(), *files, default)}
        self._handles = HandleStore(limit=settings.handle_limit, prefix=crew.handle_prefix if crew else "")
        self._archive = Archive(
            kept=settings.kept_conversations,
            items=settings.kept_items,
            each=settings.kept_bytes,
            total=settings.kept_total_bytes,
            audio_limit=settings.kept_audio_bytes if settings.keep_audio else 0,
        )
        self._tokens = crew.tokens(settings.token_limit) if crew else TokenStore(limit=settings.token_limit)
        self._chance = Chance(settings.seed)
        self._orders = Orders(self._chance.stream, crew.hits) if crew else Orders(self._chance.stream)
        self._ears = Ears(
            {one.name: jsgf(one) for one in scenarios.values() if not one.echoes},
            doubt=settings.hearing_doubt,
            bounds=Bounds(
                utterances=settings.hearing_queue,
                size=settings.hearing_queue_bytes,
                timeout=settings.hearing_timeout.total_seconds(),
            ),
            processes=settings.hearing_processes,
            remembered=settings.hearing_remembered,
        )
        admission = Admission(
            handles=self._handles,
            tokens=self._tokens,
            archive=self._archive,
            voice=voice.recorded(),
            chance=self._chance,
            clock=self._clock,
            check_handle=crew.check_handle if crew else lambda handle: None,
        )
        self._origin = Origin(
            settings,
            scenarios=scenarios,
            default=default,
            keys=frozenset(key.get_secret_value() for key in settings.api_keys),
            tokens=self._tokens,
            admission=admission,
            orders=self._orders,
            handles=self._handles,
            ears=self._ears,
            archive=self._archive,
            clock=self._clock,
            quota=crew.quota() if crew else Quota(),
            crew=crew,
        )
        self._started = crew.terms.began if crew else time.monotonic()
        self._servers: list[asyncio.Server] = []
        self._runners: list[web.AppRunner] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.ca_file = settings.ca_file or Path()

    async def __aenter__(self) -> "Emulator":
        if self.settings.ca_file is None and self._crew is None:
            self._folder = tempfile.TemporaryDirectory(prefix="live-emulator-")
            self.ca_file = Path(self._folder.name) / "ca.pem"
        try:
            await self._listen_up()
            control = application(self._archive, self._orders, self._stats, keep_audio=self.settings.keep_audio)
            if self._crew is not None:
                await self._join(self._crew, await self._runner(control))
                return self
            await self.listen(self._certificate(), self.settings.port, self.settings.plain_port)
            host, port = self.settings.control_host, self.settings.control_port
            self.control_port = await self._listen(await self._runner(control), host, port, None)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    def _certificate(self) -> ssl.SSLContext:
        return server_context(self.ca_file, self.settings.certificate_names, self.settings.certificate_file)

    async def _listen_up(self) -> None:
        try:
            await self._ears.start()
        except HearingError as error:
            if (at_fault := self._scenarios.get(error.grammar)) is None:
                raise
            raise at_fault.unknown_words(error.words) from error

    async def listen(self, context: ssl.SSLContext, port: int, plain_port: int | None, *, shared: bool = False) -> None:
        """Serve clients; ``shared``: at ports where other processes do the same."""
        runner = await self._runner(self._live(self._origin.answer))
        self.port = await self._listen(runner, self.settings.host, port, context, shared=shared)
        if plain_port is not None:
            self.plain_port = await self._listen(runner, self.settings.host, plain_port, None, shared=shared)

    async def _join(self, crew: Crew, control: web.AppRunner) -> None:
        """Be there for the parent and the other processes; for clients once all are."""
        assert control.server is not None
        loop = asyncio.get_running_loop()
        path = str(crew.terms.control(crew.terms.number))
        self._servers.append(await loop.create_unix_server(control.server, path))
        self.crew_port = await self._listen(await self._runner(self._live(self._origin.answer_passed)), HOST, 0, None)

    @staticmethod
    def _live(answer: Handler) -> web.Application:
        live = web.Application()
        live.router.add_route("*", "/{tail:.*}", answer)
        return live

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        connections = list(self._origin.connections)
        for connection in connections:
            connection.end(texts.GOING_AWAY.refusal())
        await asyncio.gather(*(connection.wait_ended() for connection in connections))
        if self._crew is not None:
            await self._crew.wait_ended()
        for runner in reversed(self._runners):
            await runner.cleanup()
        await self._ears.stop()
        if self._crew is not None:
            self._crew.close()
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def connections(self) -> set[Connection]:
        """Those that are open."""
        return self._origin.connections

    def ready(self) -> dict[str, Any]:
        """What a parent process wants to know."""
        return {
            "ready": "emulator",
            "id": self.id,
            "pid": os.getpid(),
            "address": f"https://{self.settings.host}:{self.port}",
            "plain_address": self.plain_port and f"http://{self.settings.host}:{self.plain_port}",
            "ca_file": str(self.ca_file),
            "seed": self._chance.seed,
            "began": self._started,
            "control": f"http://{self.settings.control_host}:{self.control_port}",
        }

    def _clock(self) -> float:
        return time.monotonic() - self._started

    async def _runner(self, app: web.Application) -> web.AppRunner:
        # Without a request, a connection is not kept alive longer than an upgrade may take.
        patience = self.settings.upgrade_timeout.total_seconds()
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=1.0, keepalive_timeout=patience, lingering_time=min(1.0, patience)
        )
        await runner.setup()
        self._runners.append(runner)
        return runner

    async def _listen(
        self, runner: web.AppRunner, host: str, port: int, context: ssl.SSLContext | None, *, shared: bool = False
    ) -> int:
        # Not by the runner itself, which leaves a client a whole minute for its TLS handshake.
        assert runner.server is not None
        server = await asyncio.get_running_loop().create_server(
            functools.partial(FirstHead, runner.server),
            host,
            port,
            backlog=1024,
            reuse_port=shared or None,
            ssl=context,
            ssl_handshake_timeout=self.settings.upgrade_timeout.total_seconds() if context else None,
            ssl_shutdown_timeout=self.settings.close_timeout.total_seconds() if context else None,
        )
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def _stats(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "connections": len(self._origin.connections),
            "faults": self._orders.count,
            "handles": len(self._handles),
            "tokens": len(self._tokens),
            "totals": asdict(self._origin.counters),
            "passed_on": self._crew.passed_on if self._crew else 0,
            "hearing": asdict(self._ears.counters),
        }


async def run(settings: EmulatorSettings) -> None:
    """Serve until SIGTERM or SIGINT; one JSON line on stdout says when it is ready."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    allow_files(settings.max_connections)
    async with Emulator(settings) as emulator:
        settle()
        sys.stdout.write(json.dumps(emulator.ready()) + "\n")
        sys.stdout.flush()
        facts = emulator.ready()
        log.info("ready", id=emulator.id, address=facts["address"], control=facts["control"], seed=facts["seed"])
        await stop.wait()
        log.info("stopping", id=emulator.id)


def allow_files(connections: int) -> None:
    """As many open files as ``connections`` need: a socket each, and another one to watch it while it is not read."""
    needed = 2 * connections + 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < connections:
        log.warning("fewer open files are allowed than max_connections", files=allowed, max_connections=connections)
