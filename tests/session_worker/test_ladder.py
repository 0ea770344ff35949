"""Down the ladder: resume, seed, fail; and in the end it is over, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.session_worker.closes import LinkError, LinkFailure, Remedy, Where, remedy
from services.session_worker.ladder import MAX_DELAY, MIN_DELAY, Budget, Fail, Ladder, Resume, Seed, Step

DROPPED = LinkFailure(Where.LINK, 1006)
DEADLINE = LinkFailure(Where.LINK, 1011, "Deadline expired before operation could complete.")
RESET = LinkFailure(Where.SETUP, 1006)
TIMEOUT = LinkFailure(Where.TIMEOUT, text="12 s")
FAULT = LinkFailure(Where.LINK, 1011, "The service is currently unavailable.")
REFUSED_FAULT = LinkFailure(Where.SETUP, 1011, "Internal error encountered.")
NO_SESSION = LinkFailure(Where.SETUP, 1008, "BidiGenerateContent session not found")
INVALID = LinkFailure(Where.SETUP, 1007, "Request contains an invalid argument.")
INVALID_MESSAGE = LinkFailure(Where.LINK, 1007, "Request contains an invalid argument.")
NO_MODEL = LinkFailure(Where.SETUP, 1008, "models/x is not found for API version v1beta")
NO_KEY = LinkFailure(Where.UPGRADE, 401)
OUT_OF_QUOTA = LinkFailure(Where.SETUP, 1011, "RESOURCE_EXHAUSTED")
TOO_MANY = LinkFailure(Where.UPGRADE, 429, retry_after=7.0)
UNREACHABLE = LinkFailure(Where.CONNECT, text="ConnectionRefusedError")
FAILURES = [
    *(DROPPED, DEADLINE, RESET, TIMEOUT, FAULT, REFUSED_FAULT, NO_SESSION, INVALID, INVALID_MESSAGE, NO_MODEL, NO_KEY),
    *(OUT_OF_QUOTA, TOO_MANY, UNREACHABLE, LinkFailure(Where.ANSWER), LinkFailure(Where.UPGRADE, 503, retry_after=1e4)),
]
BUDGET = Budget(tries=20, seconds=60.0, healthy_after=30.0)


class Shell:
    """A session's shell in a test: keeps the time, waits as told, has one handle until it is told another."""

    def __init__(self, budget: Budget = BUDGET, random: Callable[[], float] = lambda: 0.0, **told: Any) -> None:
        self.ladder = Ladder(budget, random)
        self.told: dict[str, Any] = {"handle": "h1", "can_seed": True} | told
        self.now = 1000.0

    def up(self, seconds: float) -> Shell:
        """A link opens and lives so long."""
        self.ladder.connected(self.now)
        self.now += seconds
        return self

    def fails(self, failure: LinkFailure) -> Step:
        return self._waited(self.ladder.failed(failure, self.now, **self.told))

    def all_fail(self, *failures: LinkFailure) -> list[Step]:
        return [self.fails(failure) for failure in failures]

    def rotates(self) -> Step:
        return self._waited(self.ladder.rotate(self.now, **self.told))

    def reopens(self, *, takeover: bool = False) -> Step:
        return self._waited(self.ladder.reopen(self.now, **self.told, takeover=takeover))

    def _waited(self, step: Step) -> Step:
        if not isinstance(step, Fail):
            self.now += step.delay
        return step


def told(step: Step) -> tuple[str, str]:
    """Reason and message of the end."""
    assert isinstance(step, Fail)
    return step.error.reason_name, step.error.message


