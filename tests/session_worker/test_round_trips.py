"""How long a frame takes to the model's endpoint, as pings tell it."""

from __future__ import annotations

from services.session_worker.round_trips import RoundTrips


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
