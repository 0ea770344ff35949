"""The example's two tools as ones that take their time, and go on when the test lets them.

An order is a story: the test lets it go on by files, and what the tool did is in a file beside them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from services.tools import ToolContext, tool

FOLDER = "PARLEY_TEST_LIVE_TOOLS"
"""Variable with the folder of the files."""
MODULES = "tests.support.live_tools"
WORDS = ({"status": "delayed", "arrives": "friday"}, {"status": "shipped", "arrives": "monday"})
"""What an order is at first, and then."""
LAST = {"status": "delivered", "arrives": "friday"}
_LONG = 60
_LOOK_EVERY = 0.01


class Order:
    """One story's files."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name

    def go_on(self, step: int) -> None:
        """Let the tool come to its next result, from 1."""
        (self._folder / f"{self._name}.{step}").touch()

    def may_go_on(self, step: int) -> bool:
        """Whether the test said so."""
        return (self._folder / f"{self._name}.{step}").exists()

    def note(self, what: str) -> None:
        """Write down what happens."""
        with (self._folder / f"{self._name}.log").open("a") as file:
            file.write(f"{what}\n")

    @property
    def notes(self) -> list[str]:
        """What happened."""
        with contextlib.suppress(FileNotFoundError):
            return (self._folder / f"{self._name}.log").read_text().split("\n")[:-1]
        return []


def _here(name: str) -> Order:
    return Order(Path(os.environ[FOLDER]), name)


async def forget_order(arguments: dict[str, str], result: object, context: ToolContext) -> None:
    """Undoes what `lookup_order` did."""
    _here(arguments["order_id"]).note(f"undone, {'cut off' if result is None else result}")


@tool(timeout=_LONG, behavior="non_blocking", scheduling="when_idle", compensate=forget_order)
async def lookup_order(order_id: str, context: ToolContext) -> AsyncIterator[dict[str, str]]:
    """Looks up an order, and says what it finds on the way. Of orders that begin with 9 nobody is to speak."""
    order = _here(order_id)
    order.note("began")
    context.progress("looking", 0.25)
    if order_id.startswith("9"):
        context.schedule("silent")
    try:
        for step, words in enumerate(WORDS, 1):
            yield {"order_id": order_id, **words}
            while not order.may_go_on(step):
                await asyncio.sleep(_LOOK_EVERY)
        if order_id.startswith("8"):
            context.schedule("interrupt")
        yield {"order_id": order_id, **LAST}
        order.note("done")
    finally:
        order.note("ended")


@tool(timeout=_LONG, behavior="blocking")
def get_weather(city: str, context: ToolContext) -> Iterator[dict[str, str | int]]:
    """Tells the weather of a city, from a thread."""
    order = _here(city)
    order.note("began")
    try:
        yield {"condition": "cloudy", "temperature_celsius": 11}
        while not (order.may_go_on(1) or context.cancelled):
            time.sleep(_LOOK_EVERY)
        yield {"condition": "sunny", "temperature_celsius": 18}
    finally:
        order.note("ended")


@tool(timeout=_LONG)
async def wait_for_order(order_id: str) -> None:
    """Waits for ever."""
    order = _here(order_id)
    order.note("began")
    try:
        await asyncio.Event().wait()
    finally:
        order.note("ended")


@tool(timeout=_LONG)
def wait_for_weather(city: str, context: ToolContext) -> None:
    """Waits until nobody wants its result, in a thread."""
    order = _here(city)
    order.note("began")
    context.cancellation.wait(_LONG)
    order.note("ended")
