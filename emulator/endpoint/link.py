"""One connection's decisions put together: the mind, and the parts that its actions pass through. No I/O."""

import functools
from collections.abc import Callable, Sequence

from emulator.actions import Action, Close, Mind, Part, Send
from emulator.api.protocol import Event
from emulator.errors import Refusal


class Link:
    """What a connection asks after its setup was accepted."""

    def __init__(self, mind: Mind, parts: Sequence[Part], *, session_id: str | None = None) -> None:
        self._mind = mind
        self._parts = tuple(parts)
        self._deciding: tuple[Mind | Part, ...] = (mind, *parts)
        self._complete = {} if session_id is None else {"sessionId": session_id}

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is wanted; None when nothing is pending."""
        # After every message: no list, and no call.
        first = None
        for asked in self._deciding:
            deadline = asked.deadline
            if deadline is not None and (first is None or deadline < first):
                first = deadline
        return first

    def start(self, now: float) -> list[Action]:
        """The setup was accepted."""
        return self._pass([Send({"setupComplete": dict(self._complete)}), *self._mind.start(now)], 0, now)

    def apply(self, event: Event, now: float) -> list[Action]:
        """A client message."""
        # Several times for each frame of audio: no closures, and nothing is done about nothing.
        done: list[Action] = []
        for index, asked in enumerate(self._deciding):
            try:
                actions = asked.apply(event, now)
            except Refusal as refusal:
                actions = [Close(refusal)]
            if actions:
                done += self._pass(actions, index, now)
        return done

    def tick(self, now: float) -> list[Action]:
        """Time has passed: whoever waited for it acts."""
        done: list[Action] = []
        for index, asked in enumerate(self._deciding):
            if (deadline := asked.deadline) is not None and deadline <= now:
                done += self._pass(_or_close(functools.partial(asked.tick, now)), index, now)
        return done

    def heard(self, number: int, text: str | None, now: float) -> list[Action]:
        """The outcome of a :class:`emulator.actions.Listen`."""
        return self._pass(_or_close(functools.partial(self._mind.heard, number, text, now)), 0, now)

    def guessed(self, number: int, text: str | None, now: float) -> list[Action]:
        """The outcome of a :class:`emulator.actions.Guess`."""
        return self._pass(_or_close(functools.partial(self._mind.guessed, number, text, now)), 0, now)

    def _pass(self, actions: list[Action], first: int, now: float) -> list[Action]:
        """``actions`` on their way through the parts from ``first`` on."""
        for part in self._parts[first:]:
            passed: list[Action] = []
            for action in actions:
                try:
                    passed += part.passing(action, now)
                except Refusal as refusal:
                    passed.append(Close(refusal))
            actions = passed
        return actions


def _or_close(decision: Callable[[], list[Action]]) -> list[Action]:
    try:
        return decision()
    except Refusal as refusal:
        return [Close(refusal)]
