"""A calendar in SQLite: appointments are booked, listed and cancelled, and no hour is given away twice.

An hour that is taken is a `ToolError` that says what is free, so that the model can offer it. Two callers who want the
same hour are kept apart by a transaction that nobody else writes in between its look and its write.

All functions may be run again. Booking finds by the key of the call what an earlier run has booked; cancelling what is
cancelled changes nothing.
"""

from __future__ import annotations

import sqlite3
from datetime import date
from pathlib import Path
from typing import Annotated, Final, TypedDict

from pydantic import Field

from services.tools import ToolContext, ToolError, tool
from services.tools.examples import database
from services.tools.settings import ToolsSettings

Day = Annotated[date, Field(description="The day, as YYYY-MM-DD.")]
OPENS, CLOSES = 9, 17
"""Hours between which appointments may be, one an hour."""
Hour = Annotated[int, Field(description="Full hour at which it begins, 9 to 16.", ge=OPENS, lt=CLOSES)]
Reference = Annotated[int, Field(description="Number that the booking returned.", ge=1)]

_SCHEMA: Final = (
    """
CREATE TABLE IF NOT EXISTS appointments (
    reference INTEGER PRIMARY KEY,
    day TEXT NOT NULL,
    hour INTEGER NOT NULL,
    name TEXT NOT NULL,
    idempotency_key TEXT NOT NULL UNIQUE,
    cancelled INTEGER NOT NULL DEFAULT 0
)
""",
    "CREATE UNIQUE INDEX IF NOT EXISTS one_an_hour ON appointments (day, hour) WHERE NOT cancelled",
)

_path = Path("appointments.sqlite3")


class Appointment(TypedDict):
    """What the model is told of an appointment."""

    reference: int
    day: str
    hour: int
    name: str


class Calendar(TypedDict):
    """What the model is told of a day."""

    day: str
    appointments: list[Appointment]
    free_hours: list[int]


class Cancelled(TypedDict):
    """What the model is told of an appointment that is no more."""

    reference: int
    cancelled: bool


def set_up_tools(settings: ToolsSettings) -> None:
    """Create the file, beside the one of the orders, when it is missing."""
    global _path  # noqa: PLW0603 - the one thing that this module is told at load
    _path = settings.orders_db.expanduser().with_name("appointments.sqlite3")
    with database.created(_path) as connection:
        for statement in _SCHEMA:
            connection.execute(statement)


@tool(timeout=5, idempotent=True, behavior="blocking")
def list_appointments(day: Day) -> Calendar:
    """Lists the appointments of a day, and the hours that are free."""
    with database.transaction(_path) as connection:
        return _calendar(connection, day)


@tool(timeout=10, idempotent=True, behavior="blocking")
def book_appointment(
    context: ToolContext,
    day: Day,
    hour: Hour,
    name: Annotated[str, Field(description="Who it is for.", min_length=1, max_length=60)],
) -> Appointment:
    """Books an appointment of one hour. When the hour is taken, says which ones are free."""
    with database.transaction(_path, writes=True) as connection:
        mine = "SELECT reference, day, hour, name FROM appointments WHERE idempotency_key = ?"
        row = connection.execute(mine, (context.idempotency_key,)).fetchone()
        if row is None:
            free = _calendar(connection, day)["free_hours"]
            if hour not in free:
                offer = ", ".join(f"{other}:00" for other in free) or "nothing, try another day"
                raise ToolError(f"{day} {hour}:00 is taken; free on that day: {offer}")
            booking = (day.isoformat(), hour, name, context.idempotency_key)
            connection.execute(
                "INSERT INTO appointments (day, hour, name, idempotency_key) VALUES (?, ?, ?, ?)", booking
            )
            row = connection.execute(mine, (context.idempotency_key,)).fetchone()
        return Appointment(reference=row[0], day=row[1], hour=row[2], name=row[3])


@tool(timeout=10, idempotent=True, behavior="blocking")
def cancel_appointment(reference: Reference) -> Cancelled:
    """Cancels an appointment, so that somebody else can have the hour."""
    with database.transaction(_path, writes=True) as connection:
        there = connection.execute("UPDATE appointments SET cancelled = 1 WHERE reference = ?", (reference,)).rowcount
        if not there:
            raise ToolError(f"there is no appointment {reference}; list_appointments tells the ones of a day")
        return Cancelled(reference=reference, cancelled=True)


def _calendar(connection: sqlite3.Connection, day: date) -> Calendar:
    rows = connection.execute(
        "SELECT reference, day, hour, name FROM appointments WHERE day = ? AND NOT cancelled ORDER BY hour",
        (day.isoformat(),),
    ).fetchall()
    taken = {row[2] for row in rows}
    return Calendar(
        day=day.isoformat(),
        appointments=[Appointment(reference=row[0], day=row[1], hour=row[2], name=row[3]) for row in rows],
        free_hours=[hour for hour in range(OPENS, CLOSES) if hour not in taken],
    )
