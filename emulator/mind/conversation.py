"""The caller's side: speech, text, pictures and turns become questions for :mod:`emulator.mind.turns`."""

import functools
from dataclasses import replace
from typing import Any

from emulator import texts
from emulator.actions import Action, Disturbance, Send
from emulator.api.protocol import (
    ActivityEnd,
    ActivityStart,
    Audio,
    AudioStreamEnd,
    ClientContent,
    Content,
    ContextUpdate,
    Event,
    MediaChunks,
    Setup,
    Text,
    ToolResponse,
    Video,
)
from emulator.audio import rate_of, resample
from emulator.configuration.setup import Config
from emulator.deadlines import soonest
from emulator.errors import invalid
from emulator.hearing.attention import Attention
from emulator.hearing.pictures import FrameRate, describe
from emulator.hearing.utterances import UNKNOWN
from emulator.hearing.vad import RATE
from emulator.mind.chunks import Cutter
from emulator.mind.context import Context, Entry
from emulator.mind.history import History, terms
from emulator.mind.reading import check_turns
from emulator.mind.speech import Pace
from emulator.mind.turns import Question, Turns
from emulator.record import LinkRecord
from emulator.scenarios.language import normalise
from emulator.scenarios.scenario import Scenario
from emulator.session.handles import Snapshot
from emulator.tools.ledger import Ledger


