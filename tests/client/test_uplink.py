"""What is sent again after a resume, with which numbers, and what is not: decisions without network."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import events
from parley._downlink import Downlink
from parley._outbox import Outbox, Outgoing
from parley._ring import MediaClass, UplinkRing
from parley._uplink import HORIZON, Uplink
from parley.v1 import live_pb2 as pb

RATE = 16_000
FRAME = bytes(1280)
"""40 ms."""


async def put(uplink, *payloads, at=0.0):
    """`a`: a frame of audio, `v`: a picture, anything else: that text."""
    for payload in payloads:
        if payload == "a":
            outgoing = Outgoing("audio", FRAME, MediaClass.AUDIO, len(FRAME), at)
        elif payload == "v":
            image = pb.VideoInput(image=pb.Blob(data=b"picture"))
            outgoing = Outgoing("video", image, MediaClass.VIDEO, 7, at)
        else:
            outgoing = Outgoing("text", pb.TextInput(text=payload), MediaClass.VITAL, len(payload), at)
        await uplink.outbox.put(outgoing)


def left(uplink):
    """What leaves now: number and content."""
    requests = []
    while (request := uplink.next_request()) is not None:
        kind = request.WhichOneof("payload")
        requests.append((request.seq, request.text.text if kind == "text" else kind))
    return requests


def uplink():
    return Uplink(rate=RATE, on_ready=lambda: None)


async def test_what_the_service_does_not_have_is_sent_again_with_the_same_numbers_before_anything_new():
    up = uplink()
    await put(up, "one", "two", "a", "three")
    assert left(up) == [(1, "one"), (2, "two"), (3, "audio"), (4, "three")]
    await put(up, "four")
    replay = up.attach(3, 1.0)
    assert (replay.replayed, replay.dropped) == (((3, 4),), ())
    assert left(up) == [(3, "audio"), (4, "three"), (5, "four")]
    assert up.idle


async def test_what_the_service_has_is_not_sent_again_but_kept_until_it_is_acked():
    up = uplink()
    await put(up, "one", "two")
    left(up)
    assert up.attach(3, 1.0).replayed == ()
    assert left(up) == []
    # Its worker died, and the next one knows only what was acked.
    assert up.attach(1, 2.0).replayed == ((1, 2),)
    up.ring.acked(1)
    assert left(up) == [(1, "one"), (2, "two")]
    assert up.attach(2, 3.0).replayed == ((2, 2),)


async def test_a_stream_that_is_lost_halfway_through_a_replay_changes_nothing():
    up = uplink()
    await put(up, "one", "two", "three")
    left(up)
    up.attach(1, 1.0)
    assert up.next_request().seq == 1
    up.attach(2, 2.0)
    assert left(up) == [(2, "two"), (3, "three")]


async def test_sound_and_pictures_that_are_too_old_are_dropped_and_told_and_text_is_not():
    up = uplink()
    await put(up, "a", "v", "old text", at=0.0)
    left(up)
    await put(up, "a", "old too", at=0.5)
    await put(up, "a", "new", at=2.0)
    replay = up.attach(1, HORIZON + 1.0)
    assert replay.dropped == (
        events.Undelivered("AUDIO", "TOO_OLD", 2, timedelta(seconds=0.08), 1, 1),
        events.Undelivered("VIDEO", "TOO_OLD", 1, timedelta(0), 2, 2),
    )
    assert (up.lost_messages, up.lost_bytes) == (3, 2 * 1280 + 7)
    assert left(up) == [(1, "old text"), (2, "old too"), (3, "audio"), (4, "new")]
    assert up.attach(1, HORIZON + 1.0).dropped == ()


async def test_what_the_ring_has_forgotten_is_told_and_its_numbers_are_used_again():
    up = uplink()
    up.ring = UplinkRing(max_items=4)
    await put(up, "one", "a", "two", "v", "three", "four")
    assert [seq for seq, _ in left(up)] == [1, 2, 3, 4, 5, 6]
    replay = up.attach(1, 1.0)
    assert replay.dropped == (
        events.Undelivered("AUDIO", "FORGOTTEN", 1, timedelta(seconds=0.04), 2, 2),
        events.Undelivered("VIDEO", "FORGOTTEN", 1, timedelta(0), 4, 4),
    )
    assert replay.replayed == ((1, 4),)
    assert left(up) == [(1, "one"), (2, "two"), (3, "three"), (4, "four")]
    await put(up, "five")
    assert left(up) == [(5, "five")]


async def test_forgotten_messages_that_the_service_has_are_no_loss():
    up = uplink()
    up.ring = UplinkRing(max_items=2)
    await put(up, "a", "one", "two")
    left(up)
    assert up.attach(2, 1.0).dropped == ()
    assert up.attach(1, 2.0).dropped[0].messages == 1  # and now it does not have it any more


async def test_a_service_that_asks_for_what_it_acked_gets_the_rest_in_order():
    up = uplink()
    await put(up, "one", "two", "three")
    left(up)
    up.ring.acked(2)
    replay = up.attach(1, 1.0)
    assert replay.dropped == ()
    assert left(up) == [(1, "three")]
    assert up.ring.acked_seq == 0
    assert up.ring.acked(1)


async def test_a_session_that_was_used_elsewhere_is_numbered_on_from_there():
    up = uplink()
    assert up.attach(42, 1.0).replayed == ()
    await put(up, "here")
    assert left(up) == [(42, "here")]


async def test_while_there_is_no_stream_a_microphone_may_go_on():
    outbox = Outbox(lambda: None, max_items=1, offline_items=3)
    frame = Outgoing("audio", FRAME, MediaClass.AUDIO, len(FRAME))
    await outbox.put(frame)
    outbox.set_offline(offline=True)
    await outbox.put(frame)
    await outbox.put(frame)
    outbox.set_offline(offline=False)
    assert len(outbox) == 3
    default = Outbox(lambda: None)
    default.set_offline(offline=True)
    for _ in range(int(HORIZON / 0.02)):
        await default.put(Outgoing("audio", bytes(640), MediaClass.AUDIO, 640))
    assert len(default) == HORIZON / 0.02


async def test_what_is_not_acked_is_said_in_words():
    up = uplink()
    assert up.undelivered() == ""
    await put(up, "one", "a", "a")
    left(up)
    await put(up, "two", "a", "v")
    assert up.undelivered() == "2 text, 1 video, 0.1 s of audio"
    up.ring.acked(2)
    assert up.undelivered() == "1 text, 1 video, 0.0 s of audio"


async def test_of_what_was_forgotten_long_ago_only_the_number_is_known():
    ring = UplinkRing(max_items=1)
    total = UplinkRing.REMEMBERED + 11
    for seq in range(1, total + 1):
        ring.add(seq, MediaClass.AUDIO, 1, pb.ConverseRequest(seq=seq))
    losses = ring.rebase(1, total + 1, 0.0)
    assert [loss.media_class for loss in losses].count(None) == 10
    assert [loss.seq for loss in losses] == list(range(1, total))


@given(
    st.lists(st.tuples(st.sampled_from("avt"), st.floats(0, 60)), max_size=40),
    st.integers(0, 40),
    st.integers(0, 45),
    st.integers(1, 8),
)
def test_nothing_is_lost_without_a_word_and_no_number_is_left_out(messages, acked, service_next, room):
    ring = UplinkRing(max_items=room)
    names = {"a": MediaClass.AUDIO, "v": MediaClass.VIDEO, "t": MediaClass.VITAL}
    total = len(messages)
    for seq, (kind, at) in enumerate(sorted(messages, key=lambda message: message[1]), start=1):
        ring.add(seq, names[kind], 10, pb.ConverseRequest(seq=seq, text=pb.TextInput(text=str(seq))), at)
    ring.acked(min(acked, total))
    first = max(1, min(service_next, total + 1))
    losses = ring.rebase(first, total + 1, 30.0)
    again = ring.after(first - 1)
    assert [request.seq for request in again] == list(range(first, first + len(again)))
    told = {loss.seq for loss in losses}
    sent = [int(request.text.text) for request in again]
    assert sent == sorted(sent)
    assert told.isdisjoint(sent)
    assert told | set(sent) == set(range(max(first, min(acked, total) + 1), total + 1))
    assert all(loss.media_class in {MediaClass.AUDIO, MediaClass.VIDEO} for loss in losses)
    assert ring.size == 10 * len(ring)


# -- the other direction ---------------------------------------------------------------------------------------------


async def test_what_comes_again_on_another_stream_is_dropped_and_the_rest_follows():
    down = Downlink(after=0)
    for seq in (1, 2, 3):
        down.take(events.Text(seq, str(seq)))
    down.attach()
    for seq in (2, 3, 4):
        down.take(events.Text(seq, str(seq)))
    assert [(await down.inbox.get()).seq for _ in range(4)] == [1, 2, 3, 4]
    assert (down.received, down.repeated, len(down.inbox)) == (4, 2, 0)
    assert down.audit.result().whole


@pytest.mark.parametrize("seq", [1, 2])
async def test_what_comes_twice_on_one_stream_is_dropped_and_the_audit_sees_it(seq):
    down = Downlink(after=0)
    for number in (1, 2, seq):
        down.take(events.Text(number, "x"))
    assert len(down.inbox) == 2
    assert down.audit.result().duplicates == 1


async def test_events_outside_of_the_series_are_no_repetition():
    down = Downlink(after=5)
    down.take(events.GatewayDraining(0, timedelta(seconds=1)))
    assert len(down.inbox) == 1


async def test_an_interruption_after_a_resume_voids_what_came_before_it():
    down = Downlink(after=0)
    for seq in (1, 2):
        down.take(events.Audio(seq, bytes(480), 24_000))
    down.attach()
    down.take(events.Interrupted(4, "BARGE_IN", 2, 3))
    assert [(await down.inbox.get()).seq for _ in range(2)] == [1, 4]
    assert down.audit.result().whole


async def test_news_of_this_client_are_bounded_too():
    down = Downlink(after=0)
    for _ in range(5000):
        down.inbox.tell(events.StreamResumed(0, timedelta(0)))
    assert len(down.inbox) == 1024
