"""The tasks of one session: what any of them raises is the session's problem."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from services.fabric.errors import ServiceError
from services.fabric.process import stop_tasks

log = structlog.get_logger()


class Tasks:
    """Runs them, and ends them all together."""

    def __init__(self, session: str, failed: Callable[[BaseException], None]) -> None:
        self._session = session
        self._failed = failed
        self._running: set[asyncio.Task[None]] = set()

    def keep(self, work: Coroutine[Any, Any, None], name: str, *, optional: bool = False) -> asyncio.Task[None]:
        """Run this to its end. `optional`: a ServiceError of it is no reason to end the session."""
        task = asyncio.create_task(work, name=f"session {name}")
        self._running.add(task)

        def done(finished: asyncio.Task[None]) -> None:
            self._running.discard(finished)
            if finished.cancelled() or (error := finished.exception()) is None:
                return
            if optional and isinstance(error, ServiceError):
                log.warning("not done", what=name, session=self._session, error=str(error))
            else:
                self._failed(error)

        task.add_done_callback(done)
        return task

    async def stop(self, besides: asyncio.Task[None] | None = None) -> None:
        """Cancel them, and wait until they are over; all `besides` this one."""
        await stop_tasks(task for task in self._running if task is not besides)
