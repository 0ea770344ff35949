"""Functions that the caller runs: what becomes of calls and results, without a socket."""

from __future__ import annotations

from typing import Any

import pytest
from google.genai import types

from parley.v1 import fabric_pb2, live_pb2
from services.fabric.capabilities import MODELS
from services.fabric.errors import ServiceError
from services.session_worker import events
from services.session_worker.callertools import Answered, CallerTools

LIVE = MODELS["developer"]["gemini-3.8-live"]
THINKING = MODELS["developer"]["gemini-3.8-live-extended-thinking"]
FLASH = MODELS["developer"]["gemini-3.1-flash-live-preview"]
BLOCKING, NON_BLOCKING = live_pb2.TOOL_BEHAVIOR_BLOCKING, live_pb2.TOOL_BEHAVIOR_NON_BLOCKING


def tools(model: Any = LIVE) -> CallerTools:
    declared = [
        live_pb2.FunctionDeclaration(name="book"),
        live_pb2.FunctionDeclaration(name="wait", behavior=BLOCKING),
        live_pb2.FunctionDeclaration(name="go_on", behavior=NON_BLOCKING),
    ]
    return CallerTools(live_pb2.SessionConfig(caller_tools=declared), model, timeout=10.0)


def call(id_: str = "c1", name: str = "book", **args: Any) -> events.FunctionCall:
    return events.FunctionCall(id_, name, args)


def result(id_: str = "c1", **fields: Any) -> live_pb2.ToolResult:
    made = live_pb2.ToolResult(call_id=id_, **{key: value for key, value in fields.items() if key != "output"})
    if "output" in fields:
        made.output.update(fields["output"])
        made.output.SetInParent()
    return made


def answered(what: object) -> Answered:
    assert isinstance(what, Answered)
    return what


def test_the_caller_is_told_of_a_call_once() -> None:
    one = tools()
    told = one.call(call(room="blue"), 1, 1, 0.0)
    assert isinstance(told, live_pb2.ToolCall)
    assert (told.call_id, told.name, dict(told.arguments)) == ("c1", "book", {"room": "blue"})
    assert one.call(call(), 1, 1, 1.0) is None
    one.result(result(output={}), 2.0)
    assert one.call(call(), 1, 1, 3.0) is None


def test_call_whose_arguments_cannot_be_handed_on_is_answered_at_once() -> None:
    one = tools()
    failed = answered(one.call(events.FunctionCall("c1", "book", {}, "the arguments are odd"), 1, 1, 0.0))
    assert failed.response.response == {"error": "not run: the arguments are odd"}
    assert (failed.outcome, len(one)) == (live_pb2.TOOL_OUTCOME_FAILED, 0)


def test_only_declared_functions_are_the_callers() -> None:
    assert "book" in tools()
    assert "get_weather" not in tools()


@pytest.mark.parametrize(
    ("given", "response", "outcome"),
    [
        ({"output": {"n": 1.0}}, {"output": {"n": 1.0}}, live_pb2.TOOL_OUTCOME_SUCCEEDED),
        ({"output": {}}, {"output": {}}, live_pb2.TOOL_OUTCOME_SUCCEEDED),
        ({"error": "full"}, {"error": "full"}, live_pb2.TOOL_OUTCOME_FAILED),
    ],
)
def test_a_result_is_the_models_with_id_and_name(given: Any, response: Any, outcome: int) -> None:
    one = tools()
    one.call(call(), 1, 1, 0.0)
    got = answered(one.result(result(**given), 1.0))
    assert got.response == types.FunctionResponse(id="c1", name="book", response=response)
    assert (got.outcome, got.final, len(one)) == (outcome, True, 0)


@pytest.mark.parametrize("scheduling", ["SILENT", "WHEN_IDLE", "INTERRUPT"])
def test_scheduling_is_passed_on_where_the_function_does_not_block(scheduling: str) -> None:
    one = tools()
    one.call(call(name="go_on"), 1, 1, 0.0)
    value = live_pb2.ResponseScheduling.Value(f"RESPONSE_SCHEDULING_{scheduling}")
    got = answered(one.result(result(output={}, scheduling=value), 1.0))
    assert got.response.scheduling == types.FunctionResponseScheduling[scheduling]


def test_more_results_of_a_call_may_follow() -> None:
    one = tools()
    one.call(call(name="go_on"), 1, 1, 0.0)
    first = answered(one.result(result(output={"at": 1}, will_continue=True), 9.0))
    assert (first.final, first.response.will_continue, len(one)) == (False, True, 1)
    # The time runs from the latest.
    assert one.expire(18.0) == []
    last = answered(one.result(result(output={"at": 2}), 18.5))
    assert (last.final, last.response.will_continue, len(one)) == (True, None, 0)


