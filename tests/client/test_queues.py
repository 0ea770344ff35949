"""The decisions and bounds below the session: framing, acks, ring, outbox, inbox."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import events
from parley._acks import AckPolicy
from parley._framing import Framer
from parley._inbox import Inbox
from parley._outbox import Outbox, Outgoing
from parley._ring import MediaClass, UplinkRing
from parley.v1 import live_pb2 as pb


@given(st.lists(st.integers(0, 5000).map(lambda n: n * 2), max_size=20), st.sampled_from([20, 40]))
def test_frames_are_whole_and_nothing_is_lost_or_added(lengths, frame_ms):
    framer = Framer(rate=16_000, frame_ms=frame_ms)
    data = b"".join(bytes([index % 250]) * length for index, length in enumerate(lengths))
    frames, at = [], 0
    for length in lengths:
        more, framer.rest = framer.cut(data[at : at + length])
        frames += more
        at += length
    assert {len(frame) for frame in frames} <= {framer.frame_bytes}
    assert len(framer.rest) < framer.frame_bytes
    assert b"".join(frames) + framer.rest == data


def test_cutting_alone_changes_nothing():
    framer = Framer(rate=16_000, frame_ms=20)
    framer.rest = b"ab"
    assert framer.cut(bytes(1000)) == framer.cut(bytes(1000))
    assert framer.rest == b"ab"
    with pytest.raises(ValueError, match="whole 16 bit samples"):
        framer.cut(b"abc")


@pytest.mark.parametrize(("rate", "frame_ms"), [(7999, 40), (48_001, 40), (16_000, 30)])
def test_impossible_framing_is_refused(rate, frame_ms):
    with pytest.raises(ValueError, match="must be"):
        Framer(rate=rate, frame_ms=frame_ms)


def test_an_ack_is_due_after_a_tenth_of_a_second_of_audio():
    policy = AckPolicy()
    assert policy.due_at() is None
    policy.consumed(1, 0.04, 10.0)
    policy.consumed(2, 0.04, 10.01)
    assert policy.due_at() == pytest.approx(10.2)
    policy.consumed(3, 0.04, 10.02)
    assert policy.due_at() <= 10.02
    assert policy.take() == 3
    assert policy.due_at() is None


def test_an_ack_is_due_200_ms_after_the_first_unacked_message():
    policy = AckPolicy(after=5)
    policy.consumed(0, 0.0, 1.0)
    policy.consumed(5, 0.0, 1.0)
    assert policy.due_at() is None
    policy.consumed(6, 0.0, 1.0)
    policy.consumed(7, 0.0, 1.15)
    assert policy.due_at() == pytest.approx(1.2)
    assert policy.take() == 7
    policy.consumed(8, 0.0, 2.0)
    assert policy.due_at() == pytest.approx(2.2)


def add(ring, seq, media_class=MediaClass.AUDIO, size=10):
    ring.add(seq, media_class, size, pb.ConverseRequest(seq=seq))


def test_the_ring_forgets_what_is_acked():
    ring = UplinkRing()
    for seq in range(1, 6):
        add(ring, seq)
    assert ring.acked(3)
    assert not ring.acked(2)
    assert [request.seq for request in ring.after(0)] == [4, 5]
    assert [request.seq for request in ring.after(4)] == [5]
    assert (len(ring), ring.size, ring.acked_seq) == (2, 20, 3)


def test_over_its_bound_the_ring_drops_video_then_the_oldest_audio_and_counts():
    ring = UplinkRing(max_items=4, max_bytes=1000)
    add(ring, 1, MediaClass.VITAL)
    add(ring, 2)
    add(ring, 3, MediaClass.VIDEO)
    add(ring, 4)
    add(ring, 5)
    assert [request.seq for request in ring.after(0)] == [1, 2, 4, 5]
    add(ring, 6)
    assert [request.seq for request in ring.after(0)] == [1, 4, 5, 6]
    assert (ring.dropped_items, ring.dropped_bytes) == (2, 20)
    assert not ring.full


def test_what_is_never_shed_makes_the_ring_full_until_it_is_acked():
    ring = UplinkRing(max_items=100, max_bytes=25)
    for seq in (1, 2, 3):
        add(ring, seq, MediaClass.VITAL)
    assert ring.full
    assert ring.dropped_items == 0
    ring.acked(1)
    assert not ring.full


def outgoing(name, media_class=MediaClass.AUDIO, size=10):
    return Outgoing("audio", name, media_class, size)


async def test_waiting_audio_leaves_together_and_order_is_kept():
    outbox = Outbox(lambda: None)
    for name in "abc":
        await outbox.put(outgoing(name))
    await outbox.put(outgoing("text", MediaClass.VITAL))
    await outbox.put(outgoing("d"))
    assert [item.message for item in outbox.take(max_audio_bytes=20)] == ["a", "b"]
    assert [item.message for item in outbox.take(max_audio_bytes=20)] == ["c"]
    assert [item.message for item in outbox.take(max_audio_bytes=20)] == ["text"]
    assert [item.message for item in outbox.take(max_audio_bytes=20)] == ["d"]
    assert outbox.take(max_audio_bytes=20) == []


@pytest.mark.parametrize("bounds", [{"max_items": 2}, {"max_bytes": 20}])
async def test_a_full_outbox_makes_senders_wait_and_a_cancelled_sender_queues_nothing(bounds):
    outbox = Outbox(lambda: None, **bounds)
    await outbox.put(outgoing("a"))
    await outbox.put(outgoing("b"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await outbox.put(outgoing("cancelled"))
    waiting = asyncio.create_task(outbox.put(outgoing("c")))
    await asyncio.sleep(0)
    assert [item.message for item in outbox.take(max_audio_bytes=10)] == ["a"]
    await waiting
    assert len(outbox) == 2


async def test_closing_an_outbox_wakes_senders_with_the_error():
    outbox = Outbox(lambda: None, max_items=1)
    await outbox.put(outgoing("a"))
    waiting = asyncio.create_task(outbox.put(outgoing("b")))
    await asyncio.sleep(0)
    outbox.close(lambda: KeyError("first"), discard=True)
    outbox.close(lambda: KeyError("second"), discard=True)
    with pytest.raises(KeyError, match="first"):
        await waiting
    with pytest.raises(KeyError, match="first"):
        await outbox.put(outgoing("c"))
    assert len(outbox) == 0
    assert (outbox.discarded_items, outbox.discarded_bytes) == (1, 10)


async def test_a_full_inbox_makes_the_reader_wait_until_something_is_taken_or_voided():
    inbox = Inbox(max_items=10, max_bytes=100)
    await inbox.room()
    inbox.put(events.Audio(1, bytes(60), 24_000))
    await inbox.room()
    inbox.put(events.Audio(2, bytes(60), 24_000))
    waiting = asyncio.create_task(inbox.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    inbox.void(2, 9)
    await waiting
    inbox.put(events.Text(3, "x"))
    assert (inbox.voided_items, inbox.voided_bytes) == (1, 60)
    assert [(await inbox.get()).seq, (await inbox.get()).seq] == [1, 3]
    inbox.close()
    assert await inbox.get() is None
