"""Who may run now, who waits, and who is sent away. Plain code: no clock, no I/O.

Three limits hold at once: of the process, of each tool, of each tenant. Over the process's limit a call is sent away
at once, because waiting would only add to the load. Over a tool's or a tenant's limit it waits its turn, in a waiting
room that is shared by the same rules, so that neither one tool nor one tenant can fill the one or the other.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Final


class Full(Enum):
    """Whose limit it is that a call is over."""

    PROCESS = "process"
    TOOL = "tool"
    TENANT = "tenant"


@dataclass(frozen=True, slots=True)
class Claimant:
    """What counts of a call."""

    tool: str
    tenant: str
    """Calls without a tenant count as those of one more."""
    tool_limit: int | None
    """Calls of the tool that may run at once; None: as many as of any tool."""


@dataclass(slots=True)
class _Room:
    """Calls that have a place, and the limits of their number."""

    limit: int
    tool_limit: int
    tenant_limit: int
    count: int = 0
    tools: Counter[str] = field(default_factory=Counter)
    tenants: Counter[str] = field(default_factory=Counter)

    def full(self, claimant: Claimant, tool_limit: int) -> Full | None:
        """None when there is a place."""
        if self.count >= self.limit:
            return Full.PROCESS
        if self.tenants[claimant.tenant] >= self.tenant_limit:
            return Full.TENANT
        if self.tools[claimant.tool] >= tool_limit:
            return Full.TOOL
        return None

    def add(self, claimant: Claimant) -> None:
        self.count += 1
        self.tools[claimant.tool] += 1
        self.tenants[claimant.tenant] += 1

    def remove(self, claimant: Claimant) -> None:
        self.count -= 1
        for counter, key in ((self.tools, claimant.tool), (self.tenants, claimant.tenant)):
            counter[key] -= 1
            if not counter[key]:
                del counter[key]  # names come from outside


class Places:
    """The places of one process. Keys are the calls' own, unique ones."""

    def __init__(self, limit: int, *, tool_limit: int, tenant_limit: int) -> None:
        """`tool_limit` and `tenant_limit`: of each tool that says nothing else, and of each tenant."""
        self._running: Final = _Room(limit, min(limit, tool_limit), min(limit, tenant_limit))
        self._waiting: Final = _Room(limit, min(limit, tool_limit), min(limit, tenant_limit))
        self._placed: dict[str, Claimant] = {}
        self._queue: dict[str, Claimant] = {}
        """In the order of their arrival."""

    @property
    def waiting(self) -> int:
        """Calls that wait for a place."""
        return len(self._queue)

    def ask(self, key: str, claimant: Claimant) -> Full | None:
        """A place, or one in the waiting room: see `has`. Whose limit keeps it from both, otherwise."""
        full = self._full(claimant)
        if full is None:
            self._place(key, claimant)
            return None
        if full is Full.PROCESS:
            return full
        if (crowded := self._waiting.full(claimant, self._waiting.tool_limit)) is not None:
            return full if crowded is Full.PROCESS else crowded
        self._waiting.add(claimant)
        self._queue[key] = claimant
        return None

    def has(self, key: str) -> bool:
        """Whether the call may run."""
        return key in self._placed

    def why(self, key: str) -> Full | None:
        """Whose limit it is that a waiting call waits for."""
        claimant = self._queue.get(key)
        return None if claimant is None else self._full(claimant)

    def leave(self, key: str) -> list[str]:
        """The call runs or waits no more. Those that may run now, in the order of their arrival."""
        if (claimant := self._queue.pop(key, None)) is not None:
            self._waiting.remove(claimant)
            return []
        if (claimant := self._placed.pop(key, None)) is None:
            return []
        self._running.remove(claimant)
        called: list[str] = []
        for waiting, other in list(self._queue.items()):
            if self._full(other) is None:
                del self._queue[waiting]
                self._waiting.remove(other)
                self._place(waiting, other)
                called.append(waiting)
        return called

    def _full(self, claimant: Claimant) -> Full | None:
        limit = self._running.tool_limit if claimant.tool_limit is None else claimant.tool_limit
        return self._running.full(claimant, limit)

    def _place(self, key: str, claimant: Claimant) -> None:
        self._running.add(claimant)
        self._placed[key] = claimant
