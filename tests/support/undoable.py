"""Tools whose effect can be undone; each effect, and each undoing, is a row of a ledger (tests/support/ledger.py)."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from services.tools import OutcomeUnknownError, ToolContext, ToolError, tool

MODULE = "tests.support.undoable"


def _write(ledger: str, entry: str, execution: str) -> None:
    with closing(sqlite3.connect(ledger, timeout=5)) as connection, connection:
        connection.execute("INSERT INTO entries VALUES (?, ?)", (entry, execution))


def _held(hold: str) -> bool:
    return bool(hold) and Path(hold).exists()


def _row(arguments: dict[str, Any], result: Any) -> str:
    what = "cut off" if result is None else result.get("result", result)
    return f"undone {arguments['entry']}: {what}"


async def unbook(arguments: dict[str, Any], result: Any, context: ToolContext) -> None:
    """Undoes what `book`, and `book_in_steps`, did."""
    if arguments["entry"] == "sticky":
        raise ValueError("it sticks")
    while arguments["entry"] == "patient" and _held(arguments["hold"]):
        await asyncio.sleep(0.01)
    _write(arguments["ledger"], _row(arguments, result), context.execution_id)


def unbook_in_a_thread(arguments: dict[str, Any], result: Any, context: ToolContext) -> None:
    """Undoes what `book_in_a_thread`, and `book_in_steps_in_a_thread`, did."""
    assert not context.cancelled
    if arguments["entry"] == "endless":
        context.cancellation.wait()
        return
    _write(arguments["ledger"], _row(arguments, result), context.execution_id)


@tool(timeout=15, compensate=unbook)
async def book(context: ToolContext, ledger: str, entry: str, hold: str = "") -> str:
    """Books. `stubborn` ignores its cancellation, `exits` does as asked and raises, `unsure` does not know."""
    _write(ledger, entry, context.execution_id)
    try:
        while entry != "patient" and _held(hold):
            await asyncio.sleep(0.005)
    except asyncio.CancelledError:
        if entry == "exits":
            raise ToolError("nothing booked") from None
        if entry == "unsure":
            raise OutcomeUnknownError("who knows") from None
        if entry != "stubborn":
            raise
        while _held(hold):
            await asyncio.sleep(0.005)
    return f"booked {entry}"


@tool(timeout=15, compensate=unbook_in_a_thread)
def book_in_a_thread(context: ToolContext, ledger: str, entry: str, hold: str = "") -> str:
    """Books, whatever it is told meanwhile, unless it is `polite`."""
    _write(ledger, entry, context.execution_id)
    while _held(hold):
        if context.cancelled and entry == "polite":
            raise ToolError("stopped, nothing booked")
        time.sleep(0.005)
    return f"booked {entry}"


@tool(timeout=15, behavior="non_blocking", compensate=unbook)
async def book_in_steps(context: ToolContext, ledger: str, entry: str, hold: str = "") -> AsyncIterator[str]:
    """Books, in two steps."""
    _write(ledger, entry, context.execution_id)
    yield f"half of {entry}"
    while _held(hold):
        await asyncio.sleep(0.005)
    yield f"booked {entry}"


@tool(timeout=15, behavior="non_blocking", compensate=unbook_in_a_thread)
def book_in_steps_in_a_thread(context: ToolContext, ledger: str, entry: str, hold: str = "") -> Iterator[str]:
    """Books, in many steps, from a thread."""
    _write(ledger, entry, context.execution_id)
    while _held(hold):
        time.sleep(0.005)
        yield f"half of {entry}"
    yield f"booked {entry}"


@tool(timeout=1, compensate=unbook_in_a_thread)
def book_slowly(context: ToolContext, ledger: str, entry: str, hold: str = "") -> str:
    """Books, and takes its time."""
    _write(ledger, entry, context.execution_id)
    while _held(hold):
        time.sleep(0.005)
    return f"booked {entry}"
