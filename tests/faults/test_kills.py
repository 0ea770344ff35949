"""Payments under `kill -9` between commit and result, in little; and that what is broken there is noticed.

`make test-tools-kills` does the same with a thousand calls.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from tests.faults.kills.__main__ import run
from tests.faults.kills.books import REFUND, VOUCHER, Answer, Books, Claimed, Row, Told, told
from tests.faults.kills.strikes import Lane

SEED = 1
REFUNDED = {"refund_id": 7, "order_id": "1", "amount_cents": 500}
UNKNOWN = "the tool 'refund_order' did not answer; whether it had its effect is unknown"
OF = (REFUND, "1")


@pytest.mark.long
def test_everything_is_paid_once_and_answered_whoever_dies() -> None:
    books = asyncio.run(run(calls=50, kills=3, sessions=8, seed=SEED, minutes=2))
    assert not books.violations, "\n".join(books.lines())
    assert books.good, "\n".join(books.lines())
    assert books.calls >= 50
    assert books.kills >= 6
    assert books.rotations["WORKER_LOST"]


@pytest.mark.long
def test_a_tool_that_is_not_as_idempotent_as_it_says_is_noticed() -> None:
    books = asyncio.run(run(calls=30, kills=2, sessions=6, seed=SEED, minutes=2, sabotage="idempotent"))
    # Each kill at a refund pays it once more: twice, or three times where both hit the same.
    assert any(re.search("was paid [23] times", violation) for violation in books.violations), "\n".join(books.lines())


# The arithmetic


def context(*entries: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"kind": kind, "link": 0, **entry} for kind, entry in entries]


def called(call_id: str) -> tuple[str, dict[str, Any]]:
    return "tool_call", {"id": call_id, "name": REFUND, "args": {"order_id": "1", "amount_cents": 500}}


def response(call_id: str, **what: Any) -> tuple[str, dict[str, Any]]:
    return "tool_response", {"id": call_id, "name": REFUND, "response": what}


WORDS = '[The function refund_order({"amount_cents":500,"order_id":"1"})'


def test_what_the_model_was_told_is_read_from_responses_and_words() -> None:
    found = told(
        context(
            called("a"),
            response("a", error="the connection was lost before the result; what it was is told in words"),
            called("b"),
            response("b", output=REFUNDED),
            ("turn", {"text": f'refund it {WORDS} returned {{"refund_id":7}}] and more {WORDS} failed: {UNKNOWN}]'}),
            ("text", {"text": "thank you"}),
        )
    )
    assert dict(found) == {
        OF: Told(["a", "b"], [Answer(True, REFUNDED, "b"), Answer(True, {"refund_id": 7}), Answer(False, UNKNOWN)])
    }
    assert [answer.call_id for answer in found[OF].answers] == ["b", "", ""]


def books(*claims: Claimed, known: Told | None = None, issued: int = 1, rows: tuple[Row, ...] = ()) -> Books:
    found = Books()
    found.strikes["tools killed"] = 1
    found.session_over("ses_1", [OF], {OF: issued}, claims, {OF: known or Told()})
    found.balance(rows)
    return found


SUCCEEDED = Claimed("k", OF, "SUCCEEDED", REFUNDED)
LOST = Claimed("k", OF, "UNKNOWN", error=UNKNOWN, killed=True)
PAID = Row("k", OF, 7)
ANSWERED = Told(["a"], [Answer(True, REFUNDED, "a")])
TOLD_UNKNOWN = Told(["a"], [Answer(False, UNKNOWN)])


def test_a_payment_that_succeeded_has_a_row_and_an_answer() -> None:
    found = books(SUCCEEDED, known=ANSWERED, rows=(PAID,))
    assert found.good
    assert (found.calls, found.unknown, found.rows[REFUND]) == (1, 0, 1)
    # Made again because its answer began anew; and told in words.
    again = Told(["a", "b"], [Answer(True, REFUNDED, "b")])
    assert books(SUCCEEDED, known=again, issued=2, rows=(PAID,)).good
    words = Told(["a"], [Answer(True, REFUNDED), Answer(True, REFUNDED)])
    assert books(SUCCEEDED, known=words, rows=(PAID,)).told_again == 1


def test_of_unknown_outcome_it_may_have_a_row() -> None:
    assert books(LOST, known=TOLD_UNKNOWN, rows=(PAID,)).rows_of_unknown[REFUND] == 1
    assert books(LOST, known=TOLD_UNKNOWN, rows=(PAID,)).good
    assert books(LOST, known=TOLD_UNKNOWN).good


def test_what_never_began_has_neither_claim_nor_row() -> None:
    refused = Told(["a"], [Answer(False, "not run: it is not available", "a")])
    assert books(known=refused).outcomes == {(REFUND, "NOT BEGUN"): 1}
    assert books(known=refused).good
    abandoned = Claimed("k", OF, "FAILED", error="not run: nobody took it")
    assert books(abandoned, known=Told(["a"], [Answer(False, "not run: nobody took it")])).good


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (books(SUCCEEDED, known=ANSWERED, rows=(PAID, PAID)), "was paid 2 times"),
        (books(SUCCEEDED, known=ANSWERED), "succeeded as 7, and the database has []"),
        (books(SUCCEEDED, known=ANSWERED, rows=(Row("k", OF, 8),)), "succeeded as 7"),
        (books(SUCCEEDED, known=ANSWERED, rows=(Row("k", (REFUND, "2"), 7),)), "paid something else"),
        (books(SUCCEEDED, known=ANSWERED, rows=(PAID, Row("other", OF, 8))), "paid without a claim"),
        (books(SUCCEEDED, SUCCEEDED, known=ANSWERED, rows=(PAID,)), "has 2 claims"),
        (books(SUCCEEDED, known=Told(["a"]), rows=(PAID,)), "has no answer"),
        (books(SUCCEEDED, known=Told(["a", "b"], [Answer(True, REFUNDED, "a")]), rows=(PAID,)), "b got no answer"),
        (
            books(SUCCEEDED, known=Told(["a"], [Answer(True, REFUNDED, "a")] * 2), rows=(PAID,)),
            "more than one response",
        ),
        (books(SUCCEEDED, known=TOLD_UNKNOWN, rows=(PAID,)), "the model was told"),
        (books(known=ANSWERED), "has no claim"),
        (books(Claimed("k", OF, "UNKNOWN", error=UNKNOWN), known=TOLD_UNKNOWN), "its process is there"),
        (books(Claimed("k", OF, ""), known=TOLD_UNKNOWN), "ended with no outcome"),
        (
            books(Claimed("k", OF, "CANCELLED", error=UNKNOWN), known=TOLD_UNKNOWN, rows=(PAID,)),
            "was paid, and the outcome is CANCELLED",
        ),
        (
            books(Claimed("k", (VOUCHER, "1"), "SUCCEEDED", {"code": "c"}), known=ANSWERED),
            "claims of calls that nobody asked for",
        ),
    ],
)
def test_what_does_not_add_up_is_a_violation(found: Books, problem: str) -> None:
    assert not found.good
    assert any(problem in violation for violation in found.violations), found.violations
    assert any(line.startswith("\nVIOLATION") for line in found.lines())


def test_more_unknown_outcomes_than_kills_are_one() -> None:
    found = books(LOST, known=TOLD_UNKNOWN)
    assert found.good
    found.strikes.clear()
    found.balance(())
    assert found.violations == ["1 unknown outcomes of 0 kills"]


def test_too_few_kills_prove_too_little() -> None:
    found = books(SUCCEEDED, known=ANSWERED, rows=(PAID,))
    found.wanted = {"tools killed": 2}
    assert not found.good
    assert found.few == {"tools killed": 1}
    assert "fewer than {'tools killed': 2} of: {'tools killed': 1}" in "\n".join(found.lines())


def test_kills_are_spread_over_the_calls() -> None:
    lane = Lane(4)
    assert lane.due(0.0)
    lane.struck = 1
    assert not lane.due(0.2)
    assert lane.due(0.25)
    assert not lane.holds_up(0.9)
    lane.busy = True
    assert not lane.due(0.25)
    assert not lane.holds_up(0.26)
    assert lane.holds_up(0.31)
    lane.struck, lane.busy = 4, False
    assert not lane.due(1.0)
