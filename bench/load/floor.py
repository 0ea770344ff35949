"""Calls to nobody: every frame is back at once. What is left is what the load itself costs."""

from bench.load.call import Hear


class FloorDialer:
    """Opens them."""

    async def prepare(self, calls: int) -> None:
        """Nothing."""

    async def __call__(self, hear: Hear) -> tuple["FloorCall", float]:
        """Takes no time."""
        return FloorCall(hear), 0.0

    async def close(self) -> None:
        """There is nothing to close."""


class FloorCall:
    """A :class:`bench.load.call.Call`."""

    failure = ""

    def __init__(self, hear: Hear) -> None:
        self._hear = hear

    async def send(self, frame: bytes) -> None:
        """Heard at once."""
        self._hear(frame)

    async def idle(self) -> None:
        """Nothing is due."""

    async def close(self) -> None:
        """There is nothing to close."""
