"""Sets of whole numbers that come in long runs: frames of a stream, bytes of a recording."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]
"""First number, and the one after the last."""


class Ranges:
    """Disjoint ranges in order; neighbours are one."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in ranges:
            self.add(start, end)

    def __iter__(self) -> Iterator[Range]:
        return iter(zip(self._starts, self._ends, strict=True))

    def __bool__(self) -> bool:
        return bool(self._starts)

    @property
    def start(self) -> int:
        """The first number; 0 of none."""
        return self._starts[0] if self._starts else 0

    @property
    def end(self) -> int:
        """The number after the last; 0 of none."""
        return self._ends[-1] if self._ends else 0

    def add(self, start: int, end: int) -> None:
        """The numbers from ``start`` to before ``end``."""
        if start >= end:
            return
        first, after = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < after:
            start, end = min(start, self._starts[first]), max(end, self._ends[after - 1])
        self._starts[first:after] = [start]
        self._ends[first:after] = [end]

    def within(self, start: int, end: int) -> list[Range]:
        """What it has of the numbers from ``start`` to before ``end``."""
        first, after = bisect_right(self._ends, start), bisect_left(self._starts, end)
        return [
            (max(start, self._starts[index]), min(end, self._ends[index])) for index in range(first, max(first, after))
        ]

    def missing(self, start: int, end: int) -> list[Range]:
        """What it lacks of the numbers from ``start`` to before ``end``."""
        found: list[Range] = []
        for known, after in self.within(start, end):
            if start < known:
                found.append((start, known))
            start = after
        if start < end:
            found.append((start, end))
        return found
