"""How many spans there may be in a minute."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.fabric.span_budget import SpanBudget


def test_the_last_ones_are_for_what_must_not_be_missed() -> None:
    budget = SpanBudget(5, reserve=2)
    assert [budget.takes(0.0) for _ in range(4)] == [True, True, True, False]
    assert [budget.takes(1.0, vital=True) for _ in range(3)] == [True, True, False]
    assert budget.take_skipped() == 2
    assert budget.take_skipped() == 0


def test_what_counts_for_several_has_room_for_all_of_them_or_none() -> None:
    budget = SpanBudget(3)
    assert budget.takes(0.0, 2)
    assert not budget.takes(0.0, 2)
    assert budget.takes(0.0)
    assert budget.take_skipped() == 2


def test_there_is_room_again_when_a_minute_is_over() -> None:
    budget = SpanBudget(1)
    assert budget.takes(10.0)
    assert not budget.takes(69.9)
    assert budget.takes(70.0)


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 3), st.booleans()), max_size=80))
def test_never_more_in_any_minute(asked: list[tuple[float, int, bool]]) -> None:
    budget, now, taken = SpanBudget(7, reserve=3), 0.0, []
    for pause, spans, vital in asked:
        now += pause
        if budget.takes(now, spans, vital=vital):
            taken += [now] * spans
    assert all(sum(1 for other in taken if begin <= other < begin + 60) <= 7 for begin in taken)
