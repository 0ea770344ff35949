from __future__ import annotations

from parley.v1 import fabric_pb2, live_pb2
from services.gateway.downlink import Downlink
from tests.gateway.fake_worker import audio, interrupted, skip, text


def make(next_seq: int = 1, **limits: int) -> Downlink:
    values = {"audio_ahead_ms": 400, "max_items": 1000, "max_bytes": 10_000_000, **limits}
    return Downlink(next_seq, **values)


def envelope(
    *items: fabric_pb2.DownlinkItem, last_seq: int = 0, skips: tuple[fabric_pb2.Skip, ...] = ()
) -> fabric_pb2.DownlinkEnvelope:
    last = max([last_seq, *(item.seq for item in items)])
    return fabric_pb2.DownlinkEnvelope(items=items, last_seq=last, skips=skips)


def drain(downlink: Downlink) -> list[int]:
    """Write all that may be written; the seqs."""
    written = []
    while (outgoing := downlink.next()) is not None:
        downlink.written()
        written.append(outgoing.seq)
    return written


def said(downlink: Downlink) -> live_pb2.ConverseResponse:
    outgoing = downlink.next()
    assert outgoing is not None
    downlink.written()
    return live_pb2.ConverseResponse.FromString(outgoing.response)


def test_responses_leave_in_order_and_byte_for_byte() -> None:
    downlink = make(4)
    items = [text(4), audio(5), text(6)]
    downlink.take(envelope(*items[1:]), 0.0)
    assert drain(downlink) == []
    downlink.take(envelope(items[0]), 0.0)
    leaving = []
    while (outgoing := downlink.next()) is not None:
        leaving.append(outgoing.response)
        downlink.written()
    assert leaving == [item.response for item in items]
    assert downlink.idle


def test_unnumbered_responses_pass_at_once() -> None:
    downlink = make()
    news = fabric_pb2.DownlinkItem(response=live_pb2.ConverseResponse(acked_seq=3).SerializeToString())
    downlink.take(envelope(text(2), news), 0.0)
    assert said(downlink).acked_seq == 3
    assert drain(downlink) == []


def test_audio_waits_for_acks_and_holds_back_what_follows() -> None:
    downlink = make()
    downlink.ack(0)
    downlink.take(envelope(*[audio(seq) for seq in range(1, 8)], text(8)), 0.0)
    assert drain(downlink) == [1, 2, 3, 4]
    assert downlink.received == 4
    downlink.ack(2)
    assert drain(downlink) == [5, 6]
    downlink.ack(1)  # lower than before: nothing
    assert drain(downlink) == []
    downlink.ack(99)  # more than there was: all of it
    assert downlink.acked == 8
    assert drain(downlink) == [7, 8]
    assert downlink.received == 8


def test_one_message_longer_than_the_window_passes_when_nothing_is_ahead() -> None:
    downlink = make()
    downlink.ack(0)
    downlink.take(envelope(audio(1, 1000), audio(2, 20)), 0.0)
    assert drain(downlink) == [1]
    downlink.ack(1)
    assert drain(downlink) == [2]


def test_a_caller_that_never_acks_or_has_closed_its_side_is_not_held_back() -> None:
    downlink = make()
    downlink.take(envelope(*[audio(seq) for seq in range(1, 2001)]), 0.0)
    assert len(drain(downlink)) == 1000  # the queue's bound
    assert len(downlink._unacked) <= 1024
    closed = make()
    closed.ack(0)
    closed.take(envelope(*[audio(seq) for seq in range(1, 31)]), 0.0)
    assert len(drain(closed)) == 4
    closed.acks_are_over()
    assert len(drain(closed)) == 26


def test_an_interruption_removes_the_audio_it_voids_and_leaves_at_once() -> None:
    downlink = make()
    downlink.ack(0)
    downlink.take(envelope(*[audio(seq) for seq in range(1, 10)], text(10)), 0.0)
    assert drain(downlink) == [1, 2, 3, 4]
    downlink.take(envelope(interrupted(21, 3, 20), skips=(skip(11, 20),)), 0.0)
    assert drain(downlink) == [10, 21]
    assert downlink.voided_items == 5
    # What the caller throws away no longer counts against the window: 1 and 2 are still ahead.
    downlink.take(envelope(*[audio(seq) for seq in range(22, 30)]), 0.0)
    assert drain(downlink) == [22, 23]
    assert downlink.received == 23


def test_an_interruption_does_not_overtake_audio_that_is_still_wanted() -> None:
    downlink = make()
    downlink.ack(0)
    downlink.take(envelope(*[audio(seq) for seq in range(1, 9)]), 0.0)
    assert drain(downlink) == [1, 2, 3, 4]
    downlink.take(envelope(interrupted(9, 7, 8)), 0.0)
    assert drain(downlink) == []
    downlink.ack(4)
    assert drain(downlink) == [5, 6, 9]


def test_an_interruption_that_voids_nothing_is_a_response_like_others() -> None:
    downlink = make()
    downlink.take(envelope(audio(1), interrupted(2, 2, 1)), 0.0)
    assert drain(downlink) == [1, 2]


