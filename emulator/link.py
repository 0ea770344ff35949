"""One connection's decisions put together: the mind, and the parts that its actions pass through. No I/O."""

from collections.abc import Callable, Sequence

from emulator.actions import Action, Close, Mind, Part, Send
from emulator.errors import Refusal
from emulator.protocol import Event


class Link:
    """What a connection asks after its setup was accepted."""

    def __init__(self, mind: Mind, parts: Sequence[Part]) -> None:
        self._mind = mind
        self._parts = tuple(parts)

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is wanted; None when nothing is pending."""
        deadlines = [self._mind.deadline, *(part.deadline for part in self._parts)]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def start(self, now: float) -> list[Action]:
        """The setup was accepted."""
        return self._pass([Send({"setupComplete": {}})], 0, now)

    def apply(self, event: Event, now: float) -> list[Action]:
        """A client message."""
        return self._ask(lambda part: part.apply(event, now), now)

    def tick(self, now: float) -> list[Action]:
        """Time has passed: whoever waited for it acts."""

        def due(part: Mind | Part) -> list[Action]:
            return part.tick(now) if part.deadline is not None and part.deadline <= now else []

        return self._ask(due, now)

    def heard(self, number: int, text: str | None, now: float) -> list[Action]:
        """The outcome of a :class:`emulator.actions.Listen`."""
        return self._pass(_or_close(lambda: self._mind.heard(number, text, now)), 0, now)

    def _ask(self, question: Callable[[Mind | Part], list[Action]], now: float) -> list[Action]:
        done = self._pass(_or_close(lambda: question(self._mind)), 0, now)
        for index, part in enumerate(self._parts):
            done += self._pass(_or_close(lambda part=part: question(part)), index + 1, now)  # type: ignore[misc]
        return done

    def _pass(self, actions: list[Action], first: int, now: float) -> list[Action]:
        """``actions`` on their way through the parts from ``first`` on."""
        for part in self._parts[first:]:
            actions = [
                outcome
                for action in actions
                for outcome in _or_close(lambda part=part, action=action: part.passing(action, now))  # type: ignore[misc]
            ]
        return actions


def _or_close(decision: Callable[[], list[Action]]) -> list[Action]:
    try:
        return decision()
    except Refusal as refusal:
        return [Close(refusal)]
