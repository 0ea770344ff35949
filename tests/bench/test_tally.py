"""Every frame is accounted for, whatever happens to it on the way."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.load.stamps import Stamp
from bench.load.tally import Account, Counts, Tally, Times

MS = 1_000_000


def tally_of(received: list[int], sent: int) -> Counts:
    tally = Tally(7)
    for seq in range(1, sent + 1):
        tally.sent(seq)
    for seq in received:
        tally.received(Stamp(7, seq, 0, 0), 0)
    return tally.counts


@pytest.mark.parametrize(
    ("received", "lost", "duplicated", "out_of_order"),
    [
        ([1, 2, 3, 4], 0, 0, 0),
        ([2, 3, 4], 1, 0, 0),
        ([1, 2, 4], 1, 0, 0),
        ([1, 2, 3], 1, 0, 0),
        ([], 4, 0, 0),
        ([1, 2, 2, 3, 4], 0, 1, 0),
        ([1, 2, 3, 4, 4, 4], 0, 2, 0),
        ([1, 2, 3, 4, 1], 0, 1, 0),
        ([1, 3, 2, 4], 0, 0, 1),
        ([4, 1, 2, 3], 0, 0, 3),
        ([4, 3, 2, 1], 0, 0, 3),
        ([1, 3, 2, 2], 1, 1, 1),
        ([3, 3], 3, 1, 0),
    ],
)
def test_lost_doubled_and_swapped_frames_are_told_apart(
    received: list[int], lost: int, duplicated: int, out_of_order: int
) -> None:
    good = len(set(received))
    assert tally_of(received, 4) == Counts(4, good, lost, duplicated, out_of_order, 0)


def test_every_order_of_five_frames_is_complete_and_only_the_sorted_one_is_clean() -> None:
    for order in itertools.permutations(range(1, 6)):
        counts = tally_of(list(order), 5)
        assert (counts.lost, counts.duplicated, counts.received) == (0, 0, 5)
        assert counts.clean == (list(order) == sorted(order))


@given(st.lists(st.integers(1, 30)))
def test_what_was_sent_is_received_or_lost_and_every_arrival_is_counted_once(received: list[int]) -> None:
    counts = tally_of(received, 30)
    assert counts.sent == counts.received + counts.lost
    assert len(received) == counts.received + counts.duplicated
    assert counts.lost == 30 - len(set(received))


@pytest.mark.parametrize("stamp", [None, Stamp(8, 1, 0, 0), Stamp(7, 0, 0, 0), Stamp(7, 3, 0, 0)])
def test_a_frame_that_this_call_never_sent_is_damaged_and_replaces_none(stamp: Stamp | None) -> None:
    tally = Tally(7)
    tally.sent(1)
    tally.sent(2)
    tally.received(stamp, 0)
    assert tally.counts == Counts(sent=2, lost=2, damaged=1)
    assert tally.outstanding == 2
    assert not tally.counts.clean


def test_times_run_from_the_hand_over_and_from_when_it_was_due() -> None:
    tally = Tally(7)
    tally.sent(1)
    tally.received(Stamp(7, 1, due=10 * MS, sent=12 * MS), 15 * MS)
    assert tally.round_trip.percentile(50) == 3
    assert tally.since_due.percentile(50) == 5


def test_a_second_arrival_and_the_warm_up_give_no_times_but_count() -> None:
    tally = Tally(7)
    tally.measure_from = 20 * MS
    for seq in (1, 2):
        tally.sent(seq)
        for _ in range(2):
            tally.received(Stamp(7, seq, due=seq * 10 * MS, sent=seq * 10 * MS), 100 * MS)
    assert len(tally.round_trip) == len(tally.since_due) == 1
    assert tally.counts == Counts(2, 2, 0, 2)


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (1, 1), (50, 50), (95, 95), (99, 99), (99.5, 100), (100, 100)]
)
def test_percentiles_are_nearest_ranks(percent: float, expected: float) -> None:
    times = Times()
    for value in range(100, 0, -1):
        times.add(value * MS)
    assert times.percentile(percent) == expected


def test_of_nothing_there_is_no_percentile() -> None:
    assert Times().percentile(99) is None
    assert len(Times()) == 0


@pytest.mark.parametrize(
    ("nanoseconds", "milliseconds"), [(0, 0), (4_999, 0), (5_000, 0.01), (1_234_567, 1.23), (-20_000, -0.02)]
)
def test_times_are_kept_to_ten_microseconds(nanoseconds: int, milliseconds: float) -> None:
    times = Times()
    times.add(nanoseconds)
    assert times.percentile(50) == pytest.approx(milliseconds)


@given(st.lists(st.integers(0, 10**9), min_size=1), st.lists(st.integers(0, 10**9)))
def test_histograms_add_up_as_the_times_would(first: list[int], second: list[int]) -> None:
    def times(values: list[int]) -> Times:
        made = Times()
        for value in values:
            made.add(value)
        return made

    together, added = times(first + second), times(first) + times(second)
    assert [added.percentile(at) for at in range(0, 101, 5)] == [together.percentile(at) for at in range(0, 101, 5)]


def test_accounts_add_up_and_travel_as_json() -> None:
    def account(late: int, *failures: str) -> Account:
        tally = Tally(1)
        tally.sent(1)
        tally.received(Stamp(1, 1, 0, 0), late)
        return Account(tally.counts, tally.round_trip, tally.since_due, failures)

    total = Account.empty() + account(MS) + account(3 * MS, "call 1: gone")
    again = Account.from_json(json.loads(json.dumps(total.to_json())))
    for one in (total, again):
        assert one.counts == Counts(sent=2, received=2)
        assert (one.round_trip.percentile(50), one.since_due.percentile(100)) == (1, 3)
        assert one.failures == ("call 1: gone",)
        assert not one.clean
    assert account(MS).clean
    assert not Account(Counts(sent=1, lost=1), Times(), Times()).clean


@pytest.mark.parametrize("field", ["lost", "duplicated", "out_of_order", "damaged"])
def test_anything_amiss_is_not_clean(field: str) -> None:
    assert Counts(sent=5, received=5).clean
    assert not Counts(**{field: 1}).clean
