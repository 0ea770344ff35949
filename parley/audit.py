"""Whether a stream's sequence numbers are whole: nothing missing without a name, nothing twice."""

from dataclasses import dataclass

from parley import events
from parley._decode import decode
from parley.v1 import live_pb2 as pb


@dataclass(frozen=True, slots=True)
class AuditResult:
    """Verdict over everything seen so far."""

    whole: bool
    """No hole without explanation, no number twice, none out of order."""
    holes: tuple[tuple[int, int], ...]
    """Missing ranges that neither `interrupted` nor `gap` names, both ends included."""
    duplicates: int
    """Messages with a number that came before."""
    out_of_order: int
    """Messages that filled a hole after a later number had come."""
    last_seq: int
    """Highest number seen."""
    gaps: tuple[events.Gap, ...]
    """Losses that the service named, of both directions."""


class SequenceAudit:
    """Checks the downlink series of one session, across its streams.

    A number may be left out only where `interrupted` (its void range, audio) or `gap` names it; the name may come
    before or after the hole shows.
    """

    # Past these bounds a stream is broken beyond repair, and the verdict is "not whole" anyway.
    MAX_RANGES = 4096

    def __init__(self, *, after: int = 0) -> None:
        """`after`: the highest number that the caller already had, for a resumed session."""
        self._last = after
        self._holes: list[tuple[int, int]] = []
        self._named: list[tuple[int, int]] = []
        self._gaps: list[events.Gap] = []
        self._duplicates = 0
        self._out_of_order = 0
        self._overflow = False

    def feed(self, response: pb.ConverseResponse) -> None:
        """Takes the next response as it came."""
        if (event := decode(response)) is not None:
            self.feed_event(event)

    def feed_event(self, event: events.Event) -> None:
        """Takes the next event; the same as `feed` for whoever has decoded already."""
        if event.seq:
            self._take(event.seq)
        if isinstance(event, events.Interrupted):
            self._name(event.void_from, event.void_to)
        elif isinstance(event, events.Gap):
            self._gaps.append(event)
            del self._gaps[: -self.MAX_RANGES]
            if event.direction == "DOWNLINK":
                self._name(event.from_seq, event.to_seq)

    def result(self) -> AuditResult:
        """The verdict; may be asked at any time."""
        holes = tuple(self._holes)
        whole = not (holes or self._duplicates or self._out_of_order or self._overflow)
        return AuditResult(whole, holes, self._duplicates, self._out_of_order, self._last, tuple(self._gaps))

    def _take(self, seq: int) -> None:
        if seq == self._last + 1:
            self._last = seq
        elif seq > self._last:
            self._add_hole(self._last + 1, seq - 1)
            self._last = seq
        elif any(first <= seq <= last for first, last in self._holes):
            self._out_of_order += 1
            self._holes = _without(self._holes, (seq, seq))
        else:
            self._duplicates += 1

    def _add_hole(self, first: int, last: int) -> None:
        missing = [(first, last)]
        for named in self._named:
            missing = _without(missing, named)
        self._holes.extend(missing)
        if len(self._holes) > self.MAX_RANGES:
            self._overflow = True
            del self._holes[self.MAX_RANGES :]

    def _name(self, first: int, last: int) -> None:
        if last < first:
            return
        self._holes = _without(self._holes, (first, last))
        # Only a range that reaches past the newest number can still explain a hole to come.
        self._named = [named for named in self._named if named[1] > self._last]
        if last > self._last:
            self._named.append((first, last))
            self._overflow = self._overflow or len(self._named) > self.MAX_RANGES
            del self._named[: -self.MAX_RANGES]


def _without(ranges: list[tuple[int, int]], cut: tuple[int, int]) -> list[tuple[int, int]]:
    """The ranges minus one range; all ends included."""
    first, last = cut
    kept: list[tuple[int, int]] = []
    for start, end in ranges:
        if end < first or start > last:
            kept.append((start, end))
            continue
        if start < first:
            kept.append((start, first - 1))
        if end > last:
            kept.append((last + 1, end))
    return kept