@pytest.mark.parametrize(
    ("model", "name", "fields", "problem"),
    [
        (LIVE, "wait", {"scheduling": live_pb2.RESPONSE_SCHEDULING_SILENT}, "wait does"),
        (LIVE, "wait", {"will_continue": True}, "wait does"),
        (FLASH, "book", {"scheduling": live_pb2.RESPONSE_SCHEDULING_SILENT}, "model takes none"),
        (THINKING, "book", {"will_continue": True}, "model takes none"),
    ],
)
def test_what_fits_neither_function_nor_model_is_refused_and_the_call_stays(
    model: Any, name: str, fields: dict[str, Any], problem: str
) -> None:
    one = tools(model)
    one.call(call(name=name), 1, 1, 0.0)
    with pytest.raises(ServiceError, match=problem) as refused:
        one.result(result(output={}, **fields), 1.0)
    assert list(refused.value.violations) == [f"tool_result.{next(iter(fields))}"]
    assert len(one) == 1


def test_a_result_of_a_call_that_never_was_is_a_mistake() -> None:
    with pytest.raises(ServiceError, match="TOOL_CALL_UNKNOWN"):
        tools().result(result(error="x"), 0.0)


def test_a_result_that_comes_twice_or_too_late_is_ignored() -> None:
    one = tools()
    for id_ in ("c1", "c2", "c3"):
        one.call(call(id_), 1, 1, 0.0)
    one.result(result("c1", output={}), 1.0)
    assert one.cancel(("c1", "c2", "never")) == ["c2"]
    assert [one.result(result(id_, output={}), 2.0) for id_ in ("c1", "c2")] == [None, None]
    assert one.ignored == 2
    (late,) = one.expire(10.1)
    assert (late.call.id, late.outcome) == ("c3", live_pb2.TOOL_OUTCOME_TIMED_OUT)
    assert "unknown" in (late.response.response or {})["error"]
    assert one.result(result("c3", output={}), 11.0) is None
    assert one.expire(100.0) == []


def test_calls_that_nobody_answers_are_bounded() -> None:
    one = tools()
    for number in range(128):
        assert isinstance(one.call(call(f"c{number}"), 1, 1, 0.0), live_pb2.ToolCall)
    refused = answered(one.call(call("one more"), 1, 1, 0.0))
    assert refused.outcome == live_pb2.TOOL_OUTCOME_FAILED
    assert len(one) == 128


# An answer that is generated anew


def test_a_call_that_is_made_again_is_the_same_call() -> None:
    one = tools()
    one.call(call(room="blue"), 1, 1, 0.0)
    one.answer_restarted(1)
    assert one.pending == []
    assert [record.call_id for record in one.records] == ["c1"]
    assert one.call(call("c2", room="blue"), 1, 1, 1.0) is None
    assert one.call(call("c2", room="blue"), 1, 1, 1.0) is None
    got = answered(one.result(result("c1", output={}), 2.0))
    assert (got.told_as, got.call.id, got.response.id) == ("c1", "c2", "c2")
    assert (one.answer_over(), len(one)) == ([], 0)
    assert one.call(call("c2", room="blue"), 1, 1, 3.0) is None


def test_a_result_that_comes_before_its_call_comes_again_is_kept_for_it() -> None:
    one = tools()
    one.call(call(room="blue"), 1, 1, 0.0)
    one.answer_restarted(1)
    assert one.result(result("c1", output={"n": 1}), 1.0) is None
    got = answered(one.call(call("c2", room="blue"), 2, 1, 2.0))
    assert (got.told_as, got.turn, got.response.id, got.response.response) == ("c1", 2, "c2", {"output": {"n": 1.0}})
    assert (len(one), one.ignored) == (0, 0)


def test_calls_that_are_not_made_again_are_cancelled_when_the_answer_is_over() -> None:
    one = tools()
    for id_, room in (("c1", "blue"), ("c2", "red"), ("c3", "green")):
        one.call(call(id_, room=room), 1, 1, 0.0)
    one.answer_restarted(1)
    assert isinstance(one.call(call("d1", room="grey"), 1, 1, 1.0), live_pb2.ToolCall)
    assert one.call(call("d2", room="red"), 1, 1, 1.0) is None
    one.result(result("c3", output={}), 2.0)  # which the model did not want
    assert one.answer_over() == ["c1"]
    assert one.result(result("c1", output={}), 3.0) is None
    assert [made.id for made in one.pending] == ["d1", "d2"]


def test_a_call_that_was_made_again_is_cancelled_by_its_new_id_and_told_by_its_old_one() -> None:
    one = tools()
    one.call(call(), 1, 1, 0.0)
    one.answer_restarted(1)
    one.call(call("c2"), 1, 1, 1.0)
    assert one.cancel(("c1",)) == []
    assert one.cancel(("c2",)) == ["c1"]


def test_calls_of_earlier_answers_wait_for_their_results() -> None:
    one = tools()
    one.call(call(), 1, 1, 0.0)
    one.call(call("c2"), 3, 2, 0.0)
    new = tools()
    new.restore(one.records, 1.0)
    for each in (one, new):
        each.answer_restarted(2)
        assert [made.id for made in each.pending] == ["c1"]
        assert each.answer_over() == ["c2"]


def test_calls_of_an_older_release_are_taken_for_those_of_the_answer() -> None:
    one = tools()
    one.restore([fabric_pb2.CallerCall(call_id="c1", name="book")], 0.0)
    one.answer_restarted(5)
    assert one.pending == []
