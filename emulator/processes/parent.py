"""The first process: makes what all share, starts the others, answers for them, and ends when one of them does."""

import asyncio
import json
import os
import secrets
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from emulator.certificates import server_file
from emulator.chance import Chance
from emulator.processes.merged import Merged
from emulator.processes.shared import Shared
from emulator.processes.terms import Terms, written
from emulator.scenarios import scenario
from emulator.settings import EmulatorSettings

log = structlog.get_logger(__name__)

_START_SECONDS = 60.0
_STOP_SECONDS = 5.0
"""Beyond what connections may take to close."""


class StartError(Exception):
    """A process did not start; ``status`` is what it ended with, and it has said why."""

    def __init__(self, number: int, status: int | None) -> None:
        super().__init__(f"process {number} did not start: {'no answer' if status is None else f'status {status}'}")
        self.status = status


class Parent:
    """``async with Parent(settings) as parent``: several processes serve inside the block."""

    def __init__(self, settings: EmulatorSettings) -> None:
        self._settings = settings.model_copy(update={"seed": Chance(settings.seed).seed})
        self.id = f"emu_{secrets.token_hex(4)}"
        self._began = time.monotonic()
        self._ca_file = settings.ca_file or Path()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._held: list[asyncio.Server] = []
        self._children: list[asyncio.subprocess.Process] = []
        self._terms: list[Terms] = []
        self._merged: Merged | None = None
        self._runner: web.AppRunner | None = None
        self._shared: Shared | None = None
        self._control = ""

    async def __aenter__(self) -> "Parent":
        try:
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._merged is not None:
            await self._merged.close()
        await self._end_children()
        for server in self._held:
            server.close()
        if self._shared is not None:
            self._shared.close()
        if self._folder is not None:
            self._folder.cleanup()

    async def wait_broken(self) -> None:
        """Until one of the processes has ended, which none should."""
        waits = [asyncio.create_task(child.wait(), name="emulator process") for child in self._children]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        for number, child in enumerate(self._children):
            if child.returncode is not None:
                log.error("a process has ended, so all do", process=number, pid=child.pid, status=child.returncode)

    def ready(self) -> dict[str, Any]:
        """What whoever started it wants to know."""
        terms, host = self._terms[0], self._settings.host
        return {
            "ready": "emulator",
            "id": self.id,
            "pid": os.getpid(),
            "processes": [child.pid for child in self._children],
            "address": f"https://{host}:{terms.port}",
            "plain_address": terms.plain_port and f"http://{host}:{terms.plain_port}",
            "ca_file": str(self._ca_file),
            "seed": self._settings.seed,
            "began": self._began,
            "control": self._control,
        }

    async def _start(self) -> None:
        settings = self._settings
        # Said once, and not by every process.
        scenario.named(settings.scenario)
        for path in settings.scenarios:
            scenario.load(path)
        self._folder = tempfile.TemporaryDirectory(prefix="live-emulator-")
        folder = Path(self._folder.name)
        if settings.ca_file is None:
            self._ca_file = folder / "ca.pem"
        port = await self._hold(settings.port)
        plain_port = None if settings.plain_port is None else await self._hold(settings.plain_port)
        secret = secrets.token_hex(32)
        count = settings.processes
        self._terms = [Terms(number, count, folder, secret, self._began, port, plain_port) for number in range(count)]
        server_file(self._ca_file, self._terms[0].certificate, settings.certificate_names, settings.certificate_file)
        self._shared = Shared(self._terms[0].database, create=True)
        for terms in self._terms:
            self._children.append(
                await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "emulator.processes.child"),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    start_new_session=True,
                )
            )
            self._say(terms.number, written(terms, settings))
        ports = [told["port"] for told in await self._all_say()]
        for number in range(count):
            self._say(number, json.dumps(ports).encode() + b"\n")
        await self._all_say()
        self._terms[0].certificate.unlink()
        await self._answer()

    async def _hold(self, port: int) -> int:
        """Keep a TCP port for the others to listen on."""
        loop, host = asyncio.get_running_loop(), self._settings.host
        # Once without sharing: a port that another emulator shares among its processes would seem to be free.
        taken = await loop.create_server(asyncio.Protocol, host, port, start_serving=False)
        port = int(taken.sockets[0].getsockname()[1])
        taken.close()
        self._held.append(await loop.create_server(asyncio.Protocol, host, port, reuse_port=True, start_serving=False))
        return port

    async def _answer(self) -> None:
        assert self._shared is not None
        self._merged = Merged(self.id, [terms.control(terms.number) for terms in self._terms], self._shared)
        self._runner = web.AppRunner(self._merged.application(), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        host = self._settings.control_host
        await web.TCPSite(self._runner, host, self._settings.control_port).start()
        self._control = f"http://{host}:{self._runner.addresses[0][1]}"

    def _say(self, number: int, line: bytes) -> None:
        stdin = self._children[number].stdin
        assert stdin is not None
        stdin.write(line)

    async def _all_say(self) -> list[dict[str, Any]]:
        return await asyncio.gather(*(self._next(number) for number in range(len(self._children))))

    async def _next(self, number: int) -> dict[str, Any]:
        """The next line that a process says. Raises :class:`StartError`."""
        child = self._children[number]
        assert child.stdout is not None
        try:
            async with asyncio.timeout(_START_SECONDS):
                if line := await child.stdout.readline():
                    told: dict[str, Any] = json.loads(line)
                    return told
                raise StartError(number, await child.wait())
        except TimeoutError:
            raise StartError(number, None) from None

    async def _end_children(self) -> None:
        patience = 3 * 2 * self._settings.close_timeout.total_seconds() + _STOP_SECONDS
        for child in self._children:
            if child.returncode is None:
                child.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(patience):
                await self._ended()
        except TimeoutError:
            stuck = [child for child in self._children if child.returncode is None]
            for child in stuck:
                child.kill()
            log.warning("processes did not end in time", pids=[child.pid for child in stuck])
            await self._ended()

    async def _ended(self) -> None:
        await asyncio.gather(*(child.wait() for child in self._children))


async def run(settings: EmulatorSettings) -> int:
    """Serve until SIGTERM or SIGINT, or until a process dies; one JSON line on stdout says when it is ready.

    Returns the exit status.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with Parent(settings) as parent:
            facts = parent.ready()
            sys.stdout.write(json.dumps(facts) + "\n")
            sys.stdout.flush()
            log.info("ready", id=parent.id, address=facts["address"], control=facts["control"], seed=facts["seed"])
            broken = asyncio.create_task(parent.wait_broken(), name="broken")
            stopped = asyncio.create_task(stop.wait(), name="stop")
            await asyncio.wait((broken, stopped), return_when=asyncio.FIRST_COMPLETED)
            healthy = not broken.done()
            for task in (broken, stopped):
                task.cancel()
            await asyncio.gather(broken, stopped, return_exceptions=True)
            log.info("stopping", id=parent.id)
    except StartError as error:
        # What was wrong the process itself has said.
        log.error("start failed", reason=str(error))  # noqa: TRY400
        return error.status or 1
    return 0 if healthy else 1
