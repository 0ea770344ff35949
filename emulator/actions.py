"""What the deciding parts want done, and what the connection tells them.

A link decides by a row of parts: the mind first, then what watches over it (resumption, lifetime, faults). An action of
one part passes through all later ones, each of which may look at it, change it, hold it back or add to it. What
comes out at the end is done by the connection.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from emulator.errors import Refusal
from emulator.handles import Snapshot
from emulator.protocol import Event


@dataclass(frozen=True, slots=True)
class Send:
    """A server message."""

    message: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SendRaw:
    """A frame as it is, well formed or not: str goes out as text, bytes as binary."""

    frame: str | bytes


@dataclass(frozen=True, slots=True)
class Listen:
    """An utterance to be understood; ``heard`` is told the outcome."""

    number: int
    pcm: bytes


@dataclass(frozen=True, slots=True)
class IssueHandle:
    """A resumption handle for what the conversation is now."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Close:
    """Send what was decided before, then a close frame."""

    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Reset:
    """Drop the TCP connection at once: a reset, no close frame."""


@dataclass(frozen=True, slots=True)
class Wire:
    """How the connection treats its socket from now on; None leaves as it is. Times in real seconds."""

    pong_delay: float | None = None
    """Infinity never answers."""
    reading: bool | None = None
    writing: bool | None = None
    bytes_per_second: float | None = None
    """Infinity is as fast as the socket takes it."""


Happening = Literal[
    "setup",
    "speech_began",
    "speech_ended",
    "turn_began",
    "first_audio",
    "tool_call",
    "tool_response",
    "generation_complete",
    "interrupted",
    "turn_complete",
    "handle",
    "go_away",
]


@dataclass(frozen=True, slots=True)
class Note:
    """Something happened that no message tells; goes no further than the parts."""

    what: Happening


Action = Send | SendRaw | Listen | IssueHandle | Close | Reset | Wire | Note


class Part(Protocol):
    """One deciding part of a link. Plain code: time is an argument, in seconds of one clock; nothing waits.

    Every method but ``deadline`` may raise :class:`emulator.errors.Refusal`, which ends the connection.
    """

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is wanted; None when nothing is pending."""

    def apply(self, event: Event, now: float) -> list[Action]:
        """A client message."""

    def tick(self, now: float) -> list[Action]:
        """Time has passed."""

    def passing(self, action: Action, now: float) -> list[Action]:
        """What an action of an earlier part becomes."""


class Mind(Protocol):
    """What answers on a connection: the first part. Nothing passes through it; it hears."""

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is wanted; None when nothing is pending."""

    def apply(self, event: Event, now: float) -> list[Action]:
        """A client message."""

    def heard(self, number: int, text: str | None, now: float) -> list[Action]:
        """The outcome of a :class:`Listen`."""

    def tick(self, now: float) -> list[Action]:
        """Time has passed."""
