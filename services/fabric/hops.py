"""How long media stays in a process, at next to no cost: one message at a time is followed, 5 a second at most."""

from __future__ import annotations

import time
from typing import Final

from services.fabric import names
from services.fabric.meters import record
from services.fabric.metrics import HOP

_EVERY: Final = 0.2
"""Seconds between the end of one measurement and the next: to record one costs as much as a hundred `entered`."""
_GIVEN_UP: Final = 10.0
"""Seconds after which what is followed counts as gone."""


class Hop:
    """One way through the process; `key` says whose media it is (a stream, a session)."""

    def __init__(self, name: str) -> None:
        self._labels = {names.HOP: name}
        self._followed: object | None = None
        self._since = 0.0
        self._due = 0.0

    def entered(self, key: object) -> None:
        """Something of `key` came that can leave at once."""
        now = time.perf_counter()
        if now >= self._due if self._followed is None else now - self._since > _GIVEN_UP:
            self._followed, self._since = key, now

    def left(self, key: object) -> None:
        """It has left."""
        if self._followed is key:
            now = time.perf_counter()
            self._followed, self._due = None, now + _EVERY
            record(HOP, now - self._since, self._labels)

    def dropped(self, key: object) -> None:
        """It waits for something else than this process (a window, a link), or does not leave at all."""
        if self._followed is key:
            self._followed = None
