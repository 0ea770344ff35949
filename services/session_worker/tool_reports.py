"""What an execution says before it ends, on its way to everybody who waits for it. The newest counts; some get lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import nats.errors
import structlog
from google.protobuf.message import DecodeError
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from parley.v1 import fabric_pb2
from services.fabric import subjects
from services.fabric.bus import Bus
from services.fabric.process import stop_tasks

T = TypeVar("T")

log = structlog.get_logger()


class Reports:
    """Of one execution at a time: what another one says, which was given up, nobody hears."""

    def __init__(self, bus: Bus, heard: Callable[[str, fabric_pb2.ToolReport], None]) -> None:
        """`heard`: is told the execution, and what it says."""
        self._bus = bus
        self._heard = heard
        self._execution = ""
        self._subscription: Subscription | None = None

    async def follow(self, execution: str) -> None:
        """Listen to this one from here on. Nothing depends on it: without NATS there is nothing to hear."""
        if execution == self._execution:
            return
        await self.stop()
        self._execution = execution

        async def take(message: Msg) -> None:
            if self._execution != execution:
                return
            try:
                report = fabric_pb2.ToolReport.FromString(message.data)
            except DecodeError:
                log.warning("unreadable report of a tool", execution=execution)
                return
            self._heard(execution, report)

        try:
            self._subscription = await self._bus.client.subscribe(subjects.tool_progress(execution), cb=take)
        except nats.errors.Error as error:
            log.warning("a tool is not listened to", error=str(error) or type(error).__name__)

    async def stop(self) -> None:
        """Listen no more."""
        self._execution, subscription, self._subscription = "", self._subscription, None
        if subscription is not None:
            # The connection may be gone, and the subscription with it.
            with contextlib.suppress(nats.errors.Error, ValueError):
                await subscription.unsubscribe()


class Listener:
    """Somebody who waits for the end of an execution. Keeps the newest of each kind that it has not taken."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[str, fabric_pb2.ToolReport]] = {}
        self._news = asyncio.Event()

    def hear(self, execution: str, report: fabric_pb2.ToolReport) -> None:
        """It says something."""
        kind = report.WhichOneof("report")
        if kind is not None:
            self._waiting.pop(kind, None)
            self._waiting[kind] = (execution, report)
            self._news.set()

    async def next(self) -> tuple[str, fabric_pb2.ToolReport]:
        """What came first of what waits."""
        await self._news.wait()
        found = self._waiting.pop(next(iter(self._waiting)))
        if not self._waiting:
            self._news.clear()
        return found

    async def until_done(
        self, task: asyncio.Task[T], take: Callable[[str, fabric_pb2.ToolReport], Awaitable[None]]
    ) -> T:
        """What `task` returns; what is heard until then is handed to `take`, one after another, and nothing after it.

        Cancelling this does not cancel the task.
        """
        while not task.done():
            news = asyncio.create_task(self.next(), name="reports of a tool")
            try:
                await asyncio.wait({task, news}, return_when=asyncio.FIRST_COMPLETED)
                if not task.done():
                    await take(*news.result())
            finally:
                await stop_tasks([news])
        return await asyncio.shield(task)
