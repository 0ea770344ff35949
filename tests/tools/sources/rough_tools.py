"""Functions that do what none should, and some of the kind that does; served from the file of sources.

It is imported anew by each test that uses it: see `rough`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from typing import Any

from services.tools import ToolContext, ToolError, ToolUnavailableError, tool

COUNT: dict[str, int] = {}
RELEASE = threading.Event()
LEFT: list[asyncio.Task[None]] = []


def counted(name: str) -> int:
    COUNT[name] = COUNT.get(name, 0) + 1
    return COUNT[name]


# What others need while somebody misbehaves


@tool(idempotent=True)
async def neighbour() -> str:
    """Shares the event loop."""
    await asyncio.sleep(0)
    return "here"


@tool(idempotent=True)
def bystander() -> str:
    """Shares the module."""
    return "here"


# Trouble that time mends


@tool(idempotent=True)
async def flaky(times: int, items: list[str]) -> dict[str, Any]:
    """Is not there for a while."""
    items.append("changed")
    if counted("flaky") <= times:
        raise ToolUnavailableError("the calendar is away")
    return {"attempts": COUNT["flaky"], "items": items}


@tool(idempotent=True)
def flaky_thread(times: int) -> dict[str, int]:
    """Is not there for a while."""
    if counted("flaky_thread") <= times:
        raise ToolUnavailableError("the calendar is away", may_have_run=False)
    return {"attempts": COUNT["flaky_thread"]}


@tool
async def charge(may_have_run: bool = True) -> None:
    """Charges a card, at a bank that is away."""
    counted("charge")
    raise ToolUnavailableError("the bank is away", may_have_run=may_have_run)


@tool
def charge_thread(may_have_run: bool = True) -> None:
    """Charges a card, at a bank that is away."""
    counted("charge_thread")
    raise ToolUnavailableError("the bank is away", may_have_run=may_have_run)


@tool(idempotent=True)
async def fails_otherwise(kind: str) -> None:
    """Fails in a way that another attempt does not mend."""
    counted("fails_otherwise")
    raise (ToolError("no such room") if kind == "tool" else ConnectionError("no such host"))


# Secrets


@tool
def tells_secret(context: ToolContext, how: str) -> Any:
    """Tells it."""
    secret = context.secret("API_KEY")
    match how:
        case "result":
            return {"key": f"<{secret}>", secret: [secret]}
        case "json":
            return json.dumps({"key": secret})
        case "error":
            raise ToolError(f"{secret} was refused")
        case "exception":
            raise ValueError(f"{secret} is wrong")
        case "repr":
            return repr(context)
        case "length":
            return len(secret)
        case "unavailable":
            raise ToolUnavailableError(f"{secret} is not known there", may_have_run=False)
        case "unknown":
            return context.secret("NO_SUCH")
    return None


@tool
async def tells_secret_async(context: ToolContext) -> str:
    """Tells it."""
    return context.secret("PEM")


# What none should do


@tool(timeout=60)
async def blocks(seconds: float) -> str:
    """Blocks its event loop."""
    counted("blocks")
    RELEASE.wait(seconds)
    return "done"


@tool(timeout=60)
async def waits() -> str:
    """Waits in good manners, until somebody blocks."""
    counted("waits")
    await asyncio.Event().wait()
    return "never"


@tool
async def exits(where: str) -> str:
    """Ends the process, it thinks."""

    async def later() -> None:
        sys.exit(5)

    if where == "task":
        LEFT.append(asyncio.get_running_loop().create_task(later()))
        return "soon"
    sys.exit(4)


@tool
async def leaks(count: int) -> int:
    """Leaves tasks running."""

    async def forever() -> None:
        await asyncio.Event().wait()

    LEFT.extend(asyncio.get_running_loop().create_task(forever()) for _ in range(count))
    return count


@tool
async def tidy() -> int:
    """Waits for the tasks that it made."""
    return len(await asyncio.gather(*(asyncio.sleep(0) for _ in range(10))))


@tool(timeout=0.2)
async def deaf() -> str:
    """Ignores every cancellation until it is released."""
    while not RELEASE.is_set():
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            counted("deaf cancelled")
    return "at last"


@tool(timeout=0.2)
def deaf_thread() -> str:
    """Looks at no flag until it is released."""
    RELEASE.wait(60)
    return "at last"


@tool
async def cancels_itself() -> None:
    """Cancels itself."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)


@tool
async def where_it_runs() -> str:
    """Tells its thread."""
    return threading.current_thread().name


@tool
def sleeps(seconds: float) -> None:
    """Sleeps in its thread."""
    time.sleep(seconds)
