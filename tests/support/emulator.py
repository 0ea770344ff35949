"""The real emulator as a process of its own: ``async with start_emulator() as emulator``."""

import asyncio
import json
import os
import signal
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.children import bound

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT = 30.0


@dataclass
class RunningEmulator:
    """Where it is and how to ask it things."""

    address: str
    """``https://127.0.0.1:PORT``; its certificate is good for localhost too."""
    ca_file: str
    control: str
    pid: int
    process: asyncio.subprocess.Process
    log_file: Path

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """A client's context that trusts it."""
        return ssl.create_default_context(cafile=self.ca_file)

    async def get(self, path: str) -> Any:
        """JSON of the control API."""
        async with aiohttp.ClientSession() as http, http.get(self.control + path) as response:
            response.raise_for_status()
            return await response.json()

    async def conversation(self, conversation_id: str) -> dict[str, Any]:
        """The record of one conversation."""
        record: dict[str, Any] = await self.get(f"/conversations/{conversation_id}")
        return record

    async def lineage(self, conversation_id: str) -> dict[str, Any]:
        """What the model knows after the newest link, what it forgot, what it was given twice."""
        lineage: dict[str, Any] = await self.get(f"/conversations/{conversation_id}/lineage")
        return lineage

    async def events(self, conversation_id: str, *, since: int = 0, wait: float = 0, kind: str = "") -> dict[str, Any]:
        """The events from ``since`` on; with ``wait`` (seconds) at least one, unless time is up."""
        query = f"?since={since}&wait={wait}&kind={kind}"
        found: dict[str, Any] = await self.get(f"/conversations/{conversation_id}/events{query}")
        return found

    async def stats(self) -> dict[str, Any]:
        """Connections, tasks, memory."""
        numbers: dict[str, Any] = await self.get("/stats")
        return numbers

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            return await self.process.wait()

    def logs(self) -> list[dict[str, Any]]:
        """What it has logged."""
        return [json.loads(line) for line in self.log_file.read_text().splitlines() if line.startswith("{")]


@asynccontextmanager
async def start_emulator(**settings: Any) -> AsyncIterator[RunningEmulator]:
    """Start it with ``PARLEY_EMULATOR_<NAME>`` for each keyword (``playback_speed=10``) and stop it in the end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_EMULATOR_")}
    environment |= {f"PARLEY_EMULATOR_{name.upper()}": str(value) for name, value in settings.items()}
    with tempfile.TemporaryDirectory(prefix="emulator-test-") as folder:
        log_file = Path(folder) / "log"
        with log_file.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *bound(sys.executable, "-m", "emulator"),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=environment,
                cwd=ROOT,
            )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(START_LIMIT):
                line = await process.stdout.readline()
            if not line:
                raise RuntimeError(f"the emulator did not start: {log_file.read_text()}")
            ready = json.loads(line)
            running = RunningEmulator(
                ready["address"], ready["ca_file"], ready["control"], ready["pid"], process, log_file
            )
            yield running
            code = await running.stop()
            assert code == 0, f"the emulator exited with {code}: {log_file.read_text()}"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
