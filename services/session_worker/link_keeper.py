"""Keeps a session on a link: reads it, leaves it in time, and replaces it when it is lost.

What decides is plain: `rotation` says when to leave a link, `ladder` what to try next, `journal` and `conversation`
what the next link is given. This module performs: it dials, restores, and tells the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog
from google.genai import types
from opentelemetry import trace
from opentelemetry.context import Context

from parley.v1 import fabric_pb2, live_pb2
from services.fabric import names, telemetry
from services.session_worker import events, live_config, responses
from services.session_worker.closes import LinkError, LinkFailure, link_error
from services.session_worker.conversation import Conversation, Seed
from services.session_worker.feeder import Feeder
from services.session_worker.journal import Journal, Replay, spans
from services.session_worker.ladder import Budget, Fail, Ladder, Resume, Step
from services.session_worker.ladder import Seed as Begin
from services.session_worker.link import Dialer, Link, LinkClosedError
from services.session_worker.rotation import Due, Probe, Rotate, Rotation
from services.session_worker.session_context import SessionContext
from services.session_worker.settings import WorkerSettings
from services.session_worker.turns import Turn, TurnState

log = structlog.get_logger()

_PLAYED = 1.0
"""Seconds after an answer has played in which its turn may still end."""
_MOST_CALLS = 128
"""Calls since the newest handle that are remembered; a session without handles would collect them for ever."""
_SPEAKING = 1.0
"""Seconds after a sound in which the caller counts as speaking."""


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
    feeder: Feeder
    on_event: Callable[[events.Event, float], None]
    say: Callable[[live_pb2.ConverseResponse], None]
    restart: Callable[[Turn], None]
    """The link was lost in the middle of this turn, which begins anew: tell the caller."""
    generated_anew: Callable[[int], None]
    """The turn of this number comes again: its calls are the same calls."""
    handle_came: Callable[[], None]
    keep: Callable[[Coroutine[Any, Any, None], str], object]
    """Run this to its end."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The model has begun to answer."""

    at: float
    """What was sent after that is not what it answers; monotonic seconds."""
    seq: int
    """Number of the last request before."""
    position: int
    """Entries of the conversation before."""
    turn: int
    """Number of the turn."""
    first_seq: int
    """Downlink `seq` with which the answer begins."""
    generated_seq: int = 0
    """Downlink `seq` with which all of it was produced."""
    said: str = ""
    """What it says, then."""


@dataclass(frozen=True, slots=True)
class Restoration:
    """What a new link is given before anything else, in this order."""

    seed: Seed | None
    """To one that begins from nothing."""
    told: list[types.Content]
    """What happened since the handle, in words."""
    question: list[types.Content]
    """What was being answered, in words, to be answered again."""
    ask: bool
    """An answer is to be asked for."""
    replay: Replay
    """What had not begun to be answered, as it was."""

    @property
    def tells(self) -> bool:
        """A link that begins from nothing learns what was said; models that only translate take no words."""
        return bool(self.seed is not None and self.seed.turns)


