"""What happened to sessions: what waits to be stored, what is stored, and how it is read. With a real nats-server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from nats.js import JetStreamContext

from parley.v1 import fabric_pb2, live_pb2, timeline_pb2
from parley.v1 import timeline_pb2 as kinds
from services.fabric import ids, subjects
from services.fabric.bus import Bus
from services.fabric.settings import ServiceSettings
from services.fabric.timeline import Timeline, ensure_timeline
from services.fabric.timeline_outbox import LIFE, TALK, TimelineOutbox
from services.fabric.timeline_reader import Read, Stored, in_order, read_timeline, sessions_of_trace
from services.fabric.topology import MOST_TIMELINE_MESSAGES
from tests.support.eventually import eventually
from tests.support.nats import NatsServer, nats_server

TRACE, OTHER_TRACE = "0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736"
Event = timeline_pb2.TimelineEvent


def event(kind: str = "ROTATED", **fields: Any) -> Event:
    return Event(type=kinds.TimelineEventType.Value(f"TIMELINE_EVENT_TYPE_{kind}"), **fields)


def gap(first: int, last: int, reason: str = "OVERLOAD", **fields: Any) -> Event:
    loss = live_pb2.Gap(direction=live_pb2.DIRECTION_DOWNLINK, from_seq=first, to_seq=last, reason=reason)
    return event("GAP", gap=loss, cause=reason, **fields)


class TestOutbox:
    def test_what_waits_stays_until_it_is_stored_and_keeps_its_order(self) -> None:
        outbox = TimelineOutbox()
        outbox.add("ses_a", "acme", event(cause="1"), 1.0)
        outbox.add("ses_a", "acme", event(cause="2"), 2.0)
        (batch,) = outbox.batches(10)
        outbox.add("ses_a", "acme", event(cause="3"), 3.0)
        assert [noted.event.cause for noted in batch.notes] == ["1", "2"]
        assert [noted.event.cause for noted in outbox.batches(10)[0].notes] == ["1", "2", "3"]
        outbox.stored(batch)
        (rest,) = outbox.batches(10)
        assert [noted.event.cause for noted in rest.notes] == ["3"]
        outbox.stored(rest)
        outbox.stored(rest)
        assert (len(outbox), outbox.batches(10)) == (0, [])

    def test_talk_has_a_subject_of_its_own(self) -> None:
        outbox = TimelineOutbox()
        for kind in ("OPENED", "TURN", "TOOL_CALL", "GAP", "TOOL_TROUBLE"):
            outbox.add("ses_a", "acme", event(kind), 0.0)
        found = {batch.kind: [noted.event.type for noted in batch.notes] for batch in outbox.batches(10)}
        assert found == {
            LIFE: [kinds.TIMELINE_EVENT_TYPE_OPENED, kinds.TIMELINE_EVENT_TYPE_TOOL_TROUBLE],
            TALK: [
                kinds.TIMELINE_EVENT_TYPE_TURN,
                kinds.TIMELINE_EVENT_TYPE_TOOL_CALL,
                kinds.TIMELINE_EVENT_TYPE_GAP,
            ],
        }

    def test_every_session_has_its_turn(self) -> None:
        outbox = TimelineOutbox()
        for session in ("ses_a", "ses_b"):
            for number in range(70):
                outbox.add(session, "acme", event(cause=str(number)), 0.0)
        turns = []
        while batches := outbox.batches(1):
            turns.append((batches[0].session, len(batches[0].notes)))
            outbox.stored(batches[0])
        assert turns == [("ses_a", 64), ("ses_b", 64), ("ses_a", 6), ("ses_b", 6)]

    def test_more_of_the_same_loss_is_one_event(self) -> None:
        outbox = TimelineOutbox()
        for one in (gap(5, 6), gap(7, 9), gap(3, 3), gap(10, 10, "LOST"), gap(11, 12)):
            outbox.add("ses_a", "acme", one, 0.0)
        found = [
            (noted.event.gap.from_seq, noted.event.gap.to_seq, noted.event.count)
            for noted in outbox.batches(1)[0].notes
        ]
        assert found == [(3, 9, 3), (10, 10, 0), (11, 12, 0)]

    def test_what_is_on_its_way_does_not_change(self) -> None:
        outbox = TimelineOutbox()
        outbox.add("ses_a", "acme", gap(5, 6), 0.0)
        (batch,) = outbox.batches(1)
        outbox.add("ses_a", "acme", gap(7, 7), 0.0)
        assert batch.notes[0].event.gap.to_seq == 6
        outbox.stored(batch)
        assert [noted.event.gap.from_seq for noted in outbox.batches(1)[0].notes] == [7]

    def test_over_the_bound_of_a_session_the_oldest_are_counted_in_their_place(self) -> None:
        outbox = TimelineOutbox(most_of_one=3)
        for number in range(1, 7):
            outbox.add("ses_a", "acme", event(cause=str(number), trace_id=TRACE if number == 1 else ""), float(number))
        notes = outbox.batches(1)[0].notes
        assert [(noted.event.cause, noted.event.count, noted.at) for noted in notes] == [
            ("", 4, 1.0),
            ("5", 0, 5.0),
            ("6", 0, 6.0),
        ]
        assert notes[0].event.type == kinds.TIMELINE_EVENT_TYPE_EVENTS_DROPPED
        assert outbox.batches(1)[0].traces == {TRACE}
        assert (outbox.dropped, len(outbox)) == (4, 3)

    def test_over_the_bound_of_the_process_nothing_more_is_kept(self) -> None:
        outbox = TimelineOutbox(most=2)
        for session in ("ses_a", "ses_b", "ses_c"):
            outbox.add(session, "acme", event(), 0.0)
        assert [batch.session for batch in outbox.batches(10)] == ["ses_a", "ses_b"]
        assert (outbox.dropped, len(outbox)) == (1, 2)

    def test_a_message_has_a_bound(self) -> None:
        outbox = TimelineOutbox()
        outbox.add("ses_a", "acme", event(message="x" * 10_000), 0.0)
        assert len(outbox.batches(1)[0].notes[0].event.message) == 300

    def test_traces_are_remembered_up_to_a_bound(self) -> None:
        outbox = TimelineOutbox()
        for number in range(5_001):
            outbox.trace_stored(str(number), "ses_a")
        assert not outbox.is_known("0", "ses_a")
        assert outbox.is_known("5000", "ses_a")


NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def stored(writer: str, published: float, at: float, *notes: tuple[int, float, str]) -> Stored:
    """A record: published at `published` by the writer's clock, which JetStream took for NOON + `at`."""
    record = fabric_pb2.TimelineRecord(schema_version=1, tenant="acme", writer=writer)
    record.published.FromTimedelta(timedelta(seconds=published))
    for number, happened, cause in notes:
        note = record.notes.add(event=event(cause=cause), number=number)
        note.at.FromTimedelta(timedelta(seconds=happened))
    return Stored(record, NOON + timedelta(seconds=at), 1)


