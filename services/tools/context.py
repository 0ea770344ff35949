"""What a running function may know of its call, and how it says that it failed."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field


class ToolError(Exception):
    """A failure whose message is written for the model, and reaches it word for word."""


@dataclass(frozen=True)
class ToolContext:
    """Who calls and why. A function gets it by declaring a parameter of this type; the model never sees that one."""

    tool: str
    """Name under which the function was called."""
    execution_id: str
    """This execution; another attempt of the same call has another one."""
    idempotency_key: str
    """The same for the same call, also when it is sent again."""
    session: str
    """Session id; empty outside one."""
    tenant: str
    caller: str
    """Who calls, outside a session."""
    labels: Mapping[str, str]
    """Labels of the session."""
    cancellation: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when the result is no longer wanted. Coroutines are cancelled besides; a thread has to look."""

    @property
    def cancelled(self) -> bool:
        """Nobody wants the result any more: the deadline has passed or the caller took the call back."""
        return self.cancellation.is_set()
