"""Calls of an answer that have no outcome yet when the link or the worker goes: nobody waits, nothing is done twice."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest

from parley import events
from parley.cli.stack import Stack, StackConfig
from services.fabric.records import SessionRecords
from services.tools.examples import database
from tests.faults.call import Call, calling, check
from tests.faults.kills.__main__ import ENV
from tests.faults.kills.books import REFUND, VOUCHER, told
from tests.faults.kills.callers import CONFIG
from tests.faults.scene import kill, owner
from tests.support import order_ledger, payments
from tests.support.counts import heard
from tests.support.eventually import eventually

ORDERS = {"link": "200001", "worker": "200002"}


class Commits:
    """Payments that are committed, and go on when the test lets them."""

    def __init__(self) -> None:
        self.there: defaultdict[tuple[str, str], asyncio.Event] = defaultdict(asyncio.Event)
        self.go_on: defaultdict[tuple[str, str], asyncio.Event] = defaultdict(asyncio.Event)

    @asynccontextmanager
    async def listening(self, socket: Path) -> AsyncIterator[None]:
        server = await asyncio.start_unix_server(self._told, socket)
        async with server:
            yield

    async def _told(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        payment = json.loads(await reader.readline())
        paid = (payment["tool"], payment["order"])
        self.there[paid].set()
        await self.go_on[paid].wait()
        writer.write(b"\n")
        await writer.drain()
        writer.close()


async def tell(stack: Stack, commits: Commits, dies: str) -> None:
    """One story, in which links or workers are lost."""
    refund, voucher = (REFUND, ORDERS[dies]), (VOUCHER, ORDERS[dies])
    async with calling(stack, microphone=False, config=CONFIG) as call:
        await call.session.send_text("good day")  # so that there is a handle
        await call.answer(containing="did not understand")
        await call.session.send_text(f"make up for order {ORDERS[dies]}")
        await asyncio.gather(commits.there[refund].wait(), commits.there[voucher].wait())
        commits.go_on[refund].set()
        await call.until(lambda event: isinstance(event, events.ToolActivity) and event.phase == "FINISHED")
        # The question is asked again, and both calls are made again. From then on a handle of this model knows it.
        await lose(call, dies)
        await eventually(lambda: made(call, voucher, 2))
        await eventually(lambda: finished(call) >= 2)
        # The next link waits for calls of both links before it, and has to be told that it need not.
        since = len(call.got)
        await lose(call, dies)
        commits.go_on[voucher].set()
        await call.answer(since, containing="is made up for")

        async def known() -> bool:
            found = told((await call.lineage())["context"])
            return all(len(found[paid].answers) >= 1 for paid in (refund, voucher))

        await eventually(known, timeout=30)


async def lose(call: Call, dies: str) -> None:
    """The link of the session, or its worker."""
    since = len(call.got)
    if dies == "link":
        await call.fault("reset")
    else:
        await call.stack.start_worker()
        await kill(await owner(call))
    await call.until(lambda event: isinstance(event, events.LinkRecovered), since)


async def made(call: Call, paid: tuple[str, str], times: int) -> bool:
    """Whether the model has made this call so often."""
    calls = (await heard(call.stack, call.session.id))["tool_calls"]
    return [(one["name"], one["args"]["order_id"]) for one in calls].count(paid) == times


def finished(call: Call) -> int:
    """Outcomes that the caller was told."""
    return sum(event.phase == "FINISHED" and event.outcome == "SUCCEEDED" for event in call.of(events.ToolActivity))


@pytest.mark.long
@pytest.mark.parametrize("dies", ORDERS)
def test_a_model_that_waits_for_calls_of_several_links_is_answered(dies: str, tmp_path: Path) -> None:
    async def run() -> None:
        socket, orders, commits = tmp_path / "commits", tmp_path / "orders.sqlite3", Commits()
        env = {**ENV, "PARLEY_TOOLS_ORDERS_DB": str(orders), payments.SOCKET: str(socket)}
        async with Stack(StackConfig(env=env)) as stack, commits.listening(socket):
            with database.transaction(orders, writes=True) as connection:
                connection.execute("INSERT INTO orders VALUES (?, 'umbrella', 'shipped', 'monday')", (ORDERS[dies],))
            await tell(stack, commits, dies)

    asyncio.run(run())


async def written_down(call: Call) -> bool:
    """Whoever comes after the worker knows that the answer was generated."""
    client = await nats.connect(str(call.stack.nats.ready["url"]))
    try:
        checkpoint = await SessionRecords(client.jetstream()).read_checkpoint(call.session.id)
    finally:
        await client.close()
    return checkpoint is not None and checkpoint.begun.generated_downlink_seq > 0


async def ask_meanwhile(stack: Stack, folder: Path, dies: str, when: str) -> None:
    """A second question while a call of the first runs, for which this model does not wait: one answer has both."""
    order = ORDERS[dies]
    tools = stack.tools[0]
    async with calling(stack, microphone=False, profile="support") as call:
        await call.session.send_text("hello")
        await call.answer(containing="help you")
        since = len(call.got)
        tools.signal(signal.SIGSTOP)
        try:
            for number, question in enumerate(["what is the weather in paris", f"where is my order {order}"], 1):
                await call.session.send_text(question)
                await eventually(lambda: len(call.of(events.ToolActivity, since)) == number)  # noqa: B023
            if when == "a call runs":
                (folder / order).touch()
        finally:
            tools.signal(signal.SIGCONT)
        if when == "a call runs":
            await eventually(lambda: order_ledger.runs(folder, order) == 1)
        else:
            await call.until(lambda event: isinstance(event, events.GenerationComplete), since)
            await eventually(lambda: written_down(call))
        await lose(call, dies)
        (folder / order).unlink(missing_ok=True)
        await eventually(lambda: finished(call) >= 2)
        since = len(call.got)
        await call.session.send_text("what is the weather in london")
        await call.answer(since, containing="london")
        await check(call, asked_again=True)
    assert order_ledger.runs(folder, order) == 1


@pytest.mark.long
@pytest.mark.parametrize("when", ["a call runs", "the answer plays"])
@pytest.mark.parametrize("dies", ORDERS)
def test_what_is_asked_while_a_call_runs_is_done_once(dies: str, when: str, tmp_path: Path) -> None:
    async def run() -> None:
        env = {order_ledger.FOLDER: str(tmp_path), "PARLEY_TOOLS_MODULES": order_ledger.MODULES}
        async with Stack(StackConfig(env=env)) as stack:
            await ask_meanwhile(stack, tmp_path, dies, when)

    asyncio.run(run())
