"""Which ranges of the downlink are said not to come, and why."""

from __future__ import annotations

from parley.v1 import live_pb2
from services.session_worker.skips import FORGOTTEN, OVERLOAD, VOID, Skips

AUDIO, VITAL = live_pb2.MEDIA_CLASS_AUDIO, live_pb2.MEDIA_CLASS_VITAL


def told(skips: Skips) -> list[tuple[int, int, str, live_pb2.MediaClass]]:
    return [(one.range.from_seq, one.range.to_seq, one.reason, one.media_class) for one in skips.take()]


def test_what_the_caller_was_told_of_is_void_and_the_rest_is_named() -> None:
    skips = Skips()
    skips.explain(3, 4)
    skips.explain(8, 9)
    skips.explain(5, 5)
    skips.add_all(1, 12, here=[2, 8, 11], forgotten=0)
    assert told(skips) == [
        (1, 1, FORGOTTEN, AUDIO),
        (3, 5, VOID, AUDIO),
        (6, 7, FORGOTTEN, AUDIO),
        (9, 9, VOID, AUDIO),
        (10, 10, FORGOTTEN, AUDIO),
        (12, 12, FORGOTTEN, AUDIO),
    ]
    assert not skips


def test_nothing_is_void_where_what_told_of_it_may_be_forgotten() -> None:
    skips = Skips()
    skips.explain(1, 10)
    skips.add_all(1, 12, here=[], forgotten=5)
    assert told(skips) == [(1, 5, FORGOTTEN, AUDIO), (6, 10, VOID, AUDIO), (11, 12, FORGOTTEN, AUDIO)]
    skips.forget_explained(10)
    skips.add_all(1, 12, here=[], forgotten=0)
    assert told(skips) == [(1, 12, FORGOTTEN, AUDIO)]


def test_what_another_worker_sent_may_have_been_words() -> None:
    skips = Skips(before=4)
    skips.add_all(2, 6, here=[], forgotten=0)
    assert told(skips) == [(2, 4, FORGOTTEN, VITAL), (5, 6, FORGOTTEN, AUDIO)]


def test_neighbours_leave_as_one_for_one_reason() -> None:
    skips = Skips()
    for seq in (5, 6, 7):
        skips.add(seq, seq, OVERLOAD)
    skips.add(8, 8, VOID)
    skips.add(10, 10, VOID)
    assert skips
    assert told(skips) == [(5, 7, OVERLOAD, AUDIO), (8, 8, VOID, AUDIO), (10, 10, VOID, AUDIO)]


def test_a_hole_that_is_beside_what_was_asked_for_is_not_named() -> None:
    skips = Skips()
    skips.add_all(4, 6, here=[1, 2, 5, 9], forgotten=0)
    assert told(skips) == [(4, 4, FORGOTTEN, AUDIO), (6, 6, FORGOTTEN, AUDIO)]