def test_holes_are_asked_for_and_given_up_with_a_gap() -> None:
    downlink = make()
    downlink.take(envelope(text(1), text(4), last_seq=5), 10.0)
    assert drain(downlink) == [1]
    assert [(hole.first, hole.last) for hole in downlink.missing()] == [(2, 3), (5, 5)]
    assert not downlink.idle
    assert not downlink.tick(11.9)
    assert downlink.tick(12.1)
    gaps = [said(downlink).gap]
    assert drain(downlink) == [4]
    assert not downlink.tick(13.9)  # the second hole has a wait of its own
    assert downlink.tick(14.2)
    gaps.append(said(downlink).gap)
    assert [(gap.from_seq, gap.to_seq, gap.reason) for gap in gaps] == [(2, 3, "LOST"), (5, 5, "LOST")]
    assert gaps[0].direction == live_pb2.DIRECTION_DOWNLINK
    assert gaps[0].media_class == live_pb2.MEDIA_CLASS_VITAL
    assert downlink.received == 5
    assert downlink.lost_items == 3
    assert downlink.idle


def test_what_the_worker_names_itself_is_not_named_twice() -> None:
    downlink = make()
    downlink.take(envelope(text(3), skips=(skip(1, 1, "VOID"), skip(2, 2, "OVERLOAD"))), 0.0)
    assert drain(downlink) == [3]


def test_what_the_worker_no_longer_has_is_named() -> None:
    downlink = make()
    downlink.take(envelope(text(1), text(4)), 0.0)
    downlink.take(envelope(skips=(skip(1, 3, "FORGOTTEN"), skip(1, 1, "FORGOTTEN")), last_seq=4), 0.0)
    gap = said(downlink).gap
    assert (gap.from_seq, gap.to_seq, gap.reason) == (2, 3, "FORGOTTEN")
    assert gap.media_class == live_pb2.MEDIA_CLASS_AUDIO
    assert drain(downlink) == [1, 4]
    assert downlink.idle


def test_audio_with_words_in_between_is_named_in_one_gap() -> None:
    downlink = make()
    ended = [skip(1, 2, "ENDED"), skip(4, 5, "ENDED"), skip(7, 7, "FORGOTTEN"), skip(8, 8, "FORGOTTEN")]
    downlink.take(envelope(text(3), text(6), text(9), skips=ended), 0.0)
    gaps = []
    while (outgoing := downlink.next()) is not None and not outgoing.seq:
        gaps.append(live_pb2.ConverseResponse.FromString(outgoing.response).gap)
        downlink.written()
    assert [(gap.from_seq, gap.to_seq, gap.reason) for gap in gaps] == [(1, 5, "ENDED"), (7, 8, "FORGOTTEN")]
    assert downlink.lost_items == 6


def test_what_may_be_words_is_named_as_it_is() -> None:
    downlink = make()
    skips = [skip(1, 2, "FORGOTTEN"), skip(4, 5, "FORGOTTEN")]
    for one in skips:
        one.media_class = live_pb2.MEDIA_CLASS_VITAL
    downlink.take(envelope(text(3), text(6), skips=skips), 0.0)
    named = [said(downlink).gap for _ in range(2)]
    assert [(gap.from_seq, gap.to_seq) for gap in named] == [(1, 2), (4, 5)]


def test_over_its_bound_the_queue_takes_nothing_and_asks_again_later() -> None:
    downlink = make(max_items=2)
    downlink.take(envelope(*[text(seq) for seq in range(1, 5)]), 0.0)
    assert downlink.refused_items == 2
    assert downlink.missing() == []
    assert not downlink.tick(100.0)
    assert drain(downlink) == [1, 2]
    downlink.take(envelope(last_seq=4), 100.0)
    assert [(hole.first, hole.last) for hole in downlink.missing()] == [(3, 4)]
    downlink.take(envelope(text(3), text(4)), 100.0)
    assert drain(downlink) == [3, 4]


def test_the_worker_is_told_only_what_grpc_has_taken() -> None:
    downlink = make()
    downlink.take(envelope(text(1), text(2), text(2)), 0.0)
    assert downlink.duplicates == 1
    assert downlink.received == 0
    downlink.next()
    assert downlink.received == 0
    downlink.written()
    assert downlink.received == 1
    assert drain(downlink) == [2]
    assert (downlink.received, downlink.waiting_items, downlink.waiting_bytes) == (2, 0, 0)


def test_what_the_gateway_says_itself_goes_first() -> None:
    downlink = make()
    downlink.take(envelope(text(1)), 0.0)
    downlink.say(live_pb2.ConverseResponse(gateway_draining=live_pb2.GatewayDraining()))
    assert said(downlink).HasField("gateway_draining")
    assert said(downlink).seq == 1


def test_an_ack_that_is_faster_than_the_write_leaves_the_audio_window_open() -> None:
    downlink = make()
    downlink.ack(0)
    downlink.take(envelope(audio(1), audio(2)), 0.0)
    for seq in (1, 2):
        outgoing = downlink.next()
        assert outgoing is not None
        downlink.ack(seq)  # the caller has it before gRPC says that it was written
        downlink.written()
    assert downlink._ahead_ms == 0


def test_another_worker_goes_on_after_what_is_here() -> None:
    downlink = make()
    downlink.take(envelope(audio(1), text(2), text(4), last_seq=5), 0.0)
    assert downlink.cut() == 2
    assert downlink.last_audio == 1
    assert not downlink.missing()
    assert not downlink.tick(99.0)
    downlink.go_on(3)
    downlink.take(envelope(text(3), text(4)), 100.0)
    assert drain(downlink) == [1, 2, 3, 4]
