"""Generators as tools: each value that they yield is a result, the last one is the answer.

Whoever drives a generator closes it when nobody wants more, so that its `finally` runs: between two values, because a
function in a thread cannot be stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, closing
from typing import Any

import structlog

from services.tools import results
from services.tools.context import OutcomeUnknownError, ToolContext
from services.tools.outbox import MAX_PARTIAL

log = structlog.get_logger()


async def drained_async(start: Callable[[], AsyncGenerator[Any, None]], context: ToolContext) -> Any:
    """The last value; each is a partial result until the next one."""
    last: Any = None
    async with aclosing(start()) as values:
        async for value in values:
            last = value
            _tell(value, context)
            # A generator that awaits nothing of its own would hold the loop up, and never notice a cancellation.
            await asyncio.sleep(0)
    return last


def drained(start: Callable[[], Generator[Any, None, Any]], context: ToolContext) -> Any:
    """What it returns, or else the last value. OutcomeUnknownError when it was cut off."""
    last: Any = None
    with closing(start()) as values:
        while not context.cancelled:
            try:
                last = next(values)
            except StopIteration as end:
                return last if end.value is None else end.value
            _tell(last, context)
    raise OutcomeUnknownError("it was cut off between two results")


def _tell(value: object, context: ToolContext) -> None:
    try:
        context.reports.partial(results.encode(value, MAX_PARTIAL, context.reports.hide))
    except results.ResultError as error:
        # It may be good enough for an answer, whose bound is a higher one; if not, that is said of the answer.
        log.debug("no partial result", tool=context.tool, reason=str(error))
