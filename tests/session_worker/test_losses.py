"""What was lost of the uplink is told as ranges, a burst at a time."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from parley.v1 import fabric_pb2, live_pb2
from services.session_worker.losses import Losses


def uplink_gap(first: int, last: int = 0, **values: Any) -> live_pb2.Gap:
    """Of audio, unless it says otherwise."""
    gap = live_pb2.Gap(direction=live_pb2.DIRECTION_UPLINK, from_seq=first, to_seq=last or first)
    gap.media_class = values.get("media_class", live_pb2.MEDIA_CLASS_AUDIO)
    gap.reason = values.get("reason", "OVERLOAD")
    return gap


def test_what_follows_one_another_is_told_as_one_when_nothing_more_comes() -> None:
    losses = Losses()
    for seq in range(1, 50):
        losses.add(uplink_gap(seq), seq * 0.02)
        assert not losses.is_due(seq * 0.02 + 0.02)
    assert losses.is_due(49 * 0.02 + 0.3)
    assert losses.take() == [uplink_gap(1, 49)]
    assert not losses
    assert not losses.is_due(100.0)


def test_what_goes_on_is_told_all_the_same() -> None:
    losses, told = Losses(), []
    for seq in range(1, 1001):
        losses.add(uplink_gap(seq), seq * 0.02)
        if losses.is_due(seq * 0.02):
            told += losses.take()
    told += losses.take()
    assert 5 <= len(told) <= 12
    assert [told[0].from_seq, told[-1].to_seq] == [1, 1000]
    assert all(after.from_seq == before.to_seq + 1 for before, after in pairwise(told))


def test_what_was_kept_in_between_is_not_named() -> None:
    losses = Losses()
    for seq in (1, 2, 4, 5):
        losses.add(uplink_gap(seq), 0.0)
    assert losses.take() == [uplink_gap(1, 2), uplink_gap(4, 5)]


def test_each_class_and_reason_is_told_by_itself() -> None:
    losses = Losses()
    given = [
        uplink_gap(1),
        uplink_gap(2, media_class=live_pb2.MEDIA_CLASS_VIDEO),
        uplink_gap(3, media_class=live_pb2.MEDIA_CLASS_VIDEO, reason="PACE"),
        uplink_gap(4, reason="LOST"),
    ]
    for gap in given:
        losses.add(gap, 0.0)
    assert losses.take() == given


def test_never_many_wait() -> None:
    losses = Losses()
    for seq in range(1, 200, 2):
        losses.add(uplink_gap(seq), 0.0)
        if losses.is_due(0.0):
            assert len(losses.take()) <= 64
    assert len(losses.take()) < 64


def test_what_is_under_way_is_remembered_until_the_caller_has_it() -> None:
    losses = Losses()
    losses.add(uplink_gap(1, 5), 0.0)
    for gap in losses.take():
        losses.told(gap, 7)
    losses.add(uplink_gap(9), 0.0)
    under_way, waiting = (
        fabric_pb2.UntoldLoss(gap=uplink_gap(1, 5), downlink_seq=7),
        fabric_pb2.UntoldLoss(gap=uplink_gap(9)),
    )
    assert losses.untold(6) == [under_way, waiting]
    assert losses.untold(7) == [waiting]


def test_of_a_caller_that_takes_nothing_the_newest_are_remembered() -> None:
    losses = Losses()
    for seq in range(1, 1001):
        losses.told(uplink_gap(seq), seq)
    untold = losses.untold(0)
    assert len(untold) <= 256
    assert untold[-1].downlink_seq == 1000
