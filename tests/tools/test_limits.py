"""Limits of tools and tenants, where calls run: what waits, what is refused, and that the others are served."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from services.tools import tool
from services.tools.execute import Execution, Refusal
from tests.support.eventually import eventually
from tests.tools.test_execute import CANCELLED, SUCCEEDED, UNKNOWN, Bench


class Turnstile:
    """A tool that stays inside until it is let out."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.out = asyncio.Event()

    def tool(self, name: str = "slow", **options: Any) -> Any:
        @tool(name=name, **options)
        async def slow() -> str:
            """Stays inside."""
            self.inside += 1
            self.most = max(self.most, self.inside)
            try:
                await self.out.wait()
            finally:
                self.inside -= 1
            return "out"

        return slow


@tool
async def quick() -> str:
    """Is quick."""
    return "here"


def bench_with(*tools: Any, **limits: Any) -> Bench:
    bench = Bench(**{"max_concurrency": 8, "queue_wait": timedelta(seconds=60), **limits})
    for one in (quick, *tools):
        bench.add(one)
    return bench


async def test_calls_over_a_tools_own_limit_wait_their_turn() -> None:
    turnstile = Turnstile()
    bench = bench_with(turnstile.tool(max_concurrency=1, timeout=60))
    calls = [bench.start("slow") for _ in range(5)]
    await eventually(lambda: turnstile.inside == 1)
    assert bench.executor.waiting == 4
    assert (await bench.call("quick")).outcome == SUCCEEDED
    turnstile.out.set()
    assert {result.outcome for result in await asyncio.gather(*calls)} == {SUCCEEDED}
    assert turnstile.most == 1
    assert bench.executor.waiting == bench.executor.running == 0


async def test_one_tenant_that_calls_all_it_can_does_not_starve_another() -> None:
    turnstile = Turnstile()
    tools = [turnstile.tool(f"slow{number}", timeout=60) for number in range(3)]
    bench = bench_with(*tools, max_concurrency_per_tenant=6, max_concurrency_per_tool=6)
    admitted = [bench.admit(f"slow{number % 3}", tenant="greedy") for number in range(100)]
    calls = [asyncio.create_task(bench.executor.run(one)) for one in admitted if isinstance(one, Execution)]
    await eventually(lambda: turnstile.inside == 6)
    refusals = [one for one in admitted if not isinstance(one, Execution)]
    assert {result.refusal for result in refusals} == {Refusal.TENANT_BUSY}
    assert refusals[0].error == "not run: too many other calls are running; try again in a few seconds"
    assert (len(calls), len(refusals)) == (12, 88)
    for _ in range(5):
        assert (await bench.call("quick", tenant="modest")).outcome == SUCCEEDED
    turnstile.out.set()
    assert {result.outcome for result in await asyncio.gather(*calls)} == {SUCCEEDED}


async def test_one_slow_tool_does_not_starve_the_others() -> None:
    turnstile = Turnstile()
    bench = bench_with(turnstile.tool(timeout=60), max_concurrency_per_tool=6)
    admitted = [bench.admit("slow", tenant=f"tenant{number}") for number in range(100)]
    calls = [asyncio.create_task(bench.executor.run(one)) for one in admitted if isinstance(one, Execution)]
    await eventually(lambda: turnstile.inside == 6)
    refusals = [one for one in admitted if not isinstance(one, Execution)]
    assert {result.refusal for result in refusals} == {Refusal.TOOL_BUSY}
    assert refusals[0].error == "not run: the tool 'slow' is busy with other calls; try again in a few seconds"
    assert (await bench.call("quick", tenant="tenant0")).outcome == SUCCEEDED
    turnstile.out.set()
    await asyncio.gather(*calls)


async def test_by_default_a_tool_and_a_tenant_leave_a_quarter_of_the_places() -> None:
    turnstile = Turnstile()
    bench = bench_with(
        turnstile.tool(timeout=60), max_concurrency_per_tool=None, max_concurrency_per_tenant=None, max_concurrency=8
    )
    calls = [bench.start("slow", tenant="one") for _ in range(8)]
    await eventually(lambda: turnstile.inside == 6)
    assert bench.executor.waiting == 2
    assert (await bench.call("quick", tenant="two")).outcome == SUCCEEDED
    turnstile.out.set()
    await asyncio.gather(*calls)


