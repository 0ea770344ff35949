"""The client under test as a process: started with the gateway's address, read, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from parley.conformance.steps import Event, Exited, Reported

KEPT_LINES = 20
"""Lines of stderr that are shown of a client that failed."""
MAX_LINE = 65_536
REPORTS = ("played", "interrupted")


def arguments(command: str, target: str) -> list[str]:
    """The words of a command, with `{target}` filled in. ValueError: an open quote, or no words."""
    words = [word.replace("{target}", target) for word in shlex.split(command)]
    if not words:
        raise ValueError("the command is empty")
    return words


def report_in(line: bytes, at: float) -> Reported | None:
    """The report in a line of stdout; None when it is none."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or said.get("event") not in REPORTS or not isinstance(said.get("seq"), int):
        return None
    return Reported(at, said["event"], said["seq"])


class Command:
    """A started client."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said: deque[str] = deque(maxlen=KEPT_LINES)
        """The last lines of its stderr."""

    async def follow(self, events: asyncio.Queue[Event]) -> None:
        """Put its reports and its end into `events`."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None

        async def reports(stdout: asyncio.StreamReader) -> None:
            async for line in _lines(stdout):
                if (report := report_in(line, time.monotonic())) is not None:
                    await events.put(report)

        async def complaints(stderr: asyncio.StreamReader) -> None:
            async for line in _lines(stderr):
                self.said.append(line.decode(errors="replace").rstrip())

        await asyncio.gather(reports(self._process.stdout), complaints(self._process.stderr))
        status = await self._process.wait()
        await events.put(Exited(time.monotonic(), status))


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Lines until the end; one that is longer than `MAX_LINE` is left out."""
    while True:
        try:
            line = await stream.readline()
        except ValueError:
            continue
        if not line:
            return
        yield line


@asynccontextmanager
async def running(words: Sequence[str], target: str, check: str) -> AsyncIterator[Command]:
    """The client, with its address in PARLEY_TARGET; it and what it started are killed on leaving.

    OSError: it cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PARLEY_TARGET": target, "PARLEY_CHECK": check},
        limit=MAX_LINE,
        start_new_session=True,
    )
    try:
        yield Command(process)
    finally:
        # The group, because a command is often a shell or a build tool with the client below it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
