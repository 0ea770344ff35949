"""What a source of tools is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from services.tools.registry import Offer

TakeOffer = Callable[[Offer], None]


class SourceError(Exception):
    """The source cannot be used at the moment. The message is for the operator, and holds no secret."""


class Source(ABC):
    """Offers tools."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    async def run(self, offer: TakeOffer) -> None:
        """Offer the tools, again whenever they change. Returns when there is nothing to follow; otherwise goes on until
        it is cancelled. SourceError when the source fails; then it may be run again."""
