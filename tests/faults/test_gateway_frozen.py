"""A gateway that stood still publishes its backlog late: the caller is at another one by then, and it is not heard."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

import pytest

from parley import errors, events
from parley.cli.stack import Stack, StackConfig
from tests.faults.call import Call, calling
from tests.faults.scene import goes_on
from tests.faults.stories import ORDER
from tests.support.counts import get_json
from tests.support.eventually import eventually


class Wire:
    """A gateway's way to nats-server, on which what it publishes can be held up.

    A gateway that wakes up mostly hears that it was replaced before it reads on. What can come late all the same is
    what it had published already.
    """

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.held = 0
        """Bytes that wait."""

    @contextlib.asynccontextmanager
    async def to(self, port: int) -> AsyncIterator[str]:
        """Where the gateway finds nats-server."""

        async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            back, forth = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(ConnectionError):
                await asyncio.gather(self._copy(reader, forth, holds=True), self._copy(back, writer, holds=False))

        server = await asyncio.start_server(join, "127.0.0.1", 0)
        try:
            yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, holds: bool) -> None:
        with contextlib.closing(target):
            while found := await source.read(65_536):
                if holds and not self.open.is_set():
                    self.held += len(found)
                    await self.open.wait()
                target.write(found)
                await target.drain()


async def refused(stack: Stack) -> int:
    """Envelopes of another stream than the one of now that came to the worker."""
    return int((await get_json(stack.workers[0].ready["ops"] + "/debug/vars"))["stale_uplink"])


async def speak_to_nobody(first: Call, wire: Wire) -> None:
    """In the middle of a question, the rest of it gets no further than the gateway, which stands still then."""
    await first.speak("hello")
    await first.answer()
    await first.speak("weather_paris", wait=False)
    await asyncio.sleep(0.8)  # not a wait for something: so far it has come with what it says
    wire.open.clear()
    await asyncio.sleep(1.0)  # not a wait for something: so long it speaks to nobody
    first.stack.gateways[-1].signal(signal.SIGSTOP)
    assert wire.held
    await first.give_way()


async def a_backlog_that_is_published_late(stack: Stack, wire: Wire) -> None:
    other, frozen = stack.gateways
    async with calling(stack, targets=[str(frozen.ready["address"])]) as first:
        await speak_to_nobody(first, wire)
        heard, _ = await first.heard_by_any_link()
        stale = await refused(stack)
        # Its numbers begin where the worker is: they are those of the backlog, which is longer than what it has sent
        # when the backlog comes, so that nothing but the stream itself tells them apart.
        target = str(other.ready["address"])
        async with calling(stack, targets=[target], resume=first.session.resume_point) as second:
            wire.open.set()
            frozen.signal(signal.SIGCONT)

            async def published() -> bool:
                return await refused(stack) > stale

            await eventually(published)
            await second.answer()  # to the half of a question that was heard
            since = len(second.got)
            await second.speak("order_4711")
            await second.answer(since, containing=ORDER)
            now, _ = await first.heard_by_any_link()
            assert list(now) == list(heard)
            assert not second.of(events.Gap)
            await goes_on(second)
        assert isinstance(await first.told_to_go(), errors.Superseded)


@pytest.mark.long
def test_it_is_not_heard() -> None:
    async def tell() -> None:
        wire = Wire()
        async with Stack(StackConfig()) as stack:
            port = int(str(stack.nats.ready["url"]).rpartition(":")[2])
            async with wire.to(port) as url:
                await stack.start_gateway(PARLEY_GATEWAY_NATS_URL=url)
                await a_backlog_that_is_published_late(stack, wire)
                await stack.stop()

    asyncio.run(tell())
