"""Keeps the sources of a process running: each in a task of its own, started again when it fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Final

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from services.fabric.process import stop_tasks
from services.tools.registry import Offer, Registry
from services.tools.sources.source import Source, SourceError

log = structlog.get_logger()

_HEALTHY: Final = 30.0
"""Seconds after which a source that fails is not one that keeps failing."""
_LONGEST_PAUSE: Final = 30.0
_LEAVE: Final = 4.0
"""Seconds in which a source is left in good manners."""


class SourceKeeper:
    """The sources, the most important first."""

    def __init__(self, sources: Sequence[Source], registry: Registry, *, longest_pause: float = _LONGEST_PAUSE) -> None:
        self._sources = sources
        self._registry = registry
        self._longest_pause = longest_pause
        self._tried = {source.name: asyncio.Event() for source in sources}
        self._stopping = False
        self.restarts = 0
        """How often a source was started again."""
        registry.enlist(source.name for source in sources)

    async def run(self) -> None:
        """Until it is cancelled, or no source is left that has anything to follow."""
        tasks = [asyncio.create_task(self._keep(source), name=f"source {source.name}") for source in self._sources]
        if not tasks:
            return
        try:
            await asyncio.wait(tasks)
        finally:
            # A cancellation that comes while a connection falls apart anyway may get lost inside the MCP SDK; then the
            # source must not be started again.
            self._stopping = True
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_LEAVE)
            await stop_tasks(tasks)

    async def tried(self, timeout: float | None, sources: Iterable[str] | None = None) -> None:
        """Return when these sources (default: all) have made an offer or failed once, or after `timeout` seconds."""
        names = self._tried if sources is None else sources
        waits = [asyncio.create_task(self._tried[name].wait()) for name in names]
        try:
            if waits:
                await asyncio.wait(waits, timeout=timeout)
        finally:
            for wait in waits:
                wait.cancel()

    def has_tried(self, source: str) -> bool:
        """Whether it has made its first offer or failed once."""
        return self._tried[source].is_set()

    async def _keep(self, source: Source) -> None:
        following = True
        while following and not self._stopping:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(SourceError),
                wait=wait_random_exponential(multiplier=0.5, max=self._longest_pause),
                before_sleep=lambda state: self._failed(source, state),
            ):
                with attempt:
                    following = not self._stopping and await self._run(source)

    async def _run(self, source: Source) -> bool:
        """Whether the source is to be started again at once. SourceError when that should wait a little longer each
        time."""
        began = time.monotonic()
        try:
            await source.run(lambda offer: self._offered(source, offer))
        except SourceError as error:
            self._down(source, str(error))
            if time.monotonic() - began < _HEALTHY:
                raise
            self.restarts += 1
        except Exception as error:
            # A fault of ours, or of a library: the other sources go on.
            log.exception("tool source failed", source=source.name)
            self._down(source, f"{type(error).__name__} (see the log)")
            raise SourceError(type(error).__name__) from error
        else:
            self._tried[source.name].set()
            return False
        return True

    def _offered(self, source: Source, offer: Offer) -> None:
        self._registry.offer(source.name, offer)
        self._tried[source.name].set()

    def _down(self, source: Source, reason: str) -> None:
        self._registry.went_down(source.name, reason)
        self._tried[source.name].set()

    def _failed(self, source: Source, state: RetryCallState) -> None:
        self.restarts += 1
        error = state.outcome and state.outcome.exception()
        pause = round(state.next_action.sleep, 1) if state.next_action else 0
        log.warning("tool source is down", source=source.name, error=str(error), again_in_seconds=pause)