class TestRungs:
    def test_a_planned_rotation_resumes_at_once(self) -> None:
        assert Shell().up(500).rotates() == Resume(0.0, "h1")

    def test_without_a_handle_the_log_is_the_first_rung(self) -> None:
        assert Shell(handle="").up(500).rotates() == Seed(0.0)

    def test_with_neither_there_is_no_rung(self) -> None:
        reason, message = told(Shell(handle="", can_seed=False).up(500).rotates())
        assert reason == "BACKEND_UNAVAILABLE"
        assert "neither a handle to resume by nor a log" in message

    @pytest.mark.parametrize("failure", [DROPPED, DEADLINE])
    def test_a_link_that_drops_is_resumed_at_once(self, failure: LinkFailure) -> None:
        assert Shell().up(500).fails(failure) == Resume(0.0, "h1")

    def test_a_dial_that_drops_is_not_tried_again_at_once(self) -> None:
        shell = Shell().up(500)
        shell.rotates()
        assert shell.all_fail(RESET, RESET) == [Resume(0.5, "h1"), Resume(1.0, "h1")]

    def test_links_that_go_on_dropping_are_resumed_three_times_and_ever_later(self) -> None:
        shell, steps = Shell(), []
        for _ in range(5):
            steps.append(shell.up(1).fails(DROPPED))
        assert steps == [Resume(0.0, "h1"), Resume(0.5, "h1"), Resume(1.0, "h1"), Seed(2.0), Seed(2.0)]

    def test_a_backend_fault_costs_one_try_with_the_handle(self) -> None:
        steps = Shell().up(500).all_fail(FAULT, FAULT, FAULT, FAULT)
        assert steps == [Resume(0.5, "h1"), Seed(1.0), Seed(2.0), Seed(2.0)]

    def test_a_resume_that_is_refused_by_a_fault_is_tried_once_more(self) -> None:
        """The old socket may have been open for a moment longer."""
        shell = Shell().up(500)
        assert shell.rotates() == Resume(0.0, "h1")
        assert shell.all_fail(REFUSED_FAULT, REFUSED_FAULT) == [Resume(0.5, "h1"), Seed(1.0)]

    def test_a_dropped_link_whose_resume_is_refused_by_a_fault_is_tried_once_more(self) -> None:
        steps = Shell().up(500).all_fail(DROPPED, REFUSED_FAULT, REFUSED_FAULT)
        assert steps == [Resume(0.0, "h1"), Resume(0.5, "h1"), Seed(1.0)]

    def test_what_nobody_looked_at_says_nothing_against_the_handle(self) -> None:
        steps = Shell().up(500).all_fail(FAULT, UNREACHABLE, *[UNREACHABLE] * 9)
        assert all(isinstance(step, Resume) for step in steps)

    def test_a_dead_handle_leads_to_the_seed_at_once(self) -> None:
        shell = Shell().up(500)
        assert shell.rotates() == Resume(0.0, "h1")
        assert shell.all_fail(NO_SESSION, UNREACHABLE) == [Seed(0.0), Seed(0.5)]

    def test_without_a_log_a_dead_handle_is_the_end(self) -> None:
        shell = Shell(can_seed=False).up(500)
        shell.rotates()
        reason, message = told(shell.fails(NO_SESSION))
        assert reason == "BACKEND_REFUSED"
        assert message.startswith("the model's endpoint closed the set-up: 1008 BidiGenerateContent session not found;")

    def test_without_a_log_faults_are_resumed_as_long_as_the_budget_lasts(self) -> None:
        shell = Shell(can_seed=False).up(500)
        steps = shell.all_fail(*[FAULT] * 100)
        first = next(number for number, step in enumerate(steps) if isinstance(step, Fail))
        assert all(isinstance(step, Resume) for step in steps[:first])
        assert first > 10

    def test_a_new_link_has_a_new_handle(self) -> None:
        shell = Shell().up(500)
        assert shell.fails(INVALID_MESSAGE) == Seed(0.0)
        assert shell.up(5).fails(DROPPED) == Seed(0.0), "the old handle, told again"
        shell.told["handle"] = "h2"
        assert shell.up(500).rotates() == Resume(0.0, "h2")


