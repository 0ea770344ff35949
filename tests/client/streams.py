"""A scripted gateway for sessions of several streams, and what their tests share."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import parley
from parley import events
from tests.client.fake_gateway import FakeGateway, Stream, fake_gateway

WINDOW: dict[str, Any] = {"resume_window": {"seconds": 20}}
HERE: dict[str, Any] = {"existing": True, **WINDOW}
NONE = timedelta(0)

Script = Callable[[Stream], Awaitable[None]]


@asynccontextmanager
async def gateway_of(*scripts: Script) -> AsyncIterator[FakeGateway]:
    """A gateway whose streams run these scripts, one each; the last one runs for all that follow."""

    async def script(stream: Stream) -> None:
        await scripts[min(len(gateway.streams), len(scripts)) - 1](stream)

    async with fake_gateway(script) as gateway:
        yield gateway


async def confirm_end(stream: Stream) -> None:
    await stream.read_until("end")
    await stream.ended()


async def serve(stream: Stream) -> None:
    """Attaches, and serves to the end."""
    await stream.opened(**HERE)
    await confirm_end(stream)


async def hang(stream: Stream) -> None:
    """Never answers."""
    while await stream.read() is not None:
        pass


async def lose(stream: Stream) -> None:
    """Opens, and is gone."""
    await stream.opened(**WINDOW)
    await stream.lose()


def kinds(seen: list[events.Event]) -> list[str]:
    return [type(event).__name__ for event in seen]


async def take_until(session: parley.Session, kind: type[events.Event]) -> list[events.Event]:
    seen = []
    async for event in session:
        seen.append(event)
        if isinstance(event, kind):
            return seen
    raise AssertionError(f"no {kind.__name__} in {kinds(seen)}")
