"""Executors that die, requests that come too late, records that cannot be had: what the model is told then."""

from __future__ import annotations

from pathlib import Path

import pytest

from parley.v1 import errors_pb2, fabric_pb2, live_pb2
from services.fabric import subjects
from services.fabric.claims import Claims
from services.fabric.errors import ServiceError
from services.session_worker import claim_wait, events
from tests.session_worker.conftest import Rig
from tests.session_worker.talk import LEDGER, MARKS, UNKNOWN_EFFECT, Talk, entered
from tests.session_worker.test_session import Tool
from tests.support.eventually import eventually
from tests.support.ledger import Ledger
from tests.support.nats import NatsServer
from tests.tools.conftest import tools_process

pytestmark = MARKS


async def test_an_executor_killed_after_its_effect_leaves_an_unknown_outcome(
    talk: Talk, nats: NatsServer, tmp_path: Path
) -> None:
    with tools_process(nats.url, tmp_path, modules=LEDGER) as tools:
        talk.call(held=True)
        await talk.entered()
        tools.kill()
        with tools_process(nats.url, tmp_path, modules=LEDGER):
            [answer] = await talk.answers()
            assert UNKNOWN_EFFECT in answer["error"]
            talk.tools.answer_restarted(1)
            talk.call("c2", held=True)
            assert (await talk.answers(2))[1] == answer
    assert talk.ledger.entries() == ["rent"]
    assert (await talk.the_claim()).record.outcome.outcome == live_pb2.TOOL_OUTCOME_UNKNOWN


async def test_what_may_run_twice_runs_again_when_its_executor_was_killed(
    talk: Talk, nats: NatsServer, tmp_path: Path
) -> None:
    with tools_process(nats.url, tmp_path, modules=LEDGER) as tools:
        talk.call(tool="look", held=True)
        await talk.entered()
        with tools_process(nats.url, tmp_path, modules=LEDGER):
            tools.kill()
            talk.ledger.release()
            assert await talk.answers() == [entered()]
    assert talk.ledger.entries() == ["rent", "rent"]
    assert (await talk.the_claim()).settled


async def test_a_request_that_arrives_after_it_was_given_up_has_no_effect(
    rig: Rig, nats: NatsServer, tmp_path: Path
) -> None:
    talk = Talk(rig, Ledger(tmp_path))
    await talk.open(timeout=0.2)
    slow = Tool(rig)
    await slow.serve("enter")  # takes the call, and does not get round to it
    talk.call()
    [answer] = await talk.answers()
    assert answer == {"error": "not run: the tools service did not take the call in time"}
    assert (await talk.the_claim()).record.state == fabric_pb2.CLAIM_STATE_ABANDONED
    with tools_process(nats.url, tmp_path, modules=LEDGER):
        [subscription] = [sub for sub in rig.client._subs.values() if sub.subject == subjects.tool_call("enter")]
        await subscription.unsubscribe()
        late = await rig.client.request(subjects.tool_call("enter"), slow.calls[0].data, timeout=30)
    reply = fabric_pb2.ToolCallReply.FromString(late.data)
    assert reply.error == answer["error"]
    assert talk.ledger.entries() == []


async def test_a_tool_that_nobody_serves_is_not_claimed(talk: Talk) -> None:
    talk.call()
    assert await talk.answers() == [{"error": "not run: the tool 'enter' is not available at the moment"}]
    assert await talk.claims.all(talk.id) == []


async def test_records_that_cannot_be_read_leave_an_unknown_outcome(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = Talk(rig, Ledger(tmp_path))
    await talk.open(timeout=0.2)
    await Tool(rig).serve("enter")

    async def away(*_: object) -> None:
        raise ServiceError(errors_pb2.ERROR_REASON_FABRIC_UNAVAILABLE, "no JetStream")

    monkeypatch.setattr(Claims, "_read", away)
    talk.call()
    [answer] = await talk.answers()
    assert UNKNOWN_EFFECT in answer["error"]


async def test_only_the_owner_writes_a_dead_execution_off(talk: Talk, nats: NatsServer, tmp_path: Path) -> None:
    with tools_process(nats.url, tmp_path, modules=LEDGER) as tools:
        talk.call(held=True)
        await talk.entered()
        await talk.take_over()
        tools.kill()
    await talk.rig.ended()
    assert not talk.link.tool_responses
    assert not (await talk.the_claim()).settled


async def test_a_call_taken_back_before_it_arrived_never_runs(talk: Talk) -> None:
    slow = Tool(talk.rig)
    await slow.serve("enter")
    talk.call()
    await eventually(lambda: slow.calls)
    talk.link.says(events.CallsCancelled(("c1",)))

    async def abandoned() -> bool:
        found = await talk.claims.all(talk.id)
        return [claim.record.state for claim in found] == [fabric_pb2.CLAIM_STATE_ABANDONED]

    await eventually(abandoned)
    assert slow.cancelled == [slow.request().execution_id]


async def test_records_that_cannot_be_written_leave_an_unknown_outcome(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = Talk(rig, Ledger(tmp_path))
    await talk.open(timeout=0.2)
    await Tool(rig).serve("enter")

    async def full(*_: object, **__: object) -> int:
        raise ServiceError(errors_pb2.ERROR_REASON_FABRIC_UNAVAILABLE, "maximum bytes exceeded")

    monkeypatch.setattr(Claims, "_fenced", full)
    talk.call()
    [answer] = await talk.answers()
    assert UNKNOWN_EFFECT in answer["error"]


async def test_a_broker_that_restarts_while_a_tool_runs_loses_no_outcome(
    talk: Talk, nats: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim_wait, "GONE_AFTER", 2.0)  # as it is: longer than a restart takes
    with tools_process(nats.url, tmp_path, modules=LEDGER):
        talk.call(held=True)
        await talk.entered()
        nats.kill()
        talk.ledger.release()
        nats.start()  # not in another thread: the server goes with the thread that started it, and others need it
        assert await talk.answers() == [entered()]
    assert talk.ledger.entries() == ["rent"]
