"""Callers that ask one question after the other, whatever happens meanwhile, and check what became of it."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

from emulator.record.ranges import Ranges
from parley import errors, events
from parley.cli.stack import Stack
from tests.faults.call import Call, brief, calling, check_once_told
from tests.faults.chaos import links
from tests.faults.chaos.evidence import Evidence
from tests.faults.chaos.report import Report
from tests.faults.sent import MARK_SECONDS, without
from tests.support import order_ledger
from tests.support.counts import heard

SPOKEN = {
    "what is the weather in paris": ("weather_paris", "degrees"),
    "what is the weather in london": ("weather_london", "degrees"),
    "where is my order four seven one one": ("order_4711", "four seven one one"),
    "tell me about your service": ("tell_me_about_your_service", "speaking"),
    "what can you do": ("what_can_you_do", "speaking"),
    "hello": ("hello", "help you"),
}
"""Words, recording, and what is in the answer. Each is asked once: the record takes words that come again on another
link for a replay."""
EXCUSE = "sorry i could not find that"
"""What the model says when a tool failed."""
_ANSWER = 240.0
"""Seconds for one answer, with everything that may happen meanwhile, on a machine that has too much to do."""
_OPEN, _CLOSE = timedelta(seconds=90), timedelta(seconds=60)
_FAULT_CHANCE = 0.5
_TAKE_OVER_CHANCE = 0.12
SECOND_CALLER = "second caller"
"""Kind of fault: another stream takes the session from the first."""
_ORDERS = itertools.count(100_000)


class Callers:
    """All calls of a run, at any time so many."""

    def __init__(self, stack: Stack, orders: Path, report: Report, over: Callable[[], bool]) -> None:
        """`orders`: folder of the order ledger."""
        self._stack = stack
        self._orders = orders
        self._report = report
        self._over = over
        self._evidence = Evidence(stack.state_dir / "violations")
        self.open: dict[str, Call] = {}
        """By session."""

    async def run(self, chance: random.Random) -> None:
        """One call after the other."""
        await asyncio.sleep(chance.uniform(0, 3))
        while not self._over():
            told: list[str] = []
            try:
                await self._converse(chance, told)
            except (AssertionError, errors.ParleyError, TimeoutError) as problem:
                self._report.broken(f"{type(problem).__name__} after {told}: {str(problem)[:6000]}")

    async def _converse(self, chance: random.Random, told: list[str]) -> None:
        targets = [str(gateway.ready["address"]) for gateway in self._stack.gateways if gateway.running]
        chance.shuffle(targets)
        ordered: list[links.Order] = []
        asked = 0
        async with AsyncExitStack() as exits:
            microphone = chance.random() < 0.6
            call = await self._connected(exits, microphone=microphone, targets=targets)
            session = call.session.id
            told.append(session)
            try:
                for words in self._questions(chance):
                    self.open[session] = call
                    if asked and chance.random() < _TAKE_OVER_CHANCE and not call.moves:
                        told.append(SECOND_CALLER)
                        call = await self._second(call, exits, targets)
                        self.open[session] = call
                    if chance.random() < _FAULT_CHANCE:
                        order = links.Order(
                            chance.choice(list(links.FAULTS)), chance.choice(list(links.STATES)), chance.randint(0, 400)
                        )
                        ordered.append(order)
                        for fault in order.texts():
                            await call.fault(fault)
                        told.append(str(order))
                    told.append(words)
                    asked += await self._ask(call, words, chance)
                await check_once_told(call, asked_again=True, gaps=True)
                answers, at_most = call.answers(), call.answers(in_gaps=True)
                assert answers <= asked <= at_most, f"{asked} questions, {answers} to {at_most} answers"
                for caller in call.callers:
                    frames = sum(after - first for first, after in caller.sent.excused(call.got))
                    self._report.excused += frames * MARK_SECONDS
            except BaseException as problem:
                told.append(f"got {brief(call.got)[-16:]}")
                if not isinstance(problem, asyncio.CancelledError):
                    told.insert(0, f"see {await self._evidence.keep(call, told, problem)}")
                raise
            finally:
                self.open.pop(session, None)
                self._report.take(call.got)
                for kind, state in links.fired((await heard(self._stack, session))["events"], ordered):
                    self._report.hit(kind, [state])

    @staticmethod
    def _questions(chance: random.Random) -> Iterator[str]:
        for words in chance.sample(list(SPOKEN), chance.randint(1, 4)):
            yield words
            if chance.random() < 0.4:
                yield f"where is my order {next(_ORDERS)}"

    async def _second(self, call: Call, exits: AsyncExitStack, targets: list[str]) -> Call:
        """Another caller takes the session while nobody speaks; the first is told so, and goes."""
        await call.give_way()
        point = call.session.resume_point
        second = await self._connected(
            exits, microphone=call.has_microphone, targets=targets[::-1], resume=point, before=call
        )
        told = await call.told_to_go(_ANSWER)
        # Where its gateway died at that moment, there was nobody to tell it.
        assert isinstance(told, errors.Superseded | errors.Unavailable), told
        self._report.hit(SECOND_CALLER, [call.state])
        return second

    async def _connected(self, exits: AsyncExitStack, **options: Any) -> Call:
        """A call, or a stream that takes one over. Where nobody is there to answer, it is tried again for a while."""
        limit = asyncio.get_running_loop().time() + _ANSWER
        while True:
            try:
                opened = calling(self._stack, open_timeout=_OPEN, close_timeout=_CLOSE, **options)
                return await exits.enter_async_context(opened)
            except errors.Unavailable:
                self._report.not_let_in += 1
                if asyncio.get_running_loop().time() > limit:
                    raise
                await asyncio.sleep(1)

    async def _ask(self, call: Call, words: str, chance: random.Random) -> bool:
        """Returns whether there was an answer: there is none to words that were lost, as the caller was told."""
        self._report.questions += 1
        since, said_before = len(call.got), Ranges(call.sent.voiced)
        call.asks()
        recording, wanted = SPOKEN.get(words, ("", "shipped"))
        number = words.rpartition(" ")[2] if not recording else ""
        if recording and call.has_microphone and chance.random() < 0.7:
            await call.speak(recording)
            if not await self._answered(call, since, wanted, said_before):
                self._report.lost_questions += 1
                return False
        elif number:
            hold = self._orders / number
            hold.touch()
            await call.session.send_text(words)
            ends = asyncio.create_task(_later(chance.uniform(0, 1.5), hold))
            try:
                await self._answered(call, since, wanted)
            finally:
                await ends
            runs = await asyncio.to_thread(order_ledger.runs, self._orders, number)
            assert runs <= 1, f"order {number} was charged {runs} times"
        else:
            await call.session.send_text(words)
            await self._answered(call, since, wanted)
        self._report.answers += 1
        return True

    async def _answered(self, call: Call, since: int, wanted: str, said_before: Ranges | None = None) -> bool:
        """False: all that was said since then was lost on its way, and the caller was told so."""

        def all_lost() -> bool:
            return said_before is not None and not without(
                call.sent.voiced, said_before, call.sent.excused(call.got[since:])
            )

        def answered(event: events.Event) -> bool:
            if all_lost():
                return True
            said = call.said(since)
            lost = any(gap.direction == "DOWNLINK" for gap in call.of(events.Gap, since))
            whole = not (lost or call.lost_words(since))
            return isinstance(event, events.TurnComplete) and (wanted in said or EXCUSE in said or not whole)

        await call.until(answered, since, _ANSWER)
        said = call.said(since)
        if wanted in said:
            return True
        if all_lost():
            return False
        if EXCUSE not in said:
            self._report.cut_short += 1
        else:
            outcomes = [event.outcome for event in call.of(events.ToolActivity, since) if event.phase == "FINISHED"]
            assert any(outcome not in ("", "SUCCEEDED") for outcome in outcomes), (call.said(since), outcomes)
            self._report.unknown_outcomes += 1
        return True


async def _later(seconds: float, hold: Path) -> None:
    """The tool ends."""
    try:
        await asyncio.sleep(seconds)
    finally:
        await asyncio.to_thread(hold.unlink)
