"""The function calls that wait for their results."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emulator.configuration.setup import Function
from emulator.scenarios.script import Step
from emulator.tools.ledger import Ledger

MAX_SIZE = 4 * 1024 * 1024
MAX_CALLS = 64
"""Calls that may be pending at once."""


@dataclass(eq=False)
class Group:
    """Calls that were made together; what follows waits for all of their results."""

    step: Step
    values: dict[str, Any]
    """What is known: slots, and the results so far."""
    calls: tuple["Call", ...] = ()
    blocking: bool = False
    """Whether the turn waits for them."""
    remaining: set[str] = field(default_factory=set)
    """Ids of those without a final result."""
    failed: bool = False
    """Whether any of them failed."""
    size: int = 0
    """Characters of all results."""

    def learn(self, call: "Call", fields: Mapping[str, Any], size: int) -> bool:
        """A result, or a part of one, of so many characters; whether there was room for it."""
        self.size += size
        if self.size > MAX_SIZE:
            return False
        known = self.values.get(call.label)
        self.values[call.label] = {**(known if isinstance(known, dict) else {}), **fields}
        self.values.update(fields)
        return True


@dataclass(frozen=True, eq=False)
class Call:
    """One call."""

    id: str
    function: Function
    arguments: dict[str, Any]
    label: str
    """What its result is called."""
    group: Group

    @property
    def facts(self) -> dict[str, Any]:
        """Id, name and arguments."""
        return {"id": self.id, "name": self.function.name, "args": self.arguments}


class Pending:
    """The calls of one connection."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._calls: dict[str, Call] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def new_id(self) -> str:
        """An id for another call."""
        return self._ledger.new_id()

    def place(self, group: Group) -> None:
        """Wait for the results of a group."""
        for call in group.calls:
            self._calls[call.id] = call
            self._ledger.unanswered[call.id] = call.function.name
        group.remaining = {call.id for call in group.calls}

    def find(self, call_id: str, name: str, *, by_name: bool) -> Call | None:
        """The call that a response is for. Without ids, which Vertex leaves out, the oldest of that name is meant."""
        found = self._calls.get(call_id)
        if found is None and (by_name or not call_id):
            found = next((call for call in self._calls.values() if call.function.name == name), None)
        return found

    def close(self, call: Call) -> None:
        """Nothing more is expected of it."""
        del self._calls[call.id]
        self._ledger.unanswered.pop(call.id, None)
        call.group.remaining.discard(call.id)

    def cancel(self, *, also_non_blocking: bool) -> list[Call]:
        """Give up the calls that an open turn waits for, or all; those that were."""
        given_up = [call for call in self._calls.values() if call.group.blocking or also_non_blocking]
        for call in given_up:
            self.close(call)
        return given_up


class Lost:
    """Calls whose connection was lost before their results came, as the session remembers them after a resume."""

    def __init__(self, ledger: Ledger, *, stuck: bool) -> None:
        self._ledger = ledger
        if not stuck:
            ledger.unanswered.clear()
        self._ids = set(ledger.unanswered)

    def __bool__(self) -> bool:
        return bool(self._ids)

    def answered(self, call_id: str) -> bool:
        """Whether a response is for one of them; it is lost no longer."""
        if call_id not in self._ids:
            return False
        self._ids.discard(call_id)
        self._ledger.unanswered.pop(call_id, None)
        return True

    def forget(self) -> None:
        """The exchange they belonged to is closed."""
        for call_id in self._ids:
            self._ledger.unanswered.pop(call_id, None)
        self._ids.clear()
