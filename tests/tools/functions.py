"""Tools that behave in every way a function can; served by the process under test."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from services.tools import ToolContext, ToolError, tool

SEEN: Counter[str] = Counter()
_inside = 0
_release = threading.Event()


@tool(timeout=10)
async def meet(count: int) -> int:
    """Returns when `count` calls are inside at once."""
    global _inside  # noqa: PLW0603
    _inside += 1
    try:
        while _inside % count:
            await asyncio.sleep(0.005)
        return count
    finally:
        await asyncio.sleep(0.05)
        _inside -= 1


_barriers: dict[int, threading.Barrier] = {}
_lock = threading.Lock()


@tool(timeout=10)
def meet_in_threads(count: int) -> int:
    """Returns when `count` threads are inside at once."""
    with _lock:
        barrier = _barriers.setdefault(count, threading.Barrier(count))
    barrier.wait(8)
    return count


@tool(timeout=20)
async def hang() -> None:
    """Waits until it is cancelled."""
    SEEN["hang started"] += 1
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        SEEN["hang cancelled"] += 1
        raise


@tool(timeout=20)
async def stubborn() -> None:
    """Ignores its first cancellation, then goes on until it is released."""
    SEEN["stubborn started"] += 1
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        while not _release.is_set():
            await asyncio.sleep(0.005)


@tool(timeout=20)
def block(context: ToolContext, limit: float = 15) -> str:
    """Blocks its thread until nobody wants the result, or it is released."""
    SEEN["block started"] += 1
    if context.cancellation.wait(limit):
        SEEN["block cancelled"] += 1
        _release.wait(limit)
    return "done"


@tool
async def release() -> None:
    """Lets everything that is held go."""
    _release.set()


@tool
async def hold() -> None:
    """Makes the next ones wait again."""
    _release.clear()


@tool(timeout=20)
async def count_to(seconds: float) -> dict[str, float]:
    """Takes a while."""
    SEEN["count_to started"] += 1
    await asyncio.sleep(seconds)
    return {"seconds": seconds}


@tool(timeout=20, behavior="non_blocking", scheduling="when_idle")
async def dig(context: ToolContext, finds: int) -> AsyncIterator[dict[str, int]]:
    """Says how far it is, and what it has found."""
    context.progress("digging", 0)
    for found in range(1, finds + 1):
        await asyncio.sleep(0.6)
        if found == finds:
            context.schedule("interrupt")
        yield {"found": found}


@tool
async def seen(what: str) -> int:
    """How often something was seen."""
    return SEEN[what]


@tool
def whoami(context: ToolContext) -> dict[str, Any]:
    """Says what the function is told."""
    return {
        "tool": context.tool,
        "session": context.session,
        "tenant": context.tenant,
        "caller": context.caller,
        "key": context.idempotency_key,
        "execution": context.execution_id,
        "labels": context.labels,
        "cancelled": context.cancelled,
        "thread": threading.current_thread().name,
    }


@tool
def raises(kind: str) -> None:
    """Raises."""
    if kind == "exit":
        sys.exit(3)
    if kind == "interrupt":
        raise KeyboardInterrupt
    if kind == "tool":
        raise ToolError("no such table; say so")
    raise ValueError("secret is not the problem")


@tool
async def raises_async(kind: str) -> None:
    """Raises on the loop."""
    if kind == "cancel":
        raise asyncio.CancelledError
    raises(kind)


@tool(name="dotted.name")
async def dotted() -> str:
    """Has a dot in its name."""
    return "dot"


@tool
def no_hint(city) -> None:  # type: ignore[no-untyped-def]
    """Cannot be declared."""
