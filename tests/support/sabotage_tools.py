"""Sabotage of the policy of tools: what its promises stand on is taken away, in the process that applies it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from services.tools import execute
from services.tools.loops import Blocked, ToolLoop
from services.tools.places import Claimant, Full, Places
from services.tools.sources.breaker import Breaker
from services.tools.sources.guard import Guard
from services.tools.sources.secrets import Secrets
from services.tools.tool import Tool


def retries_everything(patch: pytest.MonkeyPatch) -> None:
    """Calls are repeated whether or not that is safe."""
    patience = Guard._patience

    def reckless(guard: Guard, context: Any, *, idempotent: bool) -> dict[str, Any]:
        return patience(guard, context, idempotent=True)

    patch.setattr(Guard, "_patience", reckless)


def sure_of_itself(patch: pytest.MonkeyPatch) -> None:
    """What may have had its effect is told as what failed."""
    patch.setattr("services.tools.sources.guard.OutcomeUnknownError", execute.ToolError)


def nothing_hidden(patch: pytest.MonkeyPatch) -> None:
    """Secrets are left in what the model is told."""
    patch.setattr(Secrets, "hide", lambda _secrets, text: text)


def nothing_hidden_in_logs(patch: pytest.MonkeyPatch) -> None:
    """Secrets are left in logs."""
    patch.setattr(Secrets, "hide_all", lambda text: text)


def no_limits(patch: pytest.MonkeyPatch) -> None:
    """Only the process has a limit."""

    def full(places: Places, _claimant: Claimant) -> Full | None:
        return Full.PROCESS if places._running.count >= places._running.limit else None

    patch.setattr(Places, "_full", full)


def last_come_first_served(patch: pytest.MonkeyPatch) -> None:
    """Whoever waits is forgotten when a place is free."""
    leave = Places.leave

    def forgetful(places: Places, key: str) -> list[str]:
        leave(places, key)
        return []

    patch.setattr(Places, "leave", forgetful)


def no_permissions(patch: pytest.MonkeyPatch) -> None:
    """Every tool exists for every tenant."""
    patch.setattr(Tool, "permits", lambda _tool, _tenant: True)


def no_breaker(patch: pytest.MonkeyPatch) -> None:
    """What keeps failing is called all the same."""
    patch.setattr(Breaker, "open", False)


def one_loop(patch: pytest.MonkeyPatch) -> None:
    """Coroutine functions run on the service's own event loop."""

    async def here(_loop: ToolLoop, start: Callable[[], Awaitable[Any]], _tool: str) -> Any:
        return await start()

    patch.setattr(ToolLoop, "run", here)


def no_watch(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks whether a loop is blocked."""

    async def never(loop: ToolLoop) -> AsyncIterator[Blocked | None]:
        await loop._closed
        yield None

    patch.setattr(ToolLoop, "changes", never)
