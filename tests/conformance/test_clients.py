"""Clients under `parley conformance --client`: good ones pass everything, each bad one fails what it should."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from pathlib import Path

import pytest

from parley.conformance.client_checks import CLIENT_CHECKS
from parley.conformance.client_run import run_client_check, run_client_checks
from parley.conformance.outcome import Outcome
from tests.conformance.bad_client import FAULTS
from tests.support.node import INSTALLED, node_caller, with_node

ROOT = Path(__file__).parents[2]
SPEECH = ROOT / "parley" / "cli" / "demo_data" / "weather_paris.wav"
PYTHON_CALLER = [sys.executable, str(ROOT / "examples" / "bare_stub.py")]
BAD_CLIENT = [sys.executable, "-m", "tests.conformance.bad_client"]
PATIENCE = {"never_acks": 4.0, "sends_nothing_again": 4.0}
"""Seconds; for bad clients that keep silent, which costs as much. 10 for the others, who cost what they cost."""


(SNIPPET,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "converse.md").read_text(), re.M | re.S)
ONE_SHOT = [sys.executable, "-c", SNIPPET, "{target}"]
"""Half-closes at once: it can ack nothing, and need not."""
TALK = [sys.executable, "-m", "parley.cli", "talk", "--target", "{target}"]
GOOD = {
    "client": ([sys.executable, "-m", "tests.conformance.python_client", "{target}"], list(CLIENT_CHECKS)),
    "talk": ([*TALK, "--text", "hello"], list(CLIENT_CHECKS)),
    "talk speaks": ([*TALK, "--wav", str(SPEECH)], ["real-time", "resume", "resume-acked", "draining"]),
    "python": (PYTHON_CALLER, list(CLIENT_CHECKS)),
    "node": (node_caller(), list(CLIENT_CHECKS)),
    "python speaks": ([*PYTHON_CALLER, "--wav", str(SPEECH)], ["real-time", "resume", "resume-acked"]),
    "python in ten lines": (ONE_SHOT, ["conversation", "acks", "barge-in", "gaps", "payloads", "unknown"]),
    "node speaks": ([*node_caller(), "--wav", str(SPEECH)], ["real-time", "resume", "resume-acked"]),
}


async def outcomes(words: list[str], names: list[str]) -> list[Outcome]:
    checks = [CLIENT_CHECKS[name] for name in names]
    return [o async for o in run_client_checks(checks, shlex.join(words), at_once=1, patience=25, limit=60)]


@pytest.fixture(scope="module")
def good() -> dict[str, list[Outcome]]:
    """Callers of every kind at once, one of each: starting one costs more than its call, and who starves is late."""

    async def all_of_them() -> list[list[Outcome]]:
        return await asyncio.gather(*(outcomes(words, names) for words, names in there.values()))

    there = {name: what for name, what in GOOD.items() if INSTALLED or not name.startswith("node")}
    return dict(zip(there, asyncio.run(all_of_them()), strict=True))


@pytest.mark.parametrize("name", with_node(GOOD))
def test_a_good_caller_passes(good: dict[str, list[Outcome]], name: str) -> None:
    found = good[name]
    assert not [f"{outcome.line()} {outcome.stderr}" for outcome in found if not outcome.passed]
    assert [outcome.name for outcome in found] == GOOD[name][1]
    if name == "client":
        assert {outcome.name: outcome.detail for outcome in found}["barge-in"] == ""  # it does say what it plays
    if name.endswith("speaks"):
        assert int(found[0].detail.split()[0]) > 20  # numbered messages


# Sabotage: what is wrong with the client, the check that must see it, and what the verdict says.
SABOTAGE = [
    ("numbers_from_two", "conversation", "sent `text` with seq 2; expected 1"),
    ("no_request_id", "conversation", "`open.request_id` must match"),
    ("opens_twice", "conversation", "sent `open` a second time"),
    ("vanishes_without_a_word", "conversation", "ended with status 0 before `end` or a half-close"),
    ("sends_all_speech_at_once", "real-time", "faster than real time"),
    ("never_acks", "acks", "an ack: 0.4 s of audio lie beyond the last one (0)"),
    ("acks_are_numbered", "acks", "`ack` must carry seq 0, not 1"),
    ("acks_the_future", "acks", "but the newest message is"),
    ("a_message_without_payload_is_an_error", "acked-seq", "ended with status 1 before `end`"),
    ("a_message_without_payload_is_an_error", "unknown", "ended with status 1 before an ack"),
    ("a_hole_is_an_error", "barge-in", "ended with status 1 before an ack"),
    ("a_hole_is_an_error", "gaps", "ended with status 1 before an ack"),
    ("plays_on_when_interrupted", "barge-in", "after it was interrupted"),
    ("an_event_that_is_not_used_is_an_error", "payloads", "ended with status 1 before an ack"),
    ("opens_another_session_when_one_has_ended", "ended", "called `Converse` again"),
    ("resumes_a_session_that_has_ended", "ended-failed", "tried to resume a session that is over"),
    ("a_new_request_id_each_time", "retry-open", "that makes a second session"),
    ("does_not_wait", "retry-open", "RetryInfo said 0.5 s"),
    ("retries_nothing", "retry-open", "ended with status 1 before the same `open` again"),
    ("retries_everything", "open-invalid", "called `Converse` again"),
    ("retries_everything", "open-unauthenticated", "called `Converse` again"),
    ("retries_everything", "open-unknown", "called `Converse` again"),
    ("retries_everything", "stream-invalid", "called `Converse` again"),
    ("retries_everything", "stream-superseded", "called `Converse` again"),
    ("retries_everything", "resume-unknown", "tried to resume a session that is over"),
    ("retries_everything", "resume-denied", "tried to resume a session that is over"),
    ("does_not_wait", "resume", "RetryInfo said 0.3 s"),
    ("opens_anew_instead_of_resuming", "resume", "opened a session anew"),
    ("presents_another_token", "resume", "another `resume_token`"),
    ("claims_more_than_it_received", "resume", "and the newest message is"),
    ("sends_nothing_again", "resume", "messages 1 to 1 again"),
    ("sends_something_else_again", "resume", "again with another content"),
    ("retries_only_with_retry_info", "resume-acked", "ended with status 1 before a stream that resumes"),
    ("never_gives_up", "resume-window", "still tries"),
    ("takes_draining_for_the_end", "draining", "ended with status 1 before a stream that resumes"),
]


@pytest.fixture(scope="module")
def verdicts() -> dict[tuple[str, str], Outcome]:
    """All of them at once, a few at a time: each is a process that starts, and most of them wait."""

    async def all_of_them() -> dict[tuple[str, str], Outcome]:
        places = asyncio.Semaphore(10)

        async def one(fault: str, check: str) -> Outcome:
            words = [*BAD_CLIENT, fault, *(["--wav", str(SPEECH)] if check == "real-time" else [])]
            async with places:
                patience = PATIENCE.get(fault, 10)
                return await run_client_check(CLIENT_CHECKS[check], shlex.join(words), patience, 30)

        pairs = [(fault, check) for fault, check, _ in SABOTAGE]
        return dict(zip(pairs, await asyncio.gather(*(one(*pair) for pair in pairs)), strict=True))

    return asyncio.run(all_of_them())


@pytest.mark.parametrize(("fault", "check", "verdict"), SABOTAGE)
def test_a_bad_client_fails(verdicts: dict[tuple[str, str], Outcome], fault: str, check: str, verdict: str) -> None:
    outcome = verdicts[fault, check]
    assert not outcome.passed
    assert verdict in outcome.detail, outcome.line()


def test_every_fault_is_seen_and_every_check_sees_one() -> None:
    assert {fault for fault, _, _ in SABOTAGE} == set(FAULTS)
    assert {check for _, check, _ in SABOTAGE} == set(CLIENT_CHECKS)