class LinkKeeper:
    """One session's link, and the next."""

    def __init__(self, keeps: Keeps) -> None:
        self._keeps = keeps
        self.number = 0
        """Of the link, from 1."""
        self.handle = ""
        """The newest one that is good."""
        self._link: Link | None = None
        self._dropped: Link | None = None
        """Not ours any more, and not closed yet."""
        self._ticked = 0.0
        """When the link was last looked after: the journal's time, which stands still while there is none."""
        self._there = asyncio.Event()
        self._rotation = Rotation(0.0)
        settings = keeps.settings
        budget = Budget(
            settings.recovery_tries, settings.recovery_time.total_seconds(), settings.healthy_link.total_seconds()
        )
        self._ladder = Ladder(budget, random.random)
        self._leaving: str | None = None
        self._begun: Begun | None = None
        self._issued: dict[str, tuple[int, events.FunctionCall]] = {}
        """Calls without an answer, and the link that each came from."""
        self._calls: deque[events.FunctionCall] = deque(maxlen=_MOST_CALLS)
        """Calls since the newest handle: in the state that it restores they may wait for their results for ever."""
        self._stale_end = False
        """The end of a turn is due that is nobody's: of a call that was lost."""
        self._may_be_stuck = False
        """The link was resumed, and the model has not answered anything on it yet."""
        self._exact = False
        self._lost_at = 0.0
        self._session_context = Context()

    # Links

    async def open(self, parent: Context, session_context: Context) -> None:
        """Connect the first link. LinkError (BACKEND_*)."""
        self._session_context = session_context
        restoration = self._restoration(resumed=False)
        link = await self._dial("", parent, seed=restoration.seed)
        self._take(link)
        try:
            await self._tell(link, restoration)
        except LinkClosedError as error:
            raise link_error(error.failure, " (on the session's history)") from error

    def start(self) -> None:
        """Begin to feed the first link."""
        assert self._link is not None
        self._keeps.feeder.give(self._link)

    def restore(
        self,
        handle: str,
        begun: Begun | None,
        calls: Sequence[events.FunctionCall],
        *,
        exact: bool,
        session_context: Context,
    ) -> None:
        """Begin where another worker ended, with its newest handle, the answer that was cut off, and the calls since
        the handle."""
        self.handle, self._begun, self._exact = handle, begun, exact
        self._calls.extend(calls)
        self._session_context = session_context

    def adopt(self, call: events.FunctionCall) -> None:
        """A call of a link of another worker, whose result is told in words."""
        self._issued[call.id] = (0, call)

    @property
    def at_rest(self) -> bool:
        """There is a link, and no reason to leave it."""
        return self._link is not None and self._leaving is None

    @property
    def calls_out(self) -> bool:
        """Calls of the model are without their results."""
        return bool(self._issued)

    async def there(self) -> Link:
        """The link, as soon as there is one."""
        while (link := self._link) is None:
            await self._there.wait()
        return link

    async def take_over(self, silence: float, replayed: Sequence[live_pb2.SeqRange], *, proven: bool) -> None:
        """Bring a link to a session of another worker's, and keep it as `run` does. `silence`: seconds since the model
        last heard the caller; `replayed`: uplink that it may have heard before; `proven`: that worker is dead."""
        began = time.monotonic() - silence
        step = self._ladder.reopen(time.monotonic(), handle=self.handle, can_seed=True, takeover=not proven)
        await self._climb_until_there(step, began, replayed)
        await self.run()

    async def run(self) -> None:
        """Read the link, and replace it whenever it ends, for ever. LinkError when no other can be had."""
        while True:
            link = await self.there()
            cause, lost = await self._read(link)
            if self._link is link:
                await self._replace(link, cause, lost)

    async def _read(self, link: Link) -> tuple[str, LinkClosedError]:
        """Until it ends; reading never waits for anything but the link. Why it ended."""
        rotation = self._rotation
        try:
            while True:
                for event in await link.receive():
                    now = time.monotonic()
                    rotation.heard(now)
                    if not self._is_stale(event):
                        self._keeps.on_event(event, now)
                        self._follow(event, now)
        except LinkClosedError as error:
            return self._leaving or "LINK_LOST", error

    def _is_stale(self, event: events.Event) -> bool:
        """An empty turn, with which a model lets go of a call that it waited for since another link.

        Of a call that was answered with an error it says nothing. One that nobody knows of, because the link was lost
        before it came, takes the place of the next question's answer: that question is asked again.
        """
        turn = self._keeps.turns.current
        if not isinstance(event, events.TurnComplete) or (turn is not None and turn.first_output is not None):
            return False
        if self._stale_end and turn is None:
            self._stale_end = False
            return True
        question = self._keeps.conversation.unanswered()
        if not (self._may_be_stuck and question):
            return False
        self._may_be_stuck = False
        self._keeps.keep(self._ask(question), "ask again")
        return True

    async def _ask(self, question: list[types.Content]) -> None:
        self._keeps.turns.asked(time.monotonic())
        link = await self.there()
        with contextlib.suppress(LinkClosedError):  # it is not answered, so the next link is given it
            await link.send_turn(question, turn_complete=True)

    def _follow(self, event: events.Event, now: float) -> None:
        match event:
            case events.FunctionCall():
                self._stale_end = False
                self._issued[event.id] = (self.number, event)
                self._calls.append(event)
            case events.CallsCancelled(ids=ids):
                for call_id in ids:
                    self._issued.pop(call_id, None)
            case events.GoAway():
                log.info("go away", session=self._keeps.spec.session_id, left=event.seconds_left)
                self._rotation.go_away(event.seconds_left, now)
            case events.HandleUpdate(resumable=True) if event.handle:
                self.handle = event.handle
                self._calls.clear()
                self._exact = event.consumed_index is not None
                self._keeps.journal.handle(now, event.consumed_index, self.round_trip)
                self._keeps.handle_came()
            case _:
                pass  # without a handle the last good one stays good

    def drop(self, cause: str, *, abort: bool) -> None:
        """Have no link, at once and until `reopen`: whoever awaits `run` cancels that, and calls `close`.

        `abort`: what waits to be sent must not leave any more.
        """
        link = self._forget_link()
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
        step = self._ladder.reopen(time.monotonic(), handle=self.handle, can_seed=True, takeover=cut_off)
        await self._climb_until_there(step, since)

    def _forget_link(self) -> Link | None:
        link, self._link = self._link, None
        self._there.clear()
        if link is not None:
            self._lost_at = time.monotonic()
        return link

    def _tell_rotating(self, cause: str) -> None:
        rotating = live_pb2.Rotating(cause=cause)
        self._keeps.say(live_pb2.ConverseResponse(link_state=live_pb2.LinkState(rotating=rotating)))

    async def _dial(self, handle: str, parent: Context, *, seed: Seed | None) -> Link:
        keeps = self._keeps
        spec = keeps.spec
        fill = {"session": spec.session_id, "tenant": spec.tenant, "profile": spec.profile}
        headers = {name: value.format_map(fill) for name, value in keeps.settings.link_headers.items()}
        with telemetry.tracer().start_as_current_span(names.SPAN_CONNECT, parent, trace.SpanKind.CLIENT) as span:
            span.set_attributes(
                {
                    names.SESSION_ID: spec.session_id,
                    names.GEN_AI_MODEL: spec.config.model,
                    names.LINK: self.number + 1,
                }
            )
            seeded = seed is not None and seed.as_history
            config = keeps.context.live_config(handle, headers, seeded=seeded)
            return await keeps.dialer.dial(spec.config.model, config, live_config.input_rate(spec.config))

    def _take(self, link: Link) -> None:
        now = time.monotonic()
        age = self._keeps.settings.link_age
        self.number += 1
        self._rotation = Rotation(now, most_age=age.total_seconds() if age is not None else None)
        self._ladder.connected(now)
        self._leaving = None
        self._link = link
        self._there.set()
        self._ping(link)

    # Answers and calls

    def began(self, now: float, turn: int, first_seq: int) -> bool:
        """The model has begun to answer; False when it had before."""
        self._may_be_stuck = False
        if self._begun is not None:
            return False
        self._begun = Begun(now, self._keeps.journal.last_seq, self._keeps.conversation.position, turn, first_seq)
        return True

    def generated(self, said: str, seq: int) -> None:
        """The whole answer was produced; `seq`: downlink that says so."""
        if self._begun is not None:
            self._begun = replace(self._begun, generated_seq=seq, said=said)

    @property
    def begun(self) -> fabric_pb2.AnswerBegun | None:
        """The answer in progress, for a checkpoint."""
        begun = self._begun
        if begun is None:
            return None
        return fabric_pb2.AnswerBegun(
            turn=begun.turn,
            given_seq=begun.seq,
            log_position=begun.position,
            first_downlink_seq=begun.first_seq,
            generated_downlink_seq=begun.generated_seq,
            said=begun.said,
        )

    @property
    def exact(self) -> bool:
        """The newest handle says itself how far it reaches."""
        return self._exact

    @property
    def given_seq(self) -> int:
        """Number of the last request that the answer of the moment can be about."""
        return self._keeps.journal.last_seq if self._begun is None else self._begun.seq

    def settled(self) -> None:
        """The answer is complete, and in the conversation."""
        self._begun = None

    async def answer(self, response: types.FunctionResponse, *, final: bool = True) -> None:
        """Give the model the result of a function: on the link that called, or else in words."""
        call_id = response.id or ""
        issued = self._issued.pop(call_id, None) if final else self._issued.get(call_id)
        if issued is None:
            return  # cancelled, or called again since
        number, call = issued
        while True:
            link = await self.there()
            try:
                if self.number == number:
                    if final:
                        self._keeps.turns.call_settled(call_id, time.monotonic())
                    await link.send_tool_response(response)
                else:
                    await self._tell_result(link, call, response)
            except LinkClosedError:
                # The next link is told of it with the rest of the exchange: it is in the conversation.
                log.info("a result goes to the next link", session=self._keeps.spec.session_id, tool=call.name)
            return

    async def _tell_result(self, link: Link, call: events.FunctionCall, response: types.FunctionResponse) -> None:
        """A call that another link made cannot be answered on this one, as conversation it can."""
        self._keeps.turns.asked(time.monotonic())
        await link.send_turn(self._keeps.conversation.outcome(call.id), turn_complete=True)

    # Time

    @property
    def round_trip(self) -> float:
        """Seconds to the model's endpoint and back, as far as known."""
        return self._rotation.round_trip or 0.0

    def tick(self, now: float) -> None:
        """Leave the link when it is time. Called every 50 ms."""
        link = self._link
        turns, journal = self._keeps.turns, self._keeps.journal
        if link is None:
            return
        self._ticked = now
        journal.expire(now)
        if self._leaving is not None:
            return
        waits = journal.position < journal.answered_position
        quiet = not turns.busy and not waits and not (self._rotation.leaving and journal.spoke_since(now - _SPEAKING))
        decision = self._rotation.tick(now, quiet=quiet, due=self._due(turns, now), spoke_since=journal.spoke_since)
        match decision:
            case Rotate(cause=cause):
                self._leaving = cause
                self._keeps.keep(self._leave(link), "leave the link")
            case Probe():
                self._ping(link)
            case None:
                pass

    @staticmethod
    def _due(turns: TurnState, now: float) -> Due:
        if turns.pending_calls:
            return Due.NOTHING
        turn = turns.current
        if turn is not None and turn.first_audio is not None:
            if not (turn.generated or turn.interrupted):
                return Due.MORE
            # The end of the turn comes when all of it could have been played.
            return Due.ANSWER if now > turn.first_audio + turn.audio_seconds + _PLAYED else Due.NOTHING
        return Due.ANSWER if turns.owes_answer else Due.NOTHING

    async def _leave(self, link: Link) -> None:
        """Close, so that whoever reads it finds its end. The place of the next one is taken before."""
        await self._keeps.dialer.slot()
        await link.close()

    def _ping(self, link: Link) -> None:
        rotation = self._rotation
        rotation.pinged(time.monotonic())

        async def ping() -> None:
            try:
                await link.ping()
            except LinkClosedError:
                return
            rotation.pong(time.monotonic())

        self._keeps.keep(ping(), "ping")

    # The next link

    async def _replace(self, link: Link, cause: str, lost: LinkClosedError) -> None:
        """Close, then resume: a handle is refused while the old socket is open. LinkError when nothing helps."""
        keeps = self._keeps
        began = time.monotonic()
        planned = self._leaving is not None
        self._forget_link()
        log.info("link over", session=keeps.spec.session_id, link=self.number, cause=cause, close=str(lost))
        self._tell_rotating(cause)
        await link.close()
        await keeps.feeder.let_go()
        self._settle_turn(began)
        await self._climb_until_there(self._next_step(None if planned else lost.failure), began)

    async def _climb_until_there(self, step: Step, began: float, replayed: Sequence[live_pb2.SeqRange] = ()) -> None:
        """One step of the ladder after another. LinkError when nothing helps."""
        while not isinstance(step, Fail):
            await asyncio.sleep(step.delay)
            try:
                await self._climb(step, began, replayed)
            except LinkError as error:
                log.warning("no new link", session=self._keeps.spec.session_id, error=str(error))
                step = self._next_step(error.failure)
            else:
                return
        raise step.error

    def _next_step(self, failure: LinkFailure | None) -> Step:
        """`failure`: None when the link was left on purpose."""
        now = time.monotonic()
        if failure is None:
            return self._ladder.rotate(now, handle=self.handle, can_seed=True)
        return self._ladder.failed(failure, now, handle=self.handle, can_seed=True)

    def _settle_turn(self, now: float) -> None:
        """What becomes of the turn that was open: it is over if all of it is here, else it is asked for again."""
        keeps = self._keeps
        turn = keeps.turns.current
        if turn is not None and turn.generated and not keeps.turns.pending_calls:
            keeps.on_event(events.TurnComplete(reason="", waiting_for_input=False, idle=True), now)
        elif turn is not None:
            keeps.restart(turn)
        begun = self._begun
        # A turn of calls alone may be over, but not the answer that it belongs to.
        first = keeps.turns.over + 1 if begun is None else begun.turn
        for number in range(first, keeps.turns.count + 1):
            keeps.generated_anew(number)
        for call_id in keeps.turns.restart(first):
            # The question that they belong to is asked again, and so are they; or it is answered already, and then what
            # they return is told in words.
            if begun is not None:
                self._issued.pop(call_id, None)

    async def _climb(self, step: Resume | Begin, began: float, replayed: Sequence[live_pb2.SeqRange]) -> None:
        """One try. LinkError when the link cannot be had, or does not outlive what it is given first."""
        keeps = self._keeps
        resumed = isinstance(step, Resume)
        if not resumed:
            self.handle = ""
        restoration = self._restoration(resumed=resumed)
        link = await self._dial(self.handle, self._session_context, seed=restoration.seed)
        try:
            await self._tell(link, restoration)
        except BaseException as error:
            await link.close()
            if isinstance(error, LinkClosedError):
                raise link_error(error.failure) from error
            raise
        self._calls.clear()
        self._may_be_stuck = resumed and keeps.context.model.stuck_on_lost_calls
        keeps.journal.restart(told=not resumed)
        self._take(link)
        replay = restoration.replay
        keeps.feeder.give(link, replay.items)
        recovered = live_pb2.Recovered(
            method="RESUMED" if resumed else "RESEEDED",
            state_restored=resumed or restoration.tells or not keeps.conversation.position,
            gap=responses.duration(time.monotonic() - began),
            replayed=[*replayed, *spans(replay.replayed)],
            dropped=spans(replay.dropped),
        )
        keeps.say(live_pb2.ConverseResponse(link_state=live_pb2.LinkState(recovered=recovered)))
        for first, last in replay.dropped:
            gap = live_pb2.Gap(direction=live_pb2.DIRECTION_UPLINK, from_seq=first, to_seq=last, reason="LINK_LOST")
            keeps.say(live_pb2.ConverseResponse(gap=gap))

    def _restoration(self, *, resumed: bool) -> Restoration:
        """What a new link is given. It may be asked for again: nothing changes here."""
        keeps, begun = self._keeps, self._begun
        journal, conversation = keeps.journal, keeps.conversation
        seed: Seed | None = None
        told: list[types.Content] = []
        question: list[types.Content] = []
        if begun is not None:
            question = conversation.unanswered(begun.seq, begun.position)
        elif conversation.has_outcomes:
            question = conversation.unanswered(0, 0)
        after = 0.0 if begun is None else begun.at
        ask = bool(question)
        if not resumed:
            configured = [live_config.content(content) for content in keeps.spec.config.history]
            seed = conversation.seed(configured)
        elif keeps.settings.handles_cover_later_input:
            # All that the link had heard is in its state; what was on its way is given again.
            after, ask = max(after, self._lost_at - self.round_trip), ask or journal.asks
        else:
            told = conversation.since(journal.position)
        replay = journal.replay(self._ticked, after=after, exact=self._exact)
        return Restoration(seed, told, question, ask, replay)

    async def _tell(self, link: Link, restoration: Restoration) -> None:
        """LinkClosedError when it closes on that."""
        seed = restoration.seed
        if seed is None and self._keeps.context.model.stuck_on_lost_calls:
            for call in self._calls:
                lost = {"error": "the connection was lost before the result; what it was is told in words"}
                await link.send_tool_response(types.FunctionResponse(id=call.id, name=call.name, response=lost))
                self._stale_end = True
        if seed is not None and seed.turns:
            await link.send_turn(seed.turns, turn_complete=seed.turn_complete)
        if restoration.told:
            await link.send_turn(restoration.told, turn_complete=False)
        if restoration.ask:
            await link.send_turn(restoration.question, turn_complete=True)
        if restoration.ask or (seed is not None and seed.answered):
            self._keeps.turns.asked(time.monotonic())
