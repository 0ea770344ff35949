"""Sabotage of a worker: what its silence after a lapse stands on is taken away, or its loop hangs when told to."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from services.fabric import process
from services.session_worker.lifeline import Lease
from services.session_worker.ownership import Ownership

VARIABLE = "PARLEY_TEST_SABOTAGE"
"""`lapse`: the lease holds for ever. `reread`: a session goes on without a look at its record."""
COMMAND = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); import {__name__} as it; it.main()"
"""For `python -c`."""


def main() -> None:
    """The worker, sabotaged. SIGUSR1 makes its loop hang for a minute."""
    from services.session_worker.cli import command

    match os.environ.get(VARIABLE, ""):
        case "lapse":
            Lease.holds = lambda _lease, _now: True  # type: ignore[method-assign]
        case "reread":
            Ownership.confirm = _nothing  # type: ignore[method-assign]
    stop_signal = process.stop_signal

    def with_a_hang() -> process.StopSignal:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, time.sleep, 60)
        return stop_signal()

    process.stop_signal = with_a_hang
    command()


async def _nothing(_ownership: Ownership) -> None:
    pass
