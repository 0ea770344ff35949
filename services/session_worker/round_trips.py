"""How long a frame takes to the model's endpoint and back. Plain code."""

from __future__ import annotations

from collections import deque
from typing import Final

_REMEMBERED: Final = 8
_MOST: Final = 0.5
"""Seconds. A pong that takes longer was late (up to 30 s have been seen), and tells nothing of how long speech takes:
what was answered would be taken for what was still on its way."""


class RoundTrips:
    """What the newest pings of a process's links say: one that took long waited for something, here or there."""

    def __init__(self) -> None:
        self._newest: deque[float] = deque(maxlen=_REMEMBERED)

    def add(self, seconds: float) -> None:
        """A pong came, so long after its ping."""
        self._newest.append(seconds)

    @property
    def usual(self) -> float:
        """Seconds; 0 as long as nothing is known."""
        return min(_MOST, min(self._newest, default=0.0))
