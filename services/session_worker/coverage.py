"""How far the caller may forget what it sent (design: `acked_seq`). Plain code: the time is an argument.

A numbered request can be restored without the caller once it is stored in the log (text, turns, tool results), named
in a gap, or part of the state that the newest resumption handle restores (media). A handle covers what was on its way
to the model one round trip before the end of its turn arrived.
"""

from __future__ import annotations

from collections import deque

REPLAY_HORIZON = 15.0
"""Seconds of an utterance that are given to a new link at most (design): what was sent before need not be kept."""
_SENT_HISTORY = 1024
"""Sends remembered: 20 s of 20 ms frames."""


class Coverage:
    """Computes `acked_seq` from what was sent, stored, lost and covered."""

    def __init__(self) -> None:
        self.acked = 0
        """Everything up to here can be restored without the caller."""
        self.covered = 0
        """Media up to here is in the model's state that the newest handle restores."""
        self._sent: deque[tuple[float, int]] = deque(maxlen=_SENT_HISTORY)
        self._turn_end = 0
        self._settled: set[int] = set()
        self._vital: set[int] = set()

    def vital(self, seq: int) -> None:
        """This request counts only when it is stored: a handle alone is not enough."""
        self._vital.add(seq)

    def sent(self, seq: int, now: float) -> None:
        """Everything up to `seq` was handed to the link."""
        self._sent.append((now, seq))

    def stored(self, seq: int) -> int:
        """This request is in the log, or named in a gap; return the new `acked`."""
        self._vital.discard(seq)
        if seq > self.acked:
            self._settled.add(seq)
        return self._advance()

    def expire(self, now: float) -> int:
        """What was sent longer ago than anything is replayed needs no keeping; return the new `acked`."""
        while self._sent and self._sent[0][0] <= now - REPLAY_HORIZON:
            self.covered = max(self.covered, self._sent.popleft()[1])
        return self._advance()

    def turn_ended(self, now: float, round_trip: float) -> None:
        """The model finished a turn: the next handle covers what it had heard by then."""
        for when, seq in reversed(self._sent):
            if when <= now - round_trip:
                self._turn_end = seq
                return

    def handle_arrived(self) -> int:
        """A handle that restores the last finished turn is here; return the new `acked`."""
        self.covered = max(self.covered, self._turn_end)
        return self._advance()

    def settled_beyond(self) -> list[tuple[int, int]]:
        """Ranges beyond `acked` that are stored or named in a gap: nobody need keep them."""
        ranges: list[tuple[int, int]] = []
        for seq in sorted(self._settled):
            if ranges and ranges[-1][1] == seq - 1:
                ranges[-1] = (ranges[-1][0], seq)
            else:
                ranges.append((seq, seq))
        return ranges

    def _advance(self) -> int:
        while True:
            following = self.acked + 1
            if following in self._settled:
                self._settled.discard(following)
            elif following > self.covered or following in self._vital:
                return self.acked
            self.acked = following
