"""The examples in the real service: what happens when a call of them comes again, and when two want the same."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import nats as nats_py
import pytest
from nats.aio.client import Client

from parley.v1 import live_pb2
from services.tools.examples import research
from services.tools.outbox import HELD_BACK
from tests.support.eventually import eventually
from tests.support.nats import NatsServer
from tests.tools.conftest import ToolsProcess, tools_process
from tests.tools.test_service import call, output
from tests.tools.test_streams import Stage

EXAMPLES = ",".join(f"services.tools.examples.{name}" for name in ("orders", "appointments", "weather"))
DAY = "2030-03-01"


@pytest.fixture(scope="module")
def two(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToolsProcess]:
    """Two processes that share their files, as all do that serve the same tools."""
    folder = tmp_path_factory.mktemp("examples")
    with (
        tools_process(nats.url, folder, modules=EXAMPLES, ready=False) as first,
        tools_process(nats.url, folder, modules=EXAMPLES) as second,
    ):
        first.wait_ready()
        yield second


@pytest.fixture
async def client(nats: NatsServer, two: ToolsProcess) -> AsyncIterator[Client]:
    connection = await nats_py.connect(nats.url)
    yield connection
    await connection.close()


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


async def test_each_refund_pays_and_says_for_which_call(client: Client, two: ToolsProcess) -> None:
    arguments = {"order_id": "47-11", "amount_cents": 250}
    paid = [output(await call(client, "refund_order", arguments, idempotency_key=key)) for key in ("a", "b", "b")]
    assert [(refund["order_id"], refund["amount_cents"]) for refund in paid] == [("4711", 250)] * 3
    found = rows(two.orders_db, "SELECT refund_id, idempotency_key FROM refunds")
    assert found == [(refund["refund_id"], key) for refund, key in zip(paid, "abb", strict=True)]


async def test_a_voucher_is_sent_once_however_often_the_call_runs(client: Client, two: ToolsProcess) -> None:
    arguments = {"order_id": "1234", "amount_cents": 500}
    replies = await asyncio.gather(
        *(call(client, "send_voucher", arguments, idempotency_key=key) for key in "aaaaaaaab")
    )
    codes = [output(reply)["code"] for reply in replies]
    assert len(set(codes[:-1])) == 1
    assert codes[-1] != codes[0]
    assert len(rows(two.orders_db, "SELECT * FROM vouchers WHERE order_id = '1234'")) == 2


@pytest.mark.parametrize("name", ["lookup_order", "refund_order", "send_voucher"])
async def test_nothing_is_done_for_an_order_that_is_not_there(client: Client, two: ToolsProcess, name: str) -> None:
    amount = {} if name == "lookup_order" else {"amount_cents": 100}
    reply = await call(client, name, {"order_id": "9999", **amount}, idempotency_key="c")
    assert (reply.outcome, reply.error) == (live_pb2.TOOL_OUTCOME_FAILED, "no order 9999")
    assert rows(two.orders_db, "SELECT * FROM refunds WHERE idempotency_key = 'c'") == []
    assert rows(two.orders_db, "SELECT * FROM vouchers WHERE idempotency_key = 'c'") == []


async def test_an_hour_is_given_away_once_and_who_comes_late_learns_what_is_free(client: Client) -> None:
    def book(name: str, hour: int = 9) -> Any:
        return call(client, "book_appointment", {"day": DAY, "hour": hour, "name": name}, idempotency_key=name)

    replies = await asyncio.gather(*(book(f"caller {number}") for number in range(8)))
    [booked] = [output(reply) for reply in replies if reply.outcome == live_pb2.TOOL_OUTCOME_SUCCEEDED]
    late = {reply.error for reply in replies if reply.outcome != live_pb2.TOOL_OUTCOME_SUCCEEDED}
    free = ", ".join(f"{hour}:00" for hour in range(10, 17))
    assert late == {f"{DAY} 9:00 is taken; free on that day: {free}"}

    # The call of who has it comes again, as it does when the process that ran it died.
    assert output(await book(booked["name"])) == booked
    day = output(await call(client, "list_appointments", {"day": DAY}))
    assert day == {"day": DAY, "appointments": [booked], "free_hours": list(range(10, 17))}

    cancelled = {"reference": booked["reference"], "cancelled": True}
    for _ in range(2):
        assert output(await call(client, "cancel_appointment", {"reference": booked["reference"]})) == cancelled
    assert output(await book("somebody else"))["name"] == "somebody else"
    for hour in range(10, 17):
        output(await book(f"number {hour}", hour))
    assert (await book("too late")).error == f"{DAY} 9:00 is taken; free on that day: nothing, try another day"


async def test_what_no_calendar_knows_is_refused_so_that_the_model_can_mend_it(client: Client) -> None:
    refused = {
        "day: input should be a valid date": {"day": "tomorrow", "hour": 9, "name": "x"},
        "hour: input should be less than 17, got 17": {"day": DAY, "hour": 17, "name": "x"},
        "name: string should have at least 1 character": {"day": DAY, "hour": 9, "name": ""},
    }
    for problem, arguments in refused.items():
        assert problem in (await call(client, "book_appointment", arguments)).error
    reply = await call(client, "cancel_appointment", {"reference": 999})
    assert reply.error == "there is no appointment 999; list_appointments tells the ones of a day"


async def test_research_tells_what_it_has_found_so_far_and_speaks_up_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(research, "_READING", 3 * HELD_BACK)
    stage = Stage()
    stage.add(research.research)
    result = await stage.perform("research", {"topic": "A rain jacket!", "books": 7})
    answer = json.loads(result.output_json)
    assert (answer["books_read"], answer["books"]) == (7, 7)
    assert answer["findings"] == [
        "A rain jacket should breathe (Running Far)",
        "A rain jacket is washed without softener (Walking in the Rain)",
    ]
    # Not every one leaves: there is a bound on how many do in a second.
    told = {partial["books_read"]: partial["findings"] for partial in stage.partials}
    assert told
    assert [*told] == sorted({1, 2, 3, 4, 5, 6} & told.keys())
    assert all(found == answer["findings"][: (number >= 4) + (number >= 6)] for number, found in told.items())
    kept_to_itself = {report.partial.scheduling for report in stage.reports if report.HasField("partial")}
    assert kept_to_itself == {live_pb2.RESPONSE_SCHEDULING_SILENT}
    assert stage.execution is not None
    assert stage.execution.context.reports.scheduling == live_pb2.RESPONSE_SCHEDULING_WHEN_IDLE
    assert stage.progress[0] == ("reading Coffee at Home", 0)
    assert (
        await stage.call("research", {"topic": "a, b"})
    ).error == "the topic needs at least one word of three letters"


async def test_research_that_nobody_wants_any_more_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(research, "_READING", 60)
    stage = Stage()
    stage.add(research.research)
    running = asyncio.create_task(stage.perform("research", {"topic": "coffee"}))
    await eventually(lambda: stage.progress)
    assert stage.execution is not None
    assert stage.executor.cancel(stage.execution.call.execution_id)
    assert (await running).outcome == live_pb2.TOOL_OUTCOME_CANCELLED
    await eventually(lambda: stage.executor.overrunning == 0)
