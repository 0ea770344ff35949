"""The benches on real processes: they find nothing where nothing is wrong, and see one frame that is."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bench import capacity
from bench.capacity import largest
from bench.echo import compare, order
from bench.load.tally import Counts
from bench.load.tamper import KINDS, Kind
from bench.opening import bursts
from bench.rig import ROOT, LoadError, Rig, Run, Side

pytestmark = pytest.mark.asyncio(loop_scope="module")

SESSIONS = 2
SECONDS = 0.6
WARM_UP = 0.2
STREAMS = SESSIONS
FRAME_MS = 20
LOAD_PROCESSES = 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with Rig(LOAD_PROCESSES, {"PARLEY_GATEWAY_MAX_STREAMS": str(STREAMS)}) as running:
        yield running


async def test_untouched_everything_comes_back_on_both_sides(rig: Rig) -> None:
    found = await compare(rig, sessions=SESSIONS, frame_ms=FRAME_MS, seconds=SECONDS, runs=1, warm_up=WARM_UP)
    sent = SESSIONS * round((SECONDS + WARM_UP) * 1000 / FRAME_MS)
    assert found.clean
    assert [found.runs[side][0].account.counts for side in ("fabric", "bare")] == [Counts(sent=sent, received=sent)] * 2
    figures = {figure.figure.removesuffix(f"/{FRAME_MS}ms"): figure.value for figure in found.figures()}
    assert [figures[name] for name in ("lost", "duplicated", "out_of_order", "damaged")] == [0, 0, 0, 0]
    assert figures["cpu_gateway"]
    assert figures["cpu_worker"]
    assert figures["cpu_bare"]


@pytest.mark.parametrize("kind", KINDS)
async def test_one_frame_amiss_is_reported(rig: Rig, kind: Kind) -> None:
    account = (await rig.measure("fabric", Run(SESSIONS, FRAME_MS, SECONDS, WARM_UP, kind))).account
    amiss = {"drop": "lost", "double": "duplicated", "swap": "out_of_order"}
    sent = account.counts.sent
    assert account.counts == Counts(sent=sent, received=sent - (kind == "drop"), **{amiss[kind]: 1})
    assert not account.clean


async def test_calls_that_cannot_be_opened_are_an_error_and_leave_none(rig: Rig) -> None:
    with pytest.raises(LoadError, match=r"of 5 calls opened: .*RESOURCE_EXHAUSTED"):
        await rig.open_burst("fabric", 10)
    assert len(await rig.open_burst("fabric", 2)) == 2


async def test_bursts_of_both_sides_are_timed(rig: Rig) -> None:
    figures = await bursts(rig, SESSIONS, 2)
    assert [(figure.figure, figure.n) for figure in figures] == [("open_p50", SESSIONS), ("open_p99", SESSIONS)]
    assert all(figure.value and figure.baseline for figure in figures)


@pytest.mark.parametrize("side", ["fabric", "bare"])
async def test_capacity_is_searched_on_both_sides(rig: Rig, side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "LATE_MS", 60_000.0)  # how fast this machine is does not matter here
    wanted = argparse.Namespace(start=1, limit=SESSIONS, seconds=0.2, proof_seconds=0.3)
    assert await largest(rig, side, 40, wanted) == SESSIONS


async def test_more_calls_than_may_be_open_do_not_hold(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "LATE_MS", 60_000.0)
    wanted = argparse.Namespace(start=4, limit=4, seconds=0.2, proof_seconds=0.2)
    assert await largest(rig, "fabric", 40, wanted) == STREAMS


async def test_the_command_ends_with_1_when_a_frame_was_amiss() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.echo", "--sessions", "1", "--frame-ms", "40", "--seconds", "1", "--runs", "1"),
        *("--tamper", "swap"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    lines = [json.loads(line) for line in out.splitlines()]
    assert all(line.keys() == {"figure", "value", "unit", "n", "baseline", "ratio"} for line in lines)
    assert {"figure": "out_of_order/40ms", "value": 1, "unit": "frames", "n": 1, "baseline": 0, "ratio": None} in lines
    assert process.returncode == 1, err.decode()


async def test_each_side_is_first_as_often_as_second() -> None:
    assert list(order(2)) == ["fabric", "bare", "floor", "bare", "fabric", "floor"]
    assert len(list(order(5))) == 15
