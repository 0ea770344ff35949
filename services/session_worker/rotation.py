"""When a session leaves its link for another one. Plain code: events and the time go in, a decision comes out.

Two things end a link before it ends by itself: the service's goAway, and silence where something is due. After goAway
the session waits for a quiet moment, so that nothing is cut off, but not beyond a deadline that no traffic postpones:
the service may say nothing more at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

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

_PLAYED: Final = 1.0
"""Seconds after an answer has played in which its turn may still end."""


class Due(Enum):
    """What the model owes."""

    NOTHING = auto()
    TURN = auto()
    """It is in a turn of which nothing can be heard yet: it has understood something. Only the model knows whether it
    wants to answer; a link that hangs is noticed by its pongs."""
    ANSWER = auto()
    """It was given something that it answers, and has not begun to."""
    MORE = auto()
    """It is in the middle of what it says, which comes faster than it is played."""


def due(turns: TurnState, now: float) -> Due:
    """What a session's model owes, as its turns stand."""
    if turns.pending_calls:
        return Due.NOTHING
    turn = turns.current
    if turn is not None and turn.talks and not (turn.generated or turn.interrupted):
        return Due.MORE
    if turn is not None and turn.first_audio is not None and (turn.generated or turn.interrupted):
        # The end of the turn comes when all of it could have been played.
        return Due.ANSWER if now > turn.first_audio + turn.audio_seconds + _PLAYED else Due.NOTHING
    if turns.owes_answer:
        return Due.ANSWER
    return Due.NOTHING if turn is None else Due.TURN


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

    def __init__(self, now: float, *, most_age: float | None = None) -> None:
        """`most_age`: seconds after which the link is left without being told to; None: never."""
        self._deadline: float | None = None
        self._cause = "GO_AWAY"
        self._old_at = None if most_age is None else now + most_age
        self._heard = now
        self._since = now
        """Since when what is due has been."""
        self._due = Due.NOTHING
        self._pinged: float | None = None
        self._pong_takes: float | None = None
        self._pong_at = now

    @property
    def leaving(self) -> bool:
        """The link is to be left at the next quiet moment."""
        return self._deadline is not None

    @property
    def last_sign(self) -> float:
        """When the link last gave a sign of life, be it a pong; at first, when it began."""
        return max(self._heard, self._pong_at)

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

    def tick(self, now: float, *, quiet: bool, due: Due, spoke_since: Callable[[float], bool]) -> Rotate | Probe | None:
        """What to do now.

        `quiet`: leaving at this moment cuts nothing off. `spoke_since`: whether the caller has said something to the
        link since a time; asked only when it matters, because it takes a look at the audio.
        """
        if self._old_at is not None and now >= self._old_at:
            self._leave_by(now + ASSUMED_LEFT - MARGIN, "AGE")
        watched = self._watch(now, due, spoke_since)
        # Before goAway, whose turn may have to be waited for.
        if watched is None and self._deadline is not None and (quiet or now >= self._deadline):
            return Rotate(self._cause)
        return watched

    def _leave_by(self, deadline: float, cause: str) -> None:
        self._old_at = None
        if self._deadline is None or deadline < self._deadline:
            self._deadline, self._cause = deadline, cause

    def _watch(self, now: float, due: Due, spoke_since: Callable[[float], bool]) -> Rotate | Probe | None:
        if due is not self._due:
            self._due, self._since = due, now
        hung = Rotate(LINK_SILENT)
        if due is Due.MORE:
            return hung if now - self._heard >= SILENCE else None
        if due is Due.ANSWER and now - max(self._heard, self._since) >= PATIENCE:
            return hung
        sign = max(self._heard, self._pong_at, self._since if due is Due.ANSWER else 0.0)
        if now - sign < PROBE or not (due in (Due.TURN, Due.ANSWER) or spoke_since(self._heard)):
            return None
        if self._pinged is None:
            return Probe()
        prompt = self._pong_takes is not None and self._pong_takes <= PROMPT
        silent = now - self._pinged >= SILENCE - PROBE and now - sign >= SILENCE
        return hung if prompt and silent else None
