"""The answer that the model has begun and not finished: what led to it, and how far it came. Plain code."""

from __future__ import annotations

from dataclasses import dataclass, replace

from parley.v1 import fabric_pb2
from services.session_worker.conversation import Conversation
from services.session_worker.journal import Journal
from services.session_worker.turns import Turn, TurnState


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
    """Number of the turn, the first where it takes several."""
    first_seq: int
    """Downlink `seq` with which the answer begins."""
    generated_seq: int = 0
    """Downlink `seq` with which all of it was produced."""
    said: str = ""
    """What it says, then."""


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
        self._turn = 0
        """The newest turn of the answer that has begun on it."""
        self._given: tuple[int, int] | None = None
        """Number of the last request that it can be about, and entries of the conversation before."""

    def begins(self, now: float, turn: int, first_seq: int) -> bool:
        """The model speaks, or calls a function; True when that is the beginning of its answer on this link."""
        journal, conversation = self._journal, self._conversation
        if turn != self._turn:
            self._turn, self._given = turn, (self._last_request(turn), conversation.position)
        if self._here:
            return False
        self._here = True
        if self.begun is None:
            self.begun = Begun(now, journal.last_seq, conversation.position, turn, first_seq)
            journal.answer_begins()
        if self._covers_typed and self._is_about_ordered_content:
            journal.typed_turn_taken_up(conversation.position)
        return True

    def _last_request(self, turn: int) -> int:
        """That a turn can be about which begins to speak now."""
        begun = self.begun
        if begun is None or any(begun.turn <= made < turn for made in self._turns.pending_calls.values()):
            # Its calls have no results yet, of which it could speak: it is about what was asked meanwhile.
            return self._journal.last_seq
        return begun.seq

    def link_began(self) -> None:
        """Another link is asked for the answer."""
        self._here, self._turn, self._given = False, 0, None

    @property
    def _is_about_ordered_content(self) -> bool:
        """And about nothing else, for sure: neither speech nor what was typed since."""
        given = self._journal.last_seq
        return (
            self._turns.typed
            and not self._journal.spoke_since(0.0)
            and all(seq <= given for seq in self._conversation.unanswered_requests)
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

    @property
    def _begun_with(self) -> tuple[int, int] | None:
        return None if self.begun is None else (self.begun.seq, self.begun.position)

    def complete(self, turn: Turn) -> fabric_pb2.ModelSaid:
        """What this turn said, and what it can be about."""
        seq, position = self._given or self._begun_with or (self._journal.last_seq, self._conversation.position)
        return fabric_pb2.ModelSaid(
            text=turn.said, interrupted=turn.interrupted, given_seq=seq, turn=turn.number, given_position=position
        )

    @property
    def record(self) -> fabric_pb2.AnswerBegun | None:
        """For a checkpoint."""
        begun = self.begun
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
