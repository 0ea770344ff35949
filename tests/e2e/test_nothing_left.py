"""Hundreds of calls, a quarter of them killed or cancelled: every process and stream is as before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

import parley
from parley import events
from parley.cli.stack import Stack, StackConfig
from tests.support.counts import Held, Memory, held, memory
from tests.support.eventually import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(200)]

WARM_UP = 50
CALLS = 200
AT_ONCE = 10
ALLOWED_GROWTH = 5 * 1024 * 1024


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack() -> AsyncIterator[Stack]:
    env = {
        "PARLEY_WORKER_RESUME_WINDOW": "500ms",
        "PARLEY_WORKER_RECORD_RETENTION": "0",
        # The emulator keeps records and handles up to a bound on purpose: the warm-up reaches it.
        "PARLEY_EMULATOR_KEPT_CONVERSATIONS": str(WARM_UP),
        "PARLEY_EMULATOR_HANDLE_LIMIT": str(WARM_UP),
    }
    async with Stack(StackConfig(workers=1, gateways=1, env=env)) as running:
        yield running


async def call(address: str, number: int) -> None:
    """One call. Every fourth ends badly, each in another way."""
    manner = number % 8
    try:
        async with parley.connect(address, profile="support", close_timeout=timedelta(seconds=60)) as session:
            await session.send_audio(bytes(12_800))
            if manner == 3:
                raise ConnectionError("the caller is gone in the middle")
            await session.send_text("where is my order 4711" if number % 2 else "hello")
            if manner == 7:
                asyncio.current_task().cancel()  # type: ignore[union-attr]
            async for event in session:
                # Most callers hang up in the middle of the answer, some hear it to the end.
                if isinstance(event, events.TurnComplete if manner == 0 else events.Audio):
                    break
    except (ConnectionError, asyncio.CancelledError):
        assert manner in {3, 7}


async def calls(address: str, count: int) -> None:
    numbers = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            # A task of its own, because some calls are cancelled.
            await asyncio.gather(asyncio.create_task(call(address, number)), return_exceptions=False)

    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))


async def settled(stack: Stack) -> Held:
    """What is held once nothing changes any more."""
    previous: Held | None = None

    async def unchanged() -> Held | None:
        nonlocal previous
        before, previous = previous, await held(stack)
        assert previous == before, f"{before}\n{previous}"
        assert not any(previous.sessions.values()), previous.sessions
        of_sessions = {name: count for name, count in previous.messages.items() if name != "KV_PARLEY_CATALOG"}
        assert not any(of_sessions.values()), of_sessions
        return previous

    found = await eventually(unchanged, 30)
    assert isinstance(found, Held)
    return found


async def test_calls_leave_nothing_behind(stack: Stack) -> None:
    address = stack.gateways[0].ready["address"]
    await calls(address, WARM_UP)
    before, memory_before = await settled(stack), await memory(stack)
    await calls(address, CALLS)
    after, memory_after = await settled(stack), await memory(stack)
    assert after == before
    assert growth(memory_before, memory_after) == {}


def growth(before: Memory, after: Memory) -> dict[str, int]:
    """Processes that grew beyond what is allowed, with the bytes."""
    return {
        name: after.resident[name] - resident
        for name, resident in before.resident.items()
        if after.resident[name] - resident > ALLOWED_GROWTH
    }
