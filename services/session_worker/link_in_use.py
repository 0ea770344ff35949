"""A link while it is in use: read until it ends, and left before the service ends it or when it hangs.

When to leave it `rotation` decides; this module looks after one link and does that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from services.session_worker import events
from services.session_worker.journal import Journal
from services.session_worker.link import Dialer, Link, LinkClosedError
from services.session_worker.rotation import LINK_SILENT, Probe, Rotate, Rotation, due
from services.session_worker.turns import TurnState

_SPEAKING: Final = 1.0
"""Seconds after a sound in which the caller counts as speaking."""
_ASK_AGAIN: Final = 0.1
"""Seconds between pings that ask how much has been read: so much of what is said may be given twice."""


class LinkInUse:
    """One link from its connection to its end."""

    def __init__(
        self,
        link: Link,
        number: int,
        dialer: Dialer,
        *,
        most_age: float | None,
        told_until: int,
        asks_what_is_read: bool = False,
        keep: Callable[[Coroutine[Any, Any, None], str], object],
    ) -> None:
        """`most_age`: seconds after which it is left untold; None: never. `told_until`: position up to which it was
        told what functions returned, as it began. `asks_what_is_read`: keep `read_until` up to date. `keep`: run this
        to its end."""
        self.link = link
        self.number = number
        """Of the session's links, from 1."""
        self.told_until = told_until
        self.leaving: str | None = None
        """Why it is being left, as callers are told."""
        self._dialer = dialer
        self._keep = keep
        began = time.monotonic()
        self._rotation = Rotation(began, most_age=most_age)
        self.read_until = began
        """The service has read what was sent until then: it has answered a ping that came behind it."""
        self._asks_what_is_read = asks_what_is_read
        self._pinged = began
        self._awaits_pong = False
        self._ping()

    @property
    def round_trip(self) -> float:
        """Seconds to the model's endpoint and back, as far as known."""
        return self._dialer.round_trips.usual

    @property
    def last_sign(self) -> float:
        """When it last gave a sign of life. What the service had issued before that came before it."""
        return self._rotation.last_sign

    async def read(self, take: Callable[[events.Event, float], None]) -> tuple[str, LinkClosedError]:
        """Until it ends; reading never waits for anything but the link. Why it ended."""
        try:
            while True:
                for event in await self.link.receive():
                    now = time.monotonic()
                    self._rotation.heard(now)
                    take(event, now)
        except LinkClosedError as error:
            return self.leaving or "LINK_LOST", error

    def go_away(self, seconds_left: float | None, now: float) -> None:
        """The service will close it."""
        self._rotation.go_away(seconds_left, now)

    def tick(self, now: float, turns: TurnState, journal: Journal) -> None:
        """Leave it when it is time."""
        if self.leaving is not None:
            return
        speaks = self._rotation.leaving and journal.spoke_since(now - _SPEAKING)
        quiet = not (turns.busy or journal.awaits_handle or speaks)
        match self._rotation.tick(now, quiet=quiet, due=due(turns, now), spoke_since=journal.spoke_since):
            case Rotate(cause=cause):
                # From then on the caller's input waits. Until it is this link's turn, the link is used, if it is of
                # any use. By then the moment may not be quiet any more.
                if cause != LINK_SILENT and not self._dialer.take_slot(now):
                    return
                self.leaving = cause
                self._keep(self._leave(), "leave the link")
            case Probe():
                self._ping()
            case None:
                if self._asks_what_is_read and self._may_ask(now) and journal.was_sent_since(self.read_until):
                    self._ping()

    async def _leave(self) -> None:
        """Close, so that whoever reads it finds its end."""
        if self.leaving == LINK_SILENT:
            self.link.abort()  # a link that says nothing would not answer the close either
        await self.link.close()

    def _may_ask(self, now: float) -> bool:
        """One ping at a time: pongs may come late, and the newest one says it all."""
        return not self._awaits_pong and now - self._pinged >= _ASK_AGAIN

    def _ping(self) -> None:
        sent = self._pinged = time.monotonic()
        self._awaits_pong = True
        self._rotation.pinged(sent)

        async def ping() -> None:
            try:
                await self.link.ping()
            except LinkClosedError:
                return
            now = time.monotonic()
            self.read_until, self._awaits_pong = sent, False
            self._rotation.pong(now)
            self._dialer.round_trips.add(now - sent)

        self._keep(ping(), "ping")
