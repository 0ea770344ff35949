"""The model's side of a conversation: from question to answer, call by call, and what an interruption does to it.

One turn is open at a time, with an agenda of what it still has to do (:mod:`emulator.mind.plan`). It ends with
``turnComplete``; what wants the word meanwhile waits in a queue. A turn that called a BLOCKING function stays open
until the response; one that called a NON_BLOCKING function ends with the call, and the response opens another.
"""

import json
from dataclasses import replace
from typing import Any

from emulator import texts
from emulator.actions import Action, Disturbance, IssueHandle, Note, Send
from emulator.api import server_content
from emulator.api.protocol import FunctionResponse
from emulator.configuration.setup import Config
from emulator.deadlines import soonest
from emulator.mind import plan, waiting
from emulator.mind.agenda import Agenda
from emulator.mind.chunks import Cutter
from emulator.mind.history import History
from emulator.mind.plan import Op
from emulator.mind.planner import Planner, Question
from emulator.mind.speaker import Speaker
from emulator.mind.speech import Pace
from emulator.mind.unasked import Unasked
from emulator.mind.waiting import Cause, Remark, Waiting
from emulator.record import LinkRecord
from emulator.scenarios.scenario import Match, Scenario
from emulator.scenarios.script import Rule
from emulator.session.handles import Snapshot
from emulator.tools.ledger import Ledger
from emulator.tools.pending import Lost, Pending
from emulator.tools.results import Result, Results, check

__all__ = ["Question", "Turns"]


