"""When a link is left that still works."""

from __future__ import annotations

import asyncio
import time

from services.session_worker.input_queue import AudioBatch
from services.session_worker.journal import Journal
from services.session_worker.link import Dialer
from services.session_worker.settings import WorkerSettings
from services.session_worker.turns import TurnState
from tests.session_worker.conftest import FakeDialer, FakeLink, link_in_use
from tests.support.eventually import eventually


async def test_it_is_used_until_it_is_its_turn_to_be_replaced() -> None:
    """A service that lets many links go at once does not make their callers wait for each other."""
    dialer, link, tasks = FakeDialer(), FakeLink(), list[asyncio.Task[None]]()
    in_use = link_in_use(link, dialer, tasks)
    turns, journal = TurnState(), Journal(16_000)
    in_use.go_away(50.0, 100.0)
    dialer.slots = False
    in_use.tick(100.05, turns, journal)
    assert in_use.leaving is None
    # Somebody speaks, so the moment has passed, and another comes.
    turns.asked(100.1, typed=True)
    dialer.slots = True
    in_use.tick(100.1, turns, journal)
    assert in_use.leaving is None
    in_use.tick(141.0, turns, journal)
    assert in_use.leaving == "GO_AWAY"
    await eventually(lambda: link.closed)
    await asyncio.gather(*tasks)


async def test_one_that_hangs_is_left_at_once() -> None:
    """Nobody hears the caller on it: like a link that is lost it waits for no turn."""
    dialer, link, tasks = FakeDialer(), FakeLink(), list[asyncio.Task[None]]()
    in_use = link_in_use(link, dialer, tasks)
    await asyncio.gather(*tasks)  # its pongs are prompt
    turns, journal, now = TurnState(), Journal(16_000), time.monotonic()
    turns.asked(now, typed=True)
    dialer.slots = False
    for tick in range(100):  # of a twentieth of a second each, in which nothing else runs, so no pong comes
        in_use.tick(now + tick / 20, turns, journal)
    assert in_use.leaving == "LINK_SILENT"
    await asyncio.gather(*tasks)
    assert link.aborted and link.closed


async def test_links_are_replaced_at_a_rate() -> None:
    dialer = Dialer(WorkerSettings(gemini_api_key="k", rotations_per_second=4))  # type: ignore[arg-type]
    try:
        assert [dialer.take_slot(now) for now in (100.0, 100.1, 100.24, 100.25, 100.3, 100.5)] == [
            *(True, False, False, True, False, True)
        ]
    finally:
        await dialer.close()


async def test_what_was_sent_before_a_ping_has_been_read_once_its_pong_is_here() -> None:
    """Not because time has passed: a service that hangs, or has much to do, reads late or never."""
    dialer, link, tasks = FakeDialer(), FakeLink(), list[asyncio.Task[None]]()
    pongs = asyncio.Semaphore(0)

    async def ping() -> None:
        link.pings += 1
        await pongs.acquire()

    link.ping = ping  # type: ignore[method-assign]
    in_use = link_in_use(link, dialer, tasks, asks_what_is_read=True)
    turns, journal, began = TurnState(), Journal(16_000), in_use.read_until
    pongs.release()
    await asyncio.gather(*tasks)
    in_use.tick(time.monotonic() + 1.0, turns, journal)
    assert len(tasks) == 1  # nothing was sent that it could have read
    sent = time.monotonic()
    assert in_use.read_until <= sent
    journal.sent(AudioBatch(bytes(1280), 1, 1), sent, 0)
    for tick in range(20):  # one ping at a time, however late its pong is
        in_use.tick(sent + 1.0 + tick / 20, turns, journal)
    await eventually(lambda: link.pings == 2)
    assert len(tasks) == 2 and began <= in_use.read_until < sent
    pongs.release()
    await asyncio.gather(*tasks)
    assert in_use.read_until > sent
    in_use.tick(time.monotonic() + 1.0, turns, journal)
    assert len(tasks) == 2


async def test_where_handles_say_how_far_they_reach_nobody_asks_what_was_read() -> None:
    dialer, link, tasks = FakeDialer(), FakeLink(), list[asyncio.Task[None]]()
    in_use = link_in_use(link, dialer, tasks)
    await asyncio.gather(*tasks)
    journal, now = Journal(16_000), time.monotonic()
    journal.sent(AudioBatch(bytes(1280), 1, 1), now, 0)
    in_use.tick(now + 1.0, TurnState(), journal)
    assert len(tasks) == 1
