"""When the client is told what it said: before the answer, within it, or behind it."""

from collections import deque
from typing import Literal

from emulator.actions import Action, Send
from emulator.api.protocol import Event

_MAX_HELD = 200
_ENDS = ("generationComplete", "interrupted", "turnComplete")


class LateTranscripts:
    """A :class:`emulator.actions.Part` that holds ``inputTranscription`` back until the answer it is about.

    ``beside``: behind the first audio that comes; ``after``: behind the last. What is held for too long, or for want of
    an answer, comes before the end of the turn.
    """

    deadline: float | None = None

    def __init__(self, order: Literal["beside", "after"]) -> None:
        self._order = order
        self._held: deque[Action] = deque()

    def apply(self, event: Event, now: float) -> list[Action]:
        """Nothing to say."""
        return []

    def tick(self, now: float) -> list[Action]:
        """Nothing is due."""
        return []

    def passing(self, action: Action, now: float) -> list[Action]:
        """Hold it, or let go of what is held."""
        content = action.message.get("serverContent", {}) if isinstance(action, Send) else {}
        if "inputTranscription" in content:
            self._held.append(action)
            return [self._held.popleft()] if len(self._held) > _MAX_HELD else []
        if any(name in content for name in _ENDS):
            return [*self._released(), action]
        if self._order == "beside" and "modelTurn" in content:
            return [action, *self._released()]
        return [action]

    def _released(self) -> list[Action]:
        released, self._held = list(self._held), deque()
        return released