class Turns:
    """The turn under way, the calls pending, and the queue."""

    def __init__(
        self,
        config: Config,
        *,
        scenario: Scenario,
        cutter: Cutter,
        pace: Pace,
        history: History,
        record: LinkRecord,
        ledger: Ledger,
    ) -> None:
        self.config = config
        self.out: list[Action] = []
        """What is to be done, in order; the owner takes it away."""
        self.held = False
        """Whether the caller has the word, so that no turn may begin."""
        self._history = history
        self._record = record
        self._speaker = Speaker(config, cutter=cutter, pace=pace, history=history, record=record)
        self._pending = Pending(ledger)
        self._planner = Planner(scenario, self._pending)
        self._results = Results(self._pending, history, record)
        switch = config.switches.lost_calls
        self._lost = Lost(ledger, stuck=(config.rules.lost_calls if switch == "model" else switch) == "stuck")
        self._waiting = Waiting(record)
        self._open = False
        self._answering: Cause | None = None
        """What the open turn is about."""
        self._agenda = Agenda(self._speaker)
        self._unasked = Unasked(scenario, begins=config.handle is None)
        self._mute_turns = 0
        """How many turns to come are empty."""

    @property
    def busy(self) -> bool:
        """Whether a turn is open."""
        return self._open

    @property
    def settled(self) -> bool:
        """Whether no turn is open, none waits, and no call is pending."""
        return not self._open and not self._waiting and not self._pending

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is wanted."""
        return soonest(self._agenda.deadline, self._unasked.deadline)

    def snapshot(self) -> Snapshot:
        """What is remembered, with what waits for an answer and what the open turn has said so far."""
        waiting = [self._answering, *self._waiting]
        asked = [sentence for one in waiting if isinstance(one, Question) for sentence in one.sentences]
        said = self._speaker.said
        return replace(self._history.snapshot(asked, said=said), position=self._record.position(said=said))

    def start(self, now: float) -> None:
        """The connection was set up."""
        self._do_unasked(self._unasked.start(now), now)

    def ask(self, question: Question, now: float) -> None:
        """Answer, as soon as the word is free."""
        if self._lost and question.match is None:
            self._close_stale(now)
        else:
            self._waiting.put(question, now)
        self.proceed(now)

    def proceed(self, now: float) -> None:
        """Begin what waits, if nothing hinders."""
        while self._waiting and not self._open and not self._lost and not (self.held and self._waiting.can_wait):
            self._begin(self._waiting.take(), now)

    def audio_came(self) -> None:
        """Realtime audio. Raises :class:`emulator.errors.Refusal` where a pending call forbids it."""
        switch = self.config.switches.audio_during_blocking_call
        if self._agenda.awaiting and switch != "accepted":
            raise (texts.ABORTED if switch == "aborted" else texts.NOT_ENABLED).refusal()

    def cut_short(self, now: float) -> None:
        """A turn whose user went on speaking before it began: it opens only to be interrupted."""
        if self._lost:
            self._close_stale(now)
        else:
            self._open_turn()
            self.interrupt(now)

    def interrupt(self, now: float) -> None:
        """The user cuts off the open turn, if there is one: calls that it waits for are cancelled."""
        if not self._open:
            return
        self._say_interrupted(now)
        self._cancel(now, also_non_blocking=self.config.switches.cancelled_calls == "all")
        self._complete(now, interrupted=True)

    def respond(self, responses: tuple[FunctionResponse, ...], now: float) -> None:
        """Outcomes of calls. Raises :class:`emulator.errors.Refusal` for what the model does not take."""
        for response in responses:
            entry: dict[str, Any] = {"id": response.id, "name": response.name, "response": response.response}
            if response.scheduling:
                entry["scheduling"] = response.scheduling
            if response.will_continue:
                entry["will_continue"] = True
            self._record.add("tool_responses", entry, at=now)
            if self._lost.answered(response.id):
                check(response, self.config)
                self.out.append(Note("tool_response"))
                if not self._lost:
                    self._close_stale(now)
                continue
            if (result := self._results.take(response, self.config, now)) is not None:
                self.out.append(Note("tool_response"))
                self._follow(result, now)
        self._advance(now)
        self.proceed(now)

    def tick(self, now: float) -> None:
        """Send what is due; end what has been played."""
        self.out += self._speaker.go_on(now)
        self._advance(now)
        self._do_unasked(self._unasked.due(now), now)
        self.proceed(now)

    def disturb(self, how: Disturbance, now: float) -> None:
        """A fault."""
        match how:
            case "interrupt":
                self.interrupt(now)
            case "cancel_calls":
                awaiting = self._agenda.awaiting
                self._cancel(now, also_non_blocking=True)
                if awaiting:
                    self._complete(now)
                    self.proceed(now)
            case "empty_turn":
                self._mute_turns = min(self._mute_turns + 1, waiting.MOST)

    # What comes next

    def _do_unasked(self, rules: list[Rule], now: float) -> None:
        for rule in rules:
            question = Question((), self._history.pictures, Match(rule))
            if question not in self._waiting:
                self._waiting.put(question, now)
        self.proceed(now)

    def _begin(self, what: Cause, now: float) -> None:
        self._open_turn(what)
        if self._mute_turns:
            self._mute_turns -= 1
            self._agenda.extend([plan.Complete()])
        elif isinstance(what, Question):
            self._agenda.extend(self._planner.answer(what, self.config))
        elif isinstance(what, Remark):
            self._agenda.extend(plan.speech(what.texts))
        else:
            self._agenda.extend(self._planner.following(what, self.config))
        self._advance(now)

    def _open_turn(self, what: Cause | None = None) -> None:
        self._open, self._answering = True, what
        self._speaker.turn()
        typed = isinstance(what, Question) and what.typed
        self.out.append(Note("turn_began", typed=typed, snapshot=self.snapshot() if typed else None))

    def _follow(self, result: Result, now: float) -> None:
        """What a result brings about. The turn that waits for it goes on by itself."""
        group = result.group
        if group.blocking or not (result.interim or result.settled) or result.scheduling == "SILENT":
            self._rest()
            return
        first = result.scheduling == "INTERRUPT"
        if first and self._open and not self._agenda.awaiting:
            self._say_interrupted(now)
            self._complete(now, interrupted=True)
        remark = Remark(tuple(self._planner.interim(group))) if result.interim else None
        self._waiting.put(remark or group, now, first=first)

    # The agenda

    def _advance(self, now: float) -> None:
        """Do what the agenda says, as far as it goes for now."""
        while (op := self._agenda.due(now)) is not None:
            self._do(op, now)

    def _do(self, op: Op, now: float) -> None:
        match op:
            case plan.Show(part, thought):
                self._history.thought(thought)
                self.out.append(Send(server_content.content(modelTurn=server_content.model_turn([part]))))
            case plan.Say(spoken):
                self.out += self._speaker.say(spoken, now)
            case plan.Generated(grounding):
                self.out += self._speaker.generated(grounding)
            case plan.Place():
                self._place(op, now)
            case plan.CompleteEarly():
                self._speaker.finish(now)
                self._send_complete(now)
            case plan.Await(group):
                self._agenda.extend(self._planner.following(group, self.config))
            case plan.Complete(reason, wants_more):
                self._complete(now, reason=reason, wants_more=wants_more)
            case plan.End():
                self._end()

    def _place(self, op: plan.Place, now: float) -> None:
        self._pending.place(op.group)
        if op.after_complete:
            self._speaker.finish(now)
            self._send_complete(now)
        for call in op.group.calls:
            self._record.add("tool_calls", {**call.facts, "blocking": op.group.blocking}, at=now)
            self._history.called(json.dumps(call.facts, separators=(",", ":"), ensure_ascii=False))
        self.out += map(Send, server_content.tool_calls(op.group, ids=self.config.switches.call_ids))
        self.out.append(Note("tool_call"))

    def _cancel(self, now: float, *, also_non_blocking: bool) -> None:
        given_up = self._pending.cancel(also_non_blocking=also_non_blocking)
        for call in given_up:
            self._record.add("cancelled_calls", call.id, at=now)
        if given_up and self.config.switches.call_ids:
            self.out.append(Send({"toolCallCancellation": {"ids": [call.id for call in given_up]}}))

    # Ends

    def _say_interrupted(self, now: float) -> None:
        self.out += [Send(server_content.content(interrupted=True)), Note("interrupted")]
        self._record.event("interrupted", at=now)

    def _complete(self, now: float, *, interrupted: bool = False, reason: str = "", wants_more: bool = False) -> None:
        """End the turn, and say so."""
        self._speaker.finish(now, interrupted=interrupted)
        self._send_complete(now, reason=reason, wants_more=wants_more)
        self._end()

    def _send_complete(self, now: float, *, reason: str = "", wants_more: bool = False) -> None:
        usage = self._history.close_turn()
        self._record.used(usage)
        self._record.event("turn_complete", at=now)
        pending = bool(self._pending)
        messages = server_content.turn_complete(
            usage, self.config, pending=pending, reason=reason, wants_more=wants_more
        )
        self.out += map(Send, messages)
        self.out.append(Note("turn_complete"))

    def _end(self) -> None:
        self._open, self._answering = False, None
        self._agenda.clear()
        self._rest()

    def _rest(self) -> None:
        """A handle, when the model is at rest."""
        if self.config.resumable and not self._open and not self._pending:
            self.out.append(IssueHandle(self.snapshot()))

    def _close_stale(self, now: float) -> None:
        """The exchange of the lost calls ends; nothing else comes of it."""
        self._lost.forget()
        self._record.event("stale_exchange_closed", at=now)
        self._open_turn()
        self._complete(now)
