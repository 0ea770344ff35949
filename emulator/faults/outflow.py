"""What becomes of frames between the decision to send them and the socket: lost, doubled, reversed, late. No I/O."""

from collections import deque
from dataclasses import dataclass

from emulator import texts
from emulator.actions import Action, Send, SendRaw
from emulator.faults.frames import FrameKind

MAX_HELD = 10_000
"""Actions that may be held back at once; at one more the connection is closed."""


@dataclass
class _Next:
    """What happens to the next frames of a kind."""

    frames: int
    kind: FrameKind

    def takes(self, about: set[FrameKind]) -> bool:
        if self.frames == 0 or self.kind not in about:
            return False
        self.frames -= 1
        return True


class Outflow:
    """The way out of one connection. Times are in seconds of the connection's clock."""

    def __init__(self) -> None:
        self.delay = 0.0
        """By how much every frame comes later."""
        self.silent = False
        """Whether frames are lost."""
        self.without_handles = False
        """Whether no handle gets out."""
        self._dropping: list[_Next] = []
        self._doubling: list[_Next] = []
        self._reversed: list[Action] = []
        self._to_reverse = 0
        self._within = 0.0
        self._give_up_at: float | None = None
        self._line: deque[tuple[float, Action]] = deque()

    @property
    def deadline(self) -> float | None:
        """When something held back is due."""
        if not self._line:
            return self._give_up_at
        return min(self._line[0][0], self._give_up_at) if self._give_up_at is not None else self._line[0][0]

    def drop(self, frames: int, kind: FrameKind) -> None:
        """Lose the next frames of a kind."""
        self._dropping = [one for one in self._dropping if one.frames] + [_Next(frames, kind)]

    def double(self, frames: int, kind: FrameKind) -> None:
        """Send the next frames of a kind twice."""
        self._doubling = [one for one in self._doubling if one.frames] + [_Next(frames, kind)]

    def reverse(self, frames: int, within: float) -> None:
        """Send the next frames in reverse order, at the latest ``within`` seconds after the first of them."""
        self._to_reverse, self._within = frames, within

    def frame(self, action: Action, about: set[FrameKind], now: float) -> list[Action]:
        """What is to be sent now of a frame that the emulator decided to send."""
        if self.without_handles and "handle" in about:
            return []
        if any(one.takes(about) for one in self._dropping):
            return []
        copies = 2 if any(one.takes(about) for one in self._doubling) else 1
        sent: list[Action] = []
        for _ in range(copies):
            sent += self._put_in_order(action, now)
        return self.queue(sent, now)

    def queue(self, actions: list[Action], now: float) -> list[Action]:
        """What is to be sent now of ``actions``; the rest goes behind what is held back."""
        if self.silent:
            actions = [action for action in actions if not isinstance(action, Send | SendRaw)]
        if not self._line and not self.delay:
            return actions
        due = now + self.delay
        if self._line:
            due = max(due, self._line[-1][0])
        self._line.extend((due, action) for action in actions)
        if len(self._line) > MAX_HELD:
            raise texts.STILL_OPEN.refusal()
        return []

    def hold(self, actions: list[Action], until: float) -> None:
        """Send ``actions`` at that time, and all that follows behind them."""
        self._line.extend((until, action) for action in actions)

    def tick(self, now: float) -> list[Action]:
        """What is due."""
        due: list[Action] = []
        if self._give_up_at is not None and self._give_up_at <= now:
            due += self.queue(self._turned_round(), now)
        while self._line and self._line[0][0] <= now:
            due.append(self._line.popleft()[1])
        return due

    def _put_in_order(self, action: Action, now: float) -> list[Action]:
        if not self._to_reverse:
            return [action]
        if not self._reversed:
            self._give_up_at = now + self._within
        self._reversed.append(action)
        self._to_reverse -= 1
        return [] if self._to_reverse else self._turned_round()

    def _turned_round(self) -> list[Action]:
        turned, self._reversed = self._reversed[::-1], []
        self._to_reverse, self._give_up_at = 0, None
        return turned
