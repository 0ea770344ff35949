"""When a session leaves its worker, and how many do at a time."""

from __future__ import annotations

import math

import pytest

from services.session_worker.departure import (
    AT_A_TIME,
    HANDLE_WAIT,
    PATIENCE,
    Departure,
    Line,
    Plan,
    Standing,
    Step,
    drain_plan,
)

GOOD = Standing(attached=True, quiet=True, covered=True)
ALONE = Standing(attached=False, quiet=True, covered=True)
BUSY = Standing(attached=True, quiet=False, covered=True)
UNCOVERED = Standing(attached=True, quiet=True, covered=False)


def leaving(force_at: float = 100.0, go_at: float = math.inf) -> Departure:
    departure = Departure()
    departure.plan = Plan("DRAIN", force_at, go_at)
    return departure


@pytest.mark.parametrize("standing", [GOOD, ALONE, BUSY, UNCOVERED])
def test_who_is_not_to_leave_stays(standing: Standing) -> None:
    departure = Departure()
    assert departure.step(1e9, standing) is Step.STAY
    assert not departure.forced(1e9)


@pytest.mark.parametrize(
    ("standing", "step"),
    [
        (GOOD, Step.ASK),
        (ALONE, Step.GO),
        (BUSY, Step.STAY),
        (UNCOVERED, Step.STAY),
        (Standing(attached=False, quiet=False, covered=True), Step.STAY),
    ],
)
def test_a_good_moment_is_taken_and_waited_for(standing: Standing, step: Step) -> None:
    assert leaving().step(1.0, standing) is step


def test_a_handle_is_waited_for_while_it_is_quiet_and_no_longer() -> None:
    departure = leaving()
    assert departure.step(1.0, UNCOVERED) is Step.STAY
    assert departure.step(0.9 + HANDLE_WAIT, UNCOVERED) is Step.STAY
    assert departure.step(1.0 + HANDLE_WAIT, UNCOVERED) is Step.ASK
    assert departure.step(2.0 + HANDLE_WAIT, BUSY) is Step.STAY
    assert departure.step(3.0 + HANDLE_WAIT, UNCOVERED) is Step.STAY, "it begins anew"


def test_quiet_before_it_was_to_leave_does_not_count() -> None:
    departure = Departure()
    departure.step(1.0, UNCOVERED)
    departure.plan = Plan("MOVED", 100.0)
    assert departure.step(1.0 + HANDLE_WAIT, UNCOVERED) is Step.STAY


@pytest.mark.parametrize("standing", [GOOD, BUSY, UNCOVERED])
def test_it_is_forced_when_its_time_is_over(standing: Standing) -> None:
    departure = leaving(force_at=10.0, go_at=20.0)
    assert departure.step(10.0, standing) is Step.ASK
    assert departure.forced(10.0)
    assert departure.step(20.0, standing) is Step.GO, "although nobody has found it a place"


def test_one_without_a_gateway_goes_by_itself_when_it_is_forced() -> None:
    assert leaving(force_at=10.0).step(10.0, Standing(attached=False, quiet=False, covered=False)) is Step.GO


@pytest.mark.parametrize(("seconds", "force_at", "go_at"), [(25.0, 20.0, 22.5), (4.0, 2.0, 3.0), (0.0, 0.0, 0.0)])
def test_a_drain_leaves_time_for_those_that_are_forced(seconds: float, force_at: float, go_at: float) -> None:
    plan = drain_plan(100.0, seconds, exits=True)
    assert (plan.cause, plan.force_at, plan.go_at) == ("DRAIN", 100.0 + force_at, 100.0 + go_at)


def test_a_worker_that_lives_on_keeps_whom_nobody_takes() -> None:
    assert drain_plan(0.0, 25.0, exits=False).go_at == math.inf


def test_so_many_leave_at_a_time() -> None:
    line = Line()
    names = [f"s{number}" for number in range(AT_A_TIME + 1)]
    assert [line.admits(name, 0.0) for name in names] == [True] * AT_A_TIME + [False]
    assert [line.admits(name, 1.0) for name in names] == [True] * AT_A_TIME + [False]
    line.out("s3")
    assert line.admits(names[-1], 2.0)
    assert not line.admits("s3", 2.0)
    line.out("nobody")
    assert len(line) == AT_A_TIME


def test_one_that_nobody_takes_lets_others_ask() -> None:
    line = Line(most=1)
    assert line.admits("a", 0.0)
    assert not line.admits("b", PATIENCE - 0.1)
    assert not line.admits("a", PATIENCE)
    assert line.admits("b", PATIENCE)
    assert not line.admits("a", PATIENCE + 1)
    assert not line.admits("b", 2 * PATIENCE)
    assert line.admits("a", 2 * PATIENCE), "and has its turn again"
