"""The model's calls, from the link to a real tools service and back: one effect and one answer, whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from parley.v1 import fabric_pb2, live_pb2, tools_pb2
from services.fabric.bus import Bus
from services.fabric.capabilities import ModelCapabilities
from services.fabric.records import FencedError
from services.session_worker import call_book, events, toolcalls
from services.session_worker.link import LinkClosedError
from services.session_worker.responses import duration
from services.session_worker.session_trace import SessionTrace
from services.session_worker.toolcalls import ToolCalls
from tests.session_worker.talk import LEDGER, MARKS, UNKNOWN_EFFECT, Talk, entered
from tests.support.eventually import eventually
from tests.support.nats import NatsServer
from tests.tools.conftest import ToolsProcess, tools_process

pytestmark = MARKS


@pytest.fixture(scope="module")
def service(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToolsProcess]:
    with tools_process(nats.url, tmp_path_factory.mktemp("tools"), modules=LEDGER) as tools:
        yield tools


async def test_a_call_is_claimed_answered_and_named_in_the_log(talk: Talk, service: ToolsProcess) -> None:
    talk.call()
    assert await talk.answers() == [entered()]
    claim = await talk.the_claim()
    assert claim.record.state == fabric_pb2.CLAIM_STATE_SETTLED
    assert (claim.record.call_id, claim.record.epoch) == ("c1", 1)
    assert await talk.told() == {claim.key}


# The model repeats itself


async def test_a_call_that_comes_twice_runs_once_and_each_id_is_answered_once(
    talk: Talk, service: ToolsProcess
) -> None:
    talk.call("c1", held=True)
    talk.call("c2", held=True)
    talk.call("c1", held=True)
    await talk.entered()
    talk.ledger.release()
    assert await talk.answers(2) == [entered()] * 2
    talk.call("c1", held=False)  # an id that was answered
    talk.call("c3", entry="food")
    await talk.answers(3)
    assert sorted(sent.id for sent in talk.link.tool_responses) == ["c1", "c2", "c3"]
    assert talk.ledger.entries() == ["rent", "food"]


async def test_a_call_made_again_after_its_answer_is_another_call(talk: Talk, service: ToolsProcess) -> None:
    talk.call("c1")
    await talk.answers(1)
    talk.call("c2")
    await talk.answers(2)
    assert talk.ledger.entries() == ["rent", "rent"]


async def test_a_turn_generated_anew_gets_the_outcomes_it_had(talk: Talk, service: ToolsProcess) -> None:
    talk.call("c1")
    talk.call("c2", "look", entry="sky")
    await talk.answers(2)
    talk.tools.answer_restarted(1)
    talk.call("d1")
    talk.call("d2", "look", entry="sky")
    await talk.answers(4)
    talk.tools.answer_restarted(1)
    talk.call("e1", entry="the rent")  # said in other words: its effect has been had
    talk.call("e2", "look", entry="the sky")  # may run as often as it likes
    await talk.answers(6)
    answers = {sent.id: sent.response for sent in talk.link.tool_responses}
    assert answers["d1"] == answers["e1"] == entered()
    assert answers["d2"] == entered("sky")
    assert answers["e2"] == entered("the sky")
    assert sorted(talk.ledger.entries()) == ["rent", "sky", "the sky"]


async def test_a_call_that_runs_when_its_turn_begins_anew_is_answered_to_the_new_id(
    talk: Talk, service: ToolsProcess
) -> None:
    talk.call("old", held=True)
    await talk.entered()
    talk.tools.answer_restarted(1)
    talk.call("new", held=True)
    await eventually(lambda: len(talk.tools) == 1)
    talk.ledger.release()
    assert await talk.answers() == [entered()]
    assert [sent.id for sent in talk.link.tool_responses] == ["new"]
    assert talk.ledger.entries() == ["rent"]


async def moved(talk: Talk) -> None:
    """The link is lost, and there is another."""
    talk.link._events.put_nowait(LinkClosedError(1011, "The service is currently unavailable."))
    await eventually(lambda: len(talk.rig.dialer.links) == 2)
    talk.link = talk.rig.dialer.links[-1]


def told_in_words(talk: Talk) -> list[str]:
    parts = [part for turns, _ in talk.link.turns for turn in turns for part in turn.parts]
    return [part.text for part in parts if "[The function" in part.text]


@pytest.mark.parametrize("ends", ["before the new link", "after the answer"])
async def test_a_call_that_is_not_made_again_in_a_turn_generated_anew_is_told_of_all_the_same(
    talk: Talk, service: ToolsProcess, ends: str
) -> None:
    talk.call("c1", held=True)
    await talk.entered()
    if ends == "before the new link":
        talk.tools.answer_restarted(1)
        talk.ledger.release()
        await eventually(lambda: not len(talk.tools))
    await moved(talk)
    talk.link.says(events.OutputTranscript("never mind", True, ""))
    await eventually(lambda: talk.session._parts.turns.speaks)
    assert told_in_words(talk) == []
    talk.link.says(events.TurnComplete("", False, True))
    if ends == "after the answer":
        await eventually(lambda: talk.session._parts.links.calls_out)
        assert told_in_words(talk) == []
        talk.ledger.release()
    await eventually(lambda: told_in_words(talk))
    assert len(told_in_words(talk)) == 1
    assert "returned" in told_in_words(talk)[0]
    assert talk.ledger.entries() == ["rent"]
    assert await talk.told() == {(await talk.the_claim()).key}


async def test_a_call_that_is_made_again_in_a_turn_generated_anew_is_answered_there_alone(
    talk: Talk, service: ToolsProcess
) -> None:
    talk.call("c1", held=True)
    await talk.entered()
    await moved(talk)
    talk.call("c2", held=True)
    await eventually(lambda: len(talk.tools) == 1)
    talk.ledger.release()
    await eventually(lambda: [sent.id for sent in talk.link.tool_responses if "output" in sent.response] == ["c2"])
    talk.link.says(events.OutputTranscript("paid", True, ""), events.TurnComplete("", False, True))
    await eventually(lambda: talk.session._parts.turns.current is None)
    assert not talk.session._parts.links.calls_out
    assert told_in_words(talk) == []
    assert talk.ledger.entries() == ["rent"]


async def test_a_call_that_the_model_takes_back_ends_and_its_claim_says_so(talk: Talk, service: ToolsProcess) -> None:
    talk.call(held=True)
    await talk.entered()
    talk.link.says(events.CallsCancelled(("c1",)))

    async def settled() -> bool:
        return (await talk.the_claim()).record.outcome.outcome == live_pb2.TOOL_OUTCOME_CANCELLED

    await eventually(settled)
    talk.ledger.release()
    assert not talk.link.tool_responses


# What is kept, and for how long


async def test_with_the_session_its_claims_go(talk: Talk, service: ToolsProcess) -> None:
    talk.call()
    await talk.answers()
    talk.call("c2", entry="food", held=True)
    await talk.entered(2)
    talk.session.finish(live_pb2.END_REASON_CALLER, "enough")
    await talk.rig.ended()
    talk.ledger.release()
    assert await talk.claims.all(talk.id) == []
    await eventually(lambda: service.counts()["overrunning"] == 0)
    assert await talk.claims.all(talk.id) == []


async def test_large_outputs_leave_their_claims_when_the_answer_is_over(talk: Talk, service: ToolsProcess) -> None:
    arguments = {name: value for name, value in talk.ledger.arguments().items() if name != "hold"}
    talk.link.says(events.FunctionCall("c1", "fill", {**arguments, "size": 5000}))
    await talk.answers()
    talk.call("c2")
    await talk.answers(2)
    talk.link.says(events.TurnComplete("", False, True))
    talk.call("c3")  # for the same answer: nothing has been said
    await talk.answers(3)
    assert len((await talk.claims.all(talk.id))[0].record.outcome.output_json) > 5000
    talk.link.says(events.Text("done", thought=False), events.TurnComplete("", False, True))
    talk.call("c4")
    await talk.answers(4)

    async def shortened() -> bool:
        return not (await talk.claims.all(talk.id))[0].record.outcome.output_json

    await eventually(shortened)
    claims = await talk.claims.all(talk.id)
    assert [claim.record.turn for claim in claims] == [1, 1, 1, 3]
    assert claims[0].record.outcome.outcome == live_pb2.TOOL_OUTCOME_SUCCEEDED
    assert claims[1].record.outcome.output_json


async def test_more_calls_than_a_session_may_make_are_not_run(
    talk: Talk, service: ToolsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_book, "MAX_CALLS", 1)
    talk.call("c1")
    await talk.answers(1)
    talk.call("c2", entry="food")
    assert "not run: this conversation has made too many calls" in (await talk.answers(2))[1]["error"]
    assert talk.ledger.entries() == ["rent"]


async def test_more_calls_than_may_wait_are_not_run(
    talk: Talk, service: ToolsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolcalls, "_MOST_WAITING", 1)
    talk.call("c1", held=True)
    await talk.entered()
    talk.call("c2", entry="food")
    assert await talk.answers() == [{"error": "not run: too many calls are waiting for their results"}]
    talk.ledger.release()
    await talk.answers(2)
    assert talk.ledger.entries() == ["rent"]


async def test_arguments_that_no_claim_takes_are_not_run(talk: Talk, service: ToolsProcess) -> None:
    talk.call(entry="a" * 70_000)
    assert "not run: the arguments have more than 65536 bytes" in (await talk.answers())[0]["error"]
    assert talk.ledger.entries() == []


async def test_arguments_that_nobody_can_hand_on_are_not_run(talk: Talk, service: ToolsProcess) -> None:
    talk.link.says(events.FunctionCall("c1", "enter", {}, "the arguments are odd"))
    assert await talk.answers() == [{"error": "not run: the arguments are odd"}]
    talk.call("c2")
    assert (await talk.answers(2))[1] == entered()


async def test_a_fault_of_ours_leaves_no_call_without_an_answer(
    talk: Talk, service: ToolsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise RuntimeError("a fault")

    with monkeypatch.context() as patch:
        patch.setattr("services.session_worker.executions.Executions.outcome", fails)
        talk.call("c1")
        assert UNKNOWN_EFFECT in (await talk.answers())[0]["error"]
    talk.call("c2")
    assert (await talk.answers(2))[1] == entered()


# Messages get lost


async def test_an_outcome_whose_reply_is_lost_is_read_from_its_claim(
    talk: Talk, service: ToolsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Bus.request

    async def deaf(self: Bus, subject: str, *args: Any, **values: Any) -> Any:
        reply = await request(self, subject, *args, **values)
        if subject.startswith("parley.tools.call"):
            await asyncio.Event().wait()
        return reply

    monkeypatch.setattr(Bus, "request", deaf)
    talk.call()
    assert await talk.answers() == [entered()]
    assert talk.ledger.entries() == ["rent"]


async def test_a_worker_cut_off_from_nats_answers_with_what_was_stored_meanwhile(
    talk: Talk, service: ToolsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk.call(held=True)
    await talk.entered()
    bus = talk.rig.worker._services.bus
    back = asyncio.Event()
    connect = bus.client._attempt_reconnect

    async def later() -> None:
        bus.connected.clear()  # as nats-py has it done
        await back.wait()
        await connect()

    monkeypatch.setattr(bus.client, "_attempt_reconnect", later)
    bus.client._transport._writer.transport.abort()  # type: ignore[union-attr]
    await eventually(lambda: not bus.connected.is_set())
    talk.ledger.release()

    async def settled() -> bool:
        return (await talk.the_claim()).settled

    await eventually(settled)
    assert not talk.link.tool_responses
    back.set()
    assert await talk.answers() == [entered()]
    assert talk.ledger.entries() == ["rent"]


async def test_without_nats_no_call_starts(talk: Talk, service: ToolsProcess) -> None:
    talk.rig.worker._services.bus.connected.clear()
    talk.call()
    [answer] = await talk.answers()
    assert answer == {"error": "not run: the message bus (NATS) cannot be reached"}
    talk.rig.worker._services.bus.connected.set()
    assert talk.ledger.entries() == []


# Owners come and go


async def test_a_worker_that_lost_its_session_starts_nothing_and_answers_nothing(
    talk: Talk, service: ToolsProcess
) -> None:
    await talk.take_over()
    talk.call()
    await talk.rig.ended()
    assert talk.ledger.entries() == []
    assert not talk.link.tool_responses
    assert await talk.claims.all(talk.id) == []


class NewOwner:
    """What another worker has of the session once it has taken it over."""

    def __init__(self, talk: Talk, own: int) -> None:
        self.delivered: list[tuple[str, dict[str, Any]]] = []
        self.log: list[fabric_pb2.LogEntry] = []
        spec = fabric_pb2.OpenSession(session_id=talk.id)
        self.tools = ToolCalls(
            talk.rig.worker._services.bus,
            spec,
            2,
            own=lambda: own,
            model=ModelCapabilities(),
            trace=SessionTrace(spec, 3600),
            tool=lambda name: tools_pb2.Tool(timeout=duration(15), idempotent=name == "look"),
            respond=self.deliver,
            respond_partly=self.deliver,
            emit=lambda _: None,
            emit_news=lambda _: None,
            record=self.log.append,
            fenced=lambda: pytest.fail("fenced"),
        )

    async def deliver(self, response: Any) -> None:
        self.delivered.append((response.id, response.response))


async def test_a_new_owner_knows_what_runs_what_ended_and_what_was_told(talk: Talk, service: ToolsProcess) -> None:
    talk.call("told", entry="food")
    await talk.answers()
    told = await talk.told()
    talk.call("running", held=True)
    await talk.entered(2)
    new = NewOwner(talk, await talk.take_over())
    talk.session._ending.fail(FencedError(talk.id))  # it finds out, and lets what runs run
    await talk.rig.ended()
    assert not (await talk.claims.all(talk.id))[1].settled
    outcomes = [said.tool_activity.outcome for said in talk.rig.responses if said.HasField("tool_activity")]
    assert live_pb2.TOOL_OUTCOME_CANCELLED not in outcomes
    recovered = await new.tools.recover(told)
    assert recovered.newest_answer == 1
    assert [(owed.call.id, owed.call.name) for owed in recovered.owed] == [("running", "enter")]
    finishing = [asyncio.create_task(new.tools.finish(owed, new.deliver)) for owed in recovered.owed]
    talk.ledger.release()
    await asyncio.gather(*finishing)
    assert new.delivered == [("running", entered())]
    assert {entry.tool.claim_key for entry in new.log} == {recovered.owed[0].identity.key}
    assert (await new.tools.recover(told | {recovered.owed[0].identity.key})).owed == []
    assert talk.ledger.entries() == ["food", "rent"]
    await new.tools.close()


async def test_a_new_owner_tells_nothing_of_a_call_that_the_model_took_back(talk: Talk, service: ToolsProcess) -> None:
    talk.call(held=True)
    await talk.entered()
    talk.link.says(events.CallsCancelled(("c1",)))
    key = (await talk.the_claim()).key

    async def logged() -> bool:
        return key in await talk.told()

    await eventually(logged)
    new = NewOwner(talk, await talk.take_over())
    talk.session._ending.fail(FencedError(talk.id))
    await talk.rig.ended()
    assert (await new.tools.recover({key})).owed == []
    talk.ledger.release()
    await new.tools.close()
