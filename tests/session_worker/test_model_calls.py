"""Calls across links, decided without a link."""

from __future__ import annotations

from google.genai.types import FunctionResponse

from services.session_worker.events import FunctionCall
from services.session_worker.model_calls import ModelCalls


def call(number: int) -> FunctionCall:
    return FunctionCall(f"c{number}", "look", {})


def test_a_call_is_answered_on_the_link_that_made_it_and_once() -> None:
    calls = ModelCalls(gets_stuck=True)
    calls.made(call(1), link=2)
    calls.adopt(call(2))
    assert calls.answered("c1", final=False) == (2, call(1))
    assert calls.answered("c1", final=True) == (2, call(1))
    assert calls.answered("c1", final=True) is None
    assert calls.answered("c2", final=True) == (0, call(2))  # of no link that there is


def test_an_answer_that_the_model_has_as_a_partial_one_is_known() -> None:
    calls = ModelCalls(gets_stuck=True)
    calls.made(call(1), link=1)
    one, two = (FunctionResponse(id="c1", name="look", response={"output": {"at": at}}) for at in (1, 2))
    assert not calls.is_told(one)
    calls.answered_partly(one)
    assert calls.is_told(one)
    assert not calls.is_told(two)
    calls.answered_partly(two)
    assert not calls.is_told(one)
    calls.answered("c1", final=True)
    assert not calls.is_told(two)
    calls.answered_partly(two)  # of a call that is over
    assert not calls.is_told(two)


def test_a_call_that_nobody_wants_is_not_answered() -> None:
    calls = ModelCalls(gets_stuck=True)
    calls.made(call(1), link=1)
    calls.cancelled(["c1", "unknown"])
    assert calls.answered("c1", final=True) is None
    assert calls.since_handle == [call(1)]  # but the state that a handle restores may wait for it


def test_what_a_state_waits_for_ends_with_the_next_handle_or_link() -> None:
    calls = ModelCalls(gets_stuck=True)
    calls.inherit([call(1)])
    calls.made(call(2), link=1)
    assert calls.since_handle == [call(1), call(2)]
    calls.handle_came()
    assert calls.since_handle == []
    calls.made(call(3), link=1)
    calls.link_began(may_be_stuck=True, closed=True)
    assert calls.since_handle == []


def test_a_model_that_lets_go_by_itself_is_told_nothing() -> None:
    calls = ModelCalls(gets_stuck=False)
    calls.made(call(1), link=1)
    assert calls.since_handle == []
    calls.link_began(may_be_stuck=True, closed=False)
    assert not calls.was_stuck()


def test_the_calls_of_a_session_without_handles_are_bounded() -> None:
    calls = ModelCalls(gets_stuck=True)
    for number in range(1000):
        calls.made(call(number), link=1)
    assert len(calls.since_handle) == 128
    assert calls.since_handle[-1] == call(999)


def test_the_empty_turn_of_a_closed_call_is_nobodys_once() -> None:
    calls = ModelCalls(gets_stuck=True)
    calls.link_began(may_be_stuck=True, closed=True)
    assert not calls.empty_turn(between_turns=False)
    assert calls.empty_turn(between_turns=True)
    assert not calls.empty_turn(between_turns=True)


def test_a_call_on_the_new_link_says_that_no_end_is_due() -> None:
    calls = ModelCalls(gets_stuck=True)
    calls.link_began(may_be_stuck=True, closed=True)
    calls.made(call(1), link=2)
    assert not calls.empty_turn(between_turns=True)


def test_a_model_that_was_resumed_may_be_stuck_until_it_answers() -> None:
    calls = ModelCalls(gets_stuck=True)
    calls.link_began(may_be_stuck=False, closed=False)
    assert not calls.was_stuck()
    calls.link_began(may_be_stuck=True, closed=False)
    calls.answering()
    assert not calls.was_stuck()
    calls.link_began(may_be_stuck=True, closed=False)
    assert calls.was_stuck()
    assert not calls.was_stuck()
