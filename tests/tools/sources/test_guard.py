"""The policy of remote calls: breaker, retries, what is unknown, secrets."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from services.tools import results
from services.tools.context import OutcomeUnknownError, ToolContext, ToolError, ToolUnavailableError
from services.tools.sources.breaker import Breaker
from services.tools.sources.guard import Guard
from services.tools.sources.pace import Pace
from services.tools.sources.secrets import SecretRef, Secrets
from services.tools.sources.source import SourceError


def context(seconds: float = 60.0) -> ToolContext:
    return ToolContext("t", "e", "k", "s", "acme", "", {}, deadline=time.perf_counter() + seconds)


def test_breaker_opens_after_failures_in_a_row_and_tries_once() -> None:
    breaker = Breaker(threshold=3, pause=10)
    for _ in range(2):
        breaker.failed(0)
    breaker.succeeded()
    for _ in range(2):
        assert breaker.wait(1) == 0
        breaker.failed(1)
    assert not breaker.open
    breaker.failed(1)
    assert breaker.open
    assert breaker.wait(4) == 7
    assert breaker.wait(11) == 0  # one may try
    assert breaker.wait(11) > 0  # and no other meanwhile
    breaker.abandoned()
    assert breaker.wait(12) == 0  # that one told nothing: another may
    breaker.failed(12)
    assert breaker.wait(13) == 9
    assert breaker.wait(22) == 0
    breaker.succeeded()
    assert not breaker.open
    assert breaker.wait(22) == 0


def test_pace_lets_a_burst_through_and_then_no_more_than_its_rate() -> None:
    pace = Pace(rate=10, burst=3)
    assert [pace.wait(100.0) for _ in range(4)] == [0, 0, 0, pytest.approx(0.1)]
    assert pace.wait(200.0) == 0
    strict = Pace(rate=1, burst=2)
    assert [strict.allows(0.0) for _ in range(3)] == [True, True, False]
    assert strict.allows(1.0)


class Attempts:
    def __init__(self, *outcomes: object) -> None:
        self.outcomes = list(outcomes)
        self.count = 0

    async def __call__(self) -> Any:
        self.count += 1
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


LOST = ToolUnavailableError("gone", may_have_run=True)
REFUSED = ToolUnavailableError("not run: away", may_have_run=False)


@pytest.mark.parametrize(
    ("idempotent", "outcomes", "count", "expected"),
    [
        (True, [LOST, REFUSED, {"a": 1}], 3, {"a": 1}),
        (True, [LOST, LOST, LOST], 3, ToolError),
        (True, [ToolError("no"), 1], 1, ToolError),
        (False, [LOST, 1], 1, OutcomeUnknownError),
        (False, [REFUSED, 1], 1, ToolError),
        (False, [5], 1, 5),
    ],
)
async def test_only_what_is_idempotent_is_tried_again(
    idempotent: bool, outcomes: list[object], count: int, expected: Any
) -> None:
    attempts = Attempts(*outcomes)
    guard = Guard("far", Secrets(Path()), retries=2)
    try:
        ended: Any = await guard.call(attempts, context(), idempotent=idempotent)
    except ToolError as error:
        ended = type(error)
    assert (ended, attempts.count) == (expected, count)


@pytest.mark.parametrize("idempotent", [True, False])
async def test_retries_end_with_the_time_of_the_call_and_then_the_cause_is_told(idempotent: bool) -> None:
    attempts = Attempts(*[REFUSED] * 20)
    guard = Guard("far", Secrets(Path()), retries=5)
    with pytest.raises(ToolError, match="not run: away"):
        await guard.call(attempts, context(0.0), idempotent=idempotent)
    assert attempts.count == 1


def test_in_a_thread_the_same_holds() -> None:
    for idempotent, expected in ((True, 3), (False, 1)):
        outcomes: list[Any] = [LOST, REFUSED, {"a": 1}]

        def attempt(left: list[Any] = outcomes) -> Any:
            outcome = left.pop(0)
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        guard = Guard("far", Secrets(Path()), retries=2)
        try:
            ended: Any = guard.call_in_thread(attempt, context(), idempotent=idempotent)
        except ToolError as error:
            ended = type(error)
        assert ended == ({"a": 1} if idempotent else OutcomeUnknownError)
        assert 3 - len(outcomes) == expected


def test_a_wait_in_a_thread_ends_when_nobody_wants_the_result() -> None:
    called = context(3600)
    guard = Guard("far", Secrets(Path()), retries=5)
    count = 0

    def attempt() -> None:
        nonlocal count
        count += 1
        if count == 2:
            called.cancellation.set()
        raise REFUSED

    ended: list[str] = []

    def run() -> None:
        with pytest.raises(ToolError) as caught:
            guard.call_in_thread(attempt, called, idempotent=True)
        ended.append(str(caught.value))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(30)
    assert ended == ["not run: away"]
    assert count == 2


@pytest.mark.parametrize(
    ("seconds", "slow_is_failure", "opens"), [(60.0, True, False), (0.0, True, True), (0.0, False, False)]
)
async def test_call_that_is_too_slow_counts_and_one_that_is_taken_back_does_not(
    seconds: float, slow_is_failure: bool, opens: bool
) -> None:
    breaker = Breaker(threshold=1)
    guard = Guard("far", Secrets(Path()), retries=0, breaker=breaker, slow_is_failure=slow_is_failure)
    running = asyncio.create_task(guard.call(asyncio.Event().wait, context(seconds), idempotent=True))
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running})
    assert breaker.open == opens


async def test_open_breaker_calls_nothing() -> None:
    breaker = Breaker(threshold=1, pause=30)
    breaker.failed(time.monotonic())
    attempts = Attempts(1)
    with pytest.raises(ToolError, match=r"not run: far keeps failing; try again in (29|30) s"):
        await Guard("far", Secrets(Path()), retries=2, breaker=breaker).call(attempts, context(), idempotent=True)
    assert attempts.count == 0


def test_secrets_are_hidden_in_every_form_that_a_text_has_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = 'a"b\\c-däta'
    monkeypatch.setenv("A_SECRET", secret)
    (tmp_path / "key").write_text("-----BEGIN\nabc\n-----END\n")
    secrets = Secrets(tmp_path)
    assert secrets.resolve(SecretRef(env="A_SECRET", prefix="Bearer ")) == f"Bearer {secret}"
    assert secrets.resolve("plain") == "plain"
    key = secrets.resolve(SecretRef(file=Path("key")), lines=True)
    assert key == "-----BEGIN\nabc\n-----END"
    for text in (secret, key, json.dumps(secret), json.dumps(key), repr(key), repr({"k": key}), f"<{secret}>"):
        hidden = secrets.hide(f"plain {text}")
        assert hidden.startswith("plain ")
        assert "[secret]" in hidden
        assert "däta" not in hidden
        assert "abc" not in hidden
        assert Secrets.hide_all(text) != text
    assert Secrets(tmp_path).hide(secret) == secret  # those of one source are no matter of another one's answers


def test_secrets_are_hidden_wherever_they_stand_in_a_result() -> None:
    def hide(text: str) -> str:
        return text.replace("1234567", "[secret]")

    value = {"x": ["<1234567>", 1234567, 1234567.5, 7], "1234567": {"n": 12.5}}
    assert json.loads(results.encode(value, 1000, hide)) == {
        "x": ["<[secret]>", "[secret]", "[secret].5", 7],
        "[secret]": {"n": 12.5},
    }


def test_secret_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NO_SUCH_SECRET", raising=False)
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "lines").write_text("a\nb")
    (tmp_path / "binary").write_bytes(b"\xff")
    for reference, said in {
        SecretRef(env="NO_SUCH_SECRET"): "the environment variable NO_SUCH_SECRET is not set",
        SecretRef(file=Path("empty")): "empty is empty",
        SecretRef(file=Path("lines")): "has more than one line",
        SecretRef(file=Path("binary")): "is not text",
        SecretRef(file=Path("none")): "No such file",
    }.items():
        with pytest.raises(SourceError, match=said):
            Secrets(tmp_path).resolve(reference)
