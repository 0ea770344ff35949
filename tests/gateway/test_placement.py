from __future__ import annotations

import random
from collections import Counter

import pytest

from parley.v1 import errors_pb2, fabric_pb2, fleet_pb2
from services.fabric.errors import ServiceError
from services.gateway.placement import WorkerTable


def announce(
    table: WorkerTable,
    name: str,
    sessions: int = 0,
    capacity: int = 10,
    now: float = 0.0,
    *,
    draining: bool = False,
    leaving: bool = False,
) -> None:
    worker = fleet_pb2.Worker(worker=name, sessions=sessions, capacity=capacity, draining=draining)
    table.heard(fabric_pb2.WorkerAnnouncement(schema_version=1, worker=worker, leaving=leaving), now)


@pytest.fixture
def table() -> WorkerTable:
    return WorkerTable(random.Random(7))


def reason(table: WorkerTable, *exclude: str) -> str:
    with pytest.raises(ServiceError) as raised:
        table.choose(exclude)
    return raised.value.reason_name


def test_nobody_is_there(table: WorkerTable) -> None:
    assert reason(table) == "NO_WORKER"
    announce(table, "")
    assert len(table) == 0


def test_of_two_the_less_loaded_one_is_taken(table: WorkerTable) -> None:
    announce(table, "small", sessions=4, capacity=5)
    announce(table, "big", sessions=40, capacity=100)
    assert {table.choose() for _ in range(20)} == {"big"}


def test_the_fuller_of_three_is_taken_only_when_it_beats_the_other_pick(table: WorkerTable) -> None:
    for name, sessions in (("a", 0), ("b", 500), ("c", 900)):
        announce(table, name, sessions=sessions, capacity=1000)
    picks = Counter(table.choose() for _ in range(300))
    assert picks["c"] == 0
    assert picks["a"] > picks["b"] > 50


def test_what_was_placed_since_the_last_announcement_counts(table: WorkerTable) -> None:
    announce(table, "a", capacity=3)
    announce(table, "b", capacity=3)
    assert Counter(table.choose() for _ in range(6)) == {"a": 3, "b": 3}
    assert reason(table) == "NO_CAPACITY"
    announce(table, "a", sessions=1, capacity=3)
    assert table.choose() == "a"


def test_full_draining_and_tried_ones_are_left_out(table: WorkerTable) -> None:
    announce(table, "full", sessions=10)
    announce(table, "draining", draining=True)
    announce(table, "none", capacity=0)
    assert reason(table) == "NO_CAPACITY"
    announce(table, "free", sessions=9)
    assert table.choose() == "free"
    announce(table, "free")
    assert reason(table, "free", "full", "draining", "none") == "NO_WORKER"


def test_silent_and_leaving_ones_are_forgotten(table: WorkerTable) -> None:
    announce(table, "silent", now=0.0)
    announce(table, "leaving", now=3.0)
    announce(table, "dead", now=3.0)
    announce(table, "alive", now=3.0)
    table.forget_silent(3.6)
    announce(table, "leaving", now=3.0, leaving=True)
    table.gone("dead")
    (worker,) = table.workers(3.75)
    assert worker.worker == "alive"
    assert worker.since_heard.ToMilliseconds() == 750


def test_a_worker_is_gone_when_it_is_silent_and_most_others_are_heard(table: WorkerTable) -> None:
    for name in ("frozen", "a", "b", "c"):
        announce(table, name, now=0.0)
    for now in (2.0, 4.0):
        for name in ("a", "b", "c"):
            announce(table, name, now=now)
        table.forget_silent(now)
    assert not table.is_silent("frozen", 4.9)
    assert table.is_silent("frozen", 5.0)
    assert not table.is_silent("a", 5.0)
    assert not table.is_silent("nobody", 5.0)
    announce(table, "frozen", now=5.0)
    assert not table.is_silent("frozen", 6.0)


def test_a_silence_of_many_proves_nothing(table: WorkerTable) -> None:
    for name in ("frozen", "too", "a", "b"):
        announce(table, name, now=0.0)
    for name in ("a", "b"):
        announce(table, name, now=4.0)
    table.forget_silent(5.0)
    assert not table.is_silent("frozen", 6.0)
    table.gone("too")  # proven dead: it is none of those who could be heard
    assert table.is_silent("frozen", 6.0)
    table.forget_silent(100.0)
    assert not table.is_silent("frozen", 100.0)


def test_without_a_connection_nobody_is_heard(table: WorkerTable) -> None:
    """Nobody is forgotten then, either: whose announcement came a little sooner looked like the only silent one."""
    announce(table, "sooner", now=0.0)
    for name in ("a", "b", "c"):
        announce(table, name, now=0.9)
    table.forget_silent(3.6)
    assert not table.is_silent("sooner", 5.2)
    for name in ("a", "b", "c"):
        announce(table, name, now=5.3)
    assert table.is_silent("sooner", 5.4)


def test_whoever_is_alone_is_not_gone(table: WorkerTable) -> None:
    announce(table, "frozen", now=0.0)
    table.forget_silent(4.0)
    assert not table.is_silent("frozen", 9.0)


def test_who_has_room_for_one_more(table: WorkerTable) -> None:
    announce(table, "full", sessions=10, capacity=10)
    announce(table, "draining", draining=True)
    announce(table, "free")
    assert [table.has_room(name) for name in ("full", "draining", "free", "nobody")] == [False, False, True, False]
    table.check_other("full")
    with pytest.raises(ServiceError) as refused:
        table.check_other("free")
    assert refused.value.reason == errors_pb2.ERROR_REASON_NO_CAPACITY
    assert refused.value.delay()