def told(records: list[Stored]) -> list[tuple[str, float]]:
    return [(one.cause, round((one.time.ToDatetime(UTC) - NOON).total_seconds(), 3)) for one in in_order(records)]


class TestInOrder:
    def test_clocks_of_processes_are_not_compared(self) -> None:
        records = [
            stored("wk", 5_000.0, 10.0, (1, 4_999.0, "first"), (2, 4_999.9, "third")),
            stored("gw", 7.0, 11.0, (1, 5.5, "second")),
        ]
        assert told(records) == [("first", 9.0), ("second", 9.5), ("third", 9.9)]

    def test_what_waited_long_for_the_bus_has_its_place(self) -> None:
        records = [
            stored("wk", 100.0, 10.0, (1, 99.0, "before the outage")),
            stored("wk", 130.0, 45.0, (2, 101.0, "at its beginning")),  # 5 s more on its way
            stored("gw", 50.0, 30.0, (1, 40.0, "meanwhile")),
        ]
        assert told(records) == [("before the outage", 9.0), ("at its beginning", 11.0), ("meanwhile", 20.0)]

    def test_what_was_published_twice_is_there_once(self) -> None:
        twice = [stored("wk", 100.0, 10.0, (1, 99.0, "a")), stored("wk", 103.0, 13.0, (1, 99.0, "a"), (2, 102.0, "b"))]
        assert told(twice) == [("a", 9.0), ("b", 12.0)]

    def test_what_one_process_saw_at_the_same_time_stays_in_its_order(self) -> None:
        assert [cause for cause, _ in told([stored("wk", 1.0, 1.0, (9, 1.0, "a"), (10, 1.0, "b"))])] == ["a", "b"]


