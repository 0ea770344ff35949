"""What faults do later."""

import heapq
import itertools
from collections.abc import Callable

from emulator.actions import Action

Later = Callable[[float], list[Action]]
"""Takes the time and says what is to be done."""


class Timetable:
    """Things to be done, each at its time; those of one time in the order in which they were put down."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Later]] = []
        self._numbers = itertools.count()

    @property
    def deadline(self) -> float | None:
        """When the next is due."""
        return self._entries[0][0] if self._entries else None

    def at(self, time: float, what: Later) -> None:
        """Do ``what`` then."""
        heapq.heappush(self._entries, (time, next(self._numbers), what))

    def take(self) -> Later:
        """The next, which must exist; it stands in the table no more."""
        return heapq.heappop(self._entries)[2]

    def clear(self) -> None:
        """Nothing is to be done any more."""
        self._entries.clear()
