from __future__ import annotations

from typing import Any

from parley.v1 import live_pb2
from services.gateway import uplink as uplink_module
from services.gateway.uplink import MAX_BATCH_BYTES, MAX_BATCH_ITEMS, Batch, Uplink

AUDIO = live_pb2.MEDIA_CLASS_AUDIO
VIDEO = live_pb2.MEDIA_CLASS_VIDEO
VITAL = live_pb2.MEDIA_CLASS_VITAL


def make(next_seq: int = 1, **limits: int) -> Uplink:
    values = {"ring_items": 100, "ring_bytes": 100_000, "outbox_items": 10, "outbox_bytes": 1000, **limits}
    return Uplink(next_seq, **values)


def skips(batch: Batch) -> list[tuple[int, int, Any]]:
    return [(skip.range.from_seq, skip.range.to_seq, skip.media_class) for skip in batch.skips]


def test_what_waits_leaves_together_and_in_order() -> None:
    uplink = make(5)
    assert not uplink.pending
    for seq in (5, 6, 7):
        uplink.take(seq, b"%d" % seq, AUDIO)
    assert uplink.last_sent == 4
    batch = uplink.next_batch()
    assert batch.requests == [b"5", b"6", b"7"]
    assert not batch.skips
    assert (uplink.last_sent, uplink.pending, uplink.waiting_bytes) == (7, False, 0)


def test_a_batch_has_its_bounds_but_takes_one_message_of_any_size() -> None:
    uplink = make(outbox_items=1000, outbox_bytes=10_000_000, ring_items=1000, ring_bytes=10_000_000)
    for seq in range(1, MAX_BATCH_ITEMS + 2):
        uplink.take(seq, b"x", AUDIO)
    uplink.take(MAX_BATCH_ITEMS + 2, bytes(MAX_BATCH_BYTES + 1), VIDEO)
    assert len(uplink.next_batch().requests) == MAX_BATCH_ITEMS
    assert len(uplink.next_batch().requests) == 1
    assert len(uplink.next_batch().requests[0]) == MAX_BATCH_BYTES + 1
    assert not uplink.pending


def test_over_the_bound_video_goes_first_then_the_oldest_audio_and_text_never() -> None:
    uplink = make(outbox_items=4)
    uplink.take(1, b"t", VITAL)
    uplink.take(2, b"a", AUDIO)
    uplink.take(3, b"v", VIDEO)
    uplink.take(4, b"a", AUDIO)
    uplink.take(5, b"a", AUDIO)  # one too many: the picture goes
    uplink.take(6, b"a", AUDIO)  # then the oldest sound
    uplink.take(7, b"t", VITAL)
    assert not uplink.full
    assert (uplink.shed_items, uplink.shed_bytes, uplink.waiting_items) == (3, 3, 4)
    batch = uplink.next_batch()
    assert batch.requests == [b"t", b"a", b"a", b"t"]
    assert skips(batch) == [(2, 2, AUDIO), (3, 3, VIDEO), (4, 4, AUDIO)]
    assert {skip.reason for skip in batch.skips} == {"OVERLOAD"}
    assert uplink.last_sent == 7


def test_a_long_outage_leaves_one_skip_not_thousands() -> None:
    uplink = make(outbox_items=5)
    for seq in range(1, 5001):
        uplink.take(seq, b"aa", AUDIO)
    assert len(uplink._outbox) == 6
    batch = uplink.next_batch()
    assert skips(batch) == [(1, 4995, AUDIO)]
    assert len(batch.requests) == 5
    assert uplink.shed_bytes == 2 * 4995


def test_text_is_never_shed_the_caller_is_held_back_instead() -> None:
    uplink = make(outbox_items=2)
    for seq in (1, 2, 3):
        uplink.take(seq, b"t", VITAL)
    assert uplink.full
    uplink.next_batch()
    assert not uplink.full


def test_a_ring_full_of_text_holds_the_caller_back_until_an_ack() -> None:
    uplink = make(ring_items=3)
    for seq in (1, 2, 3):
        uplink.take(seq, b"t", VITAL)
        uplink.next_batch()
    assert uplink.full
    uplink.ack(1)
    assert not uplink.full
    assert uplink.ring_bytes == 2