class Writing:
    """A process with a timeline."""

    def __init__(self, url: str, kind: str = "worker") -> None:
        self.bus = Bus(ServiceSettings(nats_url=url), kind, ids.instance_id("wk"))
        self.timeline = Timeline(self.bus, ids.instance_id("wk"))

    async def __aenter__(self) -> Writing:
        self.bus.start()
        self.timeline.start(1, timedelta(hours=1))
        await eventually(self.bus.connected.is_set)
        await ensure_timeline(self.bus.js, 1, timedelta(hours=1))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.timeline.stop()
        await self.bus.close()

    async def all_stored(self) -> None:
        await eventually(lambda: not self.timeline.counts["timeline_waiting"], 15)


@pytest.fixture
async def writing(nats: NatsServer) -> AsyncIterator[Writing]:
    async with Writing(nats.url) as one:
        yield one


async def read(js: JetStreamContext, session: str, after: int = 0) -> Read:
    found = await read_timeline(js, session, after)
    assert found is not None
    return found


async def test_what_is_noted_can_be_read_by_session_and_by_trace(writing: Writing, js: JetStreamContext) -> None:
    session, other = ids.session_id(), ids.session_id()
    writing.timeline.note(session, "acme", event("OPENED", trace_id=TRACE))
    writing.timeline.note(session, "acme", event("TURN", turn=1))
    writing.timeline.note(session, "acme", event("ROTATED", cause="GO_AWAY", trace_id=OTHER_TRACE))
    writing.timeline.note(other, "umbrella", event("OPENED", trace_id=TRACE))
    await writing.all_stored()
    found = await read(js, session)
    assert (found.tenant, [one.type for one in found.events]) == (
        "acme",
        [kinds.TIMELINE_EVENT_TYPE_OPENED, kinds.TIMELINE_EVENT_TYPE_TURN, kinds.TIMELINE_EVENT_TYPE_ROTATED],
    )
    assert await sessions_of_trace(js, TRACE, "acme") == [session]
    assert await sessions_of_trace(js, OTHER_TRACE, "acme") == [session]
    assert await sessions_of_trace(js, TRACE, "umbrella") == [other]
    assert await sessions_of_trace(js, TRACE, "nobody") == []
    writing.timeline.note(session, "acme", event("ENDED"))
    await writing.all_stored()
    later = await read(js, session, found.last)
    assert [one.type for one in later.events] == [kinds.TIMELINE_EVENT_TYPE_ENDED]
    assert await read_timeline(js, session, later.last) is None
    assert await read_timeline(js, ids.session_id()) is None


async def test_two_processes_may_tell_of_the_same_trace(nats: NatsServer, js: JetStreamContext) -> None:
    session, trace = ids.session_id(), OTHER_TRACE[::-1]
    async with Writing(nats.url) as one, Writing(nats.url, "gateway") as two:
        one.timeline.note(session, "acme", event("OPENED", trace_id=trace))
        await one.all_stored()
        two.timeline.note(session, "acme", event("ATTACHED", trace_id=trace))
        await two.all_stored()
    assert [found.type for found in (await read(js, session)).events] == [
        kinds.TIMELINE_EVENT_TYPE_OPENED,
        kinds.TIMELINE_EVENT_TYPE_ATTACHED,
    ]
    assert await sessions_of_trace(js, trace, "acme") == [session]


