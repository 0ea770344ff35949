"""Keeps a session on a link: reads it, leaves it in time, and replaces it when it is lost.

What decides is plain: `rotation` says when to leave a link, `ladder` what to try next, `restoration` what the next link
is given, `model_calls` on which link a call is answered. This module performs, and tells the caller; `call_answers`
answers the calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from google.genai import types
from opentelemetry.context import Context

from parley.v1 import fabric_pb2, live_pb2
from services.session_worker import events, live_config, measured
from services.session_worker.answer_in_progress import AnswerInProgress
from services.session_worker.call_answers import CallAnswers
from services.session_worker.closes import LinkFailure, Where
from services.session_worker.conversation import Conversation
from services.session_worker.feeder import Feeder
from services.session_worker.input_queue import AudioBatch
from services.session_worker.journal import Journal
from services.session_worker.link import Dialer, Link, LinkClosedError
from services.session_worker.link_in_use import LinkInUse
from services.session_worker.model_calls import ModelCalls
from services.session_worker.next_link import NextLink, Outage
from services.session_worker.restoration import Restoration, Situation, asked_again, restoration
from services.session_worker.rotation import LINK_SILENT
from services.session_worker.seq_ranges import Range, ranges_of
from services.session_worker.session_context import SessionContext
from services.session_worker.session_timeline import SessionTimeline
from services.session_worker.session_trace import SessionTrace
from services.session_worker.settings import WorkerSettings
from services.session_worker.turns import Turn, TurnState

log = structlog.get_logger()

_HUNG: Final = LinkFailure(Where.LINK, 1006, "it hung")
"""A link that is left for its silence. Perhaps the state is at fault: in the end one is begun without it."""
_UNHEARD: Final = 0.5
"""Seconds without a word from a link after which the service may have gone on with what did not come: a link that hangs
is one that nothing comes from, and a process that was frozen has not read."""


@dataclass(frozen=True)
class Keeps:
    """What a keeper works with, and whom it tells."""

    spec: fabric_pb2.OpenSession
    settings: WorkerSettings
    dialer: Dialer
    context: SessionContext
    turns: TurnState
    journal: Journal
    conversation: Conversation
    answering: AnswerInProgress
    feeder: Feeder
    trace: SessionTrace
    on_event: Callable[[events.Event, float], None]
    say: Callable[[live_pb2.ConverseResponse], None]
    restart: Callable[[Turn], None]
    """The link was lost in the middle of this turn, which begins anew: tell the caller."""
    generated_anew: Callable[[int], None]
    """The answer that began with the turn of this number comes again: its calls are the same calls."""
    note: Callable[[], None]
    """There is a newer handle, or more that the state which it restores waits for: write that down."""
    keep: Callable[[Coroutine[Any, Any, None], str], object]
    """Run this to its end."""
    timeline: SessionTimeline


class LinkKeeper:
    """One session's link, and the next."""

    def __init__(self, keeps: Keeps) -> None:
        self._keeps = keeps
        self.number = 0
        """Of the link, from 1."""
        self.handle = ""
        """The newest one that is good."""
        self._link: LinkInUse | None = None
        self._dropped: Link | None = None
        """Not ours any more, and not closed yet."""
        self._ticked = 0.0
        """When the link was last looked after: the journal's time, which stands still while there is none."""
        self._there = asyncio.Event()
        self._next = NextLink(
            keeps.spec,
            keeps.settings,
            keeps.dialer,
            keeps.context,
            keeps.trace,
            refused=keeps.timeline.link_refused,
        )
        self._calls = ModelCalls(gets_stuck=keeps.context.model.stuck_on_lost_calls)
        self._answers = CallAnswers(
            self._calls,
            keeps.context.model,
            keeps.turns,
            keeps.journal,
            keeps.conversation,
            session=keeps.spec.session_id,
        )
        self._exact = False
        self._lost_at = self._read_until = 0.0
        self._last_sign = -math.inf
        """From the link that was lost; none came here from another worker's."""
        self.round_trip = 0.0
        """Seconds to the model's endpoint and back, as far as known."""
        self._drop_cause = ""

    # Links

    async def open(self, parent: Context) -> None:
        """Connect the first link, for this request. LinkError (BACKEND_*)."""
        self._take(*await self._next.first(self._restoration(False), parent))

    def start(self) -> None:
        """Begin to feed the first link."""
        assert self._link is not None
        self._keeps.feeder.give(self._link.link)

    def restore(self, handle: str, calls: Sequence[events.FunctionCall], *, exact: bool) -> None:
        """Begin where another worker ended, with its newest handle and the calls since then."""
        self.handle, self._exact = handle, exact
        self._calls.inherit(calls)

    @property
    def waiting_calls(self) -> list[events.FunctionCall]:
        """Calls that the state which the handle restores may wait for."""
        return self._calls.since_handle

    def adopt(self, call: events.FunctionCall) -> None:
        """A call of a link of another worker, whose result is told in words."""
        self._calls.adopt(call)

    @property
    def at_rest(self) -> bool:
        """There is a link, and no reason to leave it."""
        return self._link is not None and self._link.leaving is None

    @property
    def calls_out(self) -> bool:
        """Calls of the model are without their results."""
        return self._calls.out

    @property
    def in_use(self) -> LinkInUse | None:
        """The link of this moment."""
        return self._link

    async def answer(self, response: types.FunctionResponse, *, final: bool = True) -> None:
        """Give the model the result of a function, which is in the conversation by now: on the link that called, or
        else in words, unless a link that came meanwhile was told of it with the rest of the exchange."""
        await self._answers.give(self, response, final=final)

    async def answer_partly(self, response: types.FunctionResponse) -> None:
        """The same of a result that is not the last: lost where the link that called is gone."""
        await self._answers.give_partly(self, response)

    async def there(self) -> LinkInUse:
        """The link, as soon as there is one."""
        while (in_use := self._link) is None:
            await self._there.wait()
        return in_use

    async def take_over(
        self, cause: str, silence: float, replayed: Sequence[Range], *, proven: bool, asked: Context
    ) -> None:
        """Bring a link to a session of another worker's, and keep it as `run` does. `cause`: as callers are told;
        `silence`: seconds since the model last heard the caller; `replayed`: uplink that it may have heard before;
        `proven`: that worker is dead, or has let go of it; `asked`: context of the request."""
        outage = Outage(cause, time.monotonic() - silence, replayed, taken_over=asked)
        self._go_on(outage, *await self._next.reopen(outage, self.handle, self._restoration, cut_off=not proven))
        await self.run()

    async def run(self) -> None:
        """Read the link, and replace it whenever it ends, for ever. LinkError when no other can be had."""
        while True:
            await self._there.wait()
            if (in_use := self._link) is None:
                continue
            cause, lost = await in_use.read(self._heard)
            if self._link is in_use:
                await self._replace(in_use, cause, lost)

    def _heard(self, event: events.Event, now: float) -> None:
        if not self._is_stale(event, now):
            self._keeps.on_event(event, now)
            self._follow(event, now)

    def _is_stale(self, event: events.Event, now: float) -> bool:
        """An empty turn, with which a model lets go of a call that it waited for since another link.

        Of a call that was answered with an error it says nothing. One that nobody knows of, because the link was lost
        before it came, takes the place of the next question's answer: that question is asked again.
        """
        turn = self._keeps.turns.current
        if not isinstance(event, events.TurnComplete) or not event.idle:
            return False
        if turn is not None and turn.first_output is not None:
            return False
        if self._keeps.turns.cut_off:
            return False  # that was an answer, if only to the first half of a question
        if self._calls.empty_turn(between_turns=turn is None):
            return True
        keeps = self._keeps
        question = keeps.conversation.unanswered() if keeps.conversation.words else []
        asked = question or keeps.journal.asked_before(now)
        if not (asked and self._calls.was_stuck()):
            return False
        if question:
            keeps.keep(self._ask(question), "ask again")
            self._tell(asked_again(ranges_of(keeps.conversation.told_requests(keeps.conversation.settled))))
        elif self._link is not None:
            again = keeps.journal.replay(now)
            keeps.journal.restart(again.items, told=False)
            keeps.feeder.give(self._link.link, again.items)
            self._tell(asked_again(again.replayed, again.dropped))
            if again.dropped:
                keeps.note()  # else whoever comes next tells the caller once more
        return True

    async def _ask(self, question: list[types.Content]) -> None:
        self._keeps.turns.asked(time.monotonic())
        in_use = await self.there()
        with contextlib.suppress(LinkClosedError):  # it is not answered, so the next link is given it
            await in_use.link.send_turn(question, turn_complete=True)

    def _follow(self, event: events.Event, now: float) -> None:
        turn = self._keeps.turns.current
        if turn is not None and turn.first_output is not None:
            self._calls.answering()
        match event:
            case events.FunctionCall():
                self._calls.made(event, self.number)
                if self._calls.since_handle:
                    self._keeps.note()
            case events.CallsCancelled(ids=ids):
                self._calls.cancelled(ids)
            case events.GoAway():
                log.info("go away", session=self._keeps.spec.session_id, left=event.seconds_left)
                if self._link is not None:
                    self._link.go_away(event.seconds_left, now)
            case events.HandleUpdate(resumable=True) if event.handle:
                self.handle = event.handle
                self._calls.handle_came()
                self._exact = event.consumed_index is not None
                self._keeps.journal.handle(now, event.consumed_index, self.round_trip)
                self._keeps.note()
            case _:
                pass  # without a handle the last good one stays good

    def drop(self, cause: str, *, abort: bool) -> None:
        """Have no link, at once and until `reopen`: whoever awaits `run` cancels that, and calls `close`.

        `abort`: what waits to be sent must not leave any more.
        """
        link = self._forget_link()
        self._drop_cause = cause
        if link is not None:
            self._dropped = link
            if abort:
                link.abort()
        self._keeps.feeder.release()
        self._tell_rotating(cause)
        self._settle_turn(time.monotonic())

    async def close(self) -> None:
        """Close the link, and the one that was dropped."""
        # Forgotten, not only closed: a link's TLS buffers (256 KiB) would wait with the session to be collected.
        links, self._dropped = (self._dropped, self._forget_link()), None
        for link in links:
            if link is not None:
                await link.close()
        await self._keeps.feeder.let_go()

    async def reopen(self, since: float, *, cut_off: bool) -> None:
        """The next link after `drop`, from the handle. LinkError when none can be had.

        `since`: from when on the caller has waited. `cut_off`: the service may not have seen the end of the last link.
        """
        await self._keeps.dialer.slot()
        outage = Outage(self._drop_cause, since)
        self._go_on(outage, *await self._next.reopen(outage, self.handle, self._restoration, cut_off=cut_off))

    def _forget_link(self) -> Link | None:
        in_use, self._link = self._link, None
        self._there.clear()
        if in_use is None:
            return None
        self._lost_at, self.round_trip = time.monotonic(), in_use.round_trip
        self._read_until, self._last_sign = in_use.read_until, in_use.last_sign
        return in_use.link

    def _tell_rotating(self, cause: str) -> None:
        rotating = live_pb2.Rotating(cause=cause)
        self._keeps.say(live_pb2.ConverseResponse(link_state=live_pb2.LinkState(rotating=rotating)))

    def _take(self, link: Link, began_with: Restoration, *, may_be_stuck: bool = False) -> None:
        now = time.monotonic()
        keeps = self._keeps
        age = keeps.settings.link_age
        self.number += 1
        keeps.answering.link_began()
        self._calls.link_began(may_be_stuck=may_be_stuck, closed=bool(began_with.closes))
        if began_with.answered:
            keeps.turns.asked(now, typed=True)
        most_age = age.total_seconds() if age is not None else None
        self._link = LinkInUse(
            link,
            self.number,
            keeps.dialer,
            most_age=most_age,
            told_until=began_with.outcomes_until,
            asks_what_is_read=keeps.settings.handles_cover_later_input,
            keep=keeps.keep,
        )
        self._there.set()

    @property
    def exact(self) -> bool:
        """The newest handle says itself how far it reaches."""
        return self._exact

    # Time

    def tick(self, now: float) -> None:
        """Leave the link when it is time. Called every 50 ms."""
        if self._link is None:
            return
        self._ticked, self.round_trip = now, self._link.round_trip
        self._keeps.journal.expire(now)
        self._link.tick(now, self._keeps.turns, self._keeps.journal)

    # The next link

    async def _replace(self, left: LinkInUse, cause: str, lost: LinkClosedError) -> None:
        """Close, then resume: a handle is refused while the old socket is open. LinkError when nothing helps."""
        keeps = self._keeps
        began = time.monotonic()
        self._forget_link()
        log.info("link over", session=keeps.spec.session_id, link=self.number, cause=cause, close=str(lost))
        if left.leaving is None:
            keeps.timeline.link_over(str(lost.failure))
        self._tell_rotating(cause)
        await left.link.close()
        await keeps.feeder.let_go()
        self._settle_turn(began)
        outage = Outage(cause, began)
        failure = lost.failure if left.leaving is None else _HUNG if left.leaving == LINK_SILENT else None
        self._go_on(outage, *await self._next.replace(outage, failure, self.handle, self._restoration))

    def _go_on(self, outage: Outage, link: Link, begins_with: Restoration) -> None:
        """On this link, and tell the caller."""
        keeps = self._keeps
        again = begins_with.replay.items
        keeps.journal.restart(again, told=begins_with.seed is not None or begins_with.untold is not None)
        # Who called had something to answer. What another worker's link owed, its gateway knows.
        may_be_stuck = begins_with.seed is None and (begins_with.owed or outage.taken_over is not None)
        self._take(link, begins_with, may_be_stuck=may_be_stuck)
        seconds = sum(keeps.journal.seconds(item) for item in again if isinstance(item, AudioBatch))
        keeps.feeder.give(link, again, self._next.replay(again, seconds))
        measured.given_again(begins_with)
        self._tell(begins_with.responses(time.monotonic() - outage.began, outage.replayed))
        if begins_with.replay.dropped:
            keeps.note()  # else whoever comes next tells the caller once more

    def _tell(self, responses: Iterable[live_pb2.ConverseResponse]) -> None:
        for response in responses:
            measured.told(response)
            self._keeps.say(response)

    def _settle_turn(self, now: float) -> None:
        """What becomes of the turn that was open: it is over if all of it is here, else it is asked for again."""
        keeps = self._keeps
        turn = keeps.turns.current
        if now - keeps.turns.last_event >= _UNHEARD:
            keeps.journal.may_lack_newest_handle()
        if turn is not None and turn.generated and not keeps.turns.pending_calls:
            keeps.on_event(events.TurnComplete(reason="", waiting_for_input=False, idle=True), now)
        elif turn is not None:
            keeps.restart(turn)
        begun = keeps.answering.begun
        # A turn of calls alone may be over, but not the answer that it belongs to.
        pending = keeps.turns.restart(keeps.turns.over + 1 if begun is None else begun.turn)
        # The question that they belong to is asked again, and they come again; or it is answered already, and then what
        # they return is told in words, as it is with calls of earlier answers.
        if begun is not None:
            keeps.generated_anew(begun.turn)
            self._calls.cancelled(pending)

    def _restoration(self, resumed: bool) -> Restoration:
        """What a new link is given. It may be asked for again."""
        keeps = self._keeps
        if not resumed:
            self.handle = ""  # given up for good
        # The newest one alone covers what came after it, and another may have been issued that did not come.
        newest = not keeps.journal.awaits_handle and self._lost_at - self._last_sign < _UNHEARD
        covers = keeps.settings.handles_cover_later_input and newest
        situation = Situation(
            keeps.journal,
            keeps.conversation,
            keeps.answering.begun,
            [live_config.content(content) for content in keeps.spec.config.history],
            self._calls.since_handle,
            self._ticked,
            exact=self._exact,
            # By the pongs and not by the time: a service that has much to do, or hangs, has not read what it was sent.
            heard_until=self._read_until if covers else None,
            ended_until=self._lost_at - self.round_trip,
        )
        return restoration(situation, resumed=resumed)
