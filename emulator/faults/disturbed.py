"""The mind with something between its ears: what it is told, when it is asked, and what it gets to say."""

from collections import deque

from emulator import texts
from emulator.actions import Action, Disturbance, IssueHandle, Mind, Note, Send
from emulator.api.protocol import Event, ToolResponse
from emulator.faults.frames import kinds
from emulator.faults.outflow import MAX_HELD
from emulator.session.handles import Snapshot

_STILL_HEARD = {"input_transcription", "voice_activity", "setup"}
"""What a mute model's link still tells: what was heard of the caller."""


class Disturbed:
    """A :class:`emulator.actions.Mind` with another one inside, which faults disturb."""

    def __init__(self, mind: Mind) -> None:
        self._mind = mind
        self._pending: deque[Disturbance] = deque()
        self._mute = False
        self._keeps = False
        self._held: list[Action] = []
        self._speaks_again = False
        self.deaf_to_responses = 0
        """How many more messages with function responses are not heard."""

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is wanted: at once when there is something to disturb it with."""
        if self._pending or self._speaks_again:
            return 0.0
        return None if self._mute else self._mind.deadline

    def trouble(self, *how: Disturbance) -> None:
        """Disturb it at the next tick, so that what comes of it passes through all parts."""
        self._pending.extend(how)

    def silence(self, *, keeps: bool) -> None:
        """The model says nothing from now on; ``keeps`` what it was to say for later."""
        self._mute, self._keeps = True, keeps
        if not keeps:
            self._held.clear()

    def speak(self) -> list[Action]:
        """It may speak again, and says first what was kept."""
        self._speaks_again = self._mute
        self._mute = False
        return []

    @property
    def settled(self) -> bool:
        """Whether nothing is under way that a snapshot would not hold."""
        return self._mind.settled and not self._held

    def snapshot(self, *, hearing: bool) -> Snapshot:
        """What a handle taken now restores."""
        return self._mind.snapshot(hearing=hearing)

    def start(self, now: float) -> list[Action]:
        """The connection has begun."""
        return self._said(self._mind.start(now))

    def apply(self, event: Event, now: float) -> list[Action]:
        """A client message, unless the mind is deaf to it."""
        if self.deaf_to_responses and isinstance(event, ToolResponse):
            self.deaf_to_responses -= 1
            return []
        return self._said(self._mind.apply(event, now))

    def heard(self, number: int, text: str | None, now: float) -> list[Action]:
        """The outcome of a :class:`emulator.actions.Listen`."""
        return self._said(self._mind.heard(number, text, now))

    def guessed(self, number: int, text: str | None, now: float) -> list[Action]:
        """The outcome of a :class:`emulator.actions.Guess`."""
        return self._said(self._mind.guessed(number, text, now))

    def tick(self, now: float) -> list[Action]:
        """Time has passed; a mute model's own time stands still."""
        done: list[Action] = []
        if self._speaks_again:
            self._speaks_again = False
            done, self._held = self._held, []
        while self._pending:
            done += self.disturb(self._pending.popleft(), now)
        due = self._mind.deadline
        if not self._mute and due is not None and due <= now:
            done += self._said(self._mind.tick(now))
        return done

    def disturb(self, how: Disturbance, now: float) -> list[Action]:
        """A fault."""
        return self._said(self._mind.disturb(how, now))

    def _said(self, actions: list[Action]) -> list[Action]:
        if not self._mute:
            return actions
        passed: list[Action] = []
        for action in actions:
            if not _speech(action):
                passed.append(action)
            elif self._keeps:
                self._held.append(action)
        if len(self._held) > MAX_HELD:
            raise texts.STILL_OPEN.refusal()
        return passed


def _speech(action: Action) -> bool:
    """Whether an action tells of what the model does."""
    if isinstance(action, Send):
        return not kinds(action.message) & _STILL_HEARD
    return isinstance(action, IssueHandle) or (isinstance(action, Note) and action.what != "speech_began")