class Conversation:
    """A :class:`emulator.actions.Mind` that follows a scenario."""

    def __init__(
        self,
        config: Config,
        *,
        scenario: Scenario,
        cutter: Cutter,
        pace: Pace,
        snapshot: Snapshot,
        record: LinkRecord,
        ledger: Ledger | None = None,
    ) -> None:
        # None of the parts holds the conversation, so that nothing of it outlives its connection.
        self._history = History(snapshot, terms(config), on_cut=functools.partial(_note_cut, record))
        self._history.instruct(config.instructions)
        self._turns = turns = Turns(
            config,
            scenario=scenario,
            cutter=cutter,
            pace=pace,
            history=self._history,
            record=record,
            ledger=ledger or Ledger(),
        )
        self._scenario = scenario
        self._record = record
        self._attention = Attention(
            lambda: turns.config,
            turns=turns,
            history=self._history,
            record=record,
            memory=snapshot.hearing,
        )
        self._seeding = config.seeds_history and config.handle is None
        self._seed_answered = False
        """Whether the latest that was asked is what the seeded history left open."""
        self._first = True
        """Whether nothing has been asked yet on this connection."""
        self._complete_when_read = False
        """Whether the turn whose audio is being understood is to be answered."""
        self._pace_of_pictures = FrameRate()

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is wanted."""
        return soonest(self._turns.deadline, self._attention.deadline)

    def apply(self, event: Event, now: float) -> list[Action]:
        """A client message."""
        if isinstance(event, Setup):
            raise texts.SETUP_FIRST.refusal()
        if self._config.broken_by_affective_dialog:
            raise invalid()
        match event:
            case Audio(data, mime_type):
                self._attention.hear(data, mime_type, now)
            case Video(data, mime_type):
                self._see(data, mime_type, now)
            case MediaChunks(chunks):
                if not self._config.rules.media_chunks:
                    raise texts.MEDIA_CHUNKS_REFUSED.refusal()
                for data, mime_type in chunks:
                    if mime_type.startswith("image/"):
                        self._see(data, mime_type, now)
                    else:
                        self._attention.hear(data, mime_type, now)
            case AudioStreamEnd():
                self._attention.stream_end(now)
            case ActivityStart():
                self._attention.mark_start(now)
            case ActivityEnd():
                if self._attention.mark_end(now, refused=self._refuses_nothing):
                    self._ask(now)
            case Text(text):
                self._type(text, now)
            case ClientContent(turns, complete):
                self._read(turns, complete, now)
            case ToolResponse(responses):
                self._turns.respond(responses, now)
            case ContextUpdate():
                self._update(event, now)
        return self._taken()

    def disturb(self, how: Disturbance, now: float) -> list[Action]:
        """A fault in what the model does."""
        self._turns.disturb(how, now)
        return self._taken()

    def start(self, now: float) -> list[Action]:
        """What was over and not understood when the snapshot was taken is understood now, and waits to be asked for."""
        self._attention.start()
        self._turns.start(now)
        return self._taken()

    @property
    def settled(self) -> bool:
        """Whether nothing is under way that a snapshot would not hold."""
        return self._turns.settled and not self._attention.listening

    def snapshot(self, *, hearing: bool) -> Snapshot:
        """What a handle taken now restores."""
        snapshot = self._turns.snapshot()
        if not hearing:
            return snapshot
        assert snapshot.position is not None
        memory = self._attention.memory()
        return replace(snapshot, hearing=memory, position=replace(snapshot.position, hearing=True))

    def usage(self) -> dict[str, Any]:
        """``usageMetadata`` of the turn under way."""
        return self._history.metadata()

    def heard(self, number: int, text: str | None, now: float) -> list[Action]:
        """An utterance was understood, or not (None)."""
        utterance = self._attention.understood(number)
        sentence = text or UNKNOWN
        self._record.understood(number, sentence, at=now)
        if utterance.transcript is not None:
            self._turns.out += map(Send, utterance.transcript.understood(text, UNKNOWN))
            if self._first and self._leaves_seed_out:
                self._history.take_question()
        self._history.user(sentence, spoken=utterance.seconds)
        if utterance.transcript is None:
            if self._complete_when_read and not self._attention.reading:
                self._complete_when_read = False
                self._ask(now, pictures=self._history.images)
        elif self._attention.speaking and self._config.interruptible and not self._turns.busy:
            self._history.take_question()
            self._attention.cut_short(now)
        else:
            self._ask(now)
        return self._taken()

    def guessed(self, number: int, text: str | None, now: float) -> list[Action]:
        """What an utterance under way seems to say so far."""
        self._turns.out += map(Send, self._attention.guessed(number, text))
        return self._taken()

    def tick(self, now: float) -> list[Action]:
        """Time has passed."""
        self._attention.tick(now)
        self._turns.tick(now)
        return self._taken()

    @property
    def _config(self) -> Config:
        return self._turns.config

    @property
    def _answers_seed(self) -> bool:
        switch = self._config.switches.seed_at_once
        return switch == "answered" or (switch == "model" and self._config.rules.answers_seed)

    @property
    def _leaves_seed_out(self) -> bool:
        switch = self._config.switches.seed_at_first_audio
        return switch == "ignored" or (switch == "model" and self._config.rules.forgets_seed_at_first_audio)

    @property
    def _refuses_nothing(self) -> bool:
        switch = self._config.switches.nothing_to_complete
        return switch == "refused" or (switch == "model" and self._config.rules.refuses_empty_turn)

    def _taken(self) -> list[Action]:
        out, self._turns.out = self._turns.out, []
        return out

    def _see(self, data: bytes, mime_type: str, now: float) -> None:
        entry = describe(data, mime_type)
        if early := self._pace_of_pictures.early(now):
            # More than the documented rate; billed all the same.
            entry["early"] = early
        entry["seen"] = self._config.turn_coverage != "only activity" or self._attention.speaking
        self._record.add("video", entry, at=now)
        if not entry["seen"]:
            return
        self._attention.content_came()
        self._history.saw()
        if match := self._scenario.seen(self._history.pictures):
            self._turns.ask(Question((), self._history.pictures, match), now)

    def _type(self, text: str, now: float) -> None:
        """Realtime text: activity, like speech; between the caller's markers a part of what they hold."""
        marking = self._config.detection.manual and self._attention.speaking
        answered, self._seed_answered = self._seed_answered, False
        if answered and not normalise(text):
            # A nudge for an answer that has begun by itself.
            self._record.add("texts", text, at=now)
            return
        if self._config.interruptible and not marking:
            self._turns.interrupt(now)
        self._record.add("texts", text, at=now)
        # A bare full stop or space only asks for the answer that is due (frameworks nudge so after seeding history).
        if normalise(text) or not self._history.asks:
            self._history.user(text)
        self._attention.content_came()
        if not marking:
            self._ask(now)

    def _read(self, turns: tuple[Content, ...], complete: bool, now: float) -> None:
        """Ordered turns."""
        config = self._config
        if config.switches.typed_turn == "refused" and not self._first:
            raise invalid()
        check_turns(turns, config, seeding=self._seeding, complete=complete)
        if complete and not turns and not self._seeding and not self._history.asks and self._refuses_nothing:
            raise texts.NO_TURN.refusal()
        if config.rules.typed_turn_interrupts and not self._seeding:
            self._turns.interrupt(now)
        for turn in turns:
            self._take(turn, now)
        if self._seeding and complete:
            self._seeding = False
            self._history.seeded()
            if not (self._answers_seed and self._history.asks):
                return
            self._seed_answered = True
        elif self._seeding or not complete:
            return
        if self._attention.reading:
            self._complete_when_read = True
        else:
            # A typed turn does not see what was streamed before it.
            self._ask(now, pictures=self._history.images)

    def _take(self, turn: Content, now: float) -> None:
        """A turn into the history; its audio has to be understood first."""
        entry: dict[str, Any] = {"role": turn.role or "user", "text": turn.text}
        if turn.texts:
            entry["parts"] = list(turn.texts)
        if turn.images:
            entry["images"] = len(turn.images)
        self._record.add("turns", entry, at=now)
        if turn.role == "model":
            self._history.told(turn.text)
        elif turn.text or turn.images or not turn.audio:
            self._history.user(turn.text, images=len(turn.images))
        for data, mime_type in turn.audio:
            self._attention.read(resample(data, rate_of(mime_type), RATE), now)

    def _update(self, event: ContextUpdate, now: float) -> None:
        if not self._config.updatable:
            raise invalid()
        self._record.add("context_updates", event.received, at=now)
        if event.instructions is not None:
            self._turns.config = self._config.with_instructions(event.instructions)
            self._history.instruct(event.instructions.text)
        if event.tools is not None:
            self._turns.config = self._config.with_tools(event.tools)

    def _ask(self, now: float, pictures: int | None = None) -> None:
        self._first = False
        # Taking the question may cut the context, and what is cut off is not seen.
        sentences = self._history.take_question()
        seen = self._history.pictures if pictures is None else pictures
        self._turns.ask(Question(sentences, seen, typed=pictures is not None), now)


def _note_cut(record: LinkRecord, context: Context) -> None:
    """Only what was said and typed is told; other entries of the record stand between."""
    seeds = sum(_worded(entry) for entry in context.seeds)
    record.context_cut(seeds=seeds, kept=sum(map(_worded, context)) - seeds)


def _worded(entry: Entry) -> bool:
    return entry.role != "tool" and bool(normalise(entry.text))
