"""Results that are not the last, decided without a link: who is given them, and when the model speaks of them."""

from __future__ import annotations

import pytest
from google.genai.types import FunctionResponseScheduling as When

from parley.v1 import fabric_pb2, live_pb2, tools_pb2
from services.fabric.capabilities import ModelCapabilities, capabilities_of
from services.session_worker.events import FunctionCall
from services.session_worker.partial_results import MOST, PartialResults

CALL = FunctionCall("c1", "dig", {})
UNSET, SILENT = live_pb2.RESPONSE_SCHEDULING_UNSPECIFIED, live_pb2.RESPONSE_SCHEDULING_SILENT
INTERRUPT = live_pb2.RESPONSE_SCHEDULING_INTERRUPT
BLOCKING, NON_BLOCKING = live_pb2.TOOL_BEHAVIOR_BLOCKING, live_pb2.TOOL_BEHAVIOR_NON_BLOCKING
ANY = live_pb2.TOOL_BEHAVIOR_UNSPECIFIED


def model(name: str) -> ModelCapabilities:
    found = capabilities_of(name, "vertex" if name == "gemini-live-2.5-flash" else "developer")
    assert found is not None
    return found


LIVE, THINKING = model("gemini-3.8-live"), model("gemini-3.8-live-extended-thinking")
FLASH, NATIVE = model("gemini-3.1-flash-live-preview"), model("gemini-2.5-flash-native-audio-preview-12-2025")
VERTEX = model("gemini-live-2.5-flash")


def tool(behavior: live_pb2.ToolBehavior, scheduling: live_pb2.ResponseScheduling = UNSET) -> tools_pb2.Tool:
    return tools_pb2.Tool(
        declaration=live_pb2.FunctionDeclaration(name="dig", behavior=behavior), scheduling=scheduling
    )


def partial(output: str = '{"found":1}', scheduling: live_pb2.ResponseScheduling = UNSET) -> fabric_pb2.PartialResult:
    return fabric_pb2.PartialResult(output_json=output, scheduling=scheduling)


def report(number: int) -> fabric_pb2.ToolReport:
    return fabric_pb2.ToolReport(number=number, partial=partial())


@pytest.mark.parametrize(
    ("caps", "behavior", "takes", "schedules"),
    [
        (LIVE, ANY, True, True),
        (LIVE, NON_BLOCKING, True, True),
        (LIVE, BLOCKING, False, False),
        (NATIVE, ANY, False, False),
        (NATIVE, NON_BLOCKING, True, True),
        (VERTEX, NON_BLOCKING, False, True),
        (THINKING, NON_BLOCKING, False, False),
        (THINKING, ANY, False, False),
        (FLASH, NON_BLOCKING, False, False),
    ],
)
def test_who_takes_several_results_and_is_told_when_to_speak(
    caps: ModelCapabilities, behavior: live_pb2.ToolBehavior, takes: bool, schedules: bool
) -> None:
    partials = PartialResults(CALL, tool(behavior, SILENT), caps)
    assert (partials.for_the_model(partial()) is not None) == takes
    assert partials.scheduling(UNSET) == (When.SILENT if schedules else None)
    assert partials.scheduling(INTERRUPT) == (When.INTERRUPT if schedules else None)


def test_a_partial_result_says_that_more_follows_and_is_scheduled_like_any_other() -> None:
    partials = PartialResults(CALL, tool(NON_BLOCKING, SILENT), LIVE)
    response = partials.for_the_model(partial())
    assert response is not None
    assert (response.id, response.name, response.response) == ("c1", "dig", {"output": {"found": 1}})
    assert (response.will_continue, response.scheduling) == (True, When.SILENT)
    response = partials.for_the_model(partial(scheduling=INTERRUPT))
    assert response is not None
    assert response.scheduling == When.INTERRUPT


def test_a_tool_that_is_not_known_any_more_has_one_result() -> None:
    partials = PartialResults(CALL, None, LIVE)
    assert partials.for_the_model(partial()) is None
    assert partials.scheduling(INTERRUPT) is None


@pytest.mark.parametrize("output", ["", "no json", "[1]", '"text"'])
def test_what_is_no_object_is_given_to_nobody(output: str) -> None:
    assert PartialResults(CALL, tool(NON_BLOCKING), LIVE).for_the_model(partial(output)) is None


def test_there_is_an_end_to_partial_results() -> None:
    partials = PartialResults(CALL, tool(NON_BLOCKING), LIVE)
    given = [partials.for_the_model(partial()) for _ in range(MOST + 1)]
    assert all(given[:MOST])
    assert given[MOST] is None


def test_reports_count_once_and_in_order_within_their_execution() -> None:
    partials = PartialResults(CALL, tool(NON_BLOCKING), LIVE)
    assert [partials.take("e1", report(number)) for number in (1, 1, 3, 2)] == [True, False, True, False]
    assert partials.take("e2", report(1))
