"""``python -m emulator.processes.child``: one of several processes, started by the parent and talked to by its pipes.

On stdin: the terms, then the ports of all processes; its end is the parent's. On stdout: one JSON line each time this
process has done what it was told. SIGTERM ends it.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
from typing import Any

import structlog

from emulator.cli import explained, on_uvloop
from emulator.logs import log_to_stderr
from emulator.memory import settle
from emulator.processes.crew import Crew
from emulator.processes.terms import Terms, read
from emulator.server import Emulator, allow_files
from emulator.settings import EmulatorSettings

log = structlog.get_logger(__name__)


async def serve(terms: Terms, settings: EmulatorSettings) -> None:
    """Until SIGTERM, or the end of the parent."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    parent = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(parent), sys.stdin)
    allow_files(settings.max_connections)
    crew = Crew(terms, max_frame_bytes=settings.max_frame_bytes, patience=2 * settings.close_timeout.total_seconds())
    async with Emulator(settings, crew) as emulator:
        _tell({"port": emulator.crew_port})
        if line := await _line(parent, stop):
            crew.peers = tuple(json.loads(line))
            await emulator.listen(crew.tls(), terms.port, terms.plain_port, shared=True)
            settle()
            _tell({"port": emulator.port})
            line = await _line(parent, stop)
        log.debug("stopping")
    if not stop.is_set():
        # Nobody else is left to do it.
        log.error("the parent is gone")
        shutil.rmtree(terms.folder, ignore_errors=True)


async def _line(parent: asyncio.StreamReader, stop: asyncio.Event) -> bytes:
    """What the parent says next; nothing when it is time to end."""
    said, stopped = asyncio.ensure_future(parent.readline()), asyncio.ensure_future(stop.wait())
    await asyncio.wait((said, stopped), return_when=asyncio.FIRST_COMPLETED)
    for task in (said, stopped):
        task.cancel()
    await asyncio.gather(said, stopped, return_exceptions=True)
    return b"" if stop.is_set() or said.cancelled() else said.result()


def _tell(facts: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main() -> int:
    """The exit status."""
    # Interrupts from a terminal are for the parent alone.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    first = bytearray()
    # Byte by byte off the pipe: what a buffered reader takes ahead would be lost to the loop.
    while not first.endswith(b"\n"):
        byte = os.read(sys.stdin.fileno(), 1)
        if not byte:
            return 1
        first += byte
    terms, settings = read(bytes(first))
    log_to_stderr(settings.log_level)
    structlog.contextvars.bind_contextvars(process=terms.number)
    return explained(lambda: on_uvloop(serve(terms, settings)))


if __name__ == "__main__":
    sys.exit(main())
