"""The arithmetic of bench.continuity: what it reads from a record, what it prints, when it fails."""

from __future__ import annotations

import json

import pytest

from bench.continuity import __main__ as continuity_command
from bench.continuity.figures import BUDGETS, Scene, heard_late, moments, pauses, percentile
from bench.continuity.scenes import SCENES


def link(start: float | None, end: float | None) -> dict[str, float | None]:
    return {"audio_from": start, "audio_until": end}


def test_a_pause_is_what_lies_between_two_links_beyond_the_pace_of_frames() -> None:
    links = [link(1.0, 2.0), link(2.54, 3.0), link(3.03, 9.0)]
    assert pauses(links) == [pytest.approx(0.5), 0.0]
    assert pauses(links[:1]) == []


def test_a_link_that_heard_nothing_is_a_try_that_failed() -> None:
    assert pauses([link(1.0, 2.0), link(None, None), link(3.04, 4.0)]) == [pytest.approx(1.0)]


def test_an_owner_of_the_past_is_seen_when_its_link_hears_on() -> None:
    assert heard_late([link(1.0, 2.0), link(2.0, 3.0)]) == 0
    assert heard_late([link(1.0, 2.5), link(None, None), link(2.0, 3.0)]) == 1


def test_moments_are_told_on_the_machines_clock() -> None:
    events = [{"kind": "fault", "at": 1.5}, {"kind": "audio"}, {"kind": "interrupted", "at": 2.0}]
    assert moments(events, "fault", 1000.0) == [1001.5]
    assert moments(events, "closed", 1000.0) == []


def test_percentiles_are_of_nearest_rank() -> None:
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile([float(number) for number in range(1, 101)], 99) == 99.0
    assert percentile([1.0], 99) == 1.0


def test_figures_are_held_against_the_budget_or_what_was_measured_beside_them() -> None:
    scene = Scene("killed", 20)
    scene.add("killed_pause", [0.5, 1.5])
    scene.count("killed_lost", 0)
    lines = [json.loads(str(figure)) for figure in scene.figures()]
    assert lines == [
        {"figure": "killed_pause_p50", "value": 500.0, "unit": "ms", "n": 20, "baseline": 1000.0, "ratio": 0.5},
        {"figure": "killed_pause_p99", "value": 1500.0, "unit": "ms", "n": 20, "baseline": 3000.0, "ratio": 0.5},
        {"figure": "killed_lost", "value": 0, "unit": "count", "n": 20, "baseline": 0, "ratio": None},
    ]
    scene.baseline = 250.0
    assert [figure.ratio for figure in scene.figures()][:2] == [2.0, 6.0]


def test_times_without_a_budget_stand_alone() -> None:
    scene = Scene("drain", 50)
    scene.add("drain", [2.0])
    assert [(figure.baseline, figure.ratio) for figure in scene.figures()] == [(None, None)] * 2
    assert {name.rsplit("_", 1)[0] for name in BUDGETS} == {
        *("killed_pause", "frozen_pause", "hung_noticed", "barge_in", "refusal")
    }


def test_figures_are_believed_when_nothing_was_lost() -> None:
    scene = Scene("killed", 1)
    scene.count("killed_lost", 0)
    assert scene.clean
    scene.count("killed_lost", 2)
    assert not scene.clean
    assert scene.counts == {"killed_lost": 2}
    assert not Scene("killed", 1, problems=["no answer"]).clean


def test_a_scene_in_which_nothing_happened_is_none() -> None:
    scene = Scene("killed", 1)
    scene.add("killed_pause", [])
    assert not scene.clean
    assert scene.figures() == []


@pytest.mark.asyncio
async def test_the_command_ends_with_1_when_something_was_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def good(scene: Scene, rounds: int) -> None:
        scene.add("rotation_gap", [0.001 * scene.sessions * rounds])

    async def bad(scene: Scene, _rounds: int) -> None:
        scene.count("killed_lost", 1)

    async def broken(_scene: Scene, _rounds: int) -> None:
        raise AssertionError("no answer")

    monkeypatch.setitem(SCENES, "rotation", good)
    monkeypatch.setitem(SCENES, "killed", bad)
    monkeypatch.setitem(SCENES, "drain", broken)

    async def run(only: str) -> int:
        monkeypatch.setattr("sys.argv", ["bench.continuity", "--only", only, "--sessions", "3", "--rounds", "2"])
        return await continuity_command.main()

    assert await run("rotation") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["value"] == 6.0
    assert await run("killed") == 1
    assert await run("drain") == 1
    assert "no answer" in capsys.readouterr().err
