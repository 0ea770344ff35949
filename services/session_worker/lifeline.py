"""Whether this process may speak for its sessions: while it is in touch with the records that say whose they are.

A worker that was frozen or cut off cannot know whether its sessions are somebody else's by now. So it holds a lease on
all of them, which each round trip to JetStream renews from the moment at which that was asked. Without one for the ttl
the lease lapses, and so it does when the process has stood still for so long that others may have taken it for dead.
That needs nobody to notice it in time: whoever is about to act (a link that sends or has received, the writer, the
clock of the sessions) asks `Lifeline.holds`, two comparisons, and the first to be told no has every session put down
before it goes on. A process that was stopped and continued is mute from its first turn on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

import nats.errors
import structlog

from services.fabric import subjects
from services.fabric.bus import Bus

log = structlog.get_logger()

DOUBT: Final = 3.0
"""Seconds without a round trip after which the records are read again although the lease held: a worker that is silent
for 5 s may be taken for dead by others."""
FROZEN: Final = 4.0
"""Seconds in which nobody asked, not even the clock of the sessions (20 times a second): the process was stopped, or
hung. The lease lapses then however long the ttl is, because of the same 5 s."""
_EVERY: Final = 1.0
_LIMIT: Final = 2.0
"""Seconds between two round trips, and for one; less where the ttl is short."""


class Lease:
    """The lease of one process. Plain code: times are monotonic seconds."""

    def __init__(self, ttl: float, now: float) -> None:
        self._ttl = ttl
        self._asked = now
        self._until = now + ttl
        self._turned = now
        """When somebody asked last."""
        self.lapsed = False
        """It ended, and no round trip has been made since."""
        self.lapses = 0

    def holds(self, now: float) -> bool:
        """Whether the process may act for its sessions. Once it may not, it has to be `renewed`, whatever the time."""
        if (now > self._until or now - self._turned > FROZEN) and not self.lapsed:
            self.lapsed = True
            self.lapses += 1
        self._turned = now
        return not self.lapsed

    @property
    def proven(self) -> float:
        """When the newest round trip was asked for."""
        return self._asked

    def renewed(self, asked: float, now: float) -> bool:
        """A round trip is complete. True: it took so long to come that the records have to be read again."""
        silence = asked - self._asked
        self._asked = max(self._asked, asked)
        self._until = self._asked + self._ttl
        if not self.lapsed:
            return silence > min(DOUBT, self._ttl)
        self.lapsed = now > self._until  # the answer itself may have waited: a process was stopped before it came
        return not self.lapsed


class Lifeline:
    """Keeps the lease of this process."""

    def __init__(self, bus: Bus, ttl: float) -> None:
        """`ttl`: seconds without a round trip after which the process may not act."""
        self._bus = bus
        self._ttl = ttl
        self._lease = Lease(ttl, time.monotonic())
        self._reconnected = asyncio.Event()
        self.on_lapse: Callable[[float], None] = lambda _since: None
        """Put every session down, at once. It is told when the process was last in touch, in monotonic seconds."""
        self.on_return: Callable[[], None] = lambda: None
        """The records can be read again: begin to do so for every session."""

    @property
    def lapses(self) -> int:
        """How often the lease has lapsed."""
        return self._lease.lapses

    def holds(self) -> bool:
        """Whether the process may act for its sessions. Cheap: to be asked before each act."""
        lapses = self._lease.lapses
        if self._lease.holds(time.monotonic()):
            return True
        if self._lease.lapses != lapses:
            log.warning("out of touch with nats: sessions are put down", ttl=self._ttl)
            self.on_lapse(self._lease.proven)
        return False

    def begin(self) -> None:
        """JetStream has just answered: the lease begins now."""
        self._lease = Lease(self._ttl, time.monotonic())

    async def reconnected(self) -> None:
        """NATS is back after the connection was lost: for `Bus.on_reconnect`."""
        self._reconnected.set()

    async def run(self) -> None:
        """Make round trips for ever."""
        pause = min(_EVERY, self._ttl / 5)
        limit = min(_LIMIT, self._ttl / 2)
        was_away = False
        while True:
            if self._bus.connected.is_set():
                was_away = was_away or self._reconnected.is_set()
                self._reconnected.clear()
                if await self._round_trip(limit, was_away=was_away):
                    was_away = False
            self.holds()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._reconnected.wait()

    async def _round_trip(self, limit: float, *, was_away: bool) -> bool:
        """The leader of the records' stream is asked, not the next server: one that is cut off from it answers, too."""
        asked = time.monotonic()
        try:
            async with asyncio.timeout(limit):
                await self._bus.js.stream_info(subjects.SESSIONS_STREAM)
        except (nats.errors.Error, TimeoutError):
            return False
        self.holds()  # before it is renewed: nobody may have noticed that it had lapsed
        if self._lease.renewed(asked, time.monotonic()) or (was_away and not self._lease.lapsed):
            self.on_return()
        return not self._lease.lapsed
