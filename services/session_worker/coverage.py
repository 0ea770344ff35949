"""How far the caller may forget what it sent (design: `acked_seq`). Plain code: the time is an argument.

A numbered request can be restored without the caller once it is stored in the log (text, turns, tool results), named
in a gap, or covered: part of the state that the newest resumption handle restores, or media too old to be given again
(see `journal`).
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

    def restore(self, acked: int) -> None:
        """Begin where another owner ended."""
        self.acked = self.covered = acked

    def renumber(self, received: int) -> None:
        """Numbers beyond `received` may mean other messages now."""
        self._settled = {seq for seq in self._settled if seq <= received}
        self._vital = {seq for seq in self._vital if seq <= received}

    def vital(self, seq: int) -> None:
        """This request counts only when it is stored: a handle alone is not enough."""
        self._vital.add(seq)

    def stored(self, seq: int) -> int:
        """This request is in the log, or named in a gap; return the new `acked`."""
        self._vital.discard(seq)
        if seq > self.acked:
            self._settled.add(seq)
        return self._advance()

    def cover(self, seq: int) -> int:
        """Media up to here needs no keeping; return the new `acked`."""
        self.covered = max(self.covered, seq)
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
