"""What every process measures of itself."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterable

from services.fabric import metrics, names
from services.fabric.bus import Bus
from services.fabric.meters import Sample
from services.fabric.process import LoopLag, resident_bytes


def vitals(bus: Bus, lag: LoopLag, *, ready: bool) -> Iterable[Sample]:
    """To be read on the event loop."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return (
        (metrics.READY, ready, {}),
        (metrics.LOOP_LAG, lag.worst, {}),
        (metrics.TASKS, len(asyncio.all_tasks()), {}),
        (metrics.MEMORY, resident_bytes(), {}),
        (metrics.CPU, used.ru_utime, {names.CPU_MODE: "user"}),
        (metrics.CPU, used.ru_stime, {names.CPU_MODE: "system"}),
        (metrics.BUS_CONNECTED, bus.connected.is_set(), {}),
        (metrics.BUS_RECONNECTS, bus.reconnects, {}),
        (metrics.BUS_ERRORS, bus.errors, {}),
        (metrics.SUBSCRIPTIONS, bus.subscriptions(), {}),
    )
