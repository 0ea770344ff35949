"""What is done to calls, and what is measured then: a function for each scene."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

import parley
from bench.continuity.barge_in import barge_in
from bench.continuity.figures import Scene, heard_late, moments, pauses
from bench.continuity.stage import LIMIT, SPOKEN, Stage, stage
from bench.load.bare import BareDialer
from bench.rig import MODEL
from parley import errors, events
from parley.cli._child import Child
from parley.cli.stack import Stack, StackConfig
from tests.faults.call import Call

_DRAINED: Final = 50
"""Sessions of the worker that is told to go."""
_REFUSED: Final = 100
"""Calls too many."""
_HANDSHAKES: Final = 20
_INTO: Final = 0.8
"""Seconds into a question at which its worker is killed."""
_FROZEN: Final = 10.0
"""Seconds."""
_DRAIN_LIMIT: Final = 120.0


async def rotation(scene: Scene, rounds: int) -> None:
    """goAway while nobody speaks."""
    # Links live for minutes, and here for seconds: without this, to replace one would count as trying again and again.
    async with stage(scene, PARLEY_WORKER_HEALTHY_LINK="100ms") as on:
        for number in range(rounds):
            await asyncio.gather(*(call.fault("go_away time_left=50s") for call in on.calls))
            await asyncio.gather(*(_recovered(call, number + 1) for call in on.calls))
        await on.ask(on.calls)
        for call in on.calls:
            scene.add("rotation_gap", pauses(await on.links(call)))
        scene.baseline = await _handshake(on.stack)


async def killed(scene: Scene, rounds: int) -> None:
    """SIGKILL of the worker of all calls; half of them are in the middle of a question."""
    async with stage(scene) as on:
        for recording in list(SPOKEN)[:rounds]:
            worker = on.stack.workers[-1]
            await on.another_worker()

            async def strike(worker: Child = worker) -> None:
                worker.stopping = True
                worker.signal(signal.SIGKILL)
                await worker.gone()

            await _ask_through(on, recording, strike)
        for call in on.calls:
            scene.add("killed_pause", pauses(await on.links(call)))


async def frozen(scene: Scene, rounds: int) -> None:
    """SIGSTOP of the worker of all calls, a moment after each was asked something; SIGCONT ten seconds later."""
    async with stage(scene) as on:
        for number in range(rounds):
            worker = on.stack.workers[-1]
            await on.another_worker()
            asking = asyncio.create_task(on.ask(on.calls))
            await asyncio.sleep(_INTO)  # not a wait for something: some are being answered by then
            worker.stopping = True  # its watchdog may end it when it wakes up
            worker.signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(_FROZEN)  # not a wait for something: so long it is frozen
            finally:
                worker.signal(signal.SIGCONT)
            await asking
            await asyncio.gather(*(_recovered(call, number + 1) for call in on.calls))
            await worker.stop(_DRAIN_LIMIT)  # or some sessions might be its own in the next round
            await on.ask(on.calls)
        for call in on.calls:
            links = await on.links(call)
            scene.add("frozen_pause", pauses(links))
            scene.count("frozen_heard_late", heard_late(links))


async def drain(scene: Scene, rounds: int) -> None:
    """SIGTERM of a worker with many calls."""
    scene.sessions = _DRAINED
    async with stage(scene, PARLEY_WORKER_CAPACITY=str(2 * _DRAINED)) as on:
        worker = on.stack.workers[0]
        await on.another_worker()
        began = time.monotonic()
        status = await worker.stop(_DRAIN_LIMIT)
        scene.add("drain", [time.monotonic() - began])
        assert status == 0, f"the worker ended with status {status}"
        scene.count("drain_ended", sum(call.session.ended is not None for call in on.calls))
        await on.ask(on.calls)
        for call in on.calls:
            scene.add("drain_pause", pauses(await on.links(call)))


async def hung(scene: Scene, rounds: int) -> None:
    """The link hangs without closing while the caller speaks."""
    async with stage(scene) as on:
        speakers = [call for call in on.calls if call.has_microphone]
        for call in speakers:
            await call.fault("half_open on=speech_began after=200ms")
        since = [len(call.got) for call in on.calls]
        await _ask_through(on, "weather_paris", _nothing)
        for call, first in zip(on.calls, since, strict=True):
            if call.has_microphone:
                (fell,) = moments(await on.events(call), "fault", on.began)
                noticed = next(
                    at
                    for event, at in zip(call.got[first:], call.got_at[first:], strict=True)
                    if isinstance(event, events.LinkRotating)
                )
                scene.add("hung_noticed", [noticed - fell])


async def interrupted(scene: Scene, rounds: int) -> None:
    """The caller speaks up while more than 5 s of the answer are queued for it."""
    async with Stack(StackConfig()) as stack:
        for _ in range(rounds):
            for heard in await asyncio.gather(
                *(barge_in(stack) for _ in range(scene.sessions)), return_exceptions=True
            ):
                if isinstance(heard, BaseException):
                    scene.problems.append(f"{type(heard).__name__}: {heard}")
                else:
                    scene.add("barge_in", [heard])
        stack.failed = stack.failed or not scene.clean


async def refusal(scene: Scene, rounds: int) -> None:
    """One call more than the workers take."""
    scene.sessions = 1
    async with Stack(StackConfig(env={"PARLEY_WORKER_CAPACITY": "1"})) as stack:
        target = str(stack.gateways[0].ready["address"])
        async with parley.connect(target, profile="plain"):
            for _ in range(_REFUSED):
                began = time.monotonic()
                try:
                    async with parley.connect(target, profile="plain", max_outage=timedelta(0)):
                        scene.problems.append("a call too many was opened")
                except errors.ResourceExhausted as error:
                    scene.add("refusal", [time.monotonic() - began])
                    scene.count("refusal_without_retry", error.retry_delay is None)


SCENES: Final[dict[str, Callable[[Scene, int], Awaitable[None]]]] = {
    "rotation": rotation,
    "killed": killed,
    "frozen": frozen,
    "drain": drain,
    "hung": hung,
    "barge_in": interrupted,
    "refusal": refusal,
}


async def _ask_through(on: Stage, recording: str, strike: Callable[[], Awaitable[None]]) -> None:
    """Who has a microphone asks, and is struck in the middle of the question; the others are struck and ask then."""
    speakers = [call for call in on.calls if call.has_microphone]
    since = [len(call.got) for call in speakers]
    await asyncio.gather(*(call.speak(recording, wait=False) for call in speakers))
    await asyncio.sleep(_INTO)  # not a wait for something: so much has been said
    await strike()
    answers = [
        call.answer(first, containing=SPOKEN[recording], limit=LIMIT)
        for call, first in zip(speakers, since, strict=True)
    ]
    await asyncio.gather(*answers, on.ask([call for call in on.calls if not call.has_microphone]))


async def _recovered(call: Call, times: int) -> None:
    await call.until(lambda _: len(call.of(events.LinkRecovered)) >= times, limit=LIMIT)


async def _handshake(stack: Stack) -> float:
    """Milliseconds that the bare SDK takes to connect to the same emulator, the median."""
    assert stack.emulator is not None
    ready = stack.emulator.ready
    dial = BareDialer(str(ready["address"]), str(ready["ca_file"]), MODEL)
    seconds = []
    try:
        for _ in range(_HANDSHAKES):
            call, took = await dial(lambda _pcm: None)
            seconds.append(took)
            await call.close()
    finally:
        await dial.close()
    return 1000 * sorted(seconds)[len(seconds) // 2]


async def _nothing() -> None:
    """Nothing happens to any process."""
