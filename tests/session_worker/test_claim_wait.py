"""How long a call is waited for, and what is done then: every way it can go, without a clock."""

from __future__ import annotations

import itertools

import pytest

from parley.v1 import fabric_pb2
from services.fabric.claims import Claim, unknown
from services.session_worker.claim_wait import (
    GONE_AFTER,
    MARGIN,
    MAX_RERUNS,
    RECORDS_WAIT,
    ClaimWait,
    Presence,
    Seen,
    Step,
)

TIMEOUT = 10.0
START = 100.0


def waiting(*, idempotent: bool = False) -> ClaimWait:
    return ClaimWait(START, TIMEOUT, idempotent=idempotent)


def running(execution: str = "exe_1", executor: Presence = Presence.THERE, timeout: float = TIMEOUT) -> Seen:
    record = fabric_pb2.ClaimRecord(execution_id=execution, executor="svc")
    record.timeout.FromMilliseconds(round(timeout * 1000))
    return Seen(Claim("k", record, 1), executor)


NOBODY = Seen(None)
SETTLED = Seen(Claim("k", fabric_pb2.ClaimRecord(outcome=unknown("pay")), 1))


@pytest.mark.parametrize("idempotent", [True, False])
def test_an_outcome_is_the_answer_at_any_time(idempotent: bool) -> None:
    for now in (START, START + 1000):
        assert waiting(idempotent=idempotent).next_step(SETTLED, now) is Step.ANSWER


def test_a_call_that_nobody_claims_is_given_up_when_its_time_is_over() -> None:
    wait = waiting()
    assert wait.next_step(NOBODY, START + TIMEOUT + MARGIN - 0.1) is Step.WAIT
    assert wait.next_step(NOBODY, START + TIMEOUT + MARGIN) is Step.ABANDON


def test_an_executor_that_is_there_has_its_time_from_when_it_is_seen() -> None:
    wait = waiting()
    seen = START + TIMEOUT  # long after the request: it came late
    assert wait.next_step(running(timeout=3), seen) is Step.WAIT
    assert wait.next_step(running(timeout=3), seen + 3 + MARGIN - 0.1) is Step.WAIT
    assert wait.next_step(running(timeout=3), seen + 3 + MARGIN) is Step.WRITE_OFF


def test_an_executor_that_hangs_is_not_followed_by_another() -> None:
    wait = waiting(idempotent=True)
    wait.next_step(running(), START)
    for presence in (Presence.THERE, Presence.UNKNOWN):
        assert wait.next_step(running(executor=presence), START + TIMEOUT + MARGIN) is Step.WRITE_OFF


def test_an_executor_is_dead_when_nobody_listens_for_long_enough() -> None:
    wait = waiting()
    assert wait.next_step(running(executor=Presence.GONE), START) is Step.WAIT
    assert wait.next_step(running(executor=Presence.GONE), START + GONE_AFTER - 0.1) is Step.WAIT
    assert wait.next_step(running(executor=Presence.GONE), START + GONE_AFTER) is Step.WRITE_OFF


@pytest.mark.parametrize("sign", [running(), running(executor=Presence.UNKNOWN), None])
def test_whatever_is_not_silence_begins_the_proof_of_death_anew(sign: Seen | None) -> None:
    wait = waiting()
    wait.next_step(running(executor=Presence.GONE), START)
    wait.next_step(sign, START + 1)
    assert wait.next_step(running(executor=Presence.GONE), START + GONE_AFTER) is Step.WAIT
    assert wait.next_step(running(executor=Presence.GONE), START + 2 * GONE_AFTER) is Step.WRITE_OFF


def test_what_may_run_again_does_when_its_executor_is_dead_and_only_so_often() -> None:
    wait, now = waiting(idempotent=True), START
    for number in range(MAX_RERUNS):
        assert wait.next_step(running(f"exe_{number}", Presence.GONE), now) is Step.WAIT
        now += GONE_AFTER
        assert wait.next_step(running(f"exe_{number}", Presence.GONE), now) is Step.RUN_AGAIN
    assert wait.next_step(running("exe_last", Presence.GONE), now) is Step.WAIT
    assert wait.next_step(running("exe_last", Presence.GONE), now + GONE_AFTER) is Step.WRITE_OFF


def test_a_rerun_that_nobody_takes_is_asked_for_again_before_it_is_written_off() -> None:
    wait, now = waiting(idempotent=True), START
    steps = []
    while not steps or steps[-1] is not Step.WRITE_OFF:
        steps.append(wait.next_step(running(executor=Presence.GONE), now))
        now += 1
    assert steps.count(Step.RUN_AGAIN) == MAX_RERUNS
    assert now < START + TIMEOUT + MARGIN + 2


def test_the_next_execution_has_its_own_time() -> None:
    wait = waiting(idempotent=True)
    wait.next_step(running("exe_1"), START)
    assert wait.next_step(running("exe_2"), START + TIMEOUT) is Step.WAIT
    assert wait.next_step(running("exe_2"), START + 2 * TIMEOUT + MARGIN - 0.1) is Step.WAIT
    assert wait.next_step(running("exe_2"), START + 2 * TIMEOUT + MARGIN) is Step.WRITE_OFF


def test_records_that_cannot_be_read_are_waited_for_and_only_so_long() -> None:
    wait = waiting()
    end = START + TIMEOUT + MARGIN + RECORDS_WAIT
    assert wait.next_step(None, end - 0.1) is Step.WAIT
    assert wait.next_step(NOBODY, end - 0.1) is Step.ABANDON
    assert wait.next_step(None, end) is Step.GIVE_UP


@pytest.mark.parametrize("idempotent", [True, False])
def test_however_it_goes_the_wait_ends(idempotent: bool) -> None:
    sights = [None, NOBODY, *[running(executor=presence) for presence in Presence]]
    limit = START + (1 + MAX_RERUNS) * (TIMEOUT + MARGIN) + RECORDS_WAIT + GONE_AFTER
    for pattern in itertools.product(sights, repeat=3):
        wait, now, looks = waiting(idempotent=idempotent), START, itertools.cycle(pattern)
        step = Step.WAIT
        while step in (Step.WAIT, Step.RUN_AGAIN):
            now += 1
            assert now < limit, pattern
            step = wait.next_step(next(looks), now)
