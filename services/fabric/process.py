"""The frame of a service process: event loop, signals, the ready line, and how late the loop runs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any

import uvloop


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Around the import of a service. What it makes stays: a garbage collector that looks through all of it again and
    again takes a fifth of the start."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a service on uvloop until it returns."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


class StopSignal(asyncio.Event):
    """Set by the first SIGTERM or SIGINT; `again` by a second one."""

    def __init__(self) -> None:
        super().__init__()
        self.again = asyncio.Event()

    def received(self) -> None:
        """One came."""
        if self.is_set():
            self.again.set()
        self.set()


def stop_signal() -> StopSignal:
    """What SIGTERM and SIGINT set. A second one may be ignored: the grace period is bounded anyway."""
    stop = StopSignal()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.received)
    return stop


def announce_ready(kind: str, instance: str, **addresses: str) -> None:
    """Print the one line on stdout that tells whoever started this process that it serves, and where.

    Set-up is over then: what it made stays for good, and the garbage collector is told so. Otherwise a full collection
    waits until garbage is a quarter of everything that was ever imported, about 25 MB in a worker.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # again: the collector paces itself by what it found alive the last time
    line = {"ready": kind, "id": instance, "pid": os.getpid(), **addresses}
    print(json.dumps(line), flush=True)  # noqa: T201 - this line is the contract


async def first_of(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Wait for the stop signal. A background task that ends before it takes the process down with its error."""
    stopping = asyncio.create_task(stop.wait(), name="stop signal")
    try:
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    for task in done:
        if task is not stopping:
            task.result()


async def stop_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they are done; what they raise is theirs.

    One cancellation is not enough: until Python 3.12 `asyncio.wait_for`, which nats-py uses, swallows a cancellation
    that arrives together with the result.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.5)


class LoopLag:
    """How late the event loop runs: the worst of the last second."""

    INTERVAL = 0.1

    def __init__(self) -> None:
        self._worst = 0.0
        self._recent: list[float] = []

    @property
    def worst(self) -> float:
        """Seconds."""
        return self._worst

    async def run(self) -> None:
        """Measure for ever."""
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(self.INTERVAL)
            self._recent.append(loop.time() - before - self.INTERVAL)
            del self._recent[: -int(1 / self.INTERVAL)]
            self._worst = max(self._recent)


def resident_bytes() -> int:
    """Resident memory of this process (Linux)."""
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 - a proc file, read whole
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
