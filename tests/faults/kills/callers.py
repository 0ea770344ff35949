"""Callers that have payments made, one question after the other, and look in the end what the model knows of each."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import nats
from nats.aio.client import Client

import parley
from parley import errors, events
from parley.cli.stack import Stack
from parley.v1 import live_pb2
from services.fabric import subjects
from services.fabric.claims import Claim, Claims
from tests.faults.call import Call, calling, check
from tests.faults.kills.books import REFUND, VOUCHER, Books, Claimed, Paid, told
from tests.faults.kills.strikes import Strikes
from tests.support.counts import heard
from tests.support.eventually import eventually

CONFIG: Final = parley.SessionConfig(
    model="gemini-3.8-live",
    instructions="Answer in one sentence.",
    tools=[REFUND, VOUCHER],
    output_transcription=True,
)
_QUESTIONS: Final[tuple[tuple[str, tuple[str, ...], str], ...]] = (
    ("refund my order", (REFUND,), "is refunded"),
    ("refund my order", (REFUND,), "is refunded"),
    ("send me a voucher for order", (VOUCHER,), "has a voucher"),
    ("make up for order", (REFUND, VOUCHER), "is made up for"),
)
"""Words, what is called for them, and what is in the answer."""
_EXCUSE: Final = "sorry that did not work"
_IN_WORDS: Final = "sorry i did not understand that"
"""What the scenario makes of an outcome that is told in words, without the question."""
_FAULTS: Final = (
    ("go_away time_left=6s",),
    ("go_away time_left=2s then=close",),
    ("reset",),
    ("close preset=deadline",),
    ("lose_handles", "reset"),
)
"""What is ordered of the emulator; with the handles lost the next link is told everything in words."""
_MOMENTS: Final = ("tool_call", "tool_response", "first_audio", "generation_complete", "turn_complete", "handle")
_FAULT_CHANCE: Final = 0.25
_ANSWER: Final = 120.0
_PAUSE: Final = 1.5
"""Seconds between an answer and the next question, at most."""
_OPEN, _CLOSE = timedelta(seconds=60), timedelta(seconds=60)
_PING: Final = 1.0
_SHOWN: Final = 2000
"""Characters of a problem; the rest is kept with the logs."""
FIRST_ORDER: Final = 100_000


@dataclass
class Plan:
    """What is still to be paid."""

    wanted: int
    """Payments, in all."""
    asked: int = 0

    @property
    def share(self) -> float:
        """Of all, how much has been asked for."""
        return self.asked / self.wanted


class Callers:
    """All conversations of a run."""

    def __init__(self, stack: Stack, books: Books, plan: Plan) -> None:
        self.open: dict[str, Call] = {}
        """By session."""
        self._stack = stack
        self._books = books
        self._plan = plan
        self._orders = itertools.count(FIRST_ORDER)

    async def run(self, strikes: Strikes, chance: random.Random) -> None:
        """One conversation after the other, until everything is paid."""
        client = await nats.connect(str(self._stack.nats.ready["url"]))
        try:
            while self._plan.asked < self._plan.wanted:
                asked: list[Paid] = []
                try:
                    await self._converse(client, strikes, chance, asked)
                except (AssertionError, errors.ParleyError, TimeoutError) as problem:
                    text = f"{type(problem).__name__} after {asked[-2:]}: {str(problem)[:_SHOWN]}"
                    self._books.violations.append(text)
        finally:
            await client.close()

    async def _converse(self, client: Client, strikes: Strikes, chance: random.Random, asked: list[Paid]) -> None:
        await asyncio.sleep(chance.uniform(0, 1))
        questions, settled = 0, dict[str, Any]()
        options = {"config": CONFIG, "open_timeout": _OPEN, "close_timeout": _CLOSE}
        async with calling(self._stack, microphone=False, **options) as call:
            session = call.session.id
            self.open[session] = call
            try:
                for _ in range(chance.randint(10, 30)):
                    await asyncio.sleep(chance.uniform(0, _PAUSE))
                    await strikes.in_step()
                    if self._plan.asked >= self._plan.wanted:
                        break
                    await self._ask(call, chance, asked)
                    questions += 1
                await eventually(lambda: self._all_told(call, asked), _ANSWER)
                # The newest link may still be told what came before it: somebody else's worker was killed.
                settled = await eventually(lambda: check(call, asked_again=True, outcomes=False), _ANSWER)
                await self._count_answers(call, questions)
            finally:
                del self.open[session]
                await self._close_books(client, call, asked, settled)
                self._books.questions += questions

    async def _all_told(self, call: Call, asked: list[Paid]) -> bool:
        known = told((await call.lineage())["context"])
        return all(known[paid].answers for paid in asked)

    async def _count_answers(self, call: Call, questions: int) -> None:
        """One for each question, as was waited for, and at most one more for each outcome that came in words alone."""
        links = (await heard(self._stack, call.session.id))["links"]
        alone = sum(turn["text"].startswith("[The function") for link in links for turn in link["turns"])
        answers = call.answers()
        assert answers <= questions + alone, f"{questions} questions, {answers} answers, {alone} outcomes"

    async def _ask(self, call: Call, chance: random.Random, asked: list[Paid]) -> None:
        words, tools, wanted = chance.choice(_QUESTIONS)
        order = str(next(self._orders))
        payments = [(tool, order) for tool in tools]
        self._plan.asked += len(payments)
        asked += payments
        if chance.random() < _FAULT_CHANCE:
            moment, after = chance.choice(_MOMENTS), chance.randint(0, 200)
            for fault in chance.choice(_FAULTS):
                await call.fault(f"{fault} on={moment} after={after}ms")
        since = len(call.got)
        call.asks()
        await call.session.send_text(f"{words} {order}")

        def cut_short() -> bool:
            """The caller lacks the end, which a gap names, and the model has said it."""
            return any(gap.direction == "DOWNLINK" for gap in call.of(events.Gap, since))

        def answered(event: events.Event) -> bool:
            said = call.said(since)
            return isinstance(event, events.TurnComplete) and (
                cut_short() or any(one in said for one in (wanted, _EXCUSE, _IN_WORDS))
            )

        await call.until(answered, since, _ANSWER)
        while wanted not in (said := call.said(since)) and _EXCUSE not in said and not cut_short():
            # What was said may have been about an earlier question's outcome.
            if await self._all_told(call, payments):
                break
            await call.until(answered, len(call.got), _ANSWER)
        if _EXCUSE in call.said(since):
            outcomes = {event.outcome for event in call.of(events.ToolActivity, since) if event.phase == "FINISHED"}
            assert outcomes - {"", "SUCCEEDED"}, f"{call.said(since)!r} was said of {outcomes}"

    async def _close_books(self, client: Client, call: Call, asked: list[Paid], settled: dict[str, Any]) -> None:
        """`settled`: the lineage in the end; nothing where the conversation broke off."""
        session = call.session.id
        found = [await self._claimed(client, claim) for claim in await Claims(client.jetstream()).all(session)]
        links = (await heard(self._stack, session))["links"]
        issued = Counter((one["name"], str(one["args"]["order_id"])) for link in links for one in link["tool_calls"])
        known = told((settled or await call.lineage())["context"])
        violations = len(self._books.violations)
        self._books.session_over(session, asked, issued, found, known, finished=bool(settled))
        if len(self._books.violations) > violations or not settled:
            await self._keep(call)
        self._books.rotations.update(_causes(call.got))

    async def _keep(self, call: Call) -> None:
        """What the model and the caller got, beside the logs, for whoever looks into it."""
        kept = {
            "heard": await heard(self._stack, call.session.id),
            "lineage": await call.lineage(),
            "got": [str(event) for event in call.got if not isinstance(event, events.Audio)],
        }
        path = self._stack.state_dir / f"{call.session.id}.json"
        await asyncio.to_thread(path.write_text, json.dumps(kept, indent=1))

    async def _claimed(self, client: Client, claim: Claim) -> Claimed:
        record, outcome = claim.record, claim.record.outcome
        paid = (record.tool, str(json.loads(record.arguments_json)["order_id"]))
        named = live_pb2.ToolOutcome.Name(outcome.outcome).removeprefix("TOOL_OUTCOME_") if claim.settled else ""
        output = json.loads(outcome.output_json) if outcome.output_json else None
        killed = named == "UNKNOWN" and await _gone(client, record.executor)
        return Claimed(claim.key, paid, named, output, outcome.error, killed)


async def _gone(client: Client, executor: str) -> bool:
    """Nobody answers for it any more."""
    try:
        await client.request(subjects.tools_ping(executor), b"", timeout=_PING)
    except nats.errors.NoRespondersError:
        return True
    return False


def _causes(got: list[events.Event]) -> Iterator[str]:
    cause = ""
    for event in got:
        match event:
            case events.LinkRotating():
                cause = event.cause
            case events.LinkRecovered():
                yield cause or "UNKNOWN"
            case _:
                pass
