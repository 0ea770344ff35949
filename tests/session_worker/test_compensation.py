"""The model takes calls back: whatever they are at, what they did is undone, once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg

from parley.v1 import fabric_pb2, live_pb2
from services.fabric import subjects
from services.fabric.bus import Bus, settle
from services.fabric.telemetry import SESSION_TRACEPARENT
from services.session_worker import events
from services.session_worker.responses import duration
from tests.session_worker.conftest import Rig
from tests.session_worker.talk import MARKS, Talk
from tests.support import undoable
from tests.support.eventually import eventually
from tests.support.ledger import Ledger
from tests.support.nats import NatsServer
from tests.tools.conftest import ToolsProcess, tools_process

pytestmark = MARKS
DONE = fabric_pb2.COMPENSATION_STATE_DONE
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Booking(Talk):
    """A session whose tools can be undone."""

    async def open(self, timeout: float = 15) -> None:
        spec = self.rig.spec("book", "book_in_a_thread")
        for tool in spec.tools:
            tool.timeout.CopyFrom(duration(timeout))
            tool.compensates = True
        reply = await self.rig.control({SESSION_TRACEPARENT: f"00-{TRACE}-b7ad6b7169203331-01"}, open=spec)
        assert reply.HasField("attached"), reply
        self.id, self.link = spec.session_id, self.rig.dialer.links[-1]

    def takes_back(self, call_id: str = "c1") -> None:
        self.link.says(events.CallsCancelled((call_id,)))

    async def undone(self) -> None:
        async def is_undone() -> bool:
            return (await self.the_claim()).record.compensation.state == DONE

        await eventually(is_undone)


@pytest.fixture(scope="module")
def service(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToolsProcess]:
    with tools_process(nats.url, tmp_path_factory.mktemp("tools"), modules=undoable.MODULE) as tools:
        yield tools


@pytest.fixture
async def booking(rig: Rig, tmp_path: Path) -> Any:
    started = Booking(rig, Ledger(tmp_path))
    await started.open()
    return started


async def test_a_call_taken_back_while_it_runs_is_undone(booking: Booking, service: ToolsProcess) -> None:
    booking.call("c1", "book", held=True)
    await booking.entered()
    booking.takes_back()
    await booking.undone()
    assert booking.ledger.entries() == ["rent", "undone rent: cut off"]
    assert not booking.link.tool_responses


async def test_what_has_ended_is_undone_in_the_trace_of_its_session(booking: Booking, service: ToolsProcess) -> None:
    asked: list[Msg] = []

    async def listen(message: Msg) -> None:
        asked.append(message)

    await booking.rig.client.subscribe(subjects.tool_call("book"), cb=listen)
    await settle(booking.rig.client)
    booking.call("c1", "book")
    await booking.answers()
    booking.takes_back()
    await booking.undone()
    [undo] = [message for message in asked if fabric_pb2.ToolCallRequest.FromString(message.data).compensates]
    assert TRACE in (undo.headers or {}).get("traceparent", "")


async def test_a_call_taken_back_before_its_cancellation_arrives_is_undone(
    booking: Booking, service: ToolsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The message that tells of the cancellation is lost, again and again, until the function has ended.
    client = booking.rig.worker._services.bus.client
    publish = client.publish

    async def deaf(subject: str, *args: Any, **values: Any) -> None:
        if not subject.endswith(".cancel"):
            await publish(subject, *args, **values)

    monkeypatch.setattr(client, "publish", deaf)
    booking.call("c1", "book", held=True)
    await booking.entered()
    booking.takes_back()
    await eventually(lambda: not len(booking.tools))
    booking.ledger.release()
    await booking.undone()
    assert booking.ledger.entries() == ["rent", "undone rent: booked rent"]
    assert not booking.link.tool_responses


async def test_a_cancellation_that_is_lost_is_sent_again(
    booking: Booking, service: ToolsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = booking.rig.worker._services.bus.client
    publish = client.publish
    lost: list[str] = []

    async def deaf(subject: str, *args: Any, **values: Any) -> None:
        if subject.endswith(".cancel") and len(lost) < 3:
            lost.append(subject)
            return
        await publish(subject, *args, **values)

    monkeypatch.setattr(client, "publish", deaf)
    booking.call("c1", "book", held=True)
    await booking.entered()
    booking.takes_back()
    await booking.undone()
    assert booking.ledger.entries() == ["rent", "undone rent: cut off"]


async def test_a_call_taken_back_when_its_result_is_on_its_way_is_undone(
    booking: Booking, service: ToolsProcess
) -> None:
    booking.call("c1", "book")
    await booking.answers()
    booking.takes_back()
    booking.takes_back()
    await booking.undone()
    assert booking.ledger.entries() == ["rent", "undone rent: booked rent"]


async def test_a_call_of_an_owner_before_is_told_of_its_cancellation(booking: Booking, service: ToolsProcess) -> None:
    booking.call("c1", "book", held=True)
    await booking.entered()
    booking.tools.answer_restarted(1)  # as after a takeover: the call comes again, and joins what runs
    booking.tools._executions._running.clear()
    booking.call("c2", "book", held=True)
    booking.takes_back("c2")
    await booking.undone()
    assert (await booking.the_claim()).record.outcome.outcome == live_pb2.TOOL_OUTCOME_CANCELLED
    assert booking.ledger.entries() == ["rent", "undone rent: cut off"]


async def test_a_session_that_ends_has_a_call_of_an_owner_before_undone(
    booking: Booking, service: ToolsProcess
) -> None:
    booking.call("c1", "book", held=True)
    await booking.entered()
    booking.tools.answer_restarted(1)
    first = booking.tools._executions._running.popitem()[1]
    booking.call("c2", "book", held=True)
    running = booking.tools._executions._running
    await eventually(lambda: running and next(iter(running.values())).execution._runs)
    booking.session.finish(live_pb2.END_REASON_CALLER, "enough")
    await booking.rig.ended()
    await eventually(lambda: booking.ledger.entries() == ["rent", "undone rent: cut off"])
    await first.task  # which that owner would have taken with it


async def test_a_session_that_ends_has_what_runs_undone(booking: Booking, service: ToolsProcess) -> None:
    booking.call("c1", "book", held=True)
    await booking.entered()
    booking.session.finish(live_pb2.END_REASON_CALLER, "enough")
    await booking.rig.ended()
    await eventually(lambda: booking.ledger.entries() == ["rent", "undone rent: cut off"])
    assert await booking.claims.all(booking.id) == []


async def test_a_session_that_ends_keeps_its_claims_until_whoever_undoes_has_written_there(
    booking: Booking, service: ToolsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = booking.rig.worker._services.bus.client
    publish, later = client.publish, asyncio.get_running_loop().call_later

    async def slow(subject: str, *args: Any, **values: Any) -> None:
        if subject.endswith(".cancel"):
            later(0.5, lambda: asyncio.ensure_future(publish(subject, *args, **values)))
        else:
            await publish(subject, *args, **values)

    monkeypatch.setattr(client, "publish", slow)
    booking.call("c1", "book", held=True)
    await booking.entered()
    booking.session.finish(live_pb2.END_REASON_CALLER, "enough")
    await booking.rig.ended()
    await eventually(lambda: booking.ledger.entries() == ["rent", "undone rent: cut off"])
    assert await booking.claims.all(booking.id) == []


async def test_a_session_that_ends_first_has_undone_what_the_model_took_back(
    booking: Booking, service: ToolsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Bus.request

    async def slow(self: Bus, subject: str, message: Any, *args: Any) -> Any:
        if getattr(message, "compensates", False):
            await asyncio.sleep(0.4)
        return await request(self, subject, message, *args)

    monkeypatch.setattr(Bus, "request", slow)
    booking.call("c1", "book")
    await booking.answers()
    booking.takes_back()
    await eventually(lambda: booking.tools._executions._undoing)
    booking.session.finish(live_pb2.END_REASON_CALLER, "enough")
    await booking.rig.ended()
    await eventually(lambda: booking.ledger.entries() == ["rent", "undone rent: booked rent"])


async def test_a_thread_that_outlives_its_session_is_undone(booking: Booking, service: ToolsProcess) -> None:
    booking.call("c1", "book_in_a_thread", held=True)
    await booking.entered()
    booking.session.finish(live_pb2.END_REASON_CALLER, "enough")
    await booking.rig.ended()
    booking.ledger.release()
    await eventually(lambda: booking.ledger.entries() == ["rent", "undone rent: booked rent"])
