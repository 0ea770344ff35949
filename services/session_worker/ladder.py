"""What comes next when a session needs another link: resume by the handle, or seed a link from the log, or give up.

Plain code: the time and the random source are arguments. It goes down the ladder and never up: once it has said Seed,
the handle that it was told is gone for good, and a link has one beginning, never a seed on top of a resume.

Everything is bounded by the failures in a row and by the time without a link; both count since the last link that
lived long enough to be called healthy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from parley.v1 import errors_pb2
from services.fabric.errors import ServiceError
from services.session_worker.closes import LinkFailure, Remedy, Where, link_error, remedy

MIN_DELAY: Final = 0.5
MAX_DELAY: Final = 4.0
"""Seconds before a try, at least and at most; where the endpoint asks for more (`Retry-After`), that."""
_LAST_PAUSE: Final = 2
"""Doublings of a pause until it is between 2 and 4 s."""
_TAKEOVER_DELAYS: Final = (0.5, 1.0, 2.0, 4.0)
"""Seconds before each try while the old owner's socket may still be open; the last repeats."""
TAKEOVER_TIME: Final = 12.0
"""Seconds that it may be: an owner that was cut off aborts its links after 10 (`ownership_ttl`)."""
_RESUMES: Final = {Remedy.BACKEND_FAULT: 1, Remedy.ROTATE: 3}
"""Failures of a kind after which the handle is tried once more. Links that go on dropping may drop because of the state
that they resume. A failure of another kind says nothing against the handle."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a session may spend on getting a link back."""

    tries: int
    """Links asked for in a row, because one failed or had to be replaced."""
    seconds: float
    """Time without a link, together, waits included."""
    healthy_after: float
    """Seconds that a link must live for both to be forgotten."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Dial with the handle: the state is restored."""

    delay: float
    """Seconds to wait before."""
    handle: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Seed:
    """Dial without a handle, and give the link the log: the state is what the log tells."""

    delay: float
    """Seconds to wait before."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Nothing more helps: the session ends with this."""

    error: ServiceError


Step = Resume | Seed | Fail


