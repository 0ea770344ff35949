"""Many calls, and faults of every kind at random, for as long as wanted: `make chaos MINUTES=30 SEED=...`.

Callers ask, one question after the other, spoken or typed, while links are closed, reset, hung and told to go away, and
processes are killed and replaced. Each call is checked by what the model knows in the end and by what the caller got,
as in the stories of this folder; a question whose answer was cut off more than once may be known twice, but every
question has one answer. Prints a summary (faults by kind and moment, sessions, gaps by cause) and exits with 1 when a
promise was broken, or when fewer faults of a kind happened than `--at-least`. The seed is printed; it decides who asks
what and which fault comes when, but not how processes race.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from parley import errors, events
from parley.cli._child import Child
from parley.cli.stack import Stack, StackConfig
from tests.faults.call import Call, brief, calling, check

QUESTIONS = {
    "what is the weather in paris": ("weather_paris", "degrees"),
    "what is the weather in london": ("weather_london", "degrees"),
    "where is my order four seven one one": ("order_4711", "four seven one one"),
    "tell me about your service": ("tell_me_about_your_service", "speaking"),
    "what can you do": ("what_can_you_do", ""),
    "hello": ("hello", ""),
}
LINK_FAULTS = (
    "reset",
    "reset how=fin",
    "close preset=unavailable",
    "close preset=internal",
    "close preset=deadline",
    "close preset=go_away",
    "go_away time_left=2s then=close",
    "go_away time_left=2s then=silence",
    "go_away",
    "half_open",
)
MOMENTS = (
    "speech_began",
    "speech_ended",
    "turn_began",
    "first_audio",
    "tool_call",
    "tool_response",
    "generation_complete",
    "turn_complete",
    "handle",
)
_ANSWER = 90.0
"""Seconds for one answer, with everything that may happen meanwhile."""


@dataclass
class Report:
    """What happened."""

    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind and moment."""
    gaps: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds, by cause."""
    sessions: int = 0
    answers: int = 0
    violations: list[str] = field(default_factory=list)

    def take(self, call: Call) -> None:
        """A call is over."""
        self.sessions += 1
        cause = ""
        for event in call.got:
            match event:
                case events.LinkRotating():
                    cause = event.cause
                case events.LinkRecovered():
                    self.gaps[cause].append(event.gap.total_seconds())
                case events.StreamResumed():
                    self.gaps["STREAM"].append(event.gap.total_seconds())
                case _:
                    pass

    def kinds(self) -> Counter[str]:
        """Faults by kind."""
        kinds: Counter[str] = Counter()
        for (kind, _), count in self.faults.items():
            kinds[kind] += count
        return kinds

    def print(self) -> None:
        """For people."""
        print(f"\n{self.sessions} sessions, {self.answers} answers, {len(self.violations)} violations")
        print("\nfaults ordered                               count")
        for (kind, moment), count in sorted(self.faults.items()):
            print(f"  {kind:<34} {moment:<20} {count:>5}")
        print("\ngap by cause             n      p50      p99  seconds")
        for cause, gaps in sorted(self.gaps.items()):
            ordered = sorted(gaps)
            p99 = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
            print(f"  {cause:<18} {len(gaps):>6} {statistics.median(ordered):>8.2f} {p99:>8.2f}")
        for violation in self.violations[:20]:
            print(f"\nVIOLATION {violation}")


class Chaos:
    """One run."""

    def __init__(self, stack: Stack, seed: int, until: float) -> None:
        self._stack = stack
        self._random = random.Random(seed)
        self._until = until
        self.report = Report()

    @property
    def _over(self) -> bool:
        return time.monotonic() >= self._until

    async def run(self, calls: int, processes: list[Callable[[], Awaitable[str]]], every: float) -> Report:
        """Until the time is up."""
        seeds = [self._random.random() for _ in range(calls)]
        async with asyncio.TaskGroup() as group:
            for seed in seeds:
                group.create_task(self._caller(random.Random(seed)))
            if processes:
                group.create_task(self._trouble(processes, every))
        return self.report

    async def _caller(self, chance: random.Random) -> None:
        await asyncio.sleep(chance.uniform(0, 3))
        while not self._over:
            told: list[str] = []
            try:
                await self._conversation(chance, told)
            except (AssertionError, errors.ParleyError, TimeoutError) as problem:
                self.report.violations.append(f"{type(problem).__name__} after {told}: {str(problem)[:3000]}")

    async def _conversation(self, chance: random.Random, told: list[str]) -> None:
        targets = [str(gateway.ready["address"]) for gateway in self._stack.gateways if gateway.running]
        chance.shuffle(targets)
        async with calling(self._stack, microphone=chance.random() < 0.7, targets=targets) as call:
            told.append(call.session.id)
            try:
                # Each once: the record takes words that come again on another link for a replay.
                for words in chance.sample(list(QUESTIONS), chance.randint(2, 5)):
                    await self._exchange(call, words, chance, told)
                await check(call, asked_again=True, gaps=True)
                asked, answered = sum(word in QUESTIONS for word in told), call.answers()
                assert answered == asked, f"{asked} questions, {answered} answers"
            except BaseException:
                told.append(f"got {brief(call.got)[-12:]}")
                raise
            finally:
                self.report.take(call)

    async def _exchange(self, call: Call, words: str, chance: random.Random, told: list[str]) -> None:
        if chance.random() < 0.6:
            kind, moment = chance.choice(LINK_FAULTS), chance.choice(MOMENTS)
            await call.fault(f"{kind} on={moment} after={chance.randint(0, 400)}ms")
            self.report.faults[kind, moment] += 1
            told.append(f"{kind} on={moment}")
        recording, answered = QUESTIONS[words]
        since = len(call.got)
        told.append(words)
        if call.has_microphone and chance.random() < 0.7:
            await call.speak(recording)
        else:
            await call.session.send_text(words)
        await call.answer(since, containing=answered, limit=_ANSWER)
        self.report.answers += 1

    async def _trouble(self, processes: list[Callable[[], Awaitable[str]]], every: float) -> None:
        while not self._over:
            await asyncio.sleep(self._random.uniform(0.5, 1.5) * every)
            kind = await self._random.choice(processes)()
            self.report.faults[kind, "any"] += 1


def process_faults(stack: Stack, names: list[str], chance: random.Random) -> list[Callable[[], Awaitable[str]]]:
    """What is done to processes, by name."""

    async def kill(child: Child) -> None:
        child.stopping = True
        child.signal(signal.SIGKILL)
        await child.gone()

    async def gateway_killed() -> str:
        gateway = chance.choice([child for child in stack.gateways if child.running])
        await kill(gateway)
        await stack.start_gateway(PARLEY_GATEWAY_LISTEN=str(gateway.ready["address"]))
        return "gateway killed"

    async def gateway_replaced() -> str:
        gateway = chance.choice([child for child in stack.gateways if child.running])
        await gateway.stop(30)
        await stack.start_gateway(PARLEY_GATEWAY_LISTEN=str(gateway.ready["address"]))
        return "gateway replaced"

    async def tools_killed() -> str:
        tools = chance.choice([child for child in stack.tools if child.running])
        await stack.start_tools()
        await kill(tools)
        return "tools service killed"

    async def worker_killed() -> str:
        worker = chance.choice([child for child in stack.workers if child.running])
        await stack.start_worker()
        await kill(worker)
        return "worker killed"

    known = {
        "gateway": [gateway_killed, gateway_replaced],
        "tools": [tools_killed],
        "worker": [worker_killed],
    }
    return [fault for name in names for fault in known[name]]


async def chaos(arguments: argparse.Namespace, seed: int) -> Report:
    """Everything."""
    config = StackConfig(workers=arguments.workers, gateways=2)
    async with Stack(config) as stack:
        until = time.monotonic() + 60 * arguments.minutes
        run = Chaos(stack, seed, until)
        processes = process_faults(stack, arguments.processes, random.Random(seed))
        return await run.run(arguments.calls, processes, arguments.every)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--calls", type=int, default=20, help="at once")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--every", type=float, default=20, help="seconds between two faults of processes, about")
    parser.add_argument("--processes", nargs="*", default=["gateway", "tools"], choices=["gateway", "tools", "worker"])
    parser.add_argument("--at-least", type=int, default=0, help="faults of each kind")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(2**32)
    print(f"seed {seed}", flush=True)
    report = asyncio.run(chaos(arguments, seed))
    report.print()
    few = {kind: count for kind, count in report.kinds().items() if count < arguments.at_least}
    if few:
        print(f"\nfewer than {arguments.at_least} of: {few}")
    return 1 if report.violations or few else 0


if __name__ == "__main__":
    sys.exit(main())
