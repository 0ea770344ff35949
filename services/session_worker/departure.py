"""When a session leaves its worker for another one, and how many do at a time. Plain code: the time is an argument.

A session that is to go waits for a moment at which that costs nothing: nothing is in progress or owed, its caller has
everything, and the newest handle restores the newest answer. Then it asks its gateway to move it; one that has no
gateway goes by itself, since its records are all that anybody needs. Where that moment does not come, the session is
forced after a while, in whatever state it is, as after a crash.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

HANDLE_WAIT: Final = 3.0
"""Seconds of quiet in which the handle of the newest answer is waited for: some models issue none, and what is in no
handle is told in words."""
AT_A_TIME: Final = 20
"""Sessions of one worker that are on their way out: each costs its next worker a link, and what is open already there
must not suffer."""
PATIENCE: Final = 5.0
"""Seconds after which one that nobody takes lets others ask."""

DRAIN: Final = "DRAIN"
MOVED: Final = "MOVED"


@dataclass(frozen=True, slots=True)
class Plan:
    """Why and until when a session is to go."""

    cause: str
    """As callers are told: DRAIN or MOVED."""
    force_at: float
    """From then on in whatever state; monotonic seconds."""
    go_at: float = math.inf
    """From then on by itself, although it has a gateway that could find it a place."""
    to_worker: str = ""
    """Empty: any other."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a departure depends on."""

    attached: bool
    """A gateway has its stream."""
    quiet: bool
    """Nothing is in progress or owed, and the caller has everything."""
    covered: bool
    """The newest handle restores the newest answer."""


class Step(Enum):
    """What a session does about leaving."""

    STAY = auto()
    ASK = auto()
    """Have its gateway move it."""
    GO = auto()
    """Let itself go: whoever comes back finds it in its records."""


class Departure:
    """One session's way out, if it is to go at all."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self._quiet_since: float | None = None

    def forced(self, now: float) -> bool:
        """There is no more time to wait for a good moment."""
        return self.plan is not None and now >= self.plan.force_at

    def step(self, now: float, standing: Standing) -> Step:
        """What to do now."""
        plan = self.plan
        if plan is None or not standing.quiet:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now
        if plan is None:
            return Step.STAY
        if now >= plan.go_at:
            return Step.GO
        if not self.forced(now) and not self._is_good(now, standing):
            return Step.STAY
        return Step.ASK if standing.attached else Step.GO

    def _is_good(self, now: float, standing: Standing) -> bool:
        if self._quiet_since is None:
            return False
        return standing.covered or now - self._quiet_since >= HANDLE_WAIT


class Line:
    """Who is on the way out; the others wait. Sessions by id."""

    def __init__(self, most: int = AT_A_TIME) -> None:
        self._most = most
        self._asking: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._asking)

    def admits(self, session: str, now: float) -> bool:
        """Whether this one may leave now; what is admitted has to be taken out with `out`."""
        since = self._asking.get(session)
        if since is None:
            if len(self._asking) >= self._most:
                return False
            self._asking[session] = now
        elif now - since >= PATIENCE:
            del self._asking[session]
            return False
        return True

    def out(self, session: str) -> None:
        """It has gone, or stays."""
        self._asking.pop(session, None)


def drain_plan(now: float, seconds: float, *, exits: bool) -> Plan:
    """Of every session of a worker that is to be empty in so many seconds; `exits`: it cannot keep any beyond that."""
    margin = min(5.0, seconds / 2)
    force_at = now + seconds - margin
    return Plan(DRAIN, force_at, force_at + margin / 2 if exits else math.inf)
