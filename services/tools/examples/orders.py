"""Orders in SQLite, for support calls: one is looked up, paid back, or made good with a voucher.

Three kinds of functions, told apart by what happens when the process that runs one dies in the middle:

- `lookup_order` changes nothing. It is declared idempotent, so it is run again elsewhere.
- `refund_order` pays, and nothing here can tell a second run from a second refund, which may be wanted. It is not
  declared idempotent: it is run at most once, and the model may be told that the outcome is unknown. The call's key
  is written down with the payment, so that whoever looks into the books finds out.
- `send_voucher` changes something too, but finds by the key of the call what an earlier run has done. So it may be
  declared idempotent: it is run again, and the model gets the one answer.
"""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path
from typing import Annotated, Final, Literal, TypedDict

from pydantic import Field

from services.tools import ToolContext, ToolError, tool
from services.tools.examples import database
from services.tools.settings import ToolsSettings

Status = Literal["shipped", "delayed", "delivered", "cancelled", "processing", "returned"]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
Number = Annotated[str, Field(description="Number of the order, digits only.", min_length=1, max_length=32)]
Cents = Annotated[int, Field(description="Amount in cents.", ge=1, le=100_000)]

_ORDERS: Final = """
CREATE TABLE orders (
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
_PAYMENTS: Final = (
    """
CREATE TABLE IF NOT EXISTS refunds (
    refund_id INTEGER PRIMARY KEY,
    order_id TEXT NOT NULL,
    amount_cents INTEGER NOT NULL,
    idempotency_key TEXT NOT NULL
)
""",
    # Here the key is what makes a second run find the first.
    """
CREATE TABLE IF NOT EXISTS vouchers (
    idempotency_key TEXT PRIMARY KEY,
    code TEXT NOT NULL,
    order_id TEXT NOT NULL,
    amount_cents INTEGER NOT NULL
)
""",
)
_path = Path("orders.sqlite3")


class Order(TypedDict):
    """What the model is told of an order."""

    order_id: str
    status: Status
    arrives: Weekday


class Refund(TypedDict):
    """What the model is told of a refund."""

    refund_id: int
    order_id: str
    amount_cents: int


class Voucher(TypedDict):
    """What the model is told of a voucher."""

    code: str
    order_id: str
    amount_cents: int


def set_up_tools(settings: ToolsSettings) -> None:
    """Create and fill the file when it is missing; orders that are there are left alone."""
    global _path  # noqa: PLW0603 - the one thing that this module is told at load
    _path = settings.orders_db.expanduser()
    with database.created(_path) as connection:
        there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'orders'").fetchone()
        if there is None:
            connection.execute(_ORDERS)
            connection.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", _SEED)
        for table in _PAYMENTS:
            connection.execute(table)


@tool(timeout=5, idempotent=True, behavior="blocking")
def lookup_order(order_id: Number) -> Order:
    """Looks up an order: its status, and the day of the week on which it arrives."""
    with database.transaction(_path) as connection:
        return _found(connection, order_id)


@tool(timeout=10, behavior="blocking")
def refund_order(context: ToolContext, order_id: Number, amount_cents: Cents) -> Refund:
    """Pays money back to the customer for an order. Each call pays once more."""
    with database.transaction(_path, writes=True) as connection:
        order = _found(connection, order_id)
        payment = (order["order_id"], amount_cents, context.idempotency_key)
        added = connection.execute(
            "INSERT INTO refunds (order_id, amount_cents, idempotency_key) VALUES (?, ?, ?)", payment
        )
        assert added.lastrowid is not None
        return Refund(refund_id=added.lastrowid, order_id=order["order_id"], amount_cents=amount_cents)


@tool(timeout=10, idempotent=True, behavior="blocking")
def send_voucher(context: ToolContext, order_id: Number, amount_cents: Cents) -> Voucher:
    """Sends the customer a voucher, to make up for trouble with an order."""
    with database.transaction(_path, writes=True) as connection:
        order = _found(connection, order_id)
        connection.execute(
            "INSERT INTO vouchers VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (context.idempotency_key, secrets.token_hex(4), order["order_id"], amount_cents),
        )
        row = connection.execute(
            "SELECT code, order_id, amount_cents FROM vouchers WHERE idempotency_key = ?", (context.idempotency_key,)
        ).fetchone()
        return Voucher(code=row[0], order_id=row[1], amount_cents=row[2])


def _found(connection: sqlite3.Connection, order_id: str) -> Order:
    number = "".join(character for character in order_id if character.isalnum())
    row = connection.execute("SELECT order_id, status, arrives FROM orders WHERE order_id = ?", (number,)).fetchone()
    if row is None:
        raise ToolError(f"no order {number}")
    return Order(order_id=row[0], status=row[1], arrives=row[2])
