"""How much memory records take, roughly and by what clients sent: one frame may hold megabytes."""

from collections.abc import Mapping
from typing import Any

_EACH = 64
"""Bytes that any value takes beside its contents."""


class Room:
    """Bytes that may be kept, out of those of ``within``."""

    def __init__(self, limit: int, within: "Room | None" = None) -> None:
        self.limit = limit
        self.used = 0
        self._within = within

    def take(self, size: int) -> bool:
        """Whether there is room for so much more, which is then taken."""
        if self.used + size > self.limit or (self._within is not None and not self._within.take(size)):
            return False
        self.used += size
        return True

    def give_back(self) -> None:
        """All that was taken."""
        if self._within is not None:
            self._within.used -= self.used
        self.used = 0


def weigh(item: Any) -> int:
    """Bytes that ``item`` takes, more or less."""
    waiting, size = [item], 0
    while waiting:
        one = waiting.pop()
        size += _EACH
        if isinstance(one, str | bytes):
            size += len(one)
        elif isinstance(one, Mapping):
            for name, value in one.items():
                size += len(name) + _EACH
                waiting.append(value)
        elif isinstance(one, list | tuple):
            waiting.extend(one)
    return size
