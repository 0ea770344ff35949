"""Figures: what is subtracted from what, and what is divided by what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from bench.figures import Figure, against, comparison
from bench.load.tally import Account, Counts, Times

MS = 1_000_000
CLEAN = Counts()


@dataclass
class Run:
    account: Account
    cpu: Mapping[str, float]
    session_seconds: float
    memory: Mapping[str, int]


def run(counts: Counts, latencies: list[float], cpu: Mapping[str, float], memory: Mapping[str, int]) -> Run:
    times = Times()
    for latency in latencies:
        times.add(round(latency * MS))
    return Run(Account(counts, times, times), cpu, 100.0, memory)


def fabric(latencies: list[float], counts: Counts = CLEAN, kib: int = 300) -> Run:
    cpu = {"gateway": 2.0, "worker": 1.0, "nats_server": 0.5, "load": 9.0}
    return run(counts, latencies, cpu, {"gateway": kib * 2048, "worker": kib * 1024, "nats_server": 0, "load": 5})


def bare(latencies: list[float], counts: Counts = CLEAN, kib: int = 100) -> Run:
    return run(counts, latencies, {"bare": 2.5}, {"bare": kib * 1024})


FLOOR = run(Counts(), [0.0], {"floor": 0.5}, {"floor": 0})


def figures(fabrics: list[Run], bares: list[Run], floors: list[Run]) -> dict[str, Figure]:
    found = comparison(20, 10, fabrics, bares, floors)
    assert all(one.n == 10 and one.figure.endswith("/20ms") for one in found)
    return {one.figure.removesuffix("/20ms"): one for one in found}


def values(figure: Figure) -> tuple[float | None, float | None, float | None]:
    return figure.value, figure.baseline, figure.ratio


def test_latency_is_added_to_the_direct_one_and_both_are_of_all_runs_together() -> None:
    found = figures([fabric([2, 3]), fabric([4, 9])], [bare([1, 1]), bare([2, 2])], [FLOOR])
    assert values(found["added_latency_p50"]) == (2, 1, 3)
    assert values(found["added_latency_p95"]) == values(found["added_latency_p99"]) == (7, 2, 4.5)
    assert found["added_latency_p50"].unit == "ms"


def test_a_fabric_that_is_faster_adds_less_than_nothing() -> None:
    assert values(figures([fabric([1])], [bare([2])], [FLOOR])["added_latency_p50"]) == (-1, 2, 0.5)


def test_cpu_is_for_one_session_in_one_second_over_the_bare_loop_without_its_load() -> None:
    found = figures([fabric([1]), fabric([1])], [bare([1])], [FLOOR])
    assert values(found["cpu_bare"]) == (0.02, 0.025, 0.8)
    assert values(found["cpu_gateway"]) == (0.02, 0.02, 1)
    assert values(found["cpu_worker"]) == (0.01, 0.02, 0.5)
    assert values(found["cpu_nats_server"]) == (0.005, 0.02, 0.25)
    assert values(found["cpu_gateway_and_worker"]) == (0.03, 0.02, 1.5)
    assert values(found["cpu_sum"]) == (0.035, 0.02, 1.75)


def test_memory_is_what_came_with_the_first_calls_of_the_processes_life() -> None:
    found = figures([fabric([1]), fabric([1], kib=0)], [bare([1]), bare([1], kib=0)], [FLOOR])
    assert values(found["memory_gateway"]) == (60, 10, 6)
    assert values(found["memory_worker"]) == (30, 10, 3)
    assert values(found["memory_nats_server"]) == (0, 10, 0)


def test_what_is_amiss_is_counted_over_all_runs() -> None:
    wrong = Counts(sent=9, received=5, lost=1, duplicated=2, out_of_order=3, damaged=4)
    found = figures([fabric([1], wrong), fabric([1], wrong)], [bare([1], Counts(lost=1))], [FLOOR])
    amiss = ("lost", "duplicated", "out_of_order", "damaged")
    assert [values(found[name])[:2] for name in amiss] == [(2, 1), (4, 0), (6, 0), (8, 0)]


def test_where_nothing_came_back_there_is_no_latency() -> None:
    assert values(figures([fabric([])], [bare([1])], [FLOOR])["added_latency_p99"]) == (None, 1, None)
    assert values(figures([fabric([1])], [bare([])], [FLOOR])["added_latency_p99"]) == (None, None, None)


@pytest.mark.parametrize("baseline", [None, 0.0, -0.1])
def test_there_is_no_ratio_to_nothing(baseline: float | None) -> None:
    assert against("x", 1.0, baseline, unit="u", n=1, digits=1).ratio is None


def test_a_line_is_json_with_these_fields() -> None:
    line = json.loads(str(Figure("lost/20ms", 0, "frames", 5, None, None)))
    assert line == {"figure": "lost/20ms", "value": 0, "unit": "frames", "n": 5, "baseline": None, "ratio": None}
