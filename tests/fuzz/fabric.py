"""A gateway and a worker on a real nats-server, on a loop of their own thread; the model is a link that plays along."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, TypeVar, cast

import grpc.aio

from services.fabric.bus import Bus, Writer, settle
from services.fabric.catalog import Catalog
from services.fabric.conversation_log import ensure_log
from services.fabric.process import LoopLag, stop_tasks
from services.fabric.records import SessionRecords
from services.fabric.timeline import Timeline
from services.gateway.server import Gateway
from services.gateway.settings import GatewaySettings
from services.session_worker import events
from services.session_worker.leftovers import Leftovers
from services.session_worker.lifeline import Lifeline
from services.session_worker.link import Dialer
from services.session_worker.settings import WorkerSettings
from services.session_worker.shared import Services
from services.session_worker.worker import Worker
from tests.session_worker.conftest import FakeDialer, FakeLink
from tests.support.eventually import eventually
from tests.support.nats import running_nats_server

T = TypeVar("T")
LIMIT = 300.0
"""Seconds for anything that is run: beyond those that whatever it waits for has, so that it tells what that was."""
RESUME_WINDOW = 1.0
"""Seconds that a session waits for its caller."""
CONVERSE = "/parley.v1.LiveService/Converse"
ANSWER = (
    events.Audio(bytes(1920), 24_000),
    events.OutputTranscript("yes", False, ""),
    events.GenerationComplete(),
    events.TurnComplete("", False, True),
)


class PlayingLink(FakeLink):
    """Answers what is written, and calls a function where that is asked for."""

    async def send_realtime(self, **content: Any) -> None:
        if "text" in content:
            self.says(*ANSWER)

    async def send_turn(self, turns: list[Any], turn_complete: bool) -> None:
        if turn_complete:
            self.says(*ANSWER)

    async def send_audio(self, pcm: bytes) -> None:
        """Heard, and not kept."""

    async def send_tool_response(self, response: Any) -> None:
        self.says(*ANSWER)

    async def send_context_update(self, instructions: str | None, tools: Any) -> None:
        """Known from now on."""


class PlayingDialer(FakeDialer):
    """Its links by the order of their sessions; only the newest are kept."""

    async def dial(self, _model: str, _config: object, _rate: int) -> FakeLink:
        self.links = [*self.links[-20:], PlayingLink()]
        return self.links[-1]


class Fabric:
    """Everything that a `Converse` stream goes through but the model. Synchronous from outside, as hypothesis is."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fabric")
        self._thread.start()
        self._stack = AsyncExitStack()
        self.dialer = PlayingDialer()
        self.patience = 20.0
        """Seconds in which everything is cleared up."""
        try:
            self.run(self._start())
        except BaseException:
            self.stop()
            raise

    async def _start(self) -> None:
        server = self._stack.enter_context(running_nats_server())
        settings = WorkerSettings(
            nats_url=server.url,
            record_retention="0",  # type: ignore[arg-type]
            resume_window=f"{RESUME_WINDOW}s",  # type: ignore[arg-type]
            half_close_wait="200ms",  # type: ignore[arg-type]  # the model owes much that it never says
            capacity=1000,
        )
        bus = Bus(settings, "worker", "wk-fuzz")
        self._stack.push_async_callback(bus.close)
        bus.start()
        await bus.wait_connected(5)
        records, writer = SessionRecords(bus.js), Writer(bus)
        await records.ensure(1)
        await ensure_log(bus.js, 1, timedelta(hours=1))
        leftovers = Leftovers(bus.js, records, 0.0)
        dialer = cast(Dialer, self.dialer)
        lifeline = Lifeline(bus, settings.ownership_ttl.total_seconds())
        catalog, timeline = Catalog(bus.js), Timeline(bus, "wk-fuzz")
        services = Services("wk-fuzz", bus, writer, records, catalog, dialer, leftovers, lifeline, settings, timeline)
        self.worker = Worker(services, LoopLag())
        await self.worker.subscribe()
        await settle(bus.client)
        running = [asyncio.create_task(work) for work in (self.worker.run(), leftovers.run(), lifeline.run())]
        self._stack.push_async_callback(stop_tasks, running)
        self._stack.push_async_callback(self.worker.stop, 5)
        gateway = GatewaySettings(
            nats_url=server.url,
            listen="127.0.0.1:0",
            development=True,
            shutdown_grace="50ms",  # type: ignore[arg-type]
        )
        self.gateway = Gateway(gateway, [], {})
        self._stack.push_async_callback(self.gateway.stop)
        await self.gateway.start()
        await eventually(self.gateway.ready)
        self.channel = await self._stack.enter_async_context(grpc.aio.insecure_channel(self.gateway.address))
        self.converse = self.channel.stream_stream(CONVERSE)

    async def settled(self) -> dict[str, int]:
        """What is held when nothing is going on."""

        def idle() -> dict[str, int] | None:
            counts, calls = self.worker.counts, self.gateway.counts()
            busy = [counts[name] for name in ("sessions", "opening", "closing", "to_forget")]
            return None if any(busy) or calls["calls"] or calls["streams"] else self._held()

        return cast(dict[str, int], await eventually(idle, self.patience))

    async def settled_at(self, baseline: dict[str, int]) -> None:
        """AssertionError unless, in the end, as little is held as there was."""

        async def back() -> bool:
            assert await self.settled() == baseline
            return True

        await eventually(back, self.patience)

    def _held(self) -> dict[str, int]:
        return {"tasks": len(asyncio.all_tasks()), "subscriptions": int(self.gateway.counts()["subscriptions"])}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """From another thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(LIMIT)

    def stop(self) -> None:
        """Leave nothing."""
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
