"""What the log has of the uplink by another owner: each request comes again, or its caller goes on without. Plain code.

A request is known by its number. One of a stream that is gone is not, as the caller may number its messages anew when
it resumes: it is known by what it says, and by the order in which it was sent. One that its caller went on without
already is known by the message before which it was sent.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, replace

from parley.v1 import fabric_pb2, live_pb2
from services.session_worker.restored_state import Number, Stored


@dataclass(frozen=True, slots=True)
class KnownRequest:
    """A request that another owner stored."""

    stored: Stored
    give: bool
    """It is to be given to the link."""

    def renumbered(self, seq: int, *, left_out: bool = False) -> fabric_pb2.LogEntry:
        """Entry that says which number it has now. `left_out`: it does not come, and is part of that message."""
        renumbered = fabric_pb2.Renumbered(position=self.stored.position, seq=seq, left_out=left_out)
        return fabric_pb2.LogEntry(renumbered=renumbered)

    def is_passed(self, seq: int) -> bool:
        """Whether it comes before a message of this number, if it comes at all."""
        number, own = self.stored.request.seq, self.stored.number
        return number <= seq if own is Number.OF_WHAT_IT_PRECEDES else number < seq


class KnownRequests:
    """Those that have not come yet. Each until it has come or was passed."""

    def __init__(self) -> None:
        self._numbered: dict[int, KnownRequest] = {}
        self._unnumbered: list[KnownRequest] = []
        """Whose number is not their own, in the order in which they were sent. Few."""

    def add(self, known: KnownRequest) -> None:
        """One more."""
        if known.stored.number is Number.ITS_OWN:
            self._numbered[known.stored.request.seq] = known
        else:
            insort(self._unnumbered, known, key=_position)

    def renumber(self) -> None:
        """Another stream comes: none of the numbers is its own."""
        gone = (
            replace(known, stored=replace(known.stored, number=Number.GONE))
            for known in (*self._unnumbered, *self._numbered.values())
        )
        self._unnumbered = sorted(gone, key=_position)
        self._numbered.clear()

    def __iter__(self) -> Iterator[KnownRequest]:
        """Those with a number, as they are now."""
        return iter(list(self._numbered.values()))

    def unknown(self, first: int, last: int) -> list[tuple[int, int]]:
        """What the log does not have under a number of this range, which may be empty; what was taken is not there."""
        if not self._numbered and first <= last:
            return [(first, last)]
        ranges: list[tuple[int, int]] = []
        for seq in range(first, last + 1):
            if seq in self._numbered:
                continue
            if ranges and ranges[-1][1] == seq - 1:
                ranges[-1] = (ranges[-1][0], seq)
            else:
                ranges.append((seq, seq))
        return ranges

    def take_number(self, seq: int) -> KnownRequest | None:
        """The one of this number, which has come."""
        return self._numbered.pop(seq, None)

    def take_words(self, request: live_pb2.ConverseRequest) -> tuple[list[KnownRequest], KnownRequest | None]:
        """A request has come that has no known number: those that its caller goes on without, and the one that it is.
        If it is none of them it is something new, and the caller goes on without all of them."""
        if not self._unnumbered:
            return [], None
        words = _words(request)
        for at, known in enumerate(self._unnumbered):
            if known.stored.number is Number.GONE and _words(known.stored.request) == words:
                passed = self._take(at)
                return passed, self._unnumbered.pop(0)
        return self.take_all(), None

    def take_passed(self, coming: int) -> list[KnownRequest]:
        """What comes next has this number or a higher one: those that come no more.

        What comes again has the number that it had or, if what was acked is left out, a lower one, and in order.
        """
        passed = [at for at, known in enumerate(self._unnumbered, 1) if known.is_passed(coming)]
        return self._take(max(passed, default=0))

    def take_all(self) -> list[KnownRequest]:
        """All that have no number of their own: the caller says something new, or no more."""
        return self._take(len(self._unnumbered))

    def _take(self, count: int) -> list[KnownRequest]:
        taken = self._unnumbered[:count]
        del self._unnumbered[:count]
        return taken


def _position(known: KnownRequest) -> int:
    return known.stored.position


def _words(request: live_pb2.ConverseRequest) -> bytes:
    """What it says, whatever its number."""
    unnumbered = live_pb2.ConverseRequest()
    unnumbered.CopyFrom(request)
    unnumbered.seq = 0
    return unnumbered.SerializeToString(deterministic=True)
