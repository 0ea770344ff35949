"""How many calls are no too many."""

from __future__ import annotations

import pytest

from bench.capacity import LATE_MS, holds
from bench.load.tally import Account, Counts, Times
from bench.rig import Measured

MS = 1_000_000


def measured(counts: Counts, since_due: list[float], round_trip: float = 1, failures: tuple[str, ...] = ()) -> Measured:
    late, trips = Times(), Times()
    for milliseconds in since_due:
        late.add(round(milliseconds * MS))
    trips.add(round(round_trip * MS))
    return Measured(Account(counts, trips, late, failures), {}, 1, {})


CLEAN = Counts(sent=100, received=100)


def test_ninety_nine_percent_must_be_back_in_time_from_when_they_were_due() -> None:
    assert holds(measured(CLEAN, [1] * 99 + [LATE_MS * 9]))
    assert holds(measured(CLEAN, [LATE_MS] * 100, round_trip=500))
    assert not holds(measured(CLEAN, [1] * 98 + [LATE_MS + 0.01] * 2))


@pytest.mark.parametrize("field", ["lost", "duplicated", "out_of_order", "damaged"])
def test_one_frame_amiss_is_too_many(field: str) -> None:
    assert not holds(measured(Counts(**{field: 1}), [1]))


def test_a_failed_call_or_no_frame_at_all_is_too_many() -> None:
    assert not holds(measured(CLEAN, [1], failures=("call 1: gone",)))
    assert not holds(measured(CLEAN, []))