def test_text_that_is_safe_behind_audio_makes_room_without_an_ack() -> None:
    uplink = make(ring_items=3)
    for seq, media_class in ((1, AUDIO), (2, VITAL), (3, VITAL), (4, VITAL)):
        uplink.take(seq, b"x", media_class)
    uplink.next_batch()
    assert uplink.full
    uplink.stored([(2, 3)])
    assert not uplink.full


def test_missing_uplink_is_sent_again_from_the_ring() -> None:
    uplink = make()
    for seq in range(1, 6):
        uplink.take(seq, b"%d" % seq, AUDIO)
    uplink.next_batch()
    uplink.ack(1)
    uplink.take(6, b"6", AUDIO)
    uplink.send_again(0, 3)  # 1 is acked
    uplink.send_again(3, 99)  # 6 has not been sent yet
    batch = uplink.next_batch()
    assert batch.requests == [b"2", b"3", b"4", b"5", b"6"]
    assert not batch.skips
    uplink.send_again(2, 3)
    uplink.ack(3)
    assert not uplink.pending


def test_what_is_sent_again_keeps_to_the_bounds_of_a_batch() -> None:
    uplink = make(outbox_items=1000, outbox_bytes=10_000_000, ring_items=1000)
    for seq in range(1, 101):
        uplink.take(seq, b"x", AUDIO)
        uplink.next_batch()
    uplink.send_again(1, 100)
    assert [len(uplink.next_batch().requests) for _ in range(2)] == [MAX_BATCH_ITEMS, 100 - MAX_BATCH_ITEMS]
    assert not uplink.pending


def test_what_the_ring_forgot_is_skipped_by_class_when_it_is_asked_for() -> None:
    uplink = make(ring_items=4)
    for seq, media_class in enumerate((AUDIO, AUDIO, VIDEO, VITAL, AUDIO, AUDIO), start=1):
        uplink.take(seq, b"x", media_class)
        uplink.next_batch()
    assert uplink.forgotten_items == 3
    uplink.send_again(1, 6)
    batch = uplink.next_batch()
    assert skips(batch) == [(1, 2, AUDIO), (3, 3, VIDEO)]
    assert len(batch.requests) == 3


def test_what_was_shed_stays_shed_when_it_is_asked_for() -> None:
    uplink = make(outbox_items=1)
    uplink.take(1, b"a", AUDIO)
    uplink.take(2, b"b", AUDIO)
    uplink.next_batch()
    uplink.send_again(1, 2)
    batch = uplink.next_batch()
    assert batch.requests == [b"b"]
    assert skips(batch) == [(1, 1, AUDIO)]


def test_an_ack_beyond_what_was_sent_does_not_swallow_what_comes() -> None:
    uplink = make()
    uplink.take(1, b"a", AUDIO)
    uplink.ack(1000)
    uplink.take(2, b"b", AUDIO)
    uplink.next_batch()
    uplink.send_again(2, 2)
    assert uplink.next_batch().requests == [b"b"]


def test_the_memory_of_classes_is_bounded(monkeypatch: Any) -> None:
    monkeypatch.setattr(uplink_module, "MAX_RUNS", 4)
    uplink = make(ring_items=64)
    for seq in range(1, 201):
        uplink.take(seq, b"x", (AUDIO, VIDEO)[seq % 2])
        uplink.next_batch()
    assert len(uplink._runs) == 4
    uplink.send_again(1, 200)
    batch = uplink.next_batch()
    assert sum(skip.range.to_seq - skip.range.from_seq + 1 for skip in batch.skips) + len(batch.requests) == 200


def test_another_worker_gets_what_the_one_before_was_sent_then_what_waits() -> None:
    uplink = make(ring_items=5)
    for seq in range(1, 7):
        uplink.take(seq, b"%d" % seq, AUDIO)
    uplink.next_batch()
    uplink.ack(1)
    uplink.stored([(5, 5)])
    uplink.send_again(3, 3)
    uplink.take(7, b"7", VITAL)
    assert uplink.acked == 1
    uplink.send_from(2)
    batch = uplink.next_batch()
    assert batch.requests == [b"3", b"4", b"6", b"7"]
    # Forgotten, and safe with the log: the worker knows which is which.
    assert skips(batch) == [(2, 2, AUDIO), (5, 5, AUDIO)]
    uplink.stored([(5, 5)])  # the new one says so, too
    uplink.send_from(6)
    assert uplink.next_batch().requests == [b"6", b"7"]
