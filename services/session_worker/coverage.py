"""How far the caller may forget what it sent (ARCHITECTURE.md, `acked_seq`). Plain code: the time is an argument.

A numbered request can be restored without the caller once it is stored in the log (text, turns, tool results), or
covered by a checkpoint: part of the state that the newest resumption handle restores, or media too old to be given
again (see `journal`). What a gap names is covered with the input before it, and so is silence that nobody misses
(see `input_queue`). Not before: a new owner, which knows of no gap, would ask for it and for all that follows, and the
caller would have forgotten that.
"""

from __future__ import annotations


class Coverage:
    """Computes `acked_seq` from what was sent, stored, lost and covered."""

    def __init__(self) -> None:
        self.acked = 0
        """Everything up to here can be restored without the caller."""
        self.covered = 0
        """Media up to here is in the model's state that the newest handle restores, or is not given again."""
        self._settled: set[int] = set()
        self._vital: set[int] = set()
        self._lost: set[int] = set()
        """See `lost`; not acked."""

    def restore(self, acked: int) -> None:
        """Begin where another owner ended."""
        self.acked = self.covered = acked

    def renumber(self, received: int) -> None:
        """Numbers beyond `received` may mean other messages now."""
        self._settled = {seq for seq in self._settled if seq <= received}
        self._vital = {seq for seq in self._vital if seq <= received}
        self._lost = {seq for seq in self._lost if seq <= received}

    def vital(self, seq: int) -> None:
        """This request counts only when it is stored: a handle alone is not enough."""
        self._vital.add(seq)

    def stored(self, seq: int) -> int:
        """This request is in the log; return the new `acked`."""
        self._vital.discard(seq)
        if seq > self.acked:
            self._settled.add(seq)
        return self._advance()

    def lost(self, first: int, last: int) -> None:
        """A gap names these, or they are silence that nobody misses: no link is given them."""
        self._lost.update(range(max(first, self.acked + 1), last + 1))

    def restorable(self, seq: int) -> int:
        """How far a checkpoint covers everything that covers the input up to `seq`."""
        while seq + 1 in self._lost:
            seq += 1
        return seq

    def cover(self, seq: int) -> int:
        """Media up to here needs no keeping; return the new `acked`."""
        self.covered = max(self.covered, seq)
        return self._advance()

    def settled_beyond(self) -> list[tuple[int, int]]:
        """Ranges beyond `acked` that are stored: nobody need keep them."""
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
            self._lost.discard(following)
            self.acked = following
