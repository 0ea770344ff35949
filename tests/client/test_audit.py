from hypothesis import given
from hypothesis import strategies as st

from parley import SequenceAudit, events
from parley.v1 import live_pb2 as pb


def text(seq):
    return events.Text(seq, "x")


def fed(*items, after=0):
    audit = SequenceAudit(after=after)
    for item in items:
        audit.feed_event(item)
    return audit.result()


def test_a_series_without_holes_is_whole_and_unnumbered_messages_do_not_count():
    result = fed(events.Opened(0, "s", "t"), text(1), text(2), events.GatewayDraining(0, None), text(3))
    assert result.whole
    assert (result.last_seq, result.holes, result.duplicates) == (3, (), 0)


def test_responses_as_they_come_from_the_wire():
    audit = SequenceAudit()
    audit.feed(pb.ConverseResponse(acked_seq=9))
    audit.feed(pb.ConverseResponse(seq=1, text=pb.TextOutput(text="x")))
    audit.feed(pb.ConverseResponse(seq=4, interrupted=pb.Interrupted(void_from_seq=2, void_to_seq=3)))
    assert audit.result().whole


def test_an_unexplained_hole_is_named():
    result = fed(text(1), text(4), text(8))
    assert not result.whole
    assert result.holes == ((2, 3), (5, 7))


def test_a_lost_begin_is_a_hole():
    assert fed(text(2)).holes == ((1, 1),)
    assert fed(text(8), after=7).whole


def test_a_void_range_explains_a_hole_before_and_after_it_shows():
    assert fed(text(1), text(4), events.Interrupted(5, "BARGE_IN", 2, 3)).whole
    assert fed(text(1), events.Interrupted(2, "BARGE_IN", 3, 6), text(7)).whole
    assert fed(text(1), events.Interrupted(9, "BARGE_IN", 2, 5), text(10)).holes == ((6, 8),)


def test_an_empty_void_range_explains_nothing():
    assert fed(text(1), text(3), events.Interrupted(4, "BARGE_IN", 4, 3)).holes == ((2, 2),)


def test_only_a_gap_of_the_downlink_explains_a_hole_and_both_are_reported():
    down = events.Gap(6, "DOWNLINK", 2, 5, "AUDIO", "OVERLOAD")
    up = events.Gap(7, "UPLINK", 1, 3, "AUDIO", "OVERLOAD")
    result = fed(text(1), down, up)
    assert result.whole
    assert result.gaps == (down, up)
    assert not fed(text(1), events.Gap(4, "UPLINK", 2, 3, "AUDIO", "x")).whole


def test_duplicates_and_late_arrivals_break_the_series():
    twice = fed(text(1), text(2), text(2), text(1))
    assert (twice.whole, twice.duplicates) == (False, 2)
    late = fed(text(1), text(3), text(2))
    assert (late.whole, late.out_of_order, late.holes) == (False, 1, ())


def test_memory_is_bounded_and_a_stream_beyond_it_is_not_whole():
    audit = SequenceAudit()
    for seq in range(1, 4 * SequenceAudit.MAX_RANGES, 2):
        audit.feed_event(text(seq + 1))
    result = audit.result()
    assert len(result.holes) <= SequenceAudit.MAX_RANGES
    assert not result.whole


@given(st.sets(st.integers(1, 60)), st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), max_size=6))
def test_holes_are_what_neither_came_nor_was_named(missing, ranges):
    audit = SequenceAudit()
    for index, (first, last) in enumerate(ranges):
        # Names spread over the stream, some before their holes and some after.
        audit.feed_event(events.Interrupted(0, "BARGE_IN", first, last))
        for seq in range(10 * index + 1, 10 * index + 11):
            if seq not in missing:
                audit.feed_event(text(seq))
    for seq in range(10 * len(ranges) + 1, 62):
        if seq not in missing:
            audit.feed_event(text(seq))
    named = {seq for first, last in ranges for seq in range(first, last + 1)}
    unexplained = {seq for first, last in audit.result().holes for seq in range(first, last + 1)}
    assert unexplained == missing - named
    assert audit.result().whole == (not unexplained)