class Ladder:
    """The ladder of one session.

    The shell says `connected` when a link is open: the session's first, or the one that the last step asked for. It
    asks `rotate`, `reopen` or `failed` for the next step, each with the newest handle (empty where there is none) and
    whether the log can seed a link. Times are monotonic seconds. Fail is final.
    """

    def __init__(self, budget: Budget, random: Callable[[], float]) -> None:
        """`random` gives numbers from 0 to 1."""
        self._budget = budget
        self._random = random
        self._dropped = ""
        """Never used again. The last one is enough to know: a new handle comes only from a link without the old one."""
        self._up_since: float | None = None
        self._down_since: float | None = None
        self._forget()

    def _forget(self) -> None:
        self._step: Step | None = None
        """The last answer; None when the last link was healthy."""
        self._tries = 0
        """Links that were asked for because of a failure or a rotation."""
        self._seen: Counter[Remedy] = Counter()
        self._pauses = 0
        self._down = 0.0
        """Seconds without a link, but for those since `_down_since`."""
        self._takeover_until = 0.0
        self._takeover_tries = 0

    def connected(self, now: float) -> None:
        """A link is open, and has been given the log if it was to be seeded."""
        if self._up_since is not None or isinstance(self._step, Fail):
            raise RuntimeError("a link that nobody asked for")
        if self._down_since is not None:
            self._down += now - self._down_since
        self._up_since, self._down_since = now, None

    def rotate(self, now: float, *, handle: str, can_seed: bool) -> Step:
        """The link must go now (goAway, its age); nothing failed. At once, but not again and again."""
        self._link_gone(now)
        self._tries += 1
        delay = 0.0 if self._tries == 1 else self._pause()
        return self._next(now, delay, self._usable(handle), can_seed)

    def reopen(self, now: float, *, handle: str, can_seed: bool, takeover: bool = False) -> Step:
        """There is no link, as nobody wanted one here: the session was parked, has moved, or was another worker's.

        `takeover`: that worker is not proven dead, so its socket may be open still.
        """
        if not isinstance(self._step, Fail):
            self._forget()
        self._up_since, self._down_since = None, now
        if takeover:
            self._takeover_until = now + TAKEOVER_TIME
        return self._next(now, 0.0, self._usable(handle), can_seed)

    def failed(self, failure: LinkFailure, now: float, *, handle: str, can_seed: bool) -> Step:
        """The link ended, or the last step did not lead to one."""
        self._link_gone(now)
        found = remedy(failure)
        self._tries += 1
        self._seen[found] += 1
        refused = found is Remedy.DROP_HANDLE
        if found is Remedy.FATAL or (refused and isinstance(self._step, Seed)):
            # A set-up without a handle was refused as it is: there is no other one.
            return self._end(link_error(failure))
        handle = self._usable(handle)
        if handle and found is Remedy.BACKEND_FAULT and (delay := self._takeover_delay(now)) is not None:
            return self._next(now, delay, handle, can_seed, failure)
        worn_out = self._seen[found] > _RESUMES.get(found, self._budget.tries)
        if handle and (refused or (worn_out and can_seed)):
            self._dropped, handle = handle, ""
        return self._next(now, self._delay(failure, found), handle, can_seed, failure)

    def _link_gone(self, now: float) -> None:
        if self._up_since is not None and now - self._up_since >= self._budget.healthy_after:
            self._forget()
        self._up_since = None
        if self._down_since is None:
            self._down_since = now

    def _usable(self, handle: str) -> str:
        return "" if handle == self._dropped else handle

    def _takeover_delay(self, now: float) -> float | None:
        """When to try again although the handle seems to be in use; None when it no longer can be."""
        delay = _TAKEOVER_DELAYS[min(self._takeover_tries, len(_TAKEOVER_DELAYS) - 1)]
        if now + delay > self._takeover_until:
            return None
        self._takeover_tries += 1
        return delay

    def _delay(self, failure: LinkFailure, found: Remedy) -> float:
        first = self._seen[found] == 1
        if first and (found is Remedy.DROP_HANDLE or (found is Remedy.ROTATE and failure.where is Where.LINK)):
            return 0.0  # nothing is wrong with the endpoint, and somebody may be in the middle of a sentence
        if found is Remedy.QUOTA:
            self._pauses = max(self._pauses, _LAST_PAUSE)  # each try counts against the quota
        return max(self._pause(), failure.retry_after or 0.0)

    def _pause(self) -> float:
        """Exponential, with half of it left to chance: links that were lost together do not come back together."""
        shortest: float = MIN_DELAY * 2 ** min(self._pauses, _LAST_PAUSE)
        self._pauses += 1
        return shortest * (1.0 + self._random())

    def _next(self, now: float, delay: float, handle: str, can_seed: bool, failure: LinkFailure | None = None) -> Step:
        if isinstance(self._step, Fail):
            return self._step
        down = self._down + (0.0 if self._down_since is None else now - self._down_since)
        if self._tries > self._budget.tries or down + delay > self._budget.seconds:
            return self._end(_error(failure, f"given up after {self._tries - 1} tries and {down:.0f} s"))
        if handle:
            self._step = Resume(delay, handle)
        elif can_seed:
            self._step = Seed(delay)
        else:
            return self._end(_error(failure, "there is neither a handle to resume by nor a log to seed a link from"))
        return self._step

    def _end(self, error: ServiceError) -> Step:
        if not isinstance(self._step, Fail):
            self._step = Fail(error)
        return self._step


def _error(failure: LinkFailure | None, why: str) -> ServiceError:
    if failure is not None:
        return link_error(failure, f"; {why}")
    return ServiceError(errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE, f"the model's link had to be replaced; {why}")
