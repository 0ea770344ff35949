"""A thousand rotations under twenty conversations: `make soak-rotations`.

Each caller asks on and on, spoken and typed, while its links are told to go away, at moments of chance. In the end the
model knows everything once, every question has one answer, and every goAway has led to one new link. Prints how long
the model did not hear the caller, and exits with 1 when something was lost or doubled.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import sys
import time
from dataclasses import dataclass, field

from parley import events
from parley.cli.stack import Stack, StackConfig
from tests.faults.call import Call, calling, check_once_told
from tests.faults.chaos.report import percentile

SPOKEN = ("speech_began", "speech_ended")
"""Moments of the emulator that only speech has."""
MOMENTS = ("turn_began", "first_audio", "generation_complete", "turn_complete", "handle")
_LEFT = ("", "time_left=2s", "time_left=3s then=close", "time_left=20s")
"""What goAway says, and what follows. The links must be left before, so no answer may begin anew for it."""
ENV = {"PARLEY_WORKER_HEALTHY_LINK": "1s"}
"""Twenty links of a session in a minute, of which none lived for half a minute, are taken for a backend that is broken.
Here they are what is wanted."""
RECORDINGS = {
    "hello": "help you",
    "weather_paris": "degrees",
    "weather_london": "degrees",
    "order_4711": "four seven one one",
    "order_1234": "one two three four",
    "goodbye": "goodbye",
    "what_do_you_see": "pictures",
}
"""What a caller says, each once, because words that come again on another link are a replay to the record; and what is
in the answer."""
_SPEAKS = 0.2
"""Of the questions, until everything has been said."""
_ORDERS = itertools.count(100_000)
_ANSWER = 120.0
_TOLD = 100
"""Rotations after which it is told how far it is."""


@dataclass
class Soak:
    """What was seen."""

    wanted: int
    """Rotations, in all."""
    until: float
    """When it ends at the latest; monotonic seconds."""
    rotations: int = 0
    questions: int = 0
    restarted: int = 0
    """Answers that were cut off, because goAway left no time for a quiet point."""
    gaps: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def enough(self) -> bool:
        """All that was wanted."""
        return self.rotations >= self.wanted

    @property
    def over(self) -> bool:
        """Enough, or no time is left."""
        return self.enough or time.monotonic() > self.until

    async def converse(self, stack: Stack, chance: random.Random) -> None:
        """One caller, until there were enough rotations."""
        await asyncio.sleep(chance.uniform(0, 2))
        try:
            async with calling(stack, microphone=chance.random() < 0.6) as call:
                asked, spoken = 0, chance.sample(list(RECORDINGS), len(RECORDINGS))
                while not self.over:
                    speaks = call.has_microphone and bool(spoken) and chance.random() < _SPEAKS
                    await self._ask(call, chance, spoken.pop() if speaks else "")
                    asked += 1
                await check_once_told(call, asked_again=True)
                assert call.answers() == asked, f"{asked} questions, {call.answers()} answers"
        except Exception as problem:  # noqa: BLE001 - told in the end
            self.problems.append(f"{type(problem).__name__}: {str(problem)[:3000]}")

    async def _ask(self, call: Call, chance: random.Random, recording: str) -> None:
        since = len(call.got)
        moment = chance.choice(MOMENTS + SPOKEN * bool(recording))
        await call.fault(f"go_away {chance.choice(_LEFT)} on={moment} after={chance.randint(0, 300)}ms")
        if recording:
            await call.speak(recording)
            await call.answer(since, containing=RECORDINGS[recording], limit=_ANSWER)
        else:
            await call.session.send_text(f"where is my order {next(_ORDERS)}")
            await call.answer(since, containing="could not find", limit=_ANSWER)  # there is none
        self.questions += 1
        self._count(call, since)

    def _count(self, call: Call, since: int) -> None:
        recovered: list[events.LinkRecovered] = call.of(events.LinkRecovered, since)
        if (self.rotations + len(recovered)) // _TOLD > self.rotations // _TOLD:
            print(f"{self.rotations + len(recovered)} rotations", flush=True)
        self.rotations += len(recovered)
        self.gaps += [event.gap.total_seconds() for event in recovered]
        self.restarted += sum(event.reason == "RESTARTED" for event in call.of(events.Interrupted, since))


async def soak(wanted: argparse.Namespace, seed: int) -> Soak:
    """Everything."""
    found = Soak(wanted.rotations, time.monotonic() + 60 * wanted.minutes)
    chance = random.Random(seed)
    async with Stack(StackConfig(workers=2, env=ENV)) as stack:
        await asyncio.gather(*(found.converse(stack, random.Random(chance.random())) for _ in range(wanted.sessions)))
        stack.failed = stack.failed or bool(found.problems)
        if stack.failed:
            print(f"logs are kept in {stack.state_dir}")
    return found


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rotations", type=int, default=1000)
    parser.add_argument("--sessions", type=int, default=20, help="at once")
    parser.add_argument("--minutes", type=float, default=10, help="after which it has failed")
    parser.add_argument("--seed", type=int, default=None)
    wanted = parser.parse_args()
    seed = wanted.seed if wanted.seed is not None else random.SystemRandom().randrange(2**32)
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    found = asyncio.run(soak(wanted, seed))
    print(
        f"{found.rotations} rotations of {wanted.sessions} sessions in {time.monotonic() - began:.0f} s, "
        f"{found.questions} questions, {found.restarted} answers begun anew, {len(found.problems)} problems"
    )
    if found.gaps:
        print(
            f"the model did not hear for p50 {percentile(found.gaps, 50):.3f} s, p99 {percentile(found.gaps, 99):.3f} s"
        )
    for problem in found.problems:
        print(f"\nVIOLATION {problem}")
    return 1 if found.problems or not found.enough else 0


if __name__ == "__main__":
    sys.exit(main())
