"""The context of a conversation: what is remembered, in order, with what it costs. A value: whoever has one keeps it.

A snapshot is taken at every turn of thousands of conversations, so growing and remembering copy nothing: contexts that
grew out of one another share one list, each with its own end in it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from emulator.mind.usage import NOTHING, Cost


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was said, shown or returned."""

    role: Literal["user", "model", "tool"]
    text: str
    cost: Cost
    pictures: int = 0
    """Streamed frames."""
    images: int = 0
    """Images in a turn."""


class Context:
    """Entries, oldest first. ``seeds`` come before all others and are never cut."""

    __slots__ = ("_end", "_log", "_start", "cost", "images", "pictures", "seeds")

    def __init__(self, entries: Iterable[Entry] = (), seeds: Iterable[Entry] = ()) -> None:
        self._log = list(entries)
        self._start = 0
        self._end = len(self._log)
        self.seeds = tuple(seeds)
        self.cost = NOTHING
        self.pictures = 0
        """Streamed pictures in it."""
        self.images = 0
        """Pictures in turns."""
        for entry in self:
            self._count(entry)

    def __iter__(self) -> Iterator[Entry]:
        yield from self.seeds
        for index in range(self._start, self._end):
            yield self._log[index]

    def __len__(self) -> int:
        return len(self.seeds) + self._end - self._start

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Context) and (tuple(self), self.seeds) == (tuple(other), other.seeds)

    __hash__ = None  # type: ignore[assignment]

    def grown(self, entry: Entry) -> "Context":
        """With one more entry. This one stays as it is."""
        if self._end != len(self._log):
            # Another context has grown out of this one before.
            return Context(self._log[self._start : self._end], self.seeds).grown(entry)
        self._log.append(entry)
        grown = self._part(self._start, self._end + 1)
        grown._count(entry)
        return grown

    def seeded(self) -> "Context":
        """The same, all of it never to be cut."""
        return Context((), tuple(self))

    def cut(self, tokens: int) -> "Context":
        """Without as many of the oldest entries as leave ``tokens`` of it, the seeds included, or come nearest.

        What is left begins with an entry of the user's (API reference, SlidingWindow). The last of them stays.
        """
        left, keep = self.cost, self._start
        for index in range(self._start, self._end):
            entry = self._log[index]
            if entry.role == "user":
                keep = index
                if left.tokens <= tokens:
                    break
            left -= entry.cost
        if 2 * keep > self._end:
            # Most of what is shared is of no use to this one.
            return Context(self._log[keep : self._end], self.seeds)
        rest = self._part(keep, self._end)
        for index in range(self._start, keep):
            rest._discount(self._log[index])
        return rest

    def _part(self, start: int, end: int) -> "Context":
        """Other ends in the same list, with this one's sums."""
        part: Context = object.__new__(Context)
        part._log, part._start, part._end = self._log, start, end
        part.seeds, part.cost, part.pictures, part.images = self.seeds, self.cost, self.pictures, self.images
        return part

    def _count(self, entry: Entry) -> None:
        self.cost += entry.cost
        self.pictures += entry.pictures
        self.images += entry.images

    def _discount(self, entry: Entry) -> None:
        self.cost -= entry.cost
        self.pictures -= entry.pictures
        self.images -= entry.images