class TestRefusals:
    @pytest.mark.parametrize("failure", [NO_MODEL, NO_KEY])
    def test_what_every_set_up_has_ends_it(self, failure: LinkFailure) -> None:
        shell = Shell().up(500)
        shell.rotates()
        step = shell.fails(failure)
        assert told(step) == ("BACKEND_REFUSED", str(failure))
        assert isinstance(step, Fail)
        assert isinstance(step.error, LinkError)
        assert step.error.failure == failure
        assert step.error.delay() is None

    def test_a_refused_resume_is_seeded_once_since_the_seed_has_another_set_up(self) -> None:
        shell = Shell().up(500)
        shell.rotates()
        first, second = shell.all_fail(INVALID, INVALID)
        assert first == Seed(0.0)
        assert told(second) == ("BACKEND_REFUSED", str(INVALID))

    def test_a_message_or_context_that_is_refused_is_seeded_once(self) -> None:
        shell = Shell().up(500)
        assert shell.fails(INVALID_MESSAGE) == Seed(0.0)
        shell.up(1)
        shell.told["handle"] = "h2"
        assert told(shell.fails(INVALID_MESSAGE)) == ("BACKEND_REFUSED", str(INVALID_MESSAGE))

    def test_a_seed_that_closes_on_the_history_has_failed(self) -> None:
        """It is open already then, but not `connected`."""
        shell = Shell().up(500)
        shell.all_fail(INVALID_MESSAGE)
        assert isinstance(shell.fails(INVALID_MESSAGE), Fail)

    def test_a_first_link_without_a_handle_is_seeded_once_too(self) -> None:
        shell = Shell(handle="").up(5)
        assert shell.fails(INVALID_MESSAGE) == Seed(0.0)
        assert isinstance(shell.fails(INVALID), Fail)


class TestQuota:
    def test_it_waits_long_and_keeps_the_handle(self) -> None:
        steps = Shell().up(500).all_fail(OUT_OF_QUOTA, OUT_OF_QUOTA, OUT_OF_QUOTA)
        assert steps == [Resume(2.0, "h1")] * 3

    def test_it_waits_as_long_as_it_is_asked_to(self) -> None:
        assert Shell().up(500).fails(TOO_MANY) == Resume(7.0, "h1")

    def test_it_ends_and_says_when_to_come_again(self) -> None:
        shell = Shell().up(500)
        steps = shell.all_fail(*[TOO_MANY] * 20)
        end = steps[-1]
        assert told(end)[0] == "BACKEND_QUOTA"
        assert isinstance(end, Fail)
        assert end.error.delay() == timedelta(seconds=7)
        assert shell.now <= 1500.0 + BUDGET.seconds

    def test_nobody_waits_longer_than_the_budget_has(self) -> None:
        end = Shell().up(500).fails(LinkFailure(Where.UPGRADE, 429, retry_after=61.0))
        assert told(end)[0] == "BACKEND_QUOTA"


class TestTakeover:
    def test_a_handle_in_use_is_tried_for_twelve_seconds(self) -> None:
        shell = Shell()
        assert shell.reopens(takeover=True) == Resume(0.0, "h1")
        steps = shell.all_fail(*[REFUSED_FAULT] * 6)
        assert steps[:5] == [Resume(delay, "h1") for delay in (0.5, 1.0, 2.0, 4.0, 4.0)]
        assert steps[5] == Seed(0.5)
        assert shell.now == 1012.0

    def test_the_owner_that_lets_go_in_between_costs_no_state(self) -> None:
        shell = Shell()
        shell.reopens(takeover=True)
        shell.all_fail(REFUSED_FAULT, UNREACHABLE, REFUSED_FAULT)
        shell.up(100)
        assert shell.fails(FAULT) == Resume(0.5, "h1")
        assert shell.fails(FAULT) == Seed(1.0)

    def test_slow_refusals_count_as_time(self) -> None:
        shell = Shell()
        shell.reopens(takeover=True)
        shell.now += 11.6
        assert shell.fails(REFUSED_FAULT) == Resume(0.5, "h1"), "the one try that any fault allows"
        assert shell.fails(REFUSED_FAULT) == Seed(1.0)

    def test_an_owner_proven_dead_holds_nothing(self) -> None:
        shell = Shell()
        assert shell.reopens() == Resume(0.0, "h1")
        assert shell.all_fail(REFUSED_FAULT, REFUSED_FAULT) == [Resume(0.5, "h1"), Seed(1.0)]

    def test_without_a_handle_there_is_nothing_that_could_be_in_use(self) -> None:
        shell = Shell(random=lambda: 1.0, handle="")
        assert shell.reopens(takeover=True) == Seed(0.0)
        assert shell.fails(REFUSED_FAULT) == Seed(1.0)

    def test_a_dead_handle_is_dead_here_too(self) -> None:
        shell = Shell()
        shell.reopens(takeover=True)
        assert shell.fails(NO_SESSION) == Seed(0.0)

    def test_without_a_log_it_goes_on_after_twelve_seconds(self) -> None:
        shell = Shell(can_seed=False)
        shell.reopens(takeover=True)
        assert isinstance(shell.all_fail(*[REFUSED_FAULT] * 7)[-1], Resume)


