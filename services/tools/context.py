"""What a running function may know of its call, and how it says that it failed."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.tools.reports import SCHEDULINGS, Reports, Scheduling


class ToolError(Exception):
    """A failure whose message is written for the model, and reaches it word for word."""


class ToolUnavailableError(ToolError):
    """What the function stands on did not answer. The message is for the model, and holds no secret.

    A tool that is idempotent is run again, within the time of the call. A call of another one that may have had its
    effect ends as unknown, so that nobody makes it a second time.
    """

    def __init__(self, message: str, *, may_have_run: bool = True) -> None:
        super().__init__(message)
        self.may_have_run = may_have_run
        """Its effect may have been had all the same."""


class OutcomeUnknownError(ToolError):
    """What was asked for may or may not have happened. The model is told so, and nobody runs it again."""


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
    deadline: float = math.inf
    """When its time is up, on `time.perf_counter`."""
    reports: Reports = field(default_factory=Reports, repr=False)
    """Use `progress` and `schedule`."""

    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Use `secret`."""

    def secret(self, name: str) -> str:
        """A secret that the operator gives to the source of the function. It is kept out of results, errors and logs as
        it stands, but not when it is encoded or cut. LookupError when the source is given none of this name."""
        try:
            return self.secrets[name]
        except KeyError:
            raise LookupError(
                f"the source of this tool is given no secret {name!r}: see `secrets` of docs/tools.md"
            ) from None

    @property
    def cancelled(self) -> bool:
        """Nobody wants the result any more: the deadline has passed or the caller took the call back."""
        return self.cancellation.is_set()

    @property
    def seconds_left(self) -> float:
        """Time until the deadline, not below 0."""
        return max(0.0, self.deadline - time.perf_counter())

    def progress(self, message: str = "", fraction: float | None = None) -> None:
        """Tell the caller how far the call is, in words (500 characters) and from 0 to 1. From any thread, as often as
        you like: a few a second are sent, the newest. It may get lost, and the model does not hear of it; what it is to
        hear before the end, a generator yields."""
        self.reports.progress(message, fraction)

    def schedule(self, when: Scheduling) -> None:
        """When the model is to speak of the results from here on, instead of what the tool declares. Where a function
        blocks the conversation, and for models that take no scheduling, without effect. ValueError."""
        if when not in SCHEDULINGS:
            raise ValueError(f"{when!r} is no scheduling: expected 'silent', 'when_idle' or 'interrupt'")
        self.reports.scheduling = SCHEDULINGS[when]
