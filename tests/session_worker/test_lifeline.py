"""The lease on a worker's sessions: when it may act, and when it has to read again whose they are."""

from __future__ import annotations

import pytest

from services.session_worker.lifeline import DOUBT, FROZEN, Lease
from services.session_worker.standby import parks
from services.session_worker.watchdog import Patience

TTL = 10.0


def turns(lease: Lease, first: float, last: float) -> list[bool]:
    """The loop runs, once a second at least."""
    times = [first + second for second in range(int(last - first) + 1)]
    return [lease.holds(now) for now in [*times, last]]


def test_a_worker_acts_for_the_ttl_from_the_moment_the_last_round_trip_was_asked() -> None:
    lease = Lease(TTL, 100.0)
    assert all(turns(lease, 101.0, 103.8))
    assert not lease.renewed(asked=102.0, now=103.9)
    assert all(turns(lease, 104.0, 112.0))
    assert not lease.holds(112.1)


def test_a_lapse_is_over_with_a_round_trip_only_and_not_with_one_asked_before_the_process_was_stopped() -> None:
    lease = Lease(TTL, 100.0)
    assert not lease.holds(111.0)
    assert not lease.renewed(asked=100.5, now=111.0)
    assert not lease.holds(100.9)  # whatever the time
    assert not lease.renewed(asked=100.9, now=200.0)
    assert not lease.holds(200.0)
    assert lease.renewed(asked=200.0, now=200.1)
    assert lease.holds(200.2)
    assert lease.lapses == 1


def test_a_lapse_is_counted_once() -> None:
    lease = Lease(TTL, 100.0)
    assert [lease.holds(now) for now in (120.0, 121.0)] == [False, False]
    assert lease.lapses == 1
    assert lease.renewed(130.0, 130.1)
    assert not lease.holds(150.0)
    assert lease.lapses == 2
    assert lease.proven == 130.0


@pytest.mark.parametrize(("stopped", "lapses"), [(FROZEN - 0.1, 0), (FROZEN + 0.1, 1)])
def test_a_process_that_stood_still_for_so_long_that_it_may_be_taken_for_dead_reads_again_first(
    stopped: float, lapses: int
) -> None:
    lease = Lease(TTL, 100.0)
    assert lease.holds(101.0)
    assert lease.holds(101.0 + stopped) is not bool(lapses)
    assert lease.lapses == lapses
    # The answer to what was asked before the stop is enough to read again.
    assert lease.renewed(100.9, 101.0 + stopped) is bool(lapses)
    assert lease.holds(101.1 + stopped)


@pytest.mark.parametrize(("silence", "doubtful"), [(DOUBT - 0.1, False), (DOUBT + 0.1, True), (TTL, True)])
def test_a_silence_after_which_others_may_have_taken_over_is_followed_by_a_reading(
    silence: float, doubtful: bool
) -> None:
    lease = Lease(TTL, 100.0)
    turns(lease, 100.0, 100.0 + silence)
    assert lease.renewed(100.0 + silence, 100.0 + silence) is doubtful
    assert not lease.renewed(101.0 + silence, 101.0 + silence)
    assert not lease.lapses


def test_answers_that_come_out_of_order_take_nothing_back() -> None:
    lease = Lease(TTL, 100.0)
    assert all(turns(lease, 101.0, 105.0))
    lease.renewed(105.0, 105.1)
    lease.renewed(101.0, 105.2)
    assert all(turns(lease, 106.0, 115.0))
    assert not lease.holds(115.1)


@pytest.mark.parametrize(
    ("detached_for", "busy", "parked"),
    [(19.9, False, False), (20.0, False, True), (20.0, True, False), (39.9, True, False), (40.0, True, True)],
)
def test_a_session_is_parked_when_its_turn_is_over_or_the_time_is_up(
    detached_for: float, busy: bool, parked: bool
) -> None:
    assert parks(detached_for, 20.0, busy=busy) is parked


def test_a_loop_that_hangs_is_noticed_after_the_limit() -> None:
    patience = Patience(5.0, 0.0)
    ticks = [patience.tick(0.25 * number, ran=False) for number in range(1, 21)]
    assert ticks == [False] * 19 + [True]


def test_a_loop_that_runs_now_and_then_is_let_be() -> None:
    patience = Patience(5.0, 0.0)
    assert not any(patience.tick(0.25 * number, ran=number % 19 == 0) for number in range(1, 200))


def test_the_time_in_which_the_process_was_stopped_does_not_count() -> None:
    patience = Patience(5.0, 0.0)
    assert not patience.tick(0.25, ran=False)
    assert not patience.tick(3600.0, ran=False)
    assert patience.waited == 0.75
    ticks = [patience.tick(3600.0 + 0.25 * number, ran=False) for number in range(1, 18)]
    assert ticks == [False] * 16 + [True]
