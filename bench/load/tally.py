"""What came back of what was sent: lost, twice, out of order, damaged, and how late. Plain code.

Times are kept as counts of 10 us steps, which adds up over calls and processes without keeping every time.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from bench.load.stamps import Stamp

STEP_NS: Final = 10_000


class Times:
    """A histogram of times."""

    def __init__(self, steps: Mapping[int, int] | None = None) -> None:
        self._steps = Counter(steps or {})

    def add(self, nanoseconds: int) -> None:
        """One time, to the nearest 10 us."""
        self._steps[(nanoseconds + STEP_NS // 2) // STEP_NS] += 1

    def __len__(self) -> int:
        return self._steps.total()

    def __add__(self, other: "Times") -> "Times":
        added = Counter(self._steps)
        added.update(other._steps)
        return Times(added)

    def percentile(self, percent: float) -> float | None:
        """Milliseconds that `percent` of all times do not exceed (nearest rank); None when there is no time."""
        if not self._steps:
            return None
        rank = max(1, math.ceil(len(self) * percent / 100))
        for step in sorted(self._steps):
            rank -= self._steps[step]
            if rank <= 0:
                break
        return step * STEP_NS / 1e6

    def to_json(self) -> dict[str, int]:
        """For `from_json`."""
        return {str(step): count for step, count in self._steps.items()}

    @classmethod
    def from_json(cls, steps: Mapping[str, int]) -> Self:
        """What `to_json` gave."""
        return cls({int(step): count for step, count in steps.items()})


@dataclass(frozen=True)
class Counts:
    """Frames."""

    sent: int = 0
    received: int = 0
    """Good ones, each counted once."""
    lost: int = 0
    """Sent and never seen again."""
    duplicated: int = 0
    """Seen once more."""
    out_of_order: int = 0
    """Seen after a later one."""
    damaged: int = 0
    """Not byte for byte a frame that this call has sent: changed, cut, another call's."""

    def __add__(self, other: "Counts") -> "Counts":
        mine, theirs = asdict(self), asdict(other)
        return Counts(**{name: count + theirs[name] for name, count in mine.items()})

    @property
    def clean(self) -> bool:
        """Everything came back, once, in order, as it was."""
        return not (self.lost or self.duplicated or self.out_of_order or self.damaged)


class Tally:
    """The account of one call. What is missing is kept by number, so memory grows with what is missing only."""

    def __init__(self, call: int) -> None:
        self._call = call
        self.measure_from = 0
        """Times of frames that were due before it are not kept; the frames are counted. Nanoseconds."""
        self._sent = 0
        self._highest = 0
        self._missing: set[int] = set()
        self._received = self._duplicated = self._out_of_order = self._damaged = 0
        self.round_trip = Times()
        """From when a frame was handed over to when it was back."""
        self.since_due = Times()
        """From when it should have been handed over: with how late the load itself was."""

    def sent(self, seq: int) -> None:
        """Frame `seq` is handed over: 1, 2, 3, ..."""
        self._sent = seq

    def received(self, stamp: Stamp | None, now: int) -> None:
        """A frame is back; None: it is none of ours."""
        if stamp is None or stamp.call != self._call or not 0 < stamp.seq <= self._sent:
            self._damaged += 1
            return
        if stamp.seq > self._highest:
            self._missing.update(range(self._highest + 1, stamp.seq))
            self._highest = stamp.seq
        elif stamp.seq in self._missing:
            self._missing.remove(stamp.seq)
            self._out_of_order += 1
        else:
            self._duplicated += 1
            return
        self._received += 1
        if stamp.due >= self.measure_from:
            self.round_trip.add(now - stamp.sent)
            self.since_due.add(now - stamp.due)

    @property
    def outstanding(self) -> int:
        """Frames that are not back yet."""
        return self._sent - self._received

    @property
    def counts(self) -> Counts:
        """As if nothing came any more."""
        return Counts(self._sent, self._received, self.outstanding, self._duplicated, self._out_of_order, self._damaged)


@dataclass(frozen=True)
class Account:
    """Of many calls together."""

    counts: Counts
    round_trip: Times
    since_due: Times
    failures: tuple[str, ...] = ()
    """What went wrong with a call, in words."""

    @classmethod
    def empty(cls) -> Self:
        """Of no call."""
        return cls(Counts(), Times(), Times())

    def __add__(self, other: "Account") -> "Account":
        return Account(
            self.counts + other.counts,
            self.round_trip + other.round_trip,
            self.since_due + other.since_due,
            self.failures + other.failures,
        )

    @property
    def clean(self) -> bool:
        """Nothing was lost, and no call failed."""
        return self.counts.clean and not self.failures

    def to_json(self) -> dict[str, Any]:
        """For `from_json`."""
        return {
            "counts": asdict(self.counts),
            "round_trip": self.round_trip.to_json(),
            "since_due": self.since_due.to_json(),
            "failures": self.failures,
        }

    @classmethod
    def from_json(cls, account: Mapping[str, Any]) -> Self:
        """What `to_json` gave."""
        return cls(
            Counts(**account["counts"]),
            Times.from_json(account["round_trip"]),
            Times.from_json(account["since_due"]),
            tuple(account["failures"]),
        )
