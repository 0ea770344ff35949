"""A bounded buffer of what the other side has not acked yet. Plain code: no clock, no I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """One message in the ring."""

    seq: int
    item: T
    size: int
    """Bytes."""
    expendable: bool
    """Audio and video may be forgotten when the ring is full; the rest never is."""


class Ring(Generic[T]):
    """Messages in order of `seq`, forgotten when acked.

    Over its bound the ring forgets the oldest expendable message: it can then no longer be sent again, which
    `forgotten` counts. Messages that must not be lost are kept; `full` tells the owner to stop taking more.
    """

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._entries: deque[Entry[T]] = deque()
        self._max_items = max_items
        self._max_bytes = max_bytes
        self.bytes = 0
        self.acked = 0
        """Highest acked `seq`."""
        self.forgotten = 0
        """Nothing up to here is kept: `make_room` has forgotten the newest of it, whatever that was."""
        self.forgotten_items = 0
        self.forgotten_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def full(self) -> bool:
        """Nothing expendable is left to forget and the bound is reached."""
        return len(self._entries) >= self._max_items or self.bytes >= self._max_bytes

    def append(self, seq: int, item: T, size: int, *, expendable: bool) -> None:
        """Keep a message; `seq` must be above every one before it."""
        if seq <= self.acked:
            return
        self._entries.append(Entry(seq, item, size, expendable))
        self.bytes += size
        while self.full and self._forget_oldest_expendable():
            pass

    def _forget_oldest_expendable(self) -> bool:
        for index, entry in enumerate(self._entries):
            if entry.expendable:
                del self._entries[index]
                self.bytes -= entry.size
                self.forgotten_items += 1
                self.forgotten_bytes += entry.size
                return True
        return False

    def ack(self, seq: int) -> None:
        """Forget everything up to `seq`; lower values than before change nothing."""
        if seq <= self.acked:
            return
        self.acked = seq
        while self._entries and self._entries[0].seq <= seq:
            self.bytes -= self._entries.popleft().size

    def make_room(self, size: int, up_to: int) -> None:
        """Forget the oldest, whatever it is, until `size` bytes fit, but nothing beyond `up_to`; counted."""
        while (
            self._entries
            and self._entries[0].seq <= up_to
            and (len(self._entries) + 1 >= self._max_items or self.bytes + size >= self._max_bytes)
        ):
            entry = self._entries.popleft()
            self.forgotten = entry.seq
            self.bytes -= entry.size
            self.forgotten_items += 1
            self.forgotten_bytes += entry.size

    def discard(self, unwanted: Callable[[Entry[T]], bool]) -> None:
        """Forget what nobody will ask for."""
        self._entries = deque(entry for entry in self._entries if not unwanted(entry))
        self.bytes = sum(entry.size for entry in self._entries)

    def between(self, first: int, last: int) -> Iterator[Entry[T]]:
        """What is kept from `first` to `last`, both included, in order."""
        return (entry for entry in self._entries if first <= entry.seq <= last)

    def after(self, seq: int) -> Iterator[Entry[T]]:
        """What is kept beyond `seq`, in order."""
        return (entry for entry in self._entries if entry.seq > seq)
