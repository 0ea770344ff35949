"""Circuit breaker: whether a source that keeps failing is called at all. Plain code: times are monotonic seconds."""

from __future__ import annotations

import threading
from typing import Final

THRESHOLD: Final = 5
"""Failures in a row after which nothing is called for a while."""
PAUSE: Final = 10.0
"""Seconds until one call is let through to see whether the source works again."""


class Breaker:
    """Of one source. Every call that was allowed ends with `succeeded`, `failed` or `abandoned`. For any thread."""

    def __init__(self, threshold: int = THRESHOLD, pause: float = PAUSE) -> None:
        self._threshold = threshold
        self._pause = pause
        self._failures = 0
        self._opened = 0.0
        self._trying = False
        self._lock = threading.Lock()

    @property
    def open(self) -> bool:
        """Calls are refused, apart from one now and then."""
        return self._failures >= self._threshold

    def wait(self, now: float) -> float:
        """0 when a call is allowed, which then is to be made; otherwise the seconds after which to ask again."""
        with self._lock:
            if not self.open:
                return 0.0
            left = self._opened + self._pause - now
            if left > 0:
                return left
            if self._trying:
                return self._pause
            self._trying = True
            return 0.0

    def succeeded(self) -> None:
        """The source answered."""
        with self._lock:
            self._failures = 0
            self._trying = False

    def failed(self, now: float) -> None:
        """The source did not answer."""
        with self._lock:
            self._failures = min(self._failures + 1, self._threshold)
            self._opened = now
            self._trying = False

    def abandoned(self) -> None:
        """Nobody waited for the answer, or it was the function's own fault: that tells nothing of the source."""
        with self._lock:
            self._trying = False
