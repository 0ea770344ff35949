"""Calls that go on during every rollout, and callers who come anew all the time."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final

import parley
from parley import errors, events
from parley.cli.stack import Stack
from tests.faults.call import Call, brief, calling, check
from tests.faults.chaos.callers import SPOKEN

_ANSWER: Final = 120.0
"""Seconds for one answer; a limit for what hangs, no judgement of speed."""
_PAUSE: Final = (1.0, 4.0)
"""Seconds between two questions of a call."""
_ARRIVALS: Final = 0.25
"""Seconds between two new callers."""
_ORDERS: Final = itertools.count(1000)
"""Nothing is asked twice: the emulator's record takes words that come again for a replay."""


class Load:
    """So many calls, from `begin` to `end`. `problems` says what a caller would complain of."""

    def __init__(self, stack: Stack, address: str, *, calls: int, spoken: int) -> None:
        """`stack`: of the emulator. `spoken`: calls with an open microphone; the others write."""
        self._stack = stack
        self._address = address
        self._count = calls
        self._spoken = spoken
        self._calls: list[Call] = []
        self._over = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._exits = AsyncExitStack()
        self.answers = Counter[str]()
        """By session."""
        self.arrivals = 0
        """New callers that were served."""
        self.problems: list[str] = []

    async def begin(self) -> None:
        """Open every call."""
        for number in range(self._count):
            options = {"microphone": number < self._spoken, "targets": [self._address]}
            self._calls.append(await self._exits.enter_async_context(calling(self._stack, **options)))  # type: ignore[arg-type]
        chance = random.Random(7)
        self._tasks = [asyncio.create_task(self._talk(call, random.Random(chance.random()))) for call in self._calls]
        self._tasks.append(asyncio.create_task(self._arrive()))

    @property
    def sessions(self) -> list[str]:
        """Of the calls."""
        return [call.session.id for call in self._calls]

    def seen(self, kind: type[events.Event]) -> int:
        """Calls that got such an event."""
        return sum(bool(call.of(kind)) for call in self._calls)

    def least(self, kind: type[events.Event]) -> int:
        """How often every call got it, at least."""
        return min(len(call.of(kind)) for call in self._calls)

    async def every_call(self, done: Callable[[Call], bool]) -> bool:
        """For `eventually`."""
        return all(done(call) for call in self._calls)

    async def end(self) -> None:
        """Have everybody finish what is being said, look at what the models know, and hang up."""
        self._over.set()
        async with asyncio.timeout(2 * _ANSWER):
            await asyncio.gather(*self._tasks)
        for call in self._calls:
            self._look(call)
            try:
                await check(call)
            except AssertionError as problem:
                self.problems.append(f"{call.session.id}: {problem}")
        await self._exits.aclose()

    def _look(self, call: Call) -> None:
        """What was planned must not look like an accident."""
        me = call.session.id
        for event in call.got:
            match event:
                case events.Ended() | events.StreamLost() | events.Gap():
                    self.problems.append(f"{me}: {event}")
                case events.LinkRotating(cause=cause) if cause != "DRAIN":
                    self.problems.append(f"{me}: link gone for {cause}")
                case events.Interrupted(reason="RESTARTED"):
                    self.problems.append(f"{me}: an answer was begun anew")
                case _:
                    pass
        if call.problem is not None:
            self.problems.append(f"{me}: {call.problem!r}")

    async def _talk(self, call: Call, chance: random.Random) -> None:
        spoken = list(SPOKEN.items())
        try:
            while not self._over.is_set():
                since = len(call.got)
                containing = ""
                if call.has_microphone and spoken:
                    _, (recording, containing) = spoken.pop()
                    await call.speak(recording)
                else:
                    await call.session.send_text(f"where is my order {next(_ORDERS)}")
                await call.answer(since, containing, limit=_ANSWER)
                self.answers[call.session.id] += 1
                try:
                    async with asyncio.timeout(chance.uniform(*_PAUSE)):
                        await self._over.wait()
                except TimeoutError:
                    continue
        except (AssertionError, errors.ParleyError) as problem:
            self.problems.append(f"{call.session.id}: {problem!r}; got {brief(call.got)[-8:]}")

    async def _arrive(self) -> None:
        """Callers without patience: whoever is not served at once is a problem."""
        while not self._over.is_set():
            try:
                async with parley.connect(self._address, profile="plain", max_outage=timedelta(0)):
                    self.arrivals += 1
            except errors.ParleyError as problem:
                self.problems.append(f"a new caller was not served: {problem!r}")
            await asyncio.sleep(_ARRIVALS)
