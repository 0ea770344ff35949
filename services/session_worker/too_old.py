"""What the model had not answered when it grew too old to be given again: named in a gap if the link is lost.
Plain code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from parley.v1 import live_pb2
from services.session_worker.sent_input import Extent, Sent, media_class
from services.session_worker.seq_ranges import Range

TOO_OLD: Final = "TOO_OLD"


@dataclass(frozen=True, order=True, slots=True)
class Dropped:
    """Messages of the caller's that a new link is not given. Of the range, those of the class."""

    seqs: Range
    media_class: live_pb2.MediaClass
    reason: str


@dataclass(slots=True)
class _Stretch:
    """One class, in one go."""

    media_class: live_pb2.MediaClass
    first: int
    last: int
    at: float
    """When the newest of it was sent; monotonic seconds."""
    number: int
    """Of the newest message of it on its link."""


class TooOld:
    """Of one session. What follows one another is one stretch, whatever silence is in between, so that there are never
    more of them than requests that stay."""

    def __init__(self) -> None:
        self._stretches: list[_Stretch] = []
        self._asked_until = 0.0

    def add(self, sent: Sent, kept: int = 0) -> None:
        """The newest one. `kept`: number of the newest request before it that is still given again; no stretch goes
        on beyond that."""
        (first, last), kind = sent.seqs, media_class(sent.item)
        before = next((one for one in reversed(self._stretches) if one.media_class == kind), None)
        if before is None or before.last <= kept or before.at <= self._asked_until < sent.at:
            self._stretches.append(_Stretch(kind, first, last, sent.at, sent.number))
        else:
            before.last, before.at, before.number = last, sent.at, sent.number

    def answer_begins(self, asked_until: float) -> None:
        """To what was sent until then: no stretch goes on beyond it."""
        self._asked_until = asked_until

    def consumed(self, number: int) -> None:
        """The model's state has everything up to this message."""
        self._stretches = [one for one in self._stretches if one.number > number]

    def clear(self) -> None:
        """It is answered, or the caller has been told."""
        self._stretches.clear()

    def besides(self, known: Extent | None) -> list[Dropped]:
        """What is not part of that, in order."""
        rest = [one for one in self._stretches if known is None or not self._is_in(known, one)]
        return sorted(Dropped((one.first, one.last), one.media_class, TOO_OLD) for one in rest)

    @staticmethod
    def _is_in(known: Extent, one: _Stretch) -> bool:
        return one.at <= known.at if one.media_class == live_pb2.MEDIA_CLASS_AUDIO else one.last <= known.seq
