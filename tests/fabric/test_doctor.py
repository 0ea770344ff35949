"""What the doctor makes of what it finds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from parley.v1 import fleet_pb2
from services.fabric.doctor import judgement
from services.fabric.doctor.judgement import Finding, Instance, Level, ToolsAnswer, WorkerAnswer, verdict

MIB = 1024 * 1024


def levels(findings: Iterable[Finding]) -> list[str]:
    found = list(findings)
    for each in found:
        assert bool(each.mend) == (each.level in (Level.WARNING, Level.PROBLEM)), each
    return [each.level.value for each in found]


def worker(name: str = "wk_1", *, lag: float = 0.0, **values: Any) -> fleet_pb2.Worker:
    made = fleet_pb2.Worker(**{"worker": name, "sessions": 1, "capacity": 10, "version": "0.1.0"} | values)
    made.loop_lag.FromMilliseconds(round(lag * 1000))
    return made


@pytest.mark.parametrize(
    ("version", "payload", "round_trip", "told"),
    [
        ("2.15.1", 4 * MIB, 0.001, ["ok"]),
        ("3.0.0", 8 * MIB, 0.001, ["ok"]),
        ("2.11.4", 4 * MIB, 0.001, ["warning"]),
        ("2.15.1", MIB, 0.001, ["ok", "problem"]),
        ("2.15.1", 4 * MIB, 0.2, ["warning"]),
        ("unknown", 4 * MIB, 0.001, ["ok"]),
    ],
)
def test_nats(version: str, payload: int, round_trip: float, told: list[str]) -> None:
    assert levels(judgement.nats("nats://a:1", version, payload, round_trip)) == told


def test_what_the_doctor_may_not_see_is_a_problem_once() -> None:
    denied = 'nats: permissions violation for subscription to "parley.fleet.announce"'
    found = list(judgement.permissions([denied, "nats: stale connection", denied]))
    assert levels(found) == ["problem"]
    assert found[0].message.startswith("permissions violation for subscription to")


@pytest.mark.parametrize(
    ("info", "told"),
    [
        ({}, ["ok"]),
        ({"state": {"bytes": 90}, "config": {"max_bytes": 100}}, ["warning"]),
        ({"state": {"bytes": 70}, "config": {"max_bytes": 100}}, ["ok"]),
        ({"state": {"bytes": 70}, "config": {"max_bytes": -1}}, ["ok"]),
        ({"cluster": {"name": "c", "leader": ""}}, ["problem"]),
        ({"cluster": {"leader": "a", "replicas": [{"name": "b", "current": True}]}}, ["ok"]),
        ({"cluster": {"leader": "a", "replicas": [{"name": "b", "current": False}]}}, ["warning"]),
        ({"cluster": {"leader": "a", "replicas": [{"name": "b", "offline": True}, {"name": "c"}]}}, ["warning"]),
        (None, []),
    ],
)
def test_streams(info: dict[str, Any] | None, told: list[str]) -> None:
    assert levels(judgement.stream("PARLEY_SESSIONS", info, [])) == told


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([], ["problem"]),
        ([WorkerAnswer(worker(), True)], ["ok"]),
        ([WorkerAnswer(worker(), False)], ["problem"]),
        ([WorkerAnswer(worker(lag=0.5), True)], ["warning"]),
        ([WorkerAnswer(worker(draining=True), True)], ["ok", "problem"]),
        ([WorkerAnswer(worker(sessions=10), True)], ["ok", "problem"]),
        ([WorkerAnswer(worker(draining=True), True), WorkerAnswer(worker("wk_2"), True)], ["ok", "ok"]),
    ],
)
def test_workers(answers: list[WorkerAnswer], told: list[str]) -> None:
    assert levels(judgement.workers(answers)) == told


def test_what_the_backend_said_is_told_of_those_that_were_asked() -> None:
    answers = [WorkerAnswer(worker(), True, said) for said in (None, "", "the endpoint refused the key")]
    assert levels(judgement.backend(answers)) == ["ok", "problem"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (ToolsAnswer([]), ["note"]),
        (ToolsAnswer([], declared=frozenset("a")), ["problem"]),
        (ToolsAnswer([Instance("tools", "t", "0.1.0")], frozenset("a"), frozenset("a")), ["ok"]),
        (ToolsAnswer([Instance("tools", "t", "0.1.0")], frozenset("a"), frozenset("ab")), ["ok", "warning"]),
    ],
)
def test_tools(answer: ToolsAnswer, told: list[str]) -> None:
    assert levels(judgement.tools(answer)) == told


@pytest.mark.parametrize(
    ("mine", "theirs", "told"),
    [
        ("0.1.0", [], []),
        ("0.1.0", [""], []),
        ("0.1.0", ["0.1.0", "0.1.7"], ["ok"]),
        ("0.2.0", ["0.1.0", "0.2.0"], ["note"]),
        ("0.3.0", ["0.1.0", "0.3.0"], ["problem"]),
        ("1.0.0", ["0.9.0", "1.0.0"], ["problem"]),
        ("0.5.0", ["0.1.0"], ["ok", "warning"]),
        ("0.1.0", ["0.5.0"], ["ok", "warning"]),
    ],
)
def test_versions(mine: str, theirs: list[str], told: list[str]) -> None:
    found = [Instance("worker", f"wk_{number}", version) for number, version in enumerate(theirs)]
    assert levels(judgement.versions(mine, found)) == told


def test_clocks() -> None:
    assert levels([judgement.clock("nats-server", 0.5)]) == ["ok"]
    ahead, behind = judgement.clock("nats-server", 3.0), judgement.clock("nats-server", -3.0)
    assert "3.0 s ahead of" in ahead.message
    assert "3.0 s behind" in behind.message


def test_only_a_problem_is_one_for_scripts() -> None:
    assert verdict([Finding(Level.WARNING, "x", "y"), Finding(Level.NOTE, "x", "y")]) == 0
    assert verdict([Finding(Level.OK, "x", "y"), Finding(Level.PROBLEM, "x", "y")]) == 1
