"""Calls whose link ends: each has one effect, and the model gets the outcome of each once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from parley.v1 import live_pb2
from services.session_worker import events
from services.session_worker.closes import LinkFailure, Where, link_error
from services.session_worker.link import LinkClosedError
from tests.session_worker.conftest import FakeLink, Rig
from tests.session_worker.talk import LEDGER, MARKS, Talk
from tests.support.eventually import eventually
from tests.support.nats import NatsServer
from tests.tools.conftest import ToolsProcess, tools_process

pytestmark = MARKS

DONE = events.TurnComplete("", False, True)


@pytest.fixture(scope="module")
def service(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToolsProcess]:
    with tools_process(nats.url, tmp_path_factory.mktemp("tools"), modules=LEDGER) as tools:
        yield tools


class Call:
    """A session whose links end when a test says so."""

    def __init__(self, rig: Rig, session: str) -> None:
        self.rig = rig
        self.session = session
        self._seq = 0

    @property
    def link(self) -> FakeLink:
        return self.rig.dialer.links[-1]

    async def types(self, words: str) -> None:
        """Returns when the link has it."""
        self._seq += 1
        link, before = self.link, len(self.link.texts)
        await self.rig.send(self.session, live_pb2.ConverseRequest(seq=self._seq, text=live_pb2.TextInput(text=words)))
        await eventually(lambda: len(link.texts) > before)

    async def returns(self, call_id: str, **fields: Any) -> None:
        """The caller ran a function."""
        self._seq += 1
        result = live_pb2.ToolResult(call_id=call_id, output={}, **fields)
        await self.rig.send(self.session, live_pb2.ConverseRequest(seq=self._seq, tool_result=result))

    def says(self, *what: events.Event | str) -> None:
        """The model; words stand for a piece of its answer."""
        self.link.says(*(events.Text(each, thought=False) if isinstance(each, str) else each for each in what))

    async def said(self, words: str) -> None:
        """The caller has heard this."""
        await eventually(lambda: any(words in said.text.text for said in self.rig.responses))

    async def loses_its_link(self) -> FakeLink:
        """Returns the next one."""
        before = len(self.rig.dialer.links)
        self.ends_its_link()
        await eventually(lambda: len(self.rig.dialer.links) > before)
        return self.link

    def ends_its_link(self) -> None:
        self.link._events.put_nowait(LinkClosedError(1006, ""))


def told(link: FakeLink) -> list[tuple[str, bool]]:
    """What a link was told in words: each turn, and whether an answer is asked for."""
    return [
        (" | ".join(part.text for content in turns for part in content.parts), asked) for turns, asked in link.turns
    ]


def results(link: FakeLink) -> list[str]:
    """Calls that got their results on a link; others it was told are lost."""
    return [sent.id for sent in link.tool_responses if "output" in sent.response]


async def test_an_answer_of_several_turns_has_each_effect_once(talk: Talk, service: ToolsProcess) -> None:
    call = Call(talk.rig, talk.id)
    await call.types("enter the rent")
    talk.call("c1")
    call.says(DONE)
    await talk.answers()
    await call.types("what else can you do")
    call.says("I can ")
    await call.said("I can ")
    talk.link = await call.loses_its_link()
    talk.call("c2", entry="the rent")  # asked again, it says it in other words
    assert (await talk.answers())[0]["output"]["result"] == "entered rent"
    assert talk.ledger.entries() == ["rent"]


async def test_a_call_of_an_earlier_answer_is_told_of_when_a_later_one_is_cut_off(
    talk: Talk, service: ToolsProcess
) -> None:
    call = Call(talk.rig, talk.id)
    await call.types("enter the rent")
    call.says("One moment.")
    talk.call("c1", held=True)
    call.says(events.GenerationComplete(), DONE, events.HandleUpdate("good", True, None))
    await talk.entered()
    await call.types("what else can you do")
    call.says("I can ")
    await call.said("I can ")
    link = await call.loses_its_link()
    talk.ledger.release()
    await eventually(lambda: [words for words, asked in told(link) if "entered rent" in words and asked])
    assert not link.tool_responses


async def test_an_outcome_that_comes_while_there_is_no_link_is_told_once(talk: Talk, service: ToolsProcess) -> None:
    call = Call(talk.rig, talk.id)
    await call.types("enter the rent")
    call.says("One moment.")
    talk.call("c1", held=True)
    call.says(events.GenerationComplete(), DONE, events.HandleUpdate("good", True, None))
    await talk.entered()
    # The first try is refused, and what the second begins with is decided after the outcome is there.
    talk.rig.dialer.refuse = link_error(LinkFailure(Where.CONNECT, text="nobody listens"))
    call.ends_its_link()
    await eventually(lambda: not talk.session._parts.links.at_rest)
    talk.ledger.release()
    finished = live_pb2.TOOL_PHASE_FINISHED
    await eventually(lambda: any(said.tool_activity.phase == finished for said in talk.rig.responses))
    talk.rig.dialer.refuse = None
    link = await eventually(lambda: call.link if len(talk.rig.dialer.links) == 2 else None)
    await eventually(lambda: link.turns)
    # What is typed is given after what the link begins with.
    await call.types("thanks")
    assert [asked for words, asked in told(link) if "entered rent" in words] == [True]
    assert not link.tool_responses


async def test_an_outcome_that_came_while_the_model_spoke_of_something_else_is_asked_about_again(
    talk: Talk, service: ToolsProcess
) -> None:
    call = Call(talk.rig, talk.id)
    await call.types("enter the rent")
    call.says("One moment.")
    talk.call("c1", held=True)
    call.says(events.GenerationComplete(), DONE, events.HandleUpdate("good", True, None))
    await talk.entered()
    await call.types("what can you do")
    call.says("I can ")
    await call.said("I can ")
    talk.ledger.release()
    await talk.answers()
    call.says("do much.", events.GenerationComplete(), DONE, "The rent is ")
    await call.said("The rent is ")
    link = await call.loses_its_link()
    await eventually(lambda: len(link.turns) == 2)
    before, asked = told(link)
    assert (before[1], asked[1]) == (False, True)
    assert "do much." in before[0]
    assert "entered rent" in asked[0]
    assert "what can you do" not in asked[0]


async def test_what_was_answered_while_a_call_waited_is_not_asked_again(talk: Talk, service: ToolsProcess) -> None:
    call = Call(talk.rig, talk.id)
    call.says(events.HandleUpdate("good", True, None))
    await call.types("enter the rent")
    talk.call("c1", held=True)
    call.says(DONE)
    await talk.entered()
    await call.types("what can you do")
    call.says("I can do much.", events.GenerationComplete(), DONE)
    await call.said("I can do much.")
    talk.ledger.release()
    await talk.answers()
    call.says("The rent is ")
    await call.said("The rent is ")
    link = await call.loses_its_link()
    await eventually(lambda: any(asked for _, asked in told(link)))
    assert [words for words, asked in told(link) if asked and "what can you do" in words] == []


async def test_a_function_of_the_callers_is_run_once_though_its_answer_begins_anew(rig: Rig) -> None:
    session, _ = await rig.open(caller_tools=[live_pb2.FunctionDeclaration(name="pay")])
    call = Call(rig, session)
    call.says(events.HandleUpdate("good", True, None))
    await call.types("pay 5 euros and 6 euros")
    call.says(events.FunctionCall("c1", "pay", {"euros": 5}), events.FunctionCall("c2", "pay", {"euros": 6}))

    def given_out() -> list[str]:
        return [said.tool_call.call_id for said in rig.responses if said.HasField("tool_call")]

    await eventually(lambda: given_out() == ["c1", "c2"])
    link = await call.loses_its_link()
    call.says(events.FunctionCall("d1", "pay", {"euros": 5}))
    await call.returns("c1")
    await eventually(lambda: results(link))
    assert results(link) == ["d1"]
    call.says("5 euros are paid", DONE)

    def cancelled() -> list[str]:
        return [call_id for said in rig.responses for call_id in said.tool_call_cancelled.call_ids]

    await eventually(cancelled)
    assert (cancelled(), given_out()) == (["c2"], ["c1", "c2"])


async def test_a_result_of_the_callers_is_told_once(rig: Rig) -> None:
    session, _ = await rig.open(caller_tools=[live_pb2.FunctionDeclaration(name="pay")])
    call = Call(rig, session)
    call.says(events.HandleUpdate("good", True, None))
    await call.types("pay 5 euros")
    call.says(events.FunctionCall("c1", "pay", {"euros": 5}))
    await eventually(lambda: any(said.HasField("tool_call") for said in rig.responses))
    link = await call.loses_its_link()
    call.says(events.FunctionCall("d1", "pay", {"euros": 5}))
    await call.returns("c1")
    await eventually(lambda: results(link) == ["d1"])
    call.says("5 euros are ")
    await call.said("5 euros are ")
    link = await call.loses_its_link()
    await eventually(lambda: any(asked for _, asked in told(link)))
    assert " ".join(words for words, _ in told(link)).count("returned") == 1


async def test_a_result_that_is_to_be_silent_is_told_to_the_next_link_and_not_asked_about(rig: Rig) -> None:
    session, link = await rig.open(caller_tools=[live_pb2.FunctionDeclaration(name="log")])
    call = Call(rig, session)
    await call.types("log it")
    call.says("Sure.", events.FunctionCall("c1", "log", {}), events.GenerationComplete(), DONE)
    call.says(events.HandleUpdate("good", True, None))
    await call.said("Sure.")
    await call.returns("c1", scheduling=live_pb2.RESPONSE_SCHEDULING_SILENT)
    await eventually(lambda: results(link) == ["c1"])
    assert not rig.worker._sessions[session]._parts.busy
    link = await call.loses_its_link()
    await call.types("thanks")
    assert [(asked, words.count("returned")) for words, asked in told(link)] == [(False, 1)]
