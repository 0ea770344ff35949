"""Which call is which, without a model: keys, repetitions, turns that are generated anew."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.v1 import fabric_pb2, live_pb2
from services.fabric.claims import Claim
from services.session_worker import call_book
from services.session_worker.call_book import CallBook, Identity, canonical
from services.session_worker.call_recovery import owed


class Talk:
    """A model that calls, and is answered at once unless a test says otherwise."""

    def __init__(self, session: str = "ses_1") -> None:
        self.book = CallBook(session)
        self.turn = 1
        self.answer = 0
        """Turn with which the answer began; 0: the present one."""

    def call(self, tool: str, answered: bool = True, idempotent: bool = False, **arguments: Any) -> Identity:
        answer = self.answer or self.turn
        identity = self.book.identify(tool, canonical(arguments), self.turn, answer, idempotent=idempotent)
        if answered:
            self.book.answered(identity.key)
        return identity


def test_a_key_is_of_session_turn_tool_arguments_and_repetition() -> None:
    one, two = Talk(), Talk("ses_2")
    calls = [one.call("pay", sum=1), one.call("pay", sum=2), one.call("pay", sum=1), one.call("refund", sum=1)]
    one.turn = 2
    calls += [one.call("pay", sum=1), two.call("pay", sum=1)]
    assert len({identity.key for identity in calls}) == len(calls)
    assert [identity.number for identity in calls] == [1, 2, 3, 4, 1, 1]
    assert not any(identity.again for identity in calls)
    assert one.book.total == 5
    assert all(identity.key.isalnum() for identity in calls)


def test_another_process_finds_the_same_key_whatever_the_order_of_arguments() -> None:
    assert Talk().call("pay", sum=1, to={"b": 1, "a": 2}) == Talk().call("pay", to={"a": 2, "b": 1}, sum=1)


def test_a_call_that_comes_again_unanswered_is_the_same_call() -> None:
    talk = Talk()
    first = talk.call("pay", answered=False, sum=1)
    assert talk.call("pay", answered=False, sum=1) == first
    assert talk.call("pay", answered=False, sum=2) != first
    talk.book.answered(first.key)
    assert talk.call("pay", sum=1).key != first.key


def test_a_turn_generated_anew_has_the_calls_of_before() -> None:
    talk = Talk()
    before = [talk.call("pay", sum=1), talk.call("pay", sum=1), talk.call("pay", sum=2)]
    for _ in range(2):
        talk.book.restarted(1)
        anew = [talk.call("pay", sum=2), talk.call("pay", sum=1), talk.call("pay", sum=1)]
        assert [identity.key for identity in anew] == [before[2].key, before[0].key, before[1].key]
        assert all(identity.again for identity in anew)
    assert talk.book.total == 3
    new = talk.call("pay", sum=1)
    assert (new.again, new.number) == (False, 4)


def test_a_call_open_at_the_restart_comes_again_as_itself() -> None:
    talk = Talk()
    before = talk.call("pay", answered=False, sum=1)
    talk.book.restarted(1)
    assert talk.call("pay", sum=1).key == before.key
    assert talk.call("pay", sum=1).key != before.key


def test_anew_an_effect_is_had_once_also_with_other_arguments() -> None:
    talk = Talk()
    first, second = talk.call("pay", note="for lunch"), talk.call("pay", note="for dinner")
    talk.call("refund", sum=1)
    talk.book.restarted(1)
    assert talk.call("pay", note="for the lunch").key == first.key
    # What was made with these very arguments is not given to others while there is a choice.
    assert talk.call("pay", note="for dinner").key == second.key
    assert talk.call("pay", note="for lunch").key == first.key
    third = talk.call("pay", note="for breakfast")
    assert (third.again, third.key in {first.key, second.key}) == (False, False)


def test_anew_an_idempotent_tool_runs_with_other_arguments() -> None:
    talk = Talk()
    before = talk.call("look", idempotent=True, city="Berlin")
    talk.book.restarted(1)
    assert talk.call("look", idempotent=True, city="Bern").again is False
    assert talk.call("look", idempotent=True, city="Berlin").key == before.key


def test_an_answer_of_several_turns_is_generated_anew_as_a_whole() -> None:
    talk = Talk()
    talk.answer = 1
    before = [talk.call("pay", sum=1)]
    talk.turn = 2
    before += [talk.call("pay", sum=2), talk.call("refund", sum=2)]
    assert [(identity.turn, identity.number) for identity in before] == [(1, 1), (1, 2), (1, 3)]
    talk.book.restarted(1)
    # In whatever turns it makes them now.
    talk.turn = 1
    assert talk.call("refund", sum=2).key == before[2].key
    talk.turn = 2
    assert talk.call("pay", sum="one").key == before[0].key
    talk.turn = 3
    assert talk.call("pay", sum="two").key == before[1].key


def test_a_call_without_its_result_may_be_made_again_in_another_turn() -> None:
    talk = Talk()
    talk.answer = 1
    first = talk.call("pay", answered=False, sum=1)
    talk.turn = 2  # the caller asked for another one
    assert talk.call("pay", answered=False, sum=1).key != first.key


def test_another_answer_owes_nothing_to_the_one_before() -> None:
    talk = Talk()
    before = talk.call("pay", answered=False, sum=1)
    talk.book.restarted(1)
    talk.turn = 2
    assert talk.call("pay", sum=1).again is False
    talk.book.restarted(3)
    talk.turn = 3
    assert talk.call("pay", sum=1).key != before.key


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.booleans()), max_size=8), st.booleans())
def test_however_a_turn_is_generated_anew_no_more_effects_than_calls(
    calls: list[tuple[str, int, bool]], idempotent: bool
) -> None:
    talk = Talk()
    before = {talk.call(tool, answered, idempotent, x=x).key for tool, x, answered in calls}
    talk.book.restarted(1)
    anew = {talk.call(tool, answered, idempotent, x=x).key for tool, x, answered in reversed(calls)}
    assert anew <= before or any(not answered for _, _, answered in calls)
    assert talk.book.total == len(before | anew)


def test_calls_end_at_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_book, "MAX_CALLS", 2)
    talk = Talk()
    talk.call("pay", sum=1)
    assert not talk.book.full
    talk.turn = 2
    talk.call("pay", sum=1)
    assert talk.book.full


# After a takeover


def claim(identity: Identity, arguments: str = "{}", outcome: live_pb2.ToolOutcome | None = None) -> Claim:
    record = fabric_pb2.ClaimRecord(
        turn=identity.turn, number=identity.number, tool=identity.tool, arguments_json=arguments, call_id="c7"
    )
    record.timeout.FromMilliseconds(1500)
    if outcome is not None:
        record.outcome.outcome = outcome
    return Claim(identity.key, record, 1)


def test_a_new_owner_goes_on_with_the_newest_turn() -> None:
    old = Talk()
    early = old.call("pay", sum=1)
    old.turn = 4
    late = old.call("pay", sum=1)
    new = Talk()
    assert new.book.restore([(early.key, claim(early).record), (late.key, claim(late).record)]) == 4
    assert new.book.total == 2
    new.turn = 4
    assert new.call("pay", sum="one").key == late.key
    another = new.call("pay", sum=1)
    assert (another.key, another.again) == (late.key, True)
    assert new.call("refund").number == 2
    new.turn = 5
    assert new.call("pay", sum=1).again is False


def test_a_new_owner_of_a_session_without_calls_has_none() -> None:
    book = CallBook("ses_1")
    assert book.restore([]) == 0
    assert book.total == 0


def test_what_is_owed_is_what_was_not_told() -> None:
    talk = Talk()
    identities = [talk.call("pay", sum=number) for number in range(4)]
    told, running, settled, given_up = identities
    claims = [
        claim(told, outcome=live_pb2.TOOL_OUTCOME_SUCCEEDED),
        claim(running, '{"sum":1}'),
        claim(settled, outcome=live_pb2.TOOL_OUTCOME_UNKNOWN),
        claim(given_up, "", outcome=live_pb2.TOOL_OUTCOME_FAILED),
        claim(talk.call("pay", sum=5), outcome=live_pb2.TOOL_OUTCOME_CANCELLED),
    ]
    found = owed(claims, {told.key, "of another time"})
    assert [one.identity.key for one in found] == [running.key, settled.key, given_up.key]
    assert all(one.identity.again for one in found)
    assert (found[0].call.id, found[0].call.name, found[0].call.args) == ("c7", "pay", {"sum": 1})
    assert (found[0].timeout, found[0].idempotent, found[2].call.args) == (1.5, False, {})
