"""What a function says while it runs: how far it is, partial results, when the model is to speak of them.

It may say so from any thread, as often as it likes; what leaves is bounded (`outbox`). Nobody waits for it, and what
goes wrong with it reaches neither the function nor its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Final, Literal

from parley.v1 import fabric_pb2, live_pb2
from services.fabric.process import stop_tasks
from services.tools.outbox import Outbox

Scheduling = Literal["silent", "when_idle", "interrupt"]

SCHEDULINGS: Final[dict[str | None, live_pb2.ResponseScheduling]] = {
    None: live_pb2.RESPONSE_SCHEDULING_UNSPECIFIED,
    "silent": live_pb2.RESPONSE_SCHEDULING_SILENT,
    "when_idle": live_pb2.RESPONSE_SCHEDULING_WHEN_IDLE,
    "interrupt": live_pb2.RESPONSE_SCHEDULING_INTERRUPT,
}

Publish = Callable[[fabric_pb2.ToolReport], Awaitable[None]]


class Reports:
    """Of one execution. What it says before `listen` and after `close` nobody hears."""

    def __init__(self) -> None:
        self.scheduling = live_pb2.RESPONSE_SCHEDULING_UNSPECIFIED
        """Of the results from here on; unspecified: as the tool declares."""
        self.hide: Callable[[str], str] = str
        """Takes out of a text what nobody may read."""
        self._outbox = Outbox()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._publish: Publish | None = None
        self._task: asyncio.Task[None] | None = None
        self._called = False
        """The loop was told that there is something; it need not be told again."""

    # From any thread

    def progress(self, message: str, fraction: float | None) -> None:
        """How far the function is."""
        with self._lock:
            self._outbox.progress(self.hide(message), fraction)
        self._call()

    def partial(self, output_json: str) -> None:
        """A result that may not be the last."""
        with self._lock:
            self._outbox.partial(output_json, self.scheduling, time.monotonic())
        self._call()

    def _call(self) -> None:
        with self._lock:
            loop, called = self._loop, self._called
            self._called = True
        if loop is not None and not called:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody listens any more
                loop.call_soon_threadsafe(self._begin)

    # On the event loop

    def listen(self, publish: Publish) -> None:
        """Have reports published from here on. `publish` raises nothing."""
        self._loop, self._publish = asyncio.get_running_loop(), publish

    async def close(self) -> None:
        """Nothing more leaves."""
        with self._lock:
            self._loop = None
        if self._task is not None:
            await stop_tasks([self._task])

    def _begin(self) -> None:
        with self._lock:
            self._called = False
            listened_to = self._loop is not None
        if listened_to and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._send(), name="reports of a tool")

    async def _send(self) -> None:
        """Until nothing waits."""
        assert self._publish is not None
        while (due := self._due()) is not None:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            with self._lock:
                report = self._outbox.take(time.monotonic())
            if report is not None:
                await self._publish(report)

    def _due(self) -> float | None:
        with self._lock:
            return self._outbox.due()
