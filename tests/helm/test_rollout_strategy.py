"""Rolling updates and budgets, decided as Kubernetes does."""

from __future__ import annotations

import itertools

import pytest

from tests.helm.rollout.strategy import PodView, Step, may_evict, rolling_update


def pods(*, new: str = "", old: str = "") -> list[PodView]:
    """A letter a pod: `a`vailable, `r`eady, `u`nready."""
    letters = [(letter, True) for letter in new] + [(letter, False) for letter in old]
    return [
        PodView(f"{'new' if current else 'old'}-{index}", current, letter in "ar", letter == "a", index)
        for index, (letter, current) in enumerate(letters)
    ]


@pytest.mark.parametrize(
    ("now", "start", "deleted"),
    [
        (pods(), 3, 0),
        (pods(old="aaa"), 1, 0),
        (pods(new="u", old="aaa"), 0, 0),
        (pods(new="r", old="aaa"), 0, 0),  # minReadySeconds
        (pods(new="a", old="aaa"), 0, 1),
        (pods(new="a", old="aa"), 1, 0),
        (pods(new="ua", old="aa"), 0, 0),
        (pods(new="aaa", old="a"), 0, 1),
        (pods(new="aaa"), 0, 0),
        (pods(new="aaaaa"), 0, 2),
        (pods(new="a"), 2, 0),
        (pods(old="aau"), 1, 0),  # the room of one that does not work is given to a new one first
        (pods(new="u", old="aau"), 0, 0),
        (pods(new="a", old="aau"), 0, 1),
    ],
)
def test_one_round(now: list[PodView], start: int, deleted: int) -> None:
    step = rolling_update(now, replicas=3, surge=1, unavailable=0)
    assert (step.start, len(step.delete)) == (start, deleted)


def test_a_release_that_never_gets_ready_replaces_nothing() -> None:
    now = pods(old="aaa")
    for _ in range(10):
        step = rolling_update(now, replicas=3, surge=1, unavailable=0)
        assert not step.delete
        now += pods(new="u" * step.start)
    assert sum(pod.current for pod in now) == 1


@pytest.mark.parametrize(("replicas", "surge"), list(itertools.product((1, 2, 5, 9), (1, 2, 4))))
def test_a_rollout_ends_and_never_has_too_few(replicas: int, surge: int) -> None:
    now = pods(old="a" * replicas)
    for _ in range(50):
        step = rolling_update(now, replicas=replicas, surge=surge, unavailable=0)
        if step == Step():
            break
        now = [pod for pod in now if pod.name not in step.delete]
        now += [PodView(f"x-{len(now)}-{index}-{_}", True, True, True) for index in range(step.start)]
        assert replicas <= sum(pod.available for pod in now)
        assert len(now) <= replicas + surge
    assert [pod.current for pod in now] == [True] * replicas


@pytest.mark.parametrize(
    ("now", "name", "allowed"),
    [
        (pods(new="aaa"), "new-0", True),
        (pods(new="aar"), "new-0", True),
        (pods(new="aa"), "new-0", False),
        (pods(new="aau"), "new-0", False),
        (pods(new="aau"), "new-2", True),
        (pods(new="aaaa"), "new-0", True),
    ],
)
def test_a_budget_of_one(now: list[PodView], name: str, allowed: bool) -> None:
    assert may_evict(now, name, replicas=3, max_unavailable=1, always_unready=True) is allowed


def test_unready_pods_stay_where_the_budget_says_so() -> None:
    assert not may_evict(pods(new="aau"), "new-2", replicas=3, max_unavailable=1, always_unready=False)