class TestBudget:
    def test_time_without_a_link_is_bounded(self) -> None:
        shell = Shell().up(500)
        steps = shell.all_fail(*[UNREACHABLE] * 100)
        assert told(steps[-1])[0] == "BACKEND_UNAVAILABLE"
        assert "given up after 20 tries and 38 s" in told(steps[-1])[1]
        assert shell.now <= 1500.0 + BUDGET.seconds

    def test_a_session_that_never_had_a_link_has_the_same_budget(self) -> None:
        shell, steps = Shell(), list[Step]()
        while not steps or not isinstance(steps[-1], Fail):
            steps.append(shell.fails(UNREACHABLE))
            shell.now += 12.0
        assert len(steps) == 6

    def test_slow_dials_count(self) -> None:
        shell = Shell().up(500)
        steps = [shell.fails(DROPPED)]
        while not isinstance(steps[-1], Fail):
            shell.now += 12.0
            steps.append(shell.fails(TIMEOUT))
        assert [type(step) for step in steps] == [Resume, Resume, Resume, Seed, Seed, Fail]

    def test_time_with_a_link_does_not_count_but_tries_do(self) -> None:
        shell, steps = Shell(), list[Step]()
        for _ in range(BUDGET.tries + 1):
            steps.append(shell.up(29).fails(DROPPED))
        assert not any(isinstance(step, Fail) for step in steps[:-1])
        assert isinstance(steps[-1], Fail)

    def test_a_healthy_link_forgets_everything(self) -> None:
        shell = Shell(Budget(tries=3, seconds=60.0, healthy_after=30.0))
        for _ in range(50):
            assert shell.up(30).all_fail(DROPPED, UNREACHABLE, UNREACHABLE) == [
                Resume(0.0, "h1"),
                Resume(0.5, "h1"),
                Resume(1.0, "h1"),
            ]

    def test_a_new_link_that_must_be_replaced_again_and_again_is_no_loop(self) -> None:
        shell, steps = Shell(), list[Step]()
        for _ in range(BUDGET.tries + 1):
            steps.append(shell.up(0.1).rotates())
        assert steps[:4] == [Resume(delay, "h1") for delay in (0.0, 0.5, 1.0, 2.0)]
        assert told(steps[-1]) == (
            "BACKEND_UNAVAILABLE",
            "the model's link had to be replaced; given up after 20 tries and 36 s",
        )

    def test_parking_is_no_failure_however_often(self) -> None:
        shell = Shell().up(500)
        for _ in range(100):
            assert shell.reopens() == Resume(0.0, "h1")
            shell.up(20)

    def test_what_is_reopened_begins_anew(self) -> None:
        shell = Shell(Budget(tries=3, seconds=60.0, healthy_after=30.0)).up(1)
        shell.all_fail(DROPPED, UNREACHABLE, UNREACHABLE)
        shell.up(1)
        assert shell.reopens() == Resume(0.0, "h1")
        assert shell.all_fail(UNREACHABLE, UNREACHABLE, UNREACHABLE)[0] == Resume(0.5, "h1")

    def test_chance_spreads_every_pause(self) -> None:
        low, high = (Shell(random=random).up(500).all_fail(*[UNREACHABLE] * 4) for random in (lambda: 0.0, lambda: 1.0))
        assert [step.delay for step in low if isinstance(step, Resume)] == [0.5, 1.0, 2.0, 2.0]
        assert [step.delay for step in high if isinstance(step, Resume)] == [1.0, 2.0, 4.0, 4.0]


