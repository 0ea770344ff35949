"""What a call is to the load, whoever is at its other end."""

from collections.abc import Callable
from typing import Protocol


class CallOverError(Exception):
    """The other end closed the call, or it broke."""


class Call(Protocol):
    """An open call. What comes back goes to the `Hear` that it was opened with."""

    failure: str
    """Why it will hear nothing more, or what it was told is lost; empty while all is well."""

    async def send(self, frame: bytes) -> None:
        """Hands over one frame as a message of its own; waits while it is not taken. CallOverError: it never will."""

    async def idle(self) -> None:
        """A frame's time in which nothing is sent, for what else is due. CallOverError as above."""

    async def close(self) -> None:
        """Ends it in good order, within a few seconds. Never raises."""


Hear = Callable[[bytes], None]
"""Takes the audio of one message."""


class Dialer(Protocol):
    """Opens calls of one kind."""

    async def prepare(self, calls: int) -> None:
        """Does what comes before opening so many, and is not counted."""

    async def __call__(self, hear: Hear) -> tuple[Call, float]:
        """A call, and the seconds that opening it took. CallOverError: it was refused."""

    async def close(self) -> None:
        """Lets go of what calls share."""
