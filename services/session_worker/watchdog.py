"""Ends the process when its event loop hangs: a worker that does nothing holds its sessions against everybody else.

It runs in a thread, which counts the time that it has seen itself pass. While the process is stopped (SIGSTOP) the
thread is, too; so a process that goes on after that has all of its time before it to let the loop run once.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

EXIT_STATUS: Final = 70
"""EX_SOFTWARE of sysexits.h."""
_TICKS: Final = 20
"""Looks within the limit."""
_STDERR: Final = 2


class Patience:
    """How long the loop has not run, in seconds that count. Plain code: times are monotonic seconds."""

    def __init__(self, limit: float, now: float) -> None:
        self._limit = limit
        self._looked = now
        self.waited = 0.0
        """Seconds since the loop last ran, without those in which nobody could look."""

    def tick(self, now: float, *, ran: bool) -> bool:
        """To be called `_TICKS` times within the limit; whether it is over. `ran`: the loop has run since."""
        passed = min(now - self._looked, 2 * self._limit / _TICKS)
        self._looked = now
        self.waited = 0.0 if ran else self.waited + passed
        return self.waited >= self._limit


class Watchdog:
    """Watches the event loop of the thread that starts it."""

    def __init__(self, limit: float, on_hang: Callable[[str], None] | None = None) -> None:
        """`limit`: seconds. `on_hang`: instead of ending the process; it is given what is logged."""
        self._limit = limit
        self._on_hang = on_hang or _end
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._ran = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Watch from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more; returns at once."""
        self._stopped.set()

    def _watch(self) -> None:
        patience = Patience(self._limit, time.monotonic())
        asked = False
        while not self._stopped.wait(self._limit / _TICKS):
            ran = self._ran.is_set() or not asked
            if patience.tick(time.monotonic(), ran=ran):
                self._on_hang(self._line(patience.waited))
                return
            if ran:
                self._ran.clear()
                try:
                    self._loop.call_soon_threadsafe(self._ran.set)
                except RuntimeError:
                    return  # the loop is closed: the process is about to end
                asked = True

    def _line(self, waited: float) -> str:
        frame = sys._current_frames().get(self._watched)
        stack: list[str] = []
        while frame is not None and len(stack) < 8:
            stack.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
            frame = frame.f_back
        event = f"the event loop has not run for {waited:.1f} s: the process ends"
        return json.dumps({"level": "critical", "event": event, "exit_status": EXIT_STATUS, "stack": stack})


def _end(line: str) -> None:
    # Not through the logger: the loop may hang within it, or in a write to a pipe that nobody reads.
    if select.select([], [_STDERR], [], 0)[1]:
        os.write(_STDERR, line.encode()[: select.PIPE_BUF - 1] + b"\n")
    os._exit(EXIT_STATUS)
