"""What the deciding parts want done, and what the connection tells them."""

from dataclasses import dataclass
from typing import Any, Protocol

from emulator.handles import Snapshot
from emulator.protocol import Event


@dataclass(frozen=True, slots=True)
class Send:
    """A server message."""

    message: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Listen:
    """An utterance to be understood; ``heard`` is told the outcome."""

    number: int
    pcm: bytes


@dataclass(frozen=True, slots=True)
class IssueHandle:
    """A resumption handle for what the conversation is now."""

    snapshot: Snapshot


Action = Send | Listen | IssueHandle


class Mind(Protocol):
    """What answers on a connection. Plain code: time is an argument, in seconds of one clock; nothing waits.

    ``apply`` and ``heard`` may raise :class:`emulator.errors.Refusal`, which ends the connection.
    """

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is wanted; None when nothing is pending."""

    def apply(self, event: Event, now: float) -> list[Action]:
        """A client message."""

    def heard(self, number: int, text: str | None, now: float) -> list[Action]:
        """The outcome of a :class:`Listen`."""

    def tick(self, now: float) -> list[Action]:
        """Time has passed."""
