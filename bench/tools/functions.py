"""What is called: functions that time themselves. A module of tools of the service under test."""

import asyncio
import time
from typing import TypedDict

from services.tools import ToolContext, tool

_runs = 0
_began: set[str] = set()
"""Executions that hang, or did."""
_cancelled: dict[str, int] = {}
"""When they learned that they need not; monotonic nanoseconds, one clock for the whole machine."""


class Timed(TypedDict):
    """What a function says of itself."""

    nanoseconds: int


class Told(TypedDict):
    """What is known of an execution that hangs, and of all that do not."""

    began: bool
    cancelled_at: int
    """0: not yet."""
    runs: int


def _run(began: int) -> Timed:
    global _runs  # noqa: PLW0603 - coroutines and threads count here, one call at a time
    _runs += 1
    return Timed(nanoseconds=time.perf_counter_ns() - began)


@tool(timeout=10)
async def run() -> Timed:
    """Does nothing."""
    return _run(time.perf_counter_ns())


@tool(timeout=10)
def run_in_thread() -> Timed:
    """Does nothing, in a thread."""
    return _run(time.perf_counter_ns())


@tool(timeout=60)
async def hang(context: ToolContext) -> None:
    """Waits until it is cancelled."""
    _began.add(context.execution_id)
    try:
        await asyncio.Event().wait()
    finally:
        _cancelled[context.execution_id] = time.monotonic_ns()


@tool(timeout=60)
def hang_in_thread(context: ToolContext) -> None:
    """The same; nobody can cancel a thread, but it is told."""
    _began.add(context.execution_id)
    context.cancellation.wait()
    _cancelled[context.execution_id] = time.monotonic_ns()


@tool(timeout=10)
async def told(execution_id: str) -> Told:
    """What is known of an execution."""
    return Told(began=execution_id in _began, cancelled_at=_cancelled.get(execution_id, 0), runs=_runs)
