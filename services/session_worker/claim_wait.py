"""How long a call is waited for, and what is done when it does not end. Plain code: the time is an argument.

Whether an executor is dead or only slow is told in two ways. Nobody listens where it would answer a ping: its process
has no connection to NATS, because it died (or was cut off, then what it does counts for nothing any more). Or the
time that the tool may take, and a margin, have passed since the execution was first seen: it hangs, or is frozen.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from services.fabric.claims import Claim

MARGIN: Final = 2.0
"""Seconds beyond a tool's own time that its outcome may take."""
GONE_AFTER: Final = 2.0
"""Seconds for which nobody listens before an executor counts as dead: NATS clients are away for less when a server
restarts."""
RECORDS_WAIT: Final = 10.0
"""Seconds beyond the rest for which records that cannot be read are waited for."""
MAX_RERUNS: Final = 2


class Presence(Enum):
    """Whether the executor answers."""

    UNKNOWN = auto()
    THERE = auto()
    GONE = auto()


class Step(Enum):
    """What is to be done."""

    WAIT = auto()
    ANSWER = auto()
    """The claim has the outcome."""
    RUN_AGAIN = auto()
    """Ask for another execution in the place of the dead one."""
    WRITE_OFF = auto()
    """Settle the claim: the outcome is unknown."""
    ABANDON = auto()
    """Claim the call, so that nobody will run it."""
    GIVE_UP = auto()
    """The records cannot be had; whatever they say, the outcome is unknown here."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at the records showed."""

    claim: Claim | None
    executor: Presence = Presence.UNKNOWN


class ClaimWait:
    """One call's patience."""

    def __init__(self, now: float, timeout: float, *, idempotent: bool) -> None:
        """`timeout`: seconds that the tool may take; `idempotent`: it may run again."""
        self._idempotent = idempotent
        self._deadline = now + timeout + MARGIN
        self._execution = ""
        self._gone_since: float | None = None
        self._reruns = 0

    def next_step(self, seen: Seen | None, now: float) -> Step:
        """After a look; None: the records could not be read."""
        if seen is None:
            self._gone_since = None
            return Step.GIVE_UP if now >= self._deadline + RECORDS_WAIT else Step.WAIT
        if seen.claim is None:
            return Step.ABANDON if now >= self._deadline else Step.WAIT
        if seen.claim.settled:
            return Step.ANSWER
        record = seen.claim.record
        if record.execution_id != self._execution:
            self._execution = record.execution_id
            self._deadline = now + record.timeout.ToTimedelta().total_seconds() + MARGIN
            self._gone_since = None
        if self._dead(seen.executor, now):
            if self._idempotent and self._reruns < MAX_RERUNS:
                self._reruns += 1
                self._gone_since = None
                return Step.RUN_AGAIN
            return Step.WRITE_OFF
        return Step.WRITE_OFF if now >= self._deadline else Step.WAIT

    def _dead(self, executor: Presence, now: float) -> bool:
        if executor is not Presence.GONE:
            self._gone_since = None
            return False
        if self._gone_since is None:
            self._gone_since = now
        return now - self._gone_since >= GONE_AFTER
