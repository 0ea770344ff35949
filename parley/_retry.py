"""When to try again after a stream was lost or refused, and when to give up: a decision without clock or I/O.

docs/converse.md says which statuses time mends, and how long to wait.
"""

import random
from collections.abc import Callable
from typing import Any, Final

from parley import errors
from parley.v1 import errors_pb2

FIRST_BACKOFF: Final = 0.1
LAST_BACKOFF: Final = 2.0
"""Seconds to wait where the service does not say how long: doubled each time, with jitter."""
LATER: Final = 1.1
"""What the service says is waited for, and up to a tenth more, so that not all of its callers come back at once."""
UNREACHED: Final = 5.0
"""Seconds for which an open is repeated while nothing that speaks Parley answers: the address may be wrong."""
STEADY: Final = 10.0
"""Seconds after which a stream counts as one that works, also when nothing was said on it."""

_WAIT: Final = frozenset(
    {
        "TENANT_LIMIT",
        "NO_WORKER",
        "NO_CAPACITY",
        "FABRIC_UNAVAILABLE",
        "BACKEND_UNAVAILABLE",
        "BACKEND_QUOTA",
        "WORKER_LOST",
        "GATEWAY_DRAINING",
        "CALLER_SLOW",
        "UPLINK_OVERFLOW",
        # "retry": our `open` leaves at once, so that what was late was the network.
        "OPEN_TIMEOUT",
    }
)
_KNOWN: Final = frozenset(name.removeprefix("ERROR_REASON_") for name, _ in errors_pb2.ErrorReason.items())


def time_mends(error: errors.ParleyError) -> bool:
    """Whether the same call may succeed later."""
    if not error.reason:
        return error.code in {"UNAVAILABLE", "CANCELLED", "INTERNAL"}
    if error.reason in _KNOWN:
        return error.reason in _WAIT
    return error.retry_delay is not None  # a reason of a newer release


class Retry:
    """How long to wait before each try of one session.

    A session is opening, then attached, then in outages: from the loss of a stream that worked to the next stream that
    works. Tries of an outage have one limit together, whatever comes of each.
    """

    def __init__(
        self,
        now: float,
        *,
        open_timeout: float,
        max_outage: float | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Seconds. `max_outage`: None leaves it to the session's resume window; 0 tries nothing again."""
        self._uniform = uniform
        self._max_outage = max_outage
        self._limit = now + open_timeout
        self._unreached_limit = now + UNREACHED
        self._window: float | None = None
        self._backoff = FIRST_BACKOFF
        self._opened_at = now
        self._mark: object = None
        self._drain_mark: object = None
        self.began = now
        """When the outage began, or the opening."""
        self.tries = 1
        """Calls since then; of an outage, those that resume."""

    @property
    def enabled(self) -> bool:
        """Anything is tried again at all."""
        return self._max_outage != 0

    def left(self, now: float) -> float:
        """Seconds until the tries of this outage, or of the opening, end."""
        return max(0.0, self._limit - now)

    def opened(self, window: float, now: float) -> None:
        """A stream is attached, to a session that waits for `window` seconds when it is lost."""
        self._window = window
        self._opened_at = now

    def lost(self, error: errors.ParleyError, now: float, mark: Any) -> float | None:
        """The attached stream ended with `error`: seconds until the next try; None: it is not to be resumed.

        `mark` is anything that changes as the conversation goes on. A stream that brought it no further, and was lost
        soon, belongs to the same outage: something about this session may be what brings gateways down.
        """
        if mark != self._mark or now - self._opened_at >= STEADY:
            window = self._window or 0.0
            self._limit = now + (window if self._max_outage is None else min(window, self._max_outage))
            self._backoff = FIRST_BACKOFF
            self._mark = mark
            self.began = now
            self.tries = 0
        return self.failed(error, now)

    def draining(self, now: float, mark: Any) -> float:
        """The attached stream works, but its gateway goes away: seconds until a stream beside it is tried.

        That is at once, unless this one was such a stream itself and got no further: gateways that pass a session round
        do so at the pace of an outage. `mark` as in `lost`.
        """
        if mark != self._drain_mark or now - self._opened_at >= STEADY:
            self._drain_mark = mark
            self._backoff = FIRST_BACKOFF
            return 0.0
        return self._doubled()

    def beside(self, error: errors.ParleyError) -> float | None:
        """A try beside the draining stream ended with `error`: seconds until the next; None: no more while it lasts."""
        return self._delay(error) if time_mends(error) else None

    def failed(self, error: errors.ParleyError, now: float) -> float | None:
        """A try ended with `error`: seconds until the next one; None: give up."""
        if not self.enabled or not time_mends(error):
            return None
        limit = self._limit
        if self._window is None:
            if error.reason:
                self._unreached_limit = now + UNREACHED
            limit = min(limit, self._unreached_limit)
        delay = self._delay(error)
        if now + delay > limit:
            return None
        self.tries += 1
        return delay

    def _delay(self, error: errors.ParleyError) -> float:
        delay = self._doubled()
        if error.retry_delay is None:
            return delay
        said = max(error.retry_delay.total_seconds(), FIRST_BACKOFF / 2)
        return said * self._uniform(1.0, LATER)

    def _doubled(self) -> float:
        delay = self._backoff * self._uniform(0.5, 1.0)
        self._backoff = min(LAST_BACKOFF, self._backoff * 2)
        return delay
