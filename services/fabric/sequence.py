"""The receiving end of a numbered series: order, duplicates, holes. Plain code: the time is an argument.

Core NATS keeps the order of one publisher, so a hole means that a message was lost or shed, or that it will be sent
again. The receiver hands on what is in order, keeps what came early, says what is missing, and gives a hole up after
a wait that depends on what it can afford.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

HOLE_WAIT = 2.0
"""Seconds to wait for a hole before it is reported as a gap; AUDIO_HOLE_WAIT where only audio waits behind it."""
AUDIO_HOLE_WAIT = 0.1
MAX_EARLY = 1024
"""Messages kept behind a hole. Beyond it the hole is given up as soon as it can have been asked for."""
CROWDED_WAIT = 0.5
"""Seconds for that: what was lost as a connection broke off is followed by all that waited for the next one."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A range that will not come."""

    first: int
    last: int


class SequenceReceiver(Generic[T]):
    """Turns what arrives into what is in order."""

    def __init__(self, received: int = 0, audio_wait: float = AUDIO_HOLE_WAIT) -> None:
        """`audio_wait`: seconds to wait for a hole behind which only audio waits."""
        self._audio_wait = audio_wait
        self.received = received
        """Highest `seq` up to which everything was handed on, skipped or given up."""
        self.duplicates = 0
        self._early: dict[int, tuple[T, bool] | None] = {}
        self._expected_last = received
        self._hole_since: float | None = None

    def message(self, seq: int, item: T, now: float, *, audio: bool) -> list[T]:
        """Take one message; return what is now in order."""
        if seq <= self.received or self._early.get(seq) is not None:
            self.duplicates += 1
            return []
        self._expected_last = max(self._expected_last, seq)
        if seq == self.received + 1:
            self.received = seq
            if self._hole_since is None:
                return [item]
            self._hole_since = None
            return [item, *self._release(now)]
        self._early[seq] = (item, audio)
        self._note_hole(now)
        return []

    def skip(self, first: int, last: int, now: float) -> list[T]:
        """The sender shed this range: it counts as received."""
        for seq in range(max(first, self.received + 1), last + 1):
            self._early.setdefault(seq, None)
        self._expected_last = max(self._expected_last, last)
        return self._release(now)

    def sender_is_at(self, last_seq: int, now: float) -> None:
        """The sender says how far it is: shows a lost last message."""
        self._expected_last = max(self._expected_last, last_seq)
        self._note_hole(now)

    def missing(self) -> list[Lost]:
        """The ranges to ask for."""
        ranges: list[Lost] = []
        for seq in range(self.received + 1, min(self._expected_last, self.received + MAX_EARLY) + 1):
            if seq in self._early:
                continue
            if ranges and ranges[-1].last == seq - 1:
                ranges[-1] = Lost(ranges[-1].first, seq)
            else:
                ranges.append(Lost(seq, seq))
        return ranges

    def give_up(self, now: float) -> tuple[list[Lost], list[T]]:
        """Report holes that waited too long; return them and what came free behind them."""
        if self._hole_since is None:
            return [], []
        only_audio = bool(self._early) and all(entry is None or entry[1] for entry in self._early.values())
        wait = self._audio_wait if only_audio else HOLE_WAIT
        crowded = len(self._early) >= MAX_EARLY
        if now - self._hole_since < (min(wait, CROWDED_WAIT) if crowded else wait):
            return [], []
        lost = self.missing()
        if not crowded:
            lost = lost[:1]  # the next hole is younger and has a wait of its own
        for hole in lost:
            for seq in range(hole.first, hole.last + 1):
                self._early[seq] = None
        return lost, self._release(now)

    def wait_anew(self, now: float) -> None:
        """The sender could send nothing again until now: what is missing is waited for from here on."""
        if self._hole_since is not None:
            self._hole_since = now

    def _release(self, now: float) -> list[T]:
        released: list[T] = []
        before = self.received
        while self.received + 1 in self._early:
            self.received += 1
            entry = self._early.pop(self.received)
            if entry is not None:
                released.append(entry[0])
        if self.received > before:
            self._hole_since = None  # what is missing now is another hole, with a wait of its own
        self._note_hole(now)
        return released

    def _note_hole(self, now: float) -> None:
        if self._hole_since is None and self._expected_last > self.received:
            self._hole_since = now
