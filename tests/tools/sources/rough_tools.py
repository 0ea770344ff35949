"""Functions that do what none should, and some that behave; served from the file of sources."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field

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


UNDONE: list[Any] = []


async def _undo_async(arguments: dict[str, Any], result: dict[str, Any] | None, context: ToolContext) -> None:
    UNDONE.append((threading.current_thread().name, arguments, result, context.secret("API_KEY")))


def _undo_badly(arguments: dict[str, Any], result: dict[str, Any] | None, context: ToolContext) -> None:
    raise ValueError(f"{context.secret('API_KEY')} is wrong")


@tool(compensate=_undo_async)
def books(room: int) -> int:
    """Books a room."""
    return room


@tool(compensate=_undo_badly)
def books_badly(room: int) -> int:
    """Books a room that nobody can give back."""
    return room


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


class Line(BaseModel):
    """One line of an order."""

    item: Annotated[str, Field(max_length=40)]
    count: Annotated[int, Field(ge=1, le=99)]
    parts: list[Line] = []


@tool
def order(lines: list[Line], express: bool = False) -> int:
    """Orders."""
    return len(lines)


class Endless(Mapping[str, int]):
    """Has no last item."""

    def __getitem__(self, key: str) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        return (f"k{number}" for number in itertools.count())

    def __len__(self) -> int:
        return 1


class Unprintable(Exception):  # noqa: N818 - as rough as can be
    """Cannot be told."""

    def __str__(self) -> str:
        raise RuntimeError


def _cyclic() -> Any:
    value: dict[str, Any] = {"a": []}
    value["a"].append(value)
    return value


def _deep() -> Any:
    value: Any = 1
    for _ in range(1000):
        value = [value]
    return value


RESULTS: dict[str, Callable[[], Any]] = {
    "nan": lambda: {"a": [math.nan]},
    "bytes": lambda: {"picture": b"\x89PNG"},
    "cyclic": _cyclic,
    "deep": _deep,
    "50 MB": lambda: ["x" * 1000] * 50_000,
    "50 MB of text": lambda: "x" * 50_000_000,
    "endless": Endless,
    "set": lambda: {1, 2},
    "key": lambda: {("a", 1): 2},
    "function": lambda: print,
    "half a character": lambda: "\ud83d",
    "huge number": lambda: 10**5000,
}


@tool
async def returns(what: str) -> Any:
    """Returns what JSON cannot say."""
    return RESULTS[what]()


class Reader(Mapping[str, str]):
    """Says who reads it: that may take its time, as with one that asks a database then."""

    def __getitem__(self, key: str) -> str:
        return threading.current_thread().name

    def __iter__(self) -> Iterator[str]:
        return iter(["read by"])

    def __len__(self) -> int:
        return 1


@tool
async def returns_what_reads() -> Any:
    """Returns what runs code when it is read."""
    return Reader()


@tool
def returns_from_thread(what: str) -> Any:
    """The same."""
    return RESULTS[what]()


def _recurse(depth: int) -> int:
    return _recurse(depth + 1) + 1


RAISES: dict[str, Callable[[], object]] = {
    "ValueError": lambda: int("not a number"),
    "RecursionError": lambda: _recurse(0),
    "MemoryError": lambda: "x" * (1 << 62),
    "unprintable": Unprintable,
    "long": lambda: ValueError("x\n" * 100_000),
    "exit": lambda: sys.exit(3),
    "interrupt": KeyboardInterrupt,
    "generator exit": GeneratorExit,
    "not a ToolError": lambda: ToolError("no such table; say so"),
}


def _raise(what: str) -> None:
    error = RAISES[what]()
    assert isinstance(error, BaseException)
    raise error


@tool
async def raises(what: str) -> None:
    """Raises."""
    _raise(what)


@tool
def raises_in_thread(what: str) -> None:
    """Raises."""
    _raise(what)


@tool(timeout=0.2)
async def hangs() -> None:
    """Never comes back."""
    await asyncio.Event().wait()