async def test_the_server_keeps_so_many_of_a_session_and_how_it_began(writing: Writing, js: JetStreamContext) -> None:
    session = ids.session_id()
    info = await js.stream_info(subjects.TIMELINE_STREAM)
    assert info.config.max_msgs_per_subject == MOST_TIMELINE_MESSAGES
    assert info.config.max_age == 3600
    assert info.config.max_bytes
    writing.timeline.note(session, "acme", event("OPENED"))
    await writing.all_stored()
    record = fabric_pb2.TimelineRecord(schema_version=1, tenant="acme", writer="wk-other")
    for number in range(1, MOST_TIMELINE_MESSAGES + 11):
        del record.notes[:]
        record.notes.add(event=event("TURN", turn=number), number=number)
        await js.publish(subjects.timeline(session, TALK), record.SerializeToString())
    events = (await read(js, session)).events
    assert len(events) == MOST_TIMELINE_MESSAGES + 1
    assert kinds.TIMELINE_EVENT_TYPE_OPENED in {one.type for one in events}
    assert {one.turn for one in events} == {0, *range(11, MOST_TIMELINE_MESSAGES + 11)}


async def test_what_happens_while_nats_is_away_is_stored_when_it_is_back() -> None:
    session = ids.session_id()
    async with nats_server() as server, Writing(server.url) as one:
        lost: list[float] = []
        one.bus.on_outage = lost.append
        one.timeline.note(session, "acme", event("OPENED"))
        await one.all_stored()
        server.kill()
        await eventually(lambda: not one.bus.connected.is_set())
        one.timeline.note(session, "acme", event("LINK_LOST"))
        server.start()
        await eventually(one.bus.connected.is_set, 10)
        one.timeline.note(session, "acme", event("ROTATED"))
        await one.all_stored()
        assert len(lost) == 1
        assert [found.type for found in (await read(one.bus.js, session)).events] == [
            kinds.TIMELINE_EVENT_TYPE_OPENED,
            kinds.TIMELINE_EVENT_TYPE_LINK_LOST,
            kinds.TIMELINE_EVENT_TYPE_ROTATED,
        ]


async def test_a_process_that_ends_stores_what_waits(nats: NatsServer, js: JetStreamContext) -> None:
    session = ids.session_id()
    async with Writing(nats.url) as one:
        for number in range(100):
            one.timeline.note(session, "acme", event("LINK_REFUSED", tries=number))
    assert [found.tries for found in (await read(js, session)).events] == list(range(100))


async def test_a_process_that_ends_stores_what_waits_of_many_sessions(nats: NatsServer, js: JetStreamContext) -> None:
    sessions = [ids.session_id() for _ in range(500)]
    async with Writing(nats.url) as one:
        for session in sessions:
            one.timeline.note(session, "acme", event("DETACHED", cause="GATEWAY_DRAINING"))
    assert one.timeline.counts == {"timeline_waiting": 0, "timeline_dropped": 0}
    assert await read(js, sessions[-1])


async def test_a_process_whose_nats_is_gone_ends_all_the_same() -> None:
    async with nats_server() as server:
        one = Writing(server.url)
        await one.__aenter__()
        server.kill()
        await eventually(lambda: not one.bus.connected.is_set())
        one.timeline.note(ids.session_id(), "acme", event())
        async with asyncio.timeout(10):
            await one.__aexit__()


async def test_reading_leaves_nothing_behind(writing: Writing, js: JetStreamContext) -> None:
    session = ids.session_id()
    writing.timeline.note(session, "acme", event(trace_id=TRACE[::-1]))
    await writing.all_stored()
    await read(js, session)
    await sessions_of_trace(js, TRACE[::-1], "acme")
    assert (await js.stream_info(subjects.TIMELINE_STREAM)).state.consumer_count == 0


async def test_no_stream_is_no_timeline() -> None:
    async with nats_server() as server:
        bus = Bus(ServiceSettings(nats_url=server.url), "gateway", "gw-1")
        bus.start()
        async with contextlib.AsyncExitStack() as exits:
            exits.push_async_callback(bus.close)
            await eventually(bus.connected.is_set)
            assert await read_timeline(bus.js, ids.session_id()) is None
            assert await sessions_of_trace(bus.js, TRACE, "acme") == []
