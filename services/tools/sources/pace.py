"""Token bucket: how fast something may be taken. Plain code: times are monotonic seconds."""

from __future__ import annotations


class Pace:
    """`rate` a second, after `burst` at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._last = 0.0

    def wait(self, now: float) -> float:
        """Take one; the seconds to wait before it is used."""
        self._refill(now)
        self._left -= 1
        return max(0.0, -self._left / self._rate)

    def allows(self, now: float) -> bool:
        """Take one, if there is one."""
        self._refill(now)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def _refill(self, now: float) -> None:
        self._left = min(self._burst, self._left + (now - self._last) * self._rate)
        self._last = now
