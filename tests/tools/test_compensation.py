"""What a call did is undone when nobody gets its result: once, or not at all, whoever dies."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from parley.v1 import fabric_pb2, live_pb2
from services.fabric import subjects
from services.fabric.claims import answer
from services.tools import ToolContext, tool
from services.tools.declare import DeclarationError, declare
from tests.support import undoable
from tests.support.eventually import eventually
from tests.support.nats import NatsServer, nats_server
from tests.tools.conftest import ToolsProcess, tools_process
from tests.tools.test_claims import Owner, owner_at

CANCELLED, SUCCEEDED = live_pb2.TOOL_OUTCOME_CANCELLED, live_pb2.TOOL_OUTCOME_SUCCEEDED
TIMED_OUT, UNKNOWN = live_pb2.TOOL_OUTCOME_TIMED_OUT, live_pb2.TOOL_OUTCOME_UNKNOWN
RUNNING, DONE = fabric_pb2.COMPENSATION_STATE_RUNNING, fabric_pb2.COMPENSATION_STATE_DONE
NOT_NEEDED, FAILED = fabric_pb2.COMPENSATION_STATE_NOT_NEEDED, fabric_pb2.COMPENSATION_STATE_FAILED
BEING_UNDONE = "the call was cancelled; what it may have done is being undone"


class Customer(Owner):
    """A worker whose model takes calls back."""

    def begin(self, name: str, entry: str, *, held: bool = True) -> tuple[Any, asyncio.Task[fabric_pb2.ToolCallReply]]:
        request = self.request(name)
        request.arguments_json = json.dumps(self.ledger.arguments(entry, held=held))
        return request, asyncio.create_task(self.ask(request))

    async def take_back(self, request: fabric_pb2.ToolCallRequest) -> None:
        await self.client.publish(subjects.tool_cancel(request.execution_id), b"")

    async def compensation(self, key: str, state: fabric_pb2.CompensationState) -> fabric_pb2.Compensation:
        async def there() -> bool:
            return (await self.claim(key)).record.compensation.state == state

        await eventually(there)
        return (await self.claim(key)).record.compensation

    async def undo(self, request: fabric_pb2.ToolCallRequest) -> fabric_pb2.ToolCallReply:
        again = fabric_pb2.ToolCallRequest()
        again.CopyFrom(request)
        again.compensates = True
        return await self.ask(again)


@pytest.fixture(scope="module")
def service(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToolsProcess]:
    with tools_process(nats.url, tmp_path_factory.mktemp("tools"), modules=undoable.MODULE) as tools:
        yield tools


@pytest.fixture
async def customer(nats: NatsServer, service: ToolsProcess, tmp_path: Path) -> Any:
    async with owner_at(nats, tmp_path, Customer) as started:
        yield started


# Taken back while it runs


@pytest.mark.parametrize("name", ["book", "book_in_steps", "book_in_steps_in_a_thread"])
async def test_a_function_that_was_cut_off_is_undone(customer: Customer, name: str) -> None:
    request, asked = customer.begin(name, "room")
    await customer.entered()
    await customer.take_back(request)
    reply = await asked
    assert (reply.outcome, reply.error) == (CANCELLED, BEING_UNDONE)
    await customer.compensation(request.idempotency_key, DONE)
    assert customer.ledger.entries() == ["room", "undone room: cut off"]
    stored = (await customer.claim(request.idempotency_key)).record
    assert stored.outcome.outcome == CANCELLED


@pytest.mark.parametrize(("name", "entry"), [("book", "stubborn"), ("book_in_a_thread", "room")])
async def test_a_function_that_succeeds_all_the_same_is_undone_when_it_has_ended(
    customer: Customer, name: str, entry: str
) -> None:
    request, asked = customer.begin(name, entry)
    await customer.entered()
    await customer.take_back(request)
    assert (await asked).outcome == CANCELLED
    await customer.compensation(request.idempotency_key, RUNNING)
    assert customer.ledger.entries() == [entry]
    customer.ledger.release()
    await customer.compensation(request.idempotency_key, DONE)
    assert customer.ledger.entries() == [entry, f"undone {entry}: booked {entry}"]


@pytest.mark.parametrize(("name", "entry"), [("book", "exits"), ("book_in_a_thread", "polite")])
async def test_a_function_that_fails_is_not_undone(customer: Customer, name: str, entry: str) -> None:
    request, asked = customer.begin(name, entry)
    await customer.entered()
    await customer.take_back(request)
    assert (await asked).outcome == CANCELLED
    await customer.compensation(request.idempotency_key, NOT_NEEDED)
    assert customer.ledger.entries() == [entry]


async def test_a_function_that_does_not_know_is_undone(customer: Customer) -> None:
    request, asked = customer.begin("book", "unsure")
    await customer.entered()
    await customer.take_back(request)
    await asked
    await customer.compensation(request.idempotency_key, DONE)
    assert customer.ledger.entries() == ["unsure", "undone unsure: cut off"]


async def test_a_function_out_of_time_is_undone(customer: Customer) -> None:
    request, asked = customer.begin("book_slowly", "room")
    reply = await asked
    assert (reply.outcome, reply.error) == (TIMED_OUT, "no result within 1 s; what it may have done is being undone")
    customer.ledger.release()
    await customer.compensation(request.idempotency_key, DONE)
    assert customer.ledger.entries() == ["room", "undone room: booked room"]


async def test_what_fails_to_be_undone_is_told_and_counted(customer: Customer, service: ToolsProcess) -> None:
    before = service.counts()
    request, asked = customer.begin("book", "sticky")
    await customer.entered()
    await customer.take_back(request)
    await asked
    assert (await customer.compensation(request.idempotency_key, FAILED)).error == "ValueError: it sticks"
    after = service.counts()
    assert after["not_compensated"] == before["not_compensated"] + 1
    assert after["calls"] == before["calls"] + 1
    assert customer.ledger.entries() == ["sticky"]


async def test_what_is_wanted_is_not_undone(customer: Customer) -> None:
    request, asked = customer.begin("book", "room", held=False)
    assert (await asked).outcome == SUCCEEDED
    await customer.take_back(request)  # too late for whoever ran it: the worker has to ask
    await asyncio.sleep(0.2)
    assert customer.ledger.entries() == ["room"]
    assert not (await customer.claim(request.idempotency_key)).record.HasField("compensation")


# Taken back when it has ended


async def test_a_call_that_ended_is_undone_once_however_often_it_is_asked_for(
    customer: Customer, nats: NatsServer, tmp_path: Path
) -> None:
    request, asked = customer.begin("book", "room", held=False)
    await asked
    with tools_process(nats.url, tmp_path, modules=undoable.MODULE):
        replies = await asyncio.gather(*(customer.undo(request) for _ in range(20)))
    assert {reply.outcome for reply in replies} == {CANCELLED}
    await customer.compensation(request.idempotency_key, DONE)
    assert customer.ledger.entries() == ["room", "undone room: booked room"]
    claim = await customer.claim(request.idempotency_key)
    assert claim.record.outcome.outcome == SUCCEEDED  # as it was
    assert answer(claim).error == "the call was taken back, and what it did was undone"
    assert not answer(claim).output_json


async def test_a_service_that_writes_over_claims_unseen_is_noticed(tmp_path: Path) -> None:
    async with nats_server() as nats, owner_at(nats, tmp_path, Customer) as customer:
        blind = [tools_process(nats.url, tmp_path, modules=undoable.MODULE, sabotage="compare_and_set") for _ in "12"]
        with blind[0], blind[1]:
            undone = 0
            # The two read a claim at the same moment, or they do not.
            for booked in range(10):
                assert undone == booked
                request, asked = customer.begin("book", "room", held=False)
                await asked
                await asyncio.gather(*(customer.undo(request) for _ in range(20)))
                undone = customer.ledger.entries().count("undone room: booked room")
                if undone > booked + 1:
                    return
            pytest.fail("nothing was undone twice")


async def test_only_the_owner_has_a_call_undone(customer: Customer) -> None:
    request, asked = customer.begin("book", "room", held=False)
    await asked
    await customer.lose()
    assert (await customer.undo(request)).status == fabric_pb2.CALL_STATUS_FENCED
    assert customer.ledger.entries() == ["room"]


async def test_there_must_be_something_to_undo(customer: Customer) -> None:
    nothing = customer.request("book")
    assert (await customer.undo(nothing)).error == "not run: there is no such call"
    running, asked = customer.begin("book", "room")
    await customer.entered()
    assert (await customer.undo(running)).status == fabric_pb2.CALL_STATUS_RUNNING
    customer.ledger.release()
    assert (await asked).outcome == SUCCEEDED
    assert customer.ledger.entries() == ["room"]


async def test_a_call_outside_a_session_cannot_be_undone(customer: Customer) -> None:
    request = fabric_pb2.ToolCallRequest(name="book", execution_id="x", compensates=True)
    message = await customer.client.request(subjects.tool_call("book"), request.SerializeToString(), timeout=5)
    assert message.headers is not None
    assert message.headers["Nats-Service-Error"] == "only calls of sessions can be undone"


async def test_a_compensation_that_takes_too_long_ends(customer: Customer) -> None:
    request, asked = customer.begin("book_slowly", "endless", held=False)
    await asked
    await customer.undo(request)
    assert (await customer.compensation(request.idempotency_key, FAILED)).error == "not undone within 1 s"


# Whoever works on it ends


async def test_whoever_dies_while_it_undoes_leaves_it_unknown_and_nobody_does_it_again(tmp_path: Path) -> None:
    async with nats_server() as nats, owner_at(nats, tmp_path, Customer) as customer:
        with tools_process(nats.url, tmp_path, modules=undoable.MODULE, id="mortal") as first:
            request, asked = customer.begin("book", "patient")
            await asked
            undoing = asyncio.create_task(customer.undo(request))
            await customer.compensation(request.idempotency_key, RUNNING)
            first.kill()
            undoing.cancel()
        with tools_process(nats.url, tmp_path, modules=undoable.MODULE):
            customer.ledger.release()
            reply = await customer.undo(request)
        assert "whether what it did is undone by now is unknown" in reply.error
        assert customer.ledger.entries() == ["patient"]


async def test_a_service_that_is_told_to_stop_undoes_before_it_does(tmp_path: Path) -> None:
    async with nats_server() as nats, owner_at(nats, tmp_path, Customer) as customer:
        with tools_process(nats.url, tmp_path, modules=undoable.MODULE) as tools:
            request, asked = customer.begin("book_in_a_thread", "room")
            await customer.entered()
            await customer.take_back(request)
            await asked
            tools.terminate()
            with pytest.raises(subprocess.TimeoutExpired):  # it waits for as long as its grace, not only for answers
                await asyncio.to_thread(tools.wait, 2.5)
            customer.ledger.release()
            assert await asyncio.to_thread(tools.wait) == 0
        assert customer.ledger.entries() == ["room", "undone room: booked room"]


async def test_an_executor_that_was_written_off_undoes_nothing(customer: Customer) -> None:
    request, asked = customer.begin("book_in_a_thread", "room")
    await customer.entered()
    claim = await customer.claim(request.idempotency_key)
    lost = fabric_pb2.ToolCallReply(outcome=UNKNOWN, error="it is gone")
    await customer.claims.settle(customer.session, claim, lost)  # by an owner to whom it looked dead
    assert (await customer.undo(request)).outcome == CANCELLED  # by whoever was asked, once
    await customer.take_back(request)
    assert (await asked).outcome == CANCELLED
    customer.ledger.release()
    await customer.compensation(request.idempotency_key, DONE)
    await asyncio.sleep(0.3)
    assert customer.ledger.entries() == ["room", "undone room: cut off"]


async def test_with_the_session_goes_the_right_to_undo(customer: Customer, service: ToolsProcess) -> None:
    request, asked = customer.begin("book", "room")
    await customer.entered()
    await customer.records.forget_work(customer.session)
    await customer.take_back(request)
    await asked
    await asyncio.sleep(0.3)
    assert customer.ledger.entries() == ["room"]


# Declarations


async def _two(arguments: dict[str, Any], result: Any) -> None: ...


def _generator(arguments: dict[str, Any], result: Any, context: ToolContext) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("compensate", "problem"),
    [
        (_two, "does not take arguments, result and context"),
        (_generator, "expected a function or coroutine function"),
        (Customer, "expected a function or coroutine function"),
    ],
)
def test_what_cannot_undo_is_no_compensation(compensate: Any, problem: str) -> None:
    @tool(compensate=compensate)
    def booked() -> None:
        """Books."""

    with pytest.raises(DeclarationError, match=problem):
        declare(booked)


def test_the_catalog_is_told() -> None:
    assert declare(undoable.book).declaration(timedelta(seconds=1)).compensates
