"""Whether a session has a link: not while the process may not speak for it (lapsed), nor while nobody listens (parked).

Lapsed, it is mute towards the caller as well, and goes on only when `own` has been read again and is still ours.
Without a link everything else is kept: the handle, what the model has not answered, what tools bring. So a parked
session that is attached again, and a lapsed one that is still ours, go on as after any other link that was lost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from services.fabric.errors import ServiceError
from services.session_worker.downlink import Downlink
from services.session_worker.link_keeper import LinkKeeper
from services.session_worker.ownership import Ownership

log = structlog.get_logger()

_BUSY_TIMES: Final = 2
"""A turn in progress may take as long again before it is cut off; it is begun anew when the caller is back."""


def parks(detached_for: float, park_after: float, *, busy: bool) -> bool:
    """Whether a session that nobody has been attached to for so long lets go of its link."""
    return detached_for >= park_after * (_BUSY_TIMES if busy else 1)


class Standby:
    """One session's link, as long as it has one."""

    def __init__(
        self,
        links: LinkKeeper,
        ownership: Ownership,
        downlink: Downlink,
        *,
        park_after: float,
        keep: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]],
        wake: Callable[[], None],
    ) -> None:
        """`park_after`: seconds. `keep`: run this, and end the session with what it raises. `wake`: the caller can be
        told what waits."""
        self._links = links
        self._ownership = ownership
        self._downlink = downlink
        self._park_after = park_after
        self._keep = keep
        self._wake = wake
        self._running: asyncio.Task[None] | None = None
        """Reads the link, or brings the next one."""
        self._before: asyncio.Task[None] | None = None
        """What has to be over before there is another link."""
        self._lapsed_since: float | None = None
        self._parked = False

    @property
    def lapsed(self) -> bool:
        """The session may be somebody else's: nothing of it may have an effect."""
        return self._lapsed_since is not None

    @property
    def parked(self) -> bool:
        """There is no link because nobody listens."""
        return self._parked

    def start(self, links: Coroutine[Any, Any, None]) -> None:
        """Run this, which has the first link or brings it."""
        self._running = self._before = self._keep(links, "links")

    def lapse(self, since: float) -> None:
        """The process has been out of touch since then (monotonic seconds): be silent from here on."""
        if self.lapsed:
            return
        self._lapsed_since = since
        self._downlink.muted = True
        if not self._parked:
            self._drop("OWNERSHIP_LAPSED", abort=True)

    async def verify(self) -> float:
        """Read `own` again, and go on if it is ours; returns the seconds in which the session stood still. FencedError
        when it is not. To be cancelled when the process is out of touch again, which bounds the tries."""
        patiently = AsyncRetrying(
            retry=retry_if_exception_type(ServiceError), wait=wait_random_exponential(multiplier=0.1, max=1)
        )
        await patiently(self._ownership.confirm)
        if self._lapsed_since is None:
            return 0.0
        since, self._lapsed_since = self._lapsed_since, None
        self._downlink.muted = False
        self._wake()
        if not self._parked:
            self._reopen(since, cut_off=True)
        return time.monotonic() - since

    def tick(self, now: float, *, detached_since: float | None, busy: bool) -> None:
        """Park the session or have its link back, as its caller is gone or back. Not while it is lapsed."""
        if self._parked:
            if detached_since is None:
                self._parked = False
                self._reopen(now, cut_off=False)
        elif detached_since is not None and parks(now - detached_since, self._park_after, busy=busy):
            self._parked = True
            self._drop("PARKED", abort=False)

    def _drop(self, cause: str, *, abort: bool) -> None:
        if self._running is not None:
            self._running.cancel()
        self._links.drop(cause, abort=abort)
        self._running, self._before = None, self._keep(self._close(self._before), "close the link")

    async def _close(self, before: asyncio.Task[None] | None) -> None:
        await _over(before)
        await self._links.close()

    def _reopen(self, since: float, *, cut_off: bool) -> None:
        self._running = self._before = self._keep(self._bring(self._before, since, cut_off=cut_off), "links")

    async def _bring(self, before: asyncio.Task[None] | None, since: float, *, cut_off: bool) -> None:
        await _over(before)  # a handle is refused while the last link is open
        await self._links.reopen(since, cut_off=cut_off)
        await self._links.run()


async def _over(task: asyncio.Task[None] | None) -> None:
    """What it raises was told to whoever keeps it."""
    if task is not None:
        await asyncio.wait({task})
