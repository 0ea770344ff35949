"""How long a frame takes to the model's endpoint, as pings tell it."""

from __future__ import annotations

import asyncio
import time

from services.session_worker.round_trips import RoundTrips
from tests.session_worker.conftest import FakeDialer, FakeLink, link_in_use
from tests.support.eventually import eventually


def test_a_ping_that_was_held_up_tells_nothing() -> None:
    trips = RoundTrips()
    assert trips.usual == 0.0
    trips.add(0.9)
    assert trips.usual == 0.5
    trips.add(0.03)
    trips.add(0.4)
    assert trips.usual == 0.03


def test_a_way_that_has_become_longer_is_noticed() -> None:
    trips = RoundTrips()
    trips.add(0.03)
    for _ in range(8):
        trips.add(0.2)
    assert trips.usual == 0.2


async def test_a_link_goes_by_the_pings_of_all_links() -> None:
    """Its own only one may have been held up: what was answered would be taken for what is still being said."""
    dialer, link, tasks = FakeDialer(), FakeLink(), list[asyncio.Task[None]]()
    back = asyncio.Event()

    async def ping() -> None:
        await back.wait()

    link.ping = ping  # type: ignore[method-assign]
    in_use = link_in_use(link, dialer, tasks)
    before = time.monotonic()
    await eventually(lambda: time.monotonic() - before > 0.01)
    back.set()
    await asyncio.gather(*tasks)
    assert in_use.round_trip > 0.01
    dialer.round_trips.add(0.001)
    assert in_use.round_trip == 0.001
