"""Whether this worker takes one more session, and which ones it keeps a place for. Plain code: the time is given."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Final

from parley.v1 import errors_pb2
from services.fabric.errors import ServiceError

MOST_RECOVERIES: Final = 20
"""Sessions taken over at once: each dials, and what is open already must not suffer."""
KEPT: Final = 5.0
"""Seconds for which a place is kept: as long as the session's worker may take to let it go, mostly."""
RETRY: Final = timedelta(milliseconds=250)


class Admission:
    """Of one worker."""

    def __init__(self, worker: str, capacity: int) -> None:
        self._worker = worker
        self._capacity = capacity
        self._kept: dict[str, float] = {}
        """Sessions that a place is kept for, and until when."""

    def kept(self, now: float) -> int:
        """Places that are kept."""
        self._kept = {session: until for session, until in self._kept.items() if until > now}
        return len(self._kept)

    def reserve(self, session: str, now: float, *, held: int, recovering: int) -> None:
        """Keep a place for it. ServiceError NO_CAPACITY."""
        if session not in self._kept:
            self._check(now, held=held)
            self._check_recoveries(now, recovering)
        self._kept[session] = now + KEPT

    def check(self, session: str, now: float, *, held: int, here: Collection[str]) -> None:
        """Whether it may be opened or taken over. ServiceError NO_CAPACITY. `held`: sessions here, and on their way;
        `here`: their ids."""
        if session in here:
            raise self._refusal(f"has session {session} already", RETRY)
        if self._kept.get(session, now) <= now:
            self._check(now, held=held)

    def check_recovery(self, session: str, now: float, *, recovering: int) -> None:
        """Whether it may be taken over now; uses the place that is kept for it. ServiceError NO_CAPACITY."""
        if self._kept.pop(session, now) <= now:
            self._check_recoveries(now, recovering)

    def _check(self, now: float, *, held: int) -> None:
        if held + self.kept(now) >= self._capacity:
            raise self._refusal("is full")

    def _check_recoveries(self, now: float, recovering: int) -> None:
        if recovering + self.kept(now) >= MOST_RECOVERIES:
            raise self._refusal(f"is taking over {MOST_RECOVERIES} sessions already", RETRY)

    def _refusal(self, why: str, retry: timedelta | None = None) -> ServiceError:
        return ServiceError(errors_pb2.ERROR_REASON_NO_CAPACITY, f"worker {self._worker} {why}", retry_delay=retry)
