"""The answer that the model has begun and not finished: what led to it, and how far it came. Plain code."""

from __future__ import annotations

from dataclasses import dataclass, replace

from parley.v1 import fabric_pb2
from services.session_worker.conversation import Conversation
from services.session_worker.journal import Journal


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


class AnswerInProgress:
    """One session's, or none. It outlives links: the next one is asked for the same answer."""

    def __init__(self, journal: Journal, conversation: Conversation) -> None:
        self._journal = journal
        self._conversation = conversation
        self.begun: Begun | None = None
        """None between answers."""

    def begins(self, now: float, turn: int, first_seq: int) -> bool:
        """The model has begun to answer; False when it had before."""
        if self.begun is not None:
            return False
        self.begun = Begun(now, self._journal.last_seq, self._conversation.position, turn, first_seq)
        return True

    def generated(self, said: str, seq: int) -> None:
        """The whole answer was produced; `seq`: downlink that says so."""
        if self.begun is not None:
            self.begun = replace(self.begun, generated_seq=seq, said=said)

    def over(self) -> None:
        """It is complete, and in the conversation."""
        self.begun = None

    @property
    def given_seq(self) -> int:
        """Number of the last request that the answer of the moment can be about."""
        return self._journal.last_seq if self.begun is None else self.begun.seq

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
