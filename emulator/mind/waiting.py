"""What wants the word while another turn is open, or while the caller speaks: a bounded queue."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from emulator.mind.planner import Question
from emulator.record import LinkRecord
from emulator.tools.pending import Group

MOST = 64


@dataclass(frozen=True)
class Remark:
    """Something that is said about a result that is not the last."""

    texts: tuple[str, ...]


Cause = Question | Remark | Group
"""Why a turn begins; of a group, because its results are all there."""


class Waiting:
    """The queue. What does not fit is dropped, and the record says so."""

    def __init__(self, record: LinkRecord) -> None:
        self._record = record
        self._causes: deque[Cause] = deque()

    def __len__(self) -> int:
        return len(self._causes)

    def __iter__(self) -> Iterator[Cause]:
        return iter(self._causes)

    @property
    def can_wait(self) -> bool:
        """Whether the first waits until nobody speaks. A typed turn does not: its client waits for the answer."""
        first = self._causes[0]
        return not (isinstance(first, Question) and first.typed)

    def put(self, cause: Cause, now: float, *, first: bool = False) -> None:
        """At its end, or at its beginning."""
        if len(self._causes) >= MOST:
            self._record.event("turn_dropped", at=now)
        elif first:
            self._causes.appendleft(cause)
        else:
            self._causes.append(cause)

    def take(self) -> Cause:
        """The first."""
        return self._causes.popleft()
