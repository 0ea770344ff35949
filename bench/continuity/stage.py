"""Calls on a stack of their own, and what became of them."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bench.continuity.figures import Scene
from parley import events
from parley.cli._child import Child
from parley.cli.stack import Stack, StackConfig
from tests.faults.call import TWICE, Call, brief, calling, unexcused
from tests.faults.sent import MARK_SECONDS, both
from tests.support.counts import heard
from tests.support.eventually import eventually

LIMIT = 60.0
"""Seconds for an answer, with whatever happens meanwhile."""
SPOKEN = {
    "weather_paris": "degrees",
    "order_4711": "four seven one one",
    "weather_london": "degrees",
    "what_can_you_do": "speaking",
    "hello": "help you",
}
"""Recordings, and what is in the answer."""
_NO_ORDER = "could not find"
"""In the answer to a question for an order that there is none of: words of its own, a tool, and a short answer."""
_ORDERS = itertools.count(100_000)
_AT_ONCE = 10


@dataclass
class Stage:
    """A running stack with calls, all of which begin on its one worker."""

    stack: Stack
    calls: list[Call]
    scene: Scene
    asked: int = 0
    """Questions that each call has been asked."""

    async def links(self, call: Call) -> list[dict[str, Any]]:
        """From the emulator's record."""
        found: list[dict[str, Any]] = (await heard(self.stack, call.session.id))["links"]
        return found

    async def events(self, call: Call) -> list[dict[str, Any]]:
        """From the emulator's record."""
        found: list[dict[str, Any]] = (await heard(self.stack, call.session.id))["events"]
        return found

    @property
    def began(self) -> float:
        """When the emulator's clock was 0, on the machine's monotonic clock."""
        assert self.stack.emulator is not None
        return float(self.stack.emulator.ready["began"])

    async def ask(self, calls: Sequence[Call]) -> None:
        """A typed question to each, and its answer."""
        self.asked += 1

        async def one(call: Call) -> None:
            since = len(call.got)
            await call.session.send_text(f"where is my order {next(_ORDERS)}")
            await call.answer(since, containing=_NO_ORDER, limit=LIMIT)

        await asyncio.gather(*map(one, calls))

    async def another_worker(self) -> Child:
        """Started, and known to every gateway."""
        worker = await self.stack.start_worker()
        await asyncio.sleep(1.5)  # announcements come every second; nothing tells when each gateway has heard one
        return worker

    async def judge(self) -> None:
        """What was lost, doubled or not answered by now, of every call."""
        for call in self.calls:
            lineage = await call.lineage()
            lost = {**await unexcused(call, lineage)}
            if named := both(call.sent.voiced, call.sent.excused(call.got)):
                lost["named by gaps"] = list(named)
            again = lineage["duplicates"].pop("audio")
            seconds = sum(run["last"] - run["first"] + 1 for run in again) * MARK_SECONDS
            asked_again = sum(event.reason == "RESTARTED" for event in call.of(events.Interrupted))
            doubled = sum(map(len, lineage["duplicates"].values()))
            beyond = seconds > TWICE * max(1, len(call.of(events.LinkRecovered)))
            holes = len(call.session.audit.result().holes) + call.session.audit.result().duplicates
            self.scene.count(f"{self.scene.name}_lost", sum(map(len, lost.values())) + holes)
            self.scene.count(f"{self.scene.name}_duplicated", max(0, doubled - asked_again) + beyond)
            self.scene.count(f"{self.scene.name}_unanswered", abs(self.asked - call.answers()))
            if lost or holes or beyond or doubled > asked_again or self.asked != call.answers():
                self.scene.problems.append(
                    f"{call.session.id}: lost {lost}, again {lineage['duplicates']} and {seconds:.2f} s of audio, "
                    f"{self.asked} questions, {call.answers()} answers; {brief(call.got)[-20:]}"
                )


@asynccontextmanager
async def stage(scene: Scene, *, microphones: bool = True, **env: str) -> AsyncIterator[Stage]:
    """A fresh stack, and the calls of a scene, each of which has had an answer."""
    async with Stack(StackConfig(env=env)) as stack, AsyncExitStack() as exits:
        opening = asyncio.Semaphore(_AT_ONCE)

        async def open_call(number: int) -> Call:
            async with opening:
                microphone = microphones and number % 2 == 0
                opened = calling(stack, microphone=microphone, close_timeout=timedelta(seconds=30))
                return await exits.enter_async_context(opened)

        calls = list(await asyncio.gather(*map(open_call, range(scene.sessions))))
        found = Stage(stack, calls, scene)
        await found.ask(calls)
        yield found
        await found.judge()
        stack.failed = stack.failed or not scene.clean


async def gone(child: Child, limit: float) -> None:
    """Until a process has ended."""
    await eventually(lambda: not child.running, limit)
