"""One process of a local stack: start it, wait for its ready line, keep its log, stop it."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parley.cli._failures import EX_UNAVAILABLE, CliError

# Asks the kernel to kill the process when its parent dies (prctl PR_SET_PDEATHSIG), and then becomes the command. Done
# in a process of its own and not between fork and exec, because Python code there may deadlock in a program that has
# threads, and gRPC has. The parent may be gone before the request is in place: hence the look at getppid.
_LAUNCHER = (
    "import ctypes,os,sys;ctypes.CDLL(None).prctl(1,9);"
    "os.getppid()==int(sys.argv[1]) or os._exit(1);os.execv(sys.argv[2],sys.argv[2:])"
)
LOG_TAIL_LINES = 15


class Child:
    """A started process. Its stderr, and what it prints besides the ready line, go to `log`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        """Unique in its stack, e.g. `worker-2`."""
        self.process = process
        self.log = log
        self.ready: dict[str, Any] = {}
        """The ready line."""
        self.stopping = False
        """It was told to stop, so its end is no news."""
        self._drain: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, name: str, command: Sequence[str], env: Mapping[str, str], log: Path) -> "Child":
        """Starts a command, with its absolute path first. It gets no terminal, so Ctrl-C reaches only the parent."""
        if sys.platform == "linux":
            launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]
        else:
            launcher = []
        with log.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                *launcher,
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env=dict(env),
                start_new_session=True,
            )
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """It has not exited yet."""
        return self.process.returncode is None

    async def wait_ready(self, limit: float) -> dict[str, Any]:
        """The ready line, within `limit` seconds. CliError with the last lines of the log when it does not come."""
        stdout = self.process.stdout
        assert stdout is not None
        try:
            async with asyncio.timeout(limit):
                while line := await stdout.readline():
                    if (ready := _ready_line(line)) is not None:
                        self.ready = ready
                        self.drain()
                        return ready
                    self._keep(line)
                status = await self.process.wait()
        except TimeoutError:
            raise CliError(self._with_tail(f"{self.name} was not ready within {limit:g} s"), EX_UNAVAILABLE) from None
        raise CliError(self._with_tail(f"{self.name} exited with {describe_exit(status)} before it was ready"))

    def drain(self) -> None:
        """Goes on moving its output to the log, so that it never waits for a full pipe."""
        self._drain = asyncio.get_running_loop().create_task(self._keep_all(), name=f"drain {self.name}")

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; one that comes too late is no error."""
        if self.running:
            # Not through the process object: it would collect the exit status of a child that has just gone, and
            # asyncio, which waits for that status in a thread, would never hear of it.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def stop(self, grace: float) -> int:
        """SIGTERM, then SIGKILL after `grace` seconds; returns the exit status when the process is gone."""
        self.stopping = True
        self.signal(signal.SIGTERM)
        # A stopped process (SIGSTOP) would sleep through its SIGTERM.
        self.signal(signal.SIGCONT)
        try:
            async with asyncio.timeout(grace):
                await self.process.wait()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.process.wait()
        return await self.gone()

    async def gone(self) -> int:
        """Waits until the process has exited and its output is in the log; the exit status."""
        status = await self.process.wait()
        if self._drain is not None:
            await self._drain
        return status

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The last lines of the log."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 16_384))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])

    def _with_tail(self, message: str) -> str:
        return f"{message}; the end of {self.log}:\n{self.log_tail()}"

    async def _keep_all(self) -> None:
        stdout = self.process.stdout
        assert stdout is not None
        while data := await stdout.read(65_536):
            self._keep(data)

    def _keep(self, data: bytes) -> None:
        with self.log.open("ab") as file:
            file.write(data)


def describe_exit(status: int) -> str:
    """`status 78` or `SIGKILL`."""
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def _ready_line(line: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(line)
    except ValueError:
        return None
    return document if isinstance(document, dict) and "ready" in document else None
