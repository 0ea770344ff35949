"""Tools with an effect that can be counted: each adds a row to a SQLite file that the test names."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated

from pydantic import Field

from services.tools import ToolContext, tool

Hold = Annotated[str, Field(description="File that holds the answer back while it exists.")]


class Ledger:
    """The file, as a test sees it."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "ledger.sqlite3"
        self._hold = directory / "hold"
        with closing(sqlite3.connect(self._path)) as connection, connection:
            connection.execute("CREATE TABLE entries (entry TEXT, execution TEXT)")

    def arguments(self, entry: str = "rent", *, held: bool = False) -> dict[str, str]:
        """Of a call of the tools here; `held`: its answer waits for `release`, its effect does not."""
        if held:
            self._hold.touch()
        return {"ledger": str(self._path), "entry": entry, "hold": str(self._hold) if held else ""}

    def release(self) -> None:
        """Let what is held answer."""
        self._hold.unlink()

    def entries(self) -> list[str]:
        """What is in the file."""
        with closing(sqlite3.connect(self._path)) as connection:
            return [row[0] for row in connection.execute("SELECT entry FROM entries ORDER BY rowid")]


def _enter(ledger: str, entry: str, hold: str, execution: str) -> str:
    with closing(sqlite3.connect(ledger, timeout=5)) as connection, connection:
        connection.execute("INSERT INTO entries VALUES (?, ?)", (entry, execution))
    while hold and Path(hold).exists():
        time.sleep(0.005)
    return f"entered {entry}"


@tool(timeout=15)
def enter(context: ToolContext, ledger: str, entry: str, hold: Hold = "") -> str:
    """Enters a payment, each time that it is called."""
    return _enter(ledger, entry, hold, context.execution_id)


@tool(timeout=15, idempotent=True)
def look(context: ToolContext, ledger: str, entry: str, hold: Hold = "") -> str:
    """Looks something up; that it was run shows in the file."""
    return _enter(ledger, entry, hold, context.execution_id)


@tool(timeout=15)
def fill(ledger: str, entry: str, size: int) -> str:
    """Enters a payment and says much about it."""
    return _enter(ledger, entry, "", "") + "." * size
