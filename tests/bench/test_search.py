"""The search finds the largest number that holds, and ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.search import Probe, Search


def search(start: int, limit: int, holds: Callable[[Probe], bool]) -> tuple[int, list[Probe]]:
    """The result and every probe."""
    sought, probes = Search(start, limit), []
    while (probe := sought.probe) is not None:
        probes.append(probe)
        assert len(probes) < 100
        sought.report(held=holds(probe))
    return sought.found, probes


@pytest.mark.parametrize("limit", [1, 2, 7, 50, 1000])
@pytest.mark.parametrize("start", [1, 8, 2000])
def test_it_comes_within_five_percent_of_any_true_value(start: int, limit: int) -> None:
    for true in range(0, limit + 1, max(1, limit // 50)):
        found, probes = search(start, limit, lambda probe, true=true: probe.n <= true)  # type: ignore[misc]
        assert found <= true <= found + max(1, found // 20) - (true < limit and found == true)
        assert all(1 <= probe.n <= limit for probe in probes)
        assert not found or probes[-1] == Probe(found, proof=True)


def test_the_way_there() -> None:
    found, probes = search(8, 1000, lambda probe: probe.n <= 21)
    assert found == 21
    assert [probe.n for probe in probes] == [8, 16, 32, 32, 24, 24, 20, 22, 22, 21, 21]
    assert [probe.proof for probe in probes] == [False] * 10 + [True]


def test_one_failure_is_a_hiccup() -> None:
    seen: set[Probe] = set()

    def every_first_time_fails(probe: Probe) -> bool:
        known = probe in seen
        seen.add(probe)
        return known and probe.n <= 10

    assert search(8, 100, every_first_time_fails)[0] == 10


def test_what_does_not_hold_for_longer_is_stepped_down_from() -> None:
    found, probes = search(8, 100, lambda probe: probe.n <= (57 if probe.proof else 64))
    proofs = [probe.n for probe in probes if probe.proof]
    assert proofs == [64, 64, 61, 61, 55]
    assert found == 55


def test_nothing_may_hold_for_longer() -> None:
    assert search(2, 100, lambda probe: not probe.proof and probe.n <= 2)[0] == 0


def test_nothing_may_hold_at_all() -> None:
    found, probes = search(4, 100, lambda _: False)
    assert found == 0
    assert [probe.n for probe in probes] == [4, 4, 2, 2, 1, 1]
