"""The example's order look-up as a tool with an effect that can be counted: each run adds a row to a SQLite file."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from services.tools import tool

FOLDER = "PARLEY_TEST_ORDERS"
"""Variable with the folder of the file. A file there that is named after an order holds its answer back."""
BEHAVIOR = "PARLEY_TEST_ORDERS_BEHAVIOR"
"""Variable that says whether the model waits for the tool: `blocking`, which it is without, or `non_blocking`."""
MODULES = "tests.support.order_ledger,services.tools.examples.weather"


def _ledger(folder: Path) -> sqlite3.Connection:
    # Longer than any process is frozen that may have the lock.
    connection = sqlite3.connect(folder / "ledger.sqlite3", timeout=60)
    connection.execute("CREATE TABLE IF NOT EXISTS runs (order_id TEXT)")
    return connection


def runs(folder: Path, order_id: str) -> int:
    """How often the tool ran for an order."""
    with closing(_ledger(folder)) as connection:
        found: int = connection.execute("SELECT count(*) FROM runs WHERE order_id = ?", (order_id,)).fetchone()[0]
    return found


_behavior: Any = os.environ.get(BEHAVIOR, "blocking")


@tool(timeout=30, behavior=_behavior)
def lookup_order(order_id: str) -> dict[str, str]:
    """Looks up an order, and charges for it: not idempotent."""
    folder = Path(os.environ[FOLDER])
    with closing(_ledger(folder)) as connection, connection:
        connection.execute("INSERT INTO runs VALUES (?)", (order_id,))
    while (folder / order_id).exists():
        time.sleep(0.005)
    return {"order_id": order_id, "status": "shipped", "arrives": "monday"}
