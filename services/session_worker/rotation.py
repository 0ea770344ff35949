"""When a session leaves its link for another one. Plain code: events and the time go in, a decision comes out.

Two things end a link before it ends by itself: the service's goAway, and silence where something is due. After goAway
the session waits for a quiet moment, so that nothing is cut off, but not beyond a deadline that no traffic postpones:
the service may say nothing more at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol

from services.session_worker.turns import TurnState

ASSUMED_LEFT: Final = 30.0
"""Seconds that a goAway without `timeLeft` leaves."""
MARGIN: Final = 10.0
"""Seconds before the service's deadline at which the link is left at the latest."""
LINK_SILENT: Final = "LINK_SILENT"
"""Why a link that hangs is left, as callers are told."""
SILENCE: Final = 4.5
"""Seconds without a sign of a link that owes one, after which it counts as hung: the caller is to know within 5 s, on
a busy machine too."""
PROBE: Final = 2.0
"""Seconds of such silence after which the link is asked for a sign of life."""
PROMPT: Final = 2.0
"""On some days pongs come up to 30 s late: only a link whose pongs come within so many seconds is judged by them."""
PATIENCE: Final = 45.0
"""Seconds in which a link that lives, or whose pongs prove nothing, must begin to answer."""
MOST_PATIENCE: Final = 720.0
"""Seconds of it at most: it doubles from link to link on which the model says nothing, because it may not want to."""

_PLAYED: Final = 1.0
"""Seconds after an answer has played in which its turn may still end."""


class Due(Enum):
    """What the model owes."""

    NOTHING = auto()
    """It waits for what a function returns, or has said all that is being played."""
    IDLE = auto()
    """An answer to what the caller may say, and nothing else."""
    TURN = auto()
    """It is in a turn of which nothing can be heard yet: it has understood something, and the caller may go on."""
    ANSWER = auto()
    """It was given something that it answers, and has not begun to."""
    MORE = auto()
    """It is in the middle of what it says, which comes faster than it is played."""


def due(turns: TurnState, now: float) -> Due:
    """What a session's model owes, as its turns stand."""
    if turns.pending_calls:
        return Due.NOTHING
    turn = turns.current
    if turn is not None and turn.first_audio is not None:
        if not (turn.generated or turn.interrupted):
            return Due.MORE
        # The end of the turn comes when all of it could have been played.
        return Due.ANSWER if now > turn.first_audio + turn.audio_seconds + _PLAYED else Due.NOTHING
    if turns.owes_answer:
        return Due.ANSWER
    return Due.IDLE if turn is None else Due.TURN


class Caller(Protocol):
    """What a link was given of the caller's speech. To look at the audio takes a while."""

    def spoke_since(self, then: float) -> bool:
        """Whether the link was given sounds after that time which are not answered yet."""
        ...

    def speaking(self, now: float) -> bool:
        """Whether the caller may be in the middle of what it says."""
        ...


@dataclass(frozen=True, slots=True)
class Rotate:
    """Leave the link now."""

    cause: str
    """As callers are told: GO_AWAY, AGE or LINK_SILENT."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask the link for a sign of life."""


class Rotation:
    """The life of one link, from its connection on."""

    def __init__(self, now: float, *, most_age: float | None = None, patience: float = PATIENCE) -> None:
        """`most_age`: seconds after which the link is left without being told to; None: never. `patience`: seconds in
        which it must begin to answer."""
        self._deadline: float | None = None
        self._cause = "GO_AWAY"
        self._old_at = None if most_age is None else now + most_age
        self._heard = now
        self._patience = patience
        self.out_of_patience = False
        """It is left, or to be left, for no other reason than that nothing of an answer came."""
        self._owing_since: float | None = None
        self._pinged: float | None = None
        self._pong_takes: float | None = None
        self._pong_at = now

    @property
    def leaving(self) -> bool:
        """The link is to be left at the next quiet moment."""
        return self._deadline is not None

    def go_away(self, seconds_left: float | None, now: float) -> None:
        """The service will close the link. Said twice, the earlier deadline holds."""
        left = ASSUMED_LEFT if seconds_left is None else max(0.0, seconds_left)
        # Of little time, half is still for a quiet moment.
        self._leave_by(now + left - min(MARGIN, left / 2), "GO_AWAY")

    def heard(self, now: float) -> None:
        """The link said something."""
        self._heard = now

    def pinged(self, now: float) -> None:
        """A ping was sent."""
        self._pinged = now

    def pong(self, now: float) -> None:
        """The answer to the ping came."""
        if self._pinged is not None:
            self._pong_takes, self._pinged, self._pong_at = now - self._pinged, None, now

    def tick(self, now: float, *, quiet: bool, due: Due, caller: Caller) -> Rotate | Probe | None:
        """What to do now. `quiet`: leaving at this moment cuts nothing off. `caller` is looked at when it matters."""
        if self._old_at is not None and now >= self._old_at:
            self._leave_by(now + ASSUMED_LEFT - MARGIN, "AGE")
        watched = self._watch(now, due, caller)
        # Before goAway, whose turn may have to be waited for.
        if watched is None and self._deadline is not None and (quiet or now >= self._deadline):
            return Rotate(self._cause)
        return watched

    def _leave_by(self, deadline: float, cause: str) -> None:
        self._old_at = None
        if self._deadline is None or deadline < self._deadline:
            self._deadline, self._cause = deadline, cause

    def _watch(self, now: float, due: Due, caller: Caller) -> Rotate | Probe | None:
        hung = Rotate(LINK_SILENT)
        if due is Due.MORE:
            self._owing_since = None
            return hung if now - self._heard >= SILENCE else None
        spoken = due in (Due.IDLE, Due.NOTHING) and now - self._heard >= PROBE and caller.spoke_since(self._heard)
        owes = due in (Due.TURN, Due.ANSWER) or (spoken and due is Due.IDLE)
        self._owe(now, owes, at_once=due is Due.ANSWER, caller=caller)
        if self._owing_since is not None and now - max(self._heard, self._owing_since) >= self._patience:
            self.out_of_patience = True
            return hung
        sign = max(self._heard, self._pong_at)
        if due is Due.ANSWER and self._owing_since is not None:
            sign = max(sign, self._owing_since)
        if now - sign < PROBE or not (owes or spoken):
            return None
        if self._pinged is None:
            return Probe()
        prompt = self._pong_takes is not None and self._pong_takes <= PROMPT
        silent = now - self._pinged >= SILENCE - PROBE and now - sign >= SILENCE
        return hung if prompt and silent else None

    def _owe(self, now: float, owes: bool, *, at_once: bool, caller: Caller) -> None:
        """Since when an answer is owed: what is said is owed one when it is over, so noise without an end is not.

        It stays so until the link says something, though the sounds themselves are too old to be kept by then.
        """
        if self._owing_since is not None and self._heard >= self._owing_since and not owes:
            self._owing_since = None
        elif owes and self._owing_since is None and (at_once or not caller.speaking(now)):
            self._owing_since = now
