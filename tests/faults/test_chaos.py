"""What chaos counts and prints. That it notices broken promises is up to `check`, which stories and sabotage test."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from emulator.faults.text import parse
from parley import events
from tests.faults.call import STATES, answers_in
from tests.faults.chaos import links
from tests.faults.chaos.report import Report, percentile


def record(*texts: str) -> list[dict[str, Any]]:
    return [{"kind": "fault", "fault": fault.told()} for text in texts for fault in parse(text)]


def test_every_fault_can_be_ordered_at_every_moment_and_is_told_apart() -> None:
    for moment, state in links.STATES.items():
        orders = [links.Order(kind, moment, 7) for kind in links.FAULTS]
        texts = [text for order in orders for text in order.texts()]
        assert len(record(*texts)) == len(texts)
        assert list(links.fired(record(*texts), orders)) == [(kind, state) for kind in links.FAULTS]
        assert state in STATES


def test_what_has_not_fired_is_not_counted() -> None:
    reset = links.Order("reset", "handle", 10)
    twice = [reset, reset]
    assert list(links.fired(record("reset on=handle after=10ms"), twice)) == [("reset", "idle")]
    assert list(links.fired(record("reset on=handle after=11ms", "reset on=setup"), twice)) == []
    assert list(links.fired([{"kind": "closed"}], twice)) == []


def recovered(seconds: float) -> events.LinkRecovered:
    return events.LinkRecovered(2, "RESUMED", True, timedelta(seconds=seconds))


def test_gaps_are_told_by_cause() -> None:
    report = Report(())
    report.take(
        [
            *(events.LinkRotating(1, "GO_AWAY"), recovered(0.5), recovered(0.7)),
            *(events.LinkRotating(3, "WORKER_LOST"), recovered(2.0)),
            events.StreamResumed(0, timedelta(seconds=3)),
            events.Gap(5, "UPLINK", 1, 2, "AUDIO", "LINK_LOST"),
        ]
    )
    assert dict(report.gaps) == {"GO_AWAY": [0.5, 0.7], "WORKER_LOST": [2.0], "STREAM": [3.0]}
    assert dict(report.named) == {"UPLINK AUDIO LINK_LOST": 1}
    assert any(line.split()[:4] == ["GO_AWAY", "2", "0.50", "0.70"] for line in report.lines())


def test_a_run_is_good_when_every_kind_happened_often_enough_and_nothing_was_broken() -> None:
    report = Report(("reset", "worker killed"), at_least=2)
    report.answers = 1
    report.hit("reset", ["idle"])
    report.hit("worker killed", ["idle", "idle", "model speaks"])
    report.hit("worker killed", ["idle"])
    assert report.few == {"reset": 1}
    assert not report.good
    assert any("fewer than 2 faults of: {'reset': 1}" in line for line in report.lines())
    report.hit("reset", ["tool pending"])
    assert report.good
    (row,) = (line for line in report.lines() if line.startswith("worker killed"))
    assert row.split() == ["worker", "killed", "2", "3", "1"]
    report.violations.append("lost")
    assert not report.good
    assert "\nVIOLATION lost" in list(report.lines())


def test_what_hits_nobody_proves_nothing() -> None:
    report = Report(("worker killed",), at_least=2)
    report.answers = 1
    report.hit("worker killed", ["idle"])
    for _ in range(2):
        report.hit("worker killed", [])
    assert report.few == {"worker killed": 1}
    assert not report.good
    assert "not counted, because they hit nobody: 2 worker killed" in list(report.lines())
    report.hit("worker killed", iter(["idle"]))
    assert report.good


def test_a_run_among_too_few_calls_proves_too_little() -> None:
    report = Report((), at_once=20)
    report.answers = 1
    assert not report.good
    report.open_at_once += [13, 19]
    assert not report.good
    assert "\nfewer than 20 calls at once" in list(report.lines())
    report.open_at_once += [20, 14]
    assert report.good
    assert not [line for line in report.lines() if "fewer" in line]


def test_a_run_without_an_answer_proves_nothing() -> None:
    assert not Report(()).good


def test_percentiles_are_of_nearest_rank() -> None:
    assert [percentile([4.0, 1.0, 3.0, 2.0], percent) for percent in (50, 99)] == [2.0, 4.0]


def test_answers_are_counted_and_those_that_a_gap_names() -> None:
    spoken = [events.Audio(1, b"", 24_000), events.TurnComplete(2)]
    calls_alone = [events.TurnComplete(3)]
    began_anew = [events.Audio(4, b"", 24_000), events.Interrupted(5, "RESTARTED", 4, 4), *spoken]
    lost = [events.Gap(6, "DOWNLINK", 4, 5, "VITAL", "FORGOTTEN"), events.TurnComplete(7)]
    assert answers_in([*spoken, *calls_alone, *began_anew]) == answers_in([*spoken, *began_anew], in_gaps=True) == 2
    assert (answers_in([*spoken, *lost]), answers_in([*spoken, *lost], in_gaps=True)) == (1, 2)
    uplink = events.Gap(6, "UPLINK", 4, 5, "AUDIO", "TOO_OLD")
    assert answers_in([uplink, *calls_alone], in_gaps=True) == 0
