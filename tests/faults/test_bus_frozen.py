"""The whole message bus stands still for ten seconds under a fleet: nobody takes that for the death of a worker."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter

import pytest

from parley import events
from parley.cli.stack import Stack, StackConfig
from tests.faults.call import Call, brief, calling
from tests.faults.scene import goes_on, owner
from tests.faults.stories import ORDER, WEATHER
from tests.faults.test_ownership import LAPSED, Moment, Outcomes, make_it_speak
from tests.support.counts import get_json
from tests.support.eventually import eventually

FROZEN = 10.0
"""Seconds: as long as the ttl of workers, which is the one that they have by default."""
WORKERS = 3
STATES = ("nobody_speaks", "the_caller_speaks", "the_model_speaks")
NAMES = [f"{state}[{number}]" for number in range(1, WORKERS + 1) for state in STATES]


async def answer(call: Call, state: str, since: int) -> None:
    """What was under way has its answer; where nothing was, what is asked now."""
    match state:
        case "nobody_speaks":
            await call.speak("order_4711")
            await call.answer(since, containing=ORDER)
        case "the_caller_speaks":
            await call.answer(since, containing=WEATHER)
        case _:
            await call.answer(since, containing="speaking")


async def stays(stack: Stack, state: str, moment: Moment, workers: Counter[str]) -> None:
    """A call that goes on where it was; `workers` counts who has one."""
    async with calling(stack) as call:
        await call.speak("hello")
        await call.answer()
        before = await owner(call)
        workers[before.name] += 1
        since = len(call.got)

        async def begin_to_speak() -> None:
            await call.speak("weather_paris", wait=False)
            await asyncio.sleep(0.8)  # not a wait for something: so far it has come with what it says

        if state == "the_caller_speaks":
            moment.before[1].append(begin_to_speak)
        elif state == "the_model_speaks":
            moment.before[0].append(lambda: make_it_speak(call))
        await moment.come()
        await answer(call, state, since)
        await goes_on(call)
        # A worker that could not reach JetStream for its ttl leaves its links, and takes them up again itself.
        assert {event.cause for event in call.of(events.LinkRotating)} <= {LAPSED}, brief(call.got)
        assert await owner(call) is before


async def told() -> Outcomes:
    """What went wrong in each call, all of them under the same standstill."""
    moment, workers = Moment(), Counter[str]()
    async with Stack(StackConfig(workers=WORKERS)) as stack:
        gateway = stack.gateways[0].ready["ops"]

        async def everybody_is_known() -> bool:
            return bool((await get_json(f"{gateway}/debug/vars"))["workers"] == WORKERS)

        await eventually(everybody_is_known)
        for name in NAMES:
            moment.begin(name, stays(stack, name.partition("[")[0], moment, workers))
        await moment.wait_for_all()
        stack.nats.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(FROZEN)  # not a wait for something: so long it stands still
        finally:
            stack.nats.signal(signal.SIGCONT)
        await moment.pass_by()
        outcomes = await moment.outcomes()
        assert len(workers) == WORKERS, workers
        return outcomes


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    return asyncio.run(told())


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_no_session_is_taken_over(outcomes: Outcomes, name: str) -> None:
    problem = outcomes[name]
    if problem is not None:
        raise problem
