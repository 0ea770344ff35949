"""Order look-up in SQLite: what a support call needs.

The file is opened for each call, because other processes write to it too.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Annotated, Final, Literal, TypedDict

from pydantic import Field

from services.tools import ToolError, tool
from services.tools.settings import ToolsSettings

Status = Literal["shipped", "delayed", "delivered", "cancelled", "processing", "returned"]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS orders (
    order_id TEXT PRIMARY KEY,
    item TEXT NOT NULL,
    status TEXT NOT NULL
        CHECK (status IN ('shipped', 'delayed', 'delivered', 'cancelled', 'processing', 'returned')),
    arrives TEXT NOT NULL
        CHECK (arrives IN ('monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday', 'sunday'))
)
"""
_SEED: Final[list[tuple[str, str, Status, Weekday]]] = [
    ("1234", "headphones", "shipped", "monday"),
    ("2468", "desk lamp", "processing", "thursday"),
    ("3579", "running shoes", "delivered", "tuesday"),
    ("4711", "coffee grinder", "delayed", "friday"),
    ("5050", "rain jacket", "cancelled", "sunday"),
    ("8642", "camera", "returned", "wednesday"),
]
_LOCK_WAIT: Final = 2.0
"""Seconds to wait for another process that writes."""

_database = Path("orders.sqlite3")


class Order(TypedDict):
    """What the model is told."""

    order_id: str
    status: Status
    arrives: Weekday


def set_up_tools(settings: ToolsSettings) -> None:
    """Create and fill the file when it is missing; an existing one is left alone."""
    global _database  # noqa: PLW0603 - the one thing that this module is told at load
    _database = settings.orders_db.expanduser()
    _database.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(_database, timeout=_LOCK_WAIT)) as connection, connection:
        # One transaction: of two processes that start together, one fills the table and the other finds it filled.
        connection.execute("BEGIN IMMEDIATE")
        there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'orders'").fetchone()
        if there is None:
            connection.execute(_SCHEMA)
            connection.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", _SEED)


@tool(timeout=5, idempotent=True, behavior="blocking")
def lookup_order(
    order_id: Annotated[str, Field(description="Number of the order, digits only.", min_length=1, max_length=32)],
) -> Order:
    """Looks up an order: its status, and the day of the week on which it arrives."""
    number = "".join(character for character in order_id if character.isalnum())
    # mode=rw: a file that was removed is an error, not an empty database.
    with closing(
        sqlite3.connect(f"{_database.resolve().as_uri()}?mode=rw", uri=True, timeout=_LOCK_WAIT)
    ) as connection:
        row = connection.execute(
            "SELECT order_id, status, arrives FROM orders WHERE order_id = ?", (number,)
        ).fetchone()
    if row is None:
        raise ToolError(f"no order {number}")
    return Order(order_id=row[0], status=row[1], arrives=row[2])
