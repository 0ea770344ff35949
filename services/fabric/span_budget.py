"""How many spans there may be in a minute. Plain code: the time is an argument."""

from __future__ import annotations

from collections import deque


class SpanBudget:
    """At most `most` spans in any `window` seconds. The last `reserve` of them are for what must not be missed."""

    def __init__(self, most: int, *, reserve: int = 0, window: float = 60.0) -> None:
        self._most = most
        self._reserve = reserve
        self._window = window
        self._taken: deque[float] = deque()
        self.skipped = 0
        """Spans that there was no room for since `take_skipped`."""

    def takes(self, now: float, spans: int = 1, *, vital: bool = False) -> bool:
        """Whether there is room for so many more, which then count. `vital`: the reserve is for these."""
        while self._taken and now - self._taken[0] >= self._window:
            self._taken.popleft()
        room = self._most - len(self._taken) - (0 if vital else self._reserve)
        if spans > room:
            self.skipped += spans
            return False
        self._taken.extend([now] * spans)
        return True

    def take_skipped(self) -> int:
        """How many were skipped; counted anew from here on."""
        skipped, self.skipped = self.skipped, 0
        return skipped
