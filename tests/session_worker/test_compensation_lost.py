"""Calls are taken back whose executors are gone, or were never there."""

from __future__ import annotations

from pathlib import Path

from parley.v1 import live_pb2
from tests.session_worker.talk import MARKS
from tests.session_worker.test_compensation import Booking, booking
from tests.support import undoable
from tests.support.eventually import eventually
from tests.support.nats import NatsServer
from tests.tools.conftest import tools_process

__all__ = ["booking"]
pytestmark = MARKS


async def test_a_call_taken_back_whose_executor_died_is_undone_by_another(
    booking: Booking, nats: NatsServer, tmp_path: Path
) -> None:
    with tools_process(nats.url, tmp_path, modules=undoable.MODULE) as mortal:
        booking.call("c1", "book", held=True)
        await booking.entered()
        mortal.kill()
        with tools_process(nats.url, tmp_path, modules=undoable.MODULE):
            booking.takes_back()
            await booking.undone()
    assert booking.ledger.entries() == ["rent", "undone rent: cut off"]
    assert (await booking.the_claim()).record.outcome.outcome == live_pb2.TOOL_OUTCOME_UNKNOWN


async def test_a_call_never_begun_leaves_nothing_to_undo(booking: Booking) -> None:
    booking.call("c1", "book")  # nobody serves it
    await booking.answers()
    booking.takes_back()
    await eventually(lambda: not booking.tools._executions._chores)
    assert booking.ledger.entries() == []
