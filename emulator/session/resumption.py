"""When resumption handles are sent, for which moment, and when the client hears that it cannot resume just now."""

from collections import deque
from typing import Any, Literal, Protocol

from emulator.actions import Action, IssueHandle, Mind, Note, Send
from emulator.api.protocol import Event
from emulator.configuration.setup import Config
from emulator.deadlines import soonest
from emulator.session.handles import Snapshot

# Handles that are on their way at a time, where they come late.
_MAX_LATE = 64


class Handles(Protocol):
    """The handles of one session."""

    def issue(self, snapshot: Snapshot, now: float) -> str:
        """A new one that restores ``snapshot``."""

    def cover(self, snapshot: Snapshot) -> None:
        """The newest restores ``snapshot`` from now on."""


class Resumption:
    """A :class:`emulator.actions.Part`, for a connection whose setup asked for handles.

    Without transparency a handle stands for what the conversation was at the end of its turn, as the mind reports it.
    With transparency (Vertex) it stands for exactly the client messages up to an index: it is taken between two
    messages, when nothing is under way that a snapshot would not hold, and holds also what is just being heard.
    """

    def __init__(self, config: Config, mind: Mind, handles: Handles, now: float) -> None:
        switches = config.switches
        self._mind = mind
        self._handles = handles
        self._covers_typed = scope(config) == "typed"
        self._sends = switches.handles == "sent"
        self._lost = frozenset(switches.lost_handles)
        self._lag = switches.handle_lag.total_seconds()
        self._interval = switches.scaled(switches.handle_interval)
        self._next = now + self._interval if self._interval and self._sends else None
        self._late: deque[tuple[float, Snapshot, int]] = deque(maxlen=_MAX_LATE)
        self._transparent = config.transparent
        self._before = switches.transparent_origin - 1 + switches.transparent_counts_setup
        """The index when no message was consumed yet."""
        self._consumed = 0
        """Client messages after the setup."""
        self._owed: float | None = None
        """Since when a transparent handle is due."""
        self._sent = 0
        self._refuses_when = _refuses_when(config)
        self._refused = False
        """Whether the client knows that it cannot resume just now."""

    @property
    def deadline(self) -> float | None:
        """When a handle is due."""
        if self._owed is None and not self._late:
            return self._next
        owed = self._owed if self._mind.settled else None
        late = self._late[0][0] if self._late else None
        return soonest(owed, late, self._next)

    def apply(self, _event: Event, now: float) -> list[Action]:
        """A client message; the mind has dealt with it."""
        self._consumed += 1
        return self._pay(now)

    def tick(self, now: float) -> list[Action]:
        """What is late comes; what is regular is taken."""
        actions: list[Action] = []
        while self._late and self._late[0][0] <= now:
            _, snapshot, index = self._late.popleft()
            actions += self._send(snapshot, index, now)
        if self._next is not None and self._next <= now:
            self._next = now + self._interval
            if self._mind.settled:
                actions += self._take(self._mind.snapshot(hearing=self._transparent), now)
        return actions + self._pay(now)

    def passing(self, action: Action, now: float) -> list[Action]:
        """Handles become messages; the beginning of a turn or call may tell that there is none just now."""
        match action:
            case IssueHandle() if self._transparent:
                self._owed = now
                return []
            case IssueHandle(snapshot):
                return self._take(snapshot, now)
            case Note(what=what, typed=typed) if (what, typed) in self._refuses_when and not self._refused:
                self._refused = True
                return [action, Send({"sessionResumptionUpdate": {"resumable": False}})]
            case Note("turn_began", snapshot=Snapshot() as snapshot) if self._covers_typed:
                self._handles.cover(snapshot)
        return [action]

    def _pay(self, now: float) -> list[Action]:
        if self._owed is None or not self._mind.settled:
            return []
        self._owed = None
        return self._take(self._mind.snapshot(hearing=True), now)

    def _take(self, snapshot: Snapshot, now: float) -> list[Action]:
        """A handle for ``snapshot``, now or later."""
        if not self._sends:
            return []
        if self._lag:
            self._late.append((now + self._lag, snapshot, self._consumed))
            return []
        return self._send(snapshot, self._consumed, now)

    def _send(self, snapshot: Snapshot, consumed: int, now: float) -> list[Action]:
        self._sent += 1
        if self._sent in self._lost:
            return []
        self._refused = False
        update: dict[str, Any] = {"newHandle": self._handles.issue(snapshot, now), "resumable": True}
        if self._transparent and (index := self._before + consumed) >= 0:
            # An int64, which JSON has as a string.
            update["lastConsumedClientMessageIndex"] = str(index)
        return [Send({"sessionResumptionUpdate": update})]


def scope(config: Config) -> Literal["issue", "typed", "close"]:
    """What the newest handle restores, by the values of the switch ``handle_scope``."""
    wanted = config.switches.handle_scope
    if config.transparent:
        # The index says it.
        return "issue"
    if wanted != "model":
        return wanted
    return "issue" if config.rules.not_resumable_at_typed_turn else "typed"


def _refuses_when(config: Config) -> frozenset[tuple[str, bool]]:
    """What happens (and whether a typed turn does it) when the client is told that it cannot resume."""
    match config.switches.not_resumable:
        case "busy":
            return frozenset((what, typed) for what in ("turn_began", "tool_call") for typed in (False, True))
        case "model" if config.rules.not_resumable_at_typed_turn:
            return frozenset({("turn_began", True)})
    return frozenset()