@pytest.mark.parametrize(
    ("wait", "timeout"), [(timedelta(milliseconds=20), 60), (timedelta(seconds=60), 0.05), (timedelta(0), 60)]
)
async def test_a_call_waits_no_longer_than_it_may_nor_than_half_its_time(wait: timedelta, timeout: float) -> None:
    turnstile = Turnstile()
    bench = bench_with(turnstile.tool(max_concurrency=1, timeout=60), queue_wait=wait)
    first = bench.start("slow")
    await eventually(lambda: turnstile.inside == 1)
    result = await bench.call("slow", timeout=timedelta(seconds=timeout))
    assert result.refusal is Refusal.TOOL_BUSY
    assert bench.executor.waiting == 0
    turnstile.out.set()
    assert (await first).outcome == SUCCEEDED


async def test_wrong_arguments_are_told_without_a_wait() -> None:
    turnstile = Turnstile()
    bench = bench_with(turnstile.tool(max_concurrency=1, timeout=60))
    first = bench.start("slow")
    await eventually(lambda: turnstile.inside == 1)
    assert (await bench.call("slow", {"a": 1})).refusal is Refusal.WRONG_ARGUMENTS
    turnstile.out.set()
    await first


async def test_call_that_waits_can_be_taken_back() -> None:
    turnstile = Turnstile()
    bench = bench_with(turnstile.tool(max_concurrency=1, timeout=60))
    first, second, third = (bench.start("slow", execution_id=name) for name in ("first", "second", "third"))
    await eventually(lambda: turnstile.inside == 1)
    assert bench.executor.waiting == 2
    assert bench.executor.cancel("second")
    third.cancel()  # as the end of a gRPC call does it
    assert (await second).outcome == CANCELLED
    await asyncio.wait({third})
    assert bench.executor.waiting == 0
    turnstile.out.set()
    assert (await first).outcome == SUCCEEDED
    assert turnstile.most == 1


async def test_function_that_overruns_keeps_its_tools_place_not_that_of_others() -> None:
    started, release = asyncio.Event(), asyncio.Event()

    @tool(max_concurrency=1, timeout=60)
    async def stubborn() -> None:
        """Ignores its cancellation."""
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await release.wait()

    bench = bench_with(stubborn, queue_wait=timedelta(milliseconds=20))
    first = bench.start("stubborn", execution_id="mine")
    await started.wait()
    bench.executor.cancel("mine")
    assert (await first).outcome == CANCELLED
    assert (await bench.call("stubborn")).refusal is Refusal.TOOL_BUSY
    assert (await bench.call("quick")).outcome == SUCCEEDED
    release.set()
    await eventually(lambda: bench.executor.overrunning == 0)


async def test_drain_lets_waiting_calls_run_and_refuses_those_that_did_not_come_to_it() -> None:
    turnstile = Turnstile()
    bench = bench_with(turnstile.tool(max_concurrency=1, timeout=60))
    running, waiting = bench.start("slow"), bench.start("slow")
    await eventually(lambda: turnstile.inside == 1)
    await bench.executor.drain(timedelta(milliseconds=20))
    assert (await running).outcome == UNKNOWN
    refused = await waiting
    assert refused.refusal is Refusal.DRAINING  # nothing was begun, and the model is not left in doubt


async def test_tool_of_some_tenants_is_refused_to_the_others() -> None:
    from dataclasses import replace

    from services.tools.declare import declare
    from services.tools.registry import Offer

    bench = bench_with()
    bench.registry.offer("bench", Offer([replace(declare(quick), tenants=frozenset({"acme", "beta"}))]))
    assert (await bench.call("quick", tenant="acme")).outcome == SUCCEEDED
    for tenant in ("", "gamma", "ACME", "acme "):
        result = await bench.call("quick", tenant=tenant)
        assert result.refusal is Refusal.NOT_PERMITTED
        assert result.error == "not run: the tool 'quick' is not for this tenant"
