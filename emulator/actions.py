"""What the deciding parts want done, and what the connection tells them.

A link decides by a row of parts: the mind first, then what watches over it (resumption, lifetime, faults). An action of
one part passes through all later ones, each of which may look at it, change it, hold it back or add to it. What
comes out at the end is done by the connection.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from emulator.api.protocol import Event
from emulator.errors import Refusal
from emulator.session.handles import Snapshot


@dataclass(frozen=True, slots=True)
class Send:
    """A server message."""

    message: dict[str, Any]
    frame: bytes | None = field(default=None, repr=False, compare=False)
    """The same as it is sent, where it has been encoded before."""


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
class Guess:
    """An utterance that is still being spoken; ``guessed`` is told what has been said so far."""

    number: int
    pcm: bytes


@dataclass(frozen=True, slots=True)
class IssueHandle:
    """A resumption handle for what the conversation is now."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class ForgetHandles:
    """Handles of this conversation are dead from now on: all of them, or the newest alone."""

    newest_only: bool = False


@dataclass(frozen=True, slots=True)
class Close:
    """Send what was decided before, then a close frame."""

    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Reset:
    """Drop the TCP connection at once, without a close frame: by a reset, or by an orderly end of the stream."""

    orderly: bool = False


@dataclass(frozen=True, slots=True)
class Wire:
    """How the connection treats its socket from now on; None leaves as it is. Times in real seconds.

    While it is not reading, the socket itself is paused, so that the client's sending is held up too. While it is not
    writing, frames wait, and what exceeds the bound of the outbox is lost.
    """

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
    typed: bool = False
    """Of ``turn_began``: whether it answers ``client_content``."""
    snapshot: Snapshot | None = None
    """Of a typed turn that began: the conversation at that moment. The turn may be over when this is dealt with."""


Action = Send | SendRaw | Listen | Guess | IssueHandle | ForgetHandles | Close | Reset | Wire | Note

Disturbance = Literal["interrupt", "cancel_calls", "empty_turn"]
"""What a fault does to a mind: it interrupts itself; it cancels the calls that are pending; its next turn is empty."""


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

    def guessed(self, number: int, text: str | None, now: float) -> list[Action]:
        """The outcome of a :class:`Guess`."""

    def tick(self, now: float) -> list[Action]:
        """Time has passed."""

    def disturb(self, how: Disturbance, now: float) -> list[Action]:
        """A fault; what does not apply to it does nothing."""

    def start(self, now: float) -> list[Action]:
        """The connection has begun: what a restored conversation has left to do."""

    @property
    def settled(self) -> bool:
        """Whether nothing is under way that a snapshot would not hold: no turn, no call, no utterance on its way."""

    def snapshot(self, *, hearing: bool) -> Snapshot:
        """What a handle taken now restores; ``hearing``: also what is being heard and not yet understood.

        What an open turn answers counts as unanswered, and what it has said so far as said.
        """
