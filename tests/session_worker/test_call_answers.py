"""The model gets every result once: on the link that called, or in words, at a moment that suits, or with the rest."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from parley.v1 import fabric_pb2, live_pb2
from services.fabric import subjects
from services.session_worker import call_answers, closes, events
from services.session_worker.closes import LinkFailure, Where
from services.session_worker.link import LinkClosedError
from services.session_worker.parts import Parts
from services.session_worker.responses import duration
from tests.session_worker.conftest import FakeLink, Rig
from tests.session_worker.test_session import Tool
from tests.support.eventually import eventually

pytestmark = pytest.mark.parametrize("rig", [{"attachment_timeout": "60s"}], indirect=True)
UNSET = live_pb2.RESPONSE_SCHEDULING_UNSPECIFIED
SILENT = live_pb2.RESPONSE_SCHEDULING_SILENT
INTERRUPT = live_pb2.RESPONSE_SCHEDULING_INTERRUPT


class Line:
    """A session whose model has called a tool, in a turn that is over; the test is the tool."""

    def __init__(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rig = rig
        self.tool = Tool(rig)
        self.id = ""
        self.dials = asyncio.Event()
        self.dials.set()
        self.refused = 0
        dial = rig.dialer.dial

        async def slow(*arguments: Any) -> FakeLink:
            await self.dials.wait()
            if self.refused:
                self.refused -= 1
                raise closes.link_error(LinkFailure(Where.TIMEOUT, text="10 s"))
            return await dial(*arguments)

        monkeypatch.setattr(rig.dialer, "dial", slow)

    async def open(self) -> None:
        await self.tool.serve("dig")
        spec = self.rig.spec("dig")
        spec.tools[0].timeout.CopyFrom(duration(15))
        spec.tools[0].reports = True
        reply = await self.rig.control(open=spec)
        assert reply.HasField("attached"), reply
        self.id = spec.session_id
        self.link.says(events.HandleUpdate("good", True, None))
        self.link.says(events.FunctionCall("c1", "dig", {}), events.TurnComplete("", False, True))
        # What led to the call is answered, so that it is not asked again on another link.
        self.link.says(events.OutputTranscript("wait", True, ""), events.TurnComplete("", False, True))
        await eventually(lambda: self.tool.calls)

    @property
    def parts(self) -> Parts:
        return self.rig.worker._sessions[self.id]._parts

    @property
    def link(self) -> FakeLink:
        return self.rig.dialer.links[-1]

    async def ends(self, output: str = '{"gold":1}', scheduling: live_pb2.ResponseScheduling = UNSET) -> None:
        reply = fabric_pb2.ToolCallReply(
            outcome=live_pb2.TOOL_OUTCOME_SUCCEEDED, output_json=output, scheduling=scheduling
        )
        await self.tool.calls[0].respond(reply.SerializeToString())

    async def says(self, output: str, number: int = 1) -> None:
        report = fabric_pb2.ToolReport(number=number, partial=fabric_pb2.PartialResult(output_json=output))
        subject = subjects.tool_progress(self.tool.request().execution_id)
        await self.rig.client.publish(subject, report.SerializeToString())

    def lose(self) -> None:
        self.link._events.put_nowait(LinkClosedError(1011, "The service is currently unavailable."))

    def told(self) -> list[tuple[str, bool]]:
        """What every link was told of functions in words."""
        return [
            (text, complete)
            for link in self.rig.dialer.links
            for turns, complete in link.turns
            for turn in turns
            for part in turn.parts
            if "[The function dig" in (text := part.text)
        ]


@pytest.fixture
async def line(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Line:
    line = Line(rig, monkeypatch)
    await line.open()
    return line


OUTCOME = '[The function dig({}) returned {"gold":1}]'


async def test_partial_results_and_the_answer_on_their_link(line: Line) -> None:
    await line.says('{"gold":0}')
    await eventually(lambda: line.link.tool_responses)
    await line.ends(scheduling=INTERRUPT)
    await eventually(lambda: len(line.link.tool_responses) == 2)
    first, last = line.link.tool_responses
    assert (first.response, first.will_continue, first.scheduling) == ({"output": {"gold": 0}}, True, None)
    assert (last.response, last.will_continue) == ({"output": {"gold": 1}}, None)
    assert last.scheduling == "INTERRUPT"


async def test_an_answer_that_the_model_has_as_a_partial_one_only_ends_the_call(line: Line) -> None:
    await line.says('{"gold":1}')
    await eventually(lambda: line.link.tool_responses)
    await line.ends(scheduling=INTERRUPT)
    await eventually(lambda: len(line.link.tool_responses) == 2)
    last = line.link.tool_responses[1]
    assert (last.response, last.will_continue, last.scheduling) == ({"output": {"gold": 1}}, None, "SILENT")


async def test_a_result_while_there_is_no_link_is_told_once_it_is_there(line: Line) -> None:
    line.dials.clear()
    line.lose()
    await eventually(lambda: line.parts.links._link is None)
    position = line.parts.conversation.position
    await line.ends()
    await eventually(lambda: line.parts.conversation.position > position)
    line.dials.set()
    await eventually(lambda: len(line.rig.dialer.links) == 2 and line.told())
    assert line.told() == [(OUTCOME, True)]


async def test_a_result_that_a_new_link_was_told_with_the_rest_is_not_told_again(line: Line) -> None:
    """Between two attempts to get a link the result comes: the second one begins with it."""
    line.dials.clear()
    line.refused = 1
    line.lose()
    parts = line.parts
    await eventually(lambda: parts.links._link is None)
    position = parts.conversation.position
    await line.ends()
    await eventually(lambda: parts.conversation.position > position)
    line.dials.set()
    await eventually(lambda: len(line.rig.dialer.links) == 2 and line.told())
    await asyncio.sleep(0.3)  # whoever had waited for the link would have told it by now
    assert line.told() == [(OUTCOME, True)]


async def test_what_is_told_in_words_waits_for_a_pause(line: Line) -> None:
    line.lose()
    await eventually(lambda: len(line.rig.dialer.links) == 2)
    line.link.says(events.OutputTranscript("once upon a time", False, ""))
    await eventually(lambda: line.parts.turns.speaks)
    await line.ends()
    await asyncio.sleep(0.4)
    assert line.told() == []
    line.link.says(events.TurnComplete("", False, True))
    await eventually(line.told)
    assert line.told() == [(OUTCOME, True)]


async def test_what_is_told_in_words_waits_for_an_answer_that_has_not_begun(line: Line) -> None:
    """The model has just been given the result of another call: words would cut off what it is about to say."""
    line.lose()
    await eventually(lambda: len(line.rig.dialer.links) == 2)
    line.parts.turns.asked(time.monotonic())
    await line.ends()
    await asyncio.sleep(0.4)
    assert line.told() == []
    line.link.says(events.OutputTranscript("it is sunny", False, ""), events.TurnComplete("", False, True))
    await eventually(line.told)


async def test_what_is_to_interrupt_does_also_in_words(line: Line) -> None:
    line.lose()
    await eventually(lambda: len(line.rig.dialer.links) == 2)
    line.link.says(events.OutputTranscript("once upon a time", False, ""))
    await eventually(lambda: line.parts.turns.speaks)
    await line.ends(scheduling=INTERRUPT)
    await eventually(line.told)


async def test_the_longest_answer_is_not_waited_for(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_answers, "_LONGEST_WAIT", 0.3)
    line.lose()
    await eventually(lambda: len(line.rig.dialer.links) == 2)
    line.link.says(events.OutputTranscript("once upon a time", False, ""))
    await line.ends()
    await eventually(line.told)


async def test_what_nobody_is_to_speak_of_is_not_asked_for_in_words(line: Line) -> None:
    line.lose()
    await eventually(lambda: len(line.rig.dialer.links) == 2)
    await line.ends(scheduling=SILENT)
    await eventually(line.told)
    assert line.told() == [(OUTCOME, False)]
    assert not line.parts.turns.owes_answer


async def test_partial_results_are_not_told_to_another_link_and_the_caller_sees_them(line: Line) -> None:
    line.lose()
    await eventually(lambda: len(line.rig.dialer.links) == 2)
    await line.says('{"gold":0}')

    def seen() -> bool:
        told = [response.tool_activity for response in line.rig.responses if response.HasField("tool_activity")]
        return any(activity.phase == live_pb2.TOOL_PHASE_PROGRESS for activity in told)

    await eventually(seen)
    await line.ends()
    await eventually(line.told)
    assert line.told() == [(OUTCOME, True)]
    assert not line.link.tool_responses or all("error" in one.response for one in line.link.tool_responses)


async def test_a_result_of_an_earlier_turn_is_told_though_a_later_answer_was_cut_off(line: Line) -> None:
    line.link.says(events.OutputTranscript("once upon a time", False, ""))
    await eventually(lambda: line.parts.turns.speaks)
    line.lose()
    await eventually(lambda: len(line.rig.dialer.links) == 2)
    await line.ends()
    await eventually(line.told)
    assert line.told() == [(OUTCOME, True)]


async def test_a_result_that_cannot_be_read_is_told_as_such(line: Line) -> None:
    await line.ends("{")
    await eventually(lambda: line.link.tool_responses)
    assert line.link.tool_responses[0].response == {"error": "the tool succeeded, but its result cannot be read"}
