"""The answer that the model has begun and not finished: what led to it, and how far it came. Plain code."""

from __future__ import annotations

from dataclasses import dataclass, replace

from parley.v1 import fabric_pb2
from services.session_worker.conversation import Conversation
from services.session_worker.journal import Journal
from services.session_worker.sent_input import Extent
from services.session_worker.turns import Turn, TurnState


@dataclass(frozen=True, slots=True)
class Begun:
    """The model has begun to answer."""

    question: Extent
    """What it answers of the input, up to its newest turn."""
    position: int
    """Entries of the conversation before that."""
    turn: int
    """Number of the turn, the first where it takes several."""
    first_seq: int
    """Downlink `seq` with which the answer begins."""
    generated_seq: int = 0
    """Downlink `seq` with which all of it was produced."""
    said: str = ""
    """What it says, then."""


@dataclass(frozen=True, slots=True)
class _Spoke:
    """A turn that has begun to speak."""

    turn: int
    question: Extent
    """What it can be about of the input."""
    position: int
    """Entries of the conversation before: what functions returned since is not what it is about."""


class AnswerInProgress:
    """One session's, or none. It outlives links: the next one is asked for the same answer."""

    def __init__(
        self, journal: Journal, conversation: Conversation, turns: TurnState, *, handles_cover_typed_turns: bool
    ) -> None:
        """`handles_cover_typed_turns`: a capability of the model."""
        self._journal = journal
        self._conversation = conversation
        self._turns = turns
        self._covers_typed = handles_cover_typed_turns
        self.begun: Begun | None = None
        """None between answers."""
        self._here = False
        """The answer has begun on the link of the moment."""
        self._spoke: _Spoke | None = None
        """The newest turn of the answer that has begun on it."""

    def begins(self, now: float, turn: int, first_seq: int, round_trip: float = 0.0) -> bool:
        """The model speaks, or calls a function; True when that is the beginning of its answer on this link."""
        journal, conversation = self._journal, self._conversation
        if self._spoke is None or self._spoke.turn != turn:
            question = journal.question(now, round_trip, on_outcome=conversation.has_outcomes)
            self._spoke = _Spoke(turn, self._at_most_asked(question, turn), conversation.position)
            if self._here and self.begun is not None:
                # Asked again, both are: in an answer of its own it would have its calls made once more.
                self.begun = replace(self.begun, question=self._spoke.question, position=self._spoke.position)
                journal.answer_begins(self._spoke.question)
        if self._here:
            return False
        self._here = True
        if self.begun is None:
            self.begun = Begun(self._spoke.question, conversation.position, turn, first_seq)
            journal.answer_begins(self._spoke.question)
        if self._covers_typed and self._is_about_ordered_content:
            journal.typed_turn_taken_up(conversation.position)
        return True

    def _at_most_asked(self, question: Extent, turn: int) -> Extent:
        """Without what was typed since the answer began, unless this is a later turn of it, which speaks of what was
        asked meanwhile: up to the first result that the model was given since, as what came after that waits for the
        turn after this one."""
        begun, told_at = self.begun, self._turns.told_at
        if begun is None:
            return question
        asked = begun.question
        if not self._here:
            return replace(question, seq=asked.seq)
        waits = any(begun.turn <= made < turn for made in self._turns.pending_calls.values())
        typed = question.seq if waits or told_at is None else min(question.seq, self._journal.typed_until(told_at))
        return Extent(max(asked.at, question.at), max(asked.seq, typed))

    def link_began(self) -> None:
        """Another link is asked for the answer."""
        self._here, self._spoke = False, None

    @property
    def _is_about_ordered_content(self) -> bool:
        """And about nothing else, for sure: neither speech nor what was typed since."""
        given = self._journal.last_seq
        return (
            self._turns.typed
            and not self._journal.spoke_since(0.0)
            and all(seq <= given for seq in self._conversation.unanswered_requests.values())
        )

    def generated(self, said: str, seq: int) -> None:
        """The whole answer was produced; `seq`: downlink that says so."""
        if self.begun is not None:
            # It goes into checkpoints, where nothing that is said may be with the log off.
            self.begun = replace(self.begun, generated_seq=seq, said=said if self._conversation.words else "")

    def over(self) -> None:
        """It is complete, and in the conversation."""
        self.begun = None
        self.link_began()

    @property
    def turn(self) -> int:
        """Number of the turn with which the answer of the moment began."""
        return self._turns.count if self.begun is None else self.begun.turn

    def answered(self, turn: Turn, now: float, round_trip: float = 0.0) -> tuple[Extent, int] | None:
        """What this turn answered, which ends now, of the input and of the conversation; None: nothing, what was typed
        waits on."""
        journal, spoke, begun = self._journal, self._spoke, self.begun
        if spoke is not None and spoke.turn == turn.number:
            question, position = spoke.question, spoke.position
        elif turn.interrupted and journal.asks:
            return None  # by what was typed, or it was: the next turn is about all of it
        else:
            question = self._at_most_asked(journal.question(now, round_trip, cut_off=turn.interrupted), turn.number)
            position = self._conversation.position if begun is None else begun.position
        if turn.interrupted and turn.first_output is not None:
            # What was typed while the first output was on its way cut it off.
            question = replace(question, seq=journal.asked_until(turn.first_output - round_trip, question.seq))
        return question, position

    @property
    def record(self) -> fabric_pb2.AnswerBegun | None:
        """For a checkpoint."""
        begun = self.begun
        if begun is None:
            return None
        return fabric_pb2.AnswerBegun(
            turn=begun.turn,
            given_seq=begun.question.seq,
            log_position=begun.position,
            first_downlink_seq=begun.first_seq,
            generated_downlink_seq=begun.generated_seq,
            said=begun.said,
        )