class TestOrder:
    def test_one_link_at_a_time(self) -> None:
        shell = Shell().up(500)
        with pytest.raises(RuntimeError):
            shell.ladder.connected(shell.now)
        shell.rotates()
        shell.up(1)
        with pytest.raises(RuntimeError):
            shell.ladder.connected(shell.now)

    def test_the_end_is_the_end(self) -> None:
        shell = Shell().up(500)
        end = shell.fails(NO_KEY)
        assert [shell.fails(DROPPED), shell.fails(NO_MODEL), shell.rotates(), shell.reopens()] == [end] * 4
        with pytest.raises(RuntimeError):
            shell.ladder.connected(shell.now)

    def test_a_handle_is_not_in_what_is_logged(self) -> None:
        assert "h1" not in repr(Shell().up(500).rotates())


Dial = tuple[float, LinkFailure | None, float]
"""How long it took, what refused it if anything did, and how long the link lived."""
dials: st.SearchStrategy[list[Dial]] = st.lists(
    st.tuples(st.floats(0, 12), st.one_of(st.sampled_from(FAILURES), st.none()), st.floats(0, 29.9)), max_size=200
)
ends = st.sampled_from([None, *(one for one in FAILURES if one.where is Where.LINK)])


@given(st.data(), dials, st.booleans())
def test_every_sequence_of_failures_ends(data: st.DataObject, story: list[Dial], can_seed: bool) -> None:
    """With links that never get healthy. It ends within the budget, and goes down the ladder only."""
    chance = data.draw(st.floats(0, 1))
    new_handles = data.draw(st.booleans())
    shell = Shell(random=lambda: chance, handle=data.draw(st.sampled_from(["", "h0"])), can_seed=can_seed)
    gone: set[str] = set()
    down, asked, handles = 0.0, 1, 0
    step = shell.reopens(takeover=data.draw(st.booleans()))
    for took, refused, lived in story:
        if isinstance(step, Fail):
            break
        if isinstance(step, Resume):
            assert step.handle == shell.told["handle"]
            assert step.handle not in gone
        else:
            assert can_seed
            gone.add(shell.told["handle"])
        shell.now += took
        down += step.delay + took
        failure = refused
        if failure is None:
            shell.up(lived)
            if new_handles:
                handles += 1
                shell.told["handle"] = f"h{handles}"
            failure = data.draw(ends)
        if failure is None:
            step = shell.rotates()
        else:
            if remedy(failure) is Remedy.DROP_HANDLE:
                gone.add(shell.told["handle"])
            step = shell.fails(failure)
        asked += 1
        if not isinstance(step, Fail):
            asks_to_wait = 0.0 if refused is None else refused.retry_after or 0.0
            assert step.delay == 0.0 or MIN_DELAY <= step.delay <= max(MAX_DELAY, asks_to_wait)
            assert down + step.delay <= BUDGET.seconds + 1e-6
        assert asked <= BUDGET.tries + 2
    else:
        assert len(story) <= BUDGET.tries
    if isinstance(step, Fail):
        assert step.error.reason_name.startswith("BACKEND_")
        assert shell.fails(DROPPED) is step


@given(st.lists(st.sampled_from(FAILURES), min_size=21, max_size=30), st.booleans(), st.booleans())
def test_failures_without_a_success_end_in_a_typed_failure(
    failures: list[LinkFailure], has_handle: bool, can_seed: bool
) -> None:
    shell = Shell(handle="h1" if has_handle else "", can_seed=can_seed).up(500)
    steps = shell.all_fail(*failures)
    assert isinstance(steps[-1], Fail)
    kinds = [type(step) for step in steps]
    assert kinds == sorted(kinds, key=[Resume, Seed, Fail].index)


@given(st.lists(st.sampled_from([one for one in FAILURES if remedy(one) is not Remedy.FATAL]), max_size=60))
def test_a_seed_that_opens_is_the_only_beginning_of_its_link(failures: list[LinkFailure]) -> None:
    """Whichever dial is said to have come about, no other one can be."""
    shell = Shell().up(500)
    for failure in failures:
        step = shell.fails(failure)
        if isinstance(step, Fail):
            return
        shell.up(0.1)
        with pytest.raises(RuntimeError):
            shell.ladder.connected(shell.now)
