"""A SQLite file that several processes write to. It is opened for each call."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

_LOCK_WAIT: Final = 2.0
"""Seconds to wait for another process that writes."""


@contextmanager
def created(path: Path) -> Iterator[sqlite3.Connection]:
    """One transaction, in a file that is made when it is missing: of two processes that start together, one makes the
    tables and the other finds them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=_LOCK_WAIT)) as connection, connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


@contextmanager
def transaction(path: Path, *, writes: bool = False) -> Iterator[sqlite3.Connection]:
    """Committed when the block ends, rolled back when it raises. `writes`: nobody else writes meanwhile, so what was
    read is still true when something is written."""
    # mode=rw: a file that was removed is an error, not an empty database.
    address = f"{path.resolve().as_uri()}?mode=rw"
    with closing(sqlite3.connect(address, uri=True, timeout=_LOCK_WAIT)) as connection, connection:
        if writes:
            connection.execute("BEGIN IMMEDIATE")
        yield connection
