"""In which frames a client is told what it uses."""

from collections.abc import Callable
from typing import Any, Literal

from emulator.actions import Action, Send
from emulator.api.protocol import Event

_PERIOD = 1.0


class UsageReports:
    """A :class:`emulator.actions.Part`: takes ``usageMetadata`` out of turnComplete's frame, or tells it more often.

    ``so_far`` is what the turn under way has used.
    """

    deadline: None = None

    def __init__(
        self, cadence: Literal["separate", "empty", "periodic"], so_far: Callable[[], dict[str, Any]], now: float
    ) -> None:
        self._cadence = cadence
        self._so_far = so_far
        self._told = now

    def apply(self, _event: Event, _now: float) -> list[Action]:
        """A client message is none of its business."""
        return []

    def tick(self, _now: float) -> list[Action]:
        """Never happens: nothing is due."""
        return []

    def passing(self, action: Action, now: float) -> list[Action]:
        """Server messages, with usage where it belongs."""
        if not isinstance(action, Send):
            return [action]
        message = action.message
        if self._cadence != "periodic":
            if "usageMetadata" not in message:
                return [action]
            rest = {name: body for name, body in message.items() if name != "usageMetadata"}
            alone = {"usageMetadata": message["usageMetadata"]}
            return [Send(rest), Send({"serverContent": {}, **alone} if self._cadence == "empty" else alone)]
        if "usageMetadata" in message:
            self._told = now
        elif now - self._told >= _PERIOD and "modelTurn" in message.get("serverContent", {}):
            self._told = now
            return [Send({**message, "usageMetadata": self._so_far()})]
        return [action]
