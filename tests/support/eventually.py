"""Wait for a condition, never for a time. The limits are for machines that stand still, not judgements of speed."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any


async def eventually(condition: Callable[[], Any | Awaitable[Any]], timeout: float = 30.0) -> Any:
    """The first true value of `condition`, which may be a coroutine function; AssertionError after `timeout` s.

    A condition may raise AssertionError for false, so that the last reason is shown.
    """
    limit = time.monotonic() + timeout
    while True:
        reason: AssertionError | None = None
        value: Any = None
        try:
            value = condition()
            if inspect.isawaitable(value):
                value = await value
        except AssertionError as error:
            reason = error
        if reason is None and value:
            return value
        if time.monotonic() > limit:
            raise AssertionError(f"not within {timeout} s; last: {reason or value!r}") from reason
        await asyncio.sleep(0.01)
