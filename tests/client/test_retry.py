"""When a lost or refused stream is tried again, and when it is given up: without clock, network or chance."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from parley import _retry
from parley._retry import FIRST_BACKOFF, LAST_BACKOFF, LATER, STEADY, UNREACHED, Retry, time_mends
from parley.errors import ParleyError

CONTRACT = (Path(__file__).parents[2] / "docs" / "converse.md").read_text()
LOST = ParleyError("connection reset", code="UNAVAILABLE")
WINDOW = 120.0


def refused(reason, seconds=None, code="UNAVAILABLE"):
    delay = None if seconds is None else timedelta(seconds=seconds)
    return ParleyError("no", code=code, reason=reason, retry_delay=delay)


def longest(low, high):
    return high


def retry(now=0.0, *, open_timeout=30.0, max_outage=None, window=None, uniform=longest):
    decision = Retry(now, open_timeout=open_timeout, max_outage=max_outage, uniform=uniform)
    if window is not None:
        decision.opened(window, now)
    return decision


# -- which -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reason", "code", "do"), re.findall(r"^\| `(\w+)` \| (\w+) \| ([\w ]+) \|", CONTRACT, re.M))
def test_of_the_services_reasons_exactly_those_are_tried_again_that_the_contract_says(reason, code, do):
    """RetryInfo or not: SUPERSEDED stays what it is."""
    for seconds in (None, 1.0):
        assert time_mends(refused(reason, seconds, code)) is (do in {"wait", "retry"})


@pytest.mark.parametrize(
    ("code", "do"),
    re.findall(r"^\| (UNAVAILABLE|CANCELLED|INTERNAL|RESOURCE_EXHAUSTED|UNIMPLEMENTED) \| ([\w ]+) \|", CONTRACT, re.M),
)
def test_without_a_reason_the_code_decides(code, do):
    assert time_mends(ParleyError("x", code=code)) is (do == "wait")


def test_the_tables_of_the_contract_were_found():
    assert len(re.findall(r"^\| `(\w+)` \| (\w+) \| ([\w ]+) \|", CONTRACT, re.M)) > 25
    assert not time_mends(ParleyError("x", code="DATA_LOSS"))


def test_a_reason_of_a_newer_release_is_tried_again_when_it_says_when():
    assert time_mends(refused("MOON_IN_THE_WRONG_PHASE", 1.0, "FAILED_PRECONDITION"))
    assert not time_mends(refused("MOON_IN_THE_WRONG_PHASE"))


# -- when ------------------------------------------------------------------------------------------------------------


def test_delays_double_up_to_a_bound_and_begin_anew_with_each_outage():
    decision = retry(window=WINDOW)
    delays = [decision.lost(LOST, 1.0, "a")] + [decision.failed(LOST, 1.0) for _ in range(6)]
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert (FIRST_BACKOFF, LAST_BACKOFF) == (0.1, 2.0)
    assert decision.tries == 7
    decision.opened(WINDOW, 2.0)
    assert decision.lost(LOST, 3.0, "b") == 0.1
    assert (decision.tries, decision.began) == (1, 3.0)


def test_half_of_a_delay_is_chance():
    decision = retry(window=WINDOW, uniform=lambda low, high: low)
    assert decision.lost(LOST, 1.0, "a") == 0.05


def test_what_the_service_says_is_waited_for_and_little_longer():
    for uniform, delay in ((min, 0.3), (max, 0.3 * LATER)):
        decision = retry(window=WINDOW, uniform=uniform)
        assert decision.lost(refused("GATEWAY_DRAINING", 0.3), 0.0, "a") == pytest.approx(delay)
    # A service that says "at once" again and again is not called in a circle.
    assert retry(window=WINDOW).lost(refused("NO_WORKER", 0.0), 0.0, "a") > 0.04


# -- how long --------------------------------------------------------------------------------------------------------


def last_try(decision, error, now):
    """When the last call is made, if each fails at once."""
    delay = decision.lost(error, now, "a")
    while delay is not None:
        now += delay
        delay = decision.failed(error, now)
    return now


@pytest.mark.parametrize(
    ("window", "max_outage", "limit"), [(120.0, None, 120.0), (120.0, 10.0, 10.0), (1.0, 10.0, 1.0), (0.0, None, 0.0)]
)
def test_an_outage_is_bounded_by_the_window_and_by_what_the_caller_allows(window, max_outage, limit):
    decision = retry(window=window, max_outage=max_outage)
    end = last_try(decision, LOST, 50.0) - 50.0
    assert end <= limit
    assert end > limit - LAST_BACKOFF - 0.1
    assert decision.left(50.0 + limit) == 0.0


def test_a_delay_beyond_the_limit_is_not_waited_for():
    decision = retry(window=20.0)
    assert decision.lost(refused("BACKEND_QUOTA", 30.0), 0.0, "a") is None


def test_zero_tries_nothing_again():
    decision = retry(max_outage=0.0)
    assert not decision.enabled
    assert decision.failed(LOST, 0.0) is None
    decision.opened(WINDOW, 1.0)
    assert decision.lost(LOST, 2.0, "a") is None
    assert decision.tries == 0


def test_what_time_does_not_mend_ends_an_outage():
    decision = retry(window=WINDOW)
    assert decision.lost(refused("SUPERSEDED", code="ABORTED"), 0.0, "a") is None
    assert decision.tries == 0
    assert decision.lost(LOST, 1.0, "b") is not None
    assert decision.failed(refused("RESUME_REFUSED", code="PERMISSION_DENIED"), 2.0) is None


def test_streams_that_bring_the_conversation_no_further_are_one_outage():
    """Otherwise a session that brings down each gateway it comes to would do so for ever, ten times a second."""
    decision, now = retry(window=20.0), 0.0
    delay = decision.lost(LOST, now, "same")
    losses = 0
    while delay is not None:
        losses += 1
        now += delay
        decision.opened(20.0, now)
        delay = decision.lost(LOST, now, "same")
    assert losses < 20
    assert now <= 20.0


def test_a_quiet_stream_that_lasted_is_no_part_of_an_outage():
    decision = retry(window=20.0)
    decision.lost(LOST, 0.0, "same")
    decision.opened(20.0, 0.1)
    assert decision.lost(LOST, 0.1 + STEADY, "same") == FIRST_BACKOFF
    assert decision.began == 0.1 + STEADY


# -- opening ---------------------------------------------------------------------------------------------------------


def opening_ends(decision, error):
    now = 0.0
    while (delay := decision.failed(error, now)) is not None:
        now += delay
    return now


def test_an_open_is_repeated_within_its_timeout():
    end = opening_ends(retry(open_timeout=30.0), refused("NO_CAPACITY", 0.5, "RESOURCE_EXHAUSTED"))
    assert 29 < end <= 30
    assert opening_ends(retry(), refused("CREDENTIAL_INVALID", code="UNAUTHENTICATED")) == 0.0


def test_an_address_where_nobody_answers_is_given_up_sooner():
    assert UNREACHED - LAST_BACKOFF - 0.1 < opening_ends(retry(open_timeout=30.0), LOST) <= UNREACHED == 5
    assert opening_ends(retry(open_timeout=1.0), LOST) <= 1.0
    decision = retry(open_timeout=30.0)
    assert decision.failed(refused("NO_WORKER", 2.0), 4.0) is not None
    assert decision.failed(LOST, 7.0) is not None  # somebody did answer a moment ago


# -- beside a gateway that drains ------------------------------------------------------------------------------------


def test_beside_a_draining_stream_there_is_no_hurry_and_no_end():
    decision = retry(window=WINDOW)
    assert decision.draining(1.0, "a") == 0.0
    draining = refused("GATEWAY_DRAINING", 1.0)
    assert [decision.beside(draining) for _ in range(3)] == [pytest.approx(LATER)] * 3
    assert decision.beside(refused("RESUME_REFUSED")) is None


def test_gateways_that_pass_a_session_round_are_slowed_down():
    decision = retry(window=WINDOW)
    assert [decision.draining(now, "same") for now in (0.0, 0.1, 0.2)] == [0.0, FIRST_BACKOFF, 2 * FIRST_BACKOFF]
    assert decision.draining(0.3, "it went on") == 0.0
    assert decision.draining(STEADY, "it went on") == 0.0
    assert decision.lost(LOST, 20.0, "it went on") == FIRST_BACKOFF
    assert decision.left(20.0) == WINDOW


def test_the_reasons_are_those_of_the_service():
    assert _retry._WAIT <= _retry._KNOWN
