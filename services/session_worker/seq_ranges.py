"""Ranges of sequence numbers. Plain code."""

from __future__ import annotations

from collections.abc import Iterable

from parley.v1 import live_pb2

Range = tuple[int, int]
"""First and last `seq`."""


def extend(ranges: list[Range], more: Range) -> None:
    """Take one more, the newest, which may go on with the last."""
    if ranges and ranges[-1][1] + 1 >= more[0]:
        ranges[-1] = (ranges[-1][0], max(ranges[-1][1], more[1]))
    else:
        ranges.append(more)


def ranges_of(seqs: Iterable[int]) -> list[Range]:
    """Numbers in order as ranges."""
    ranges: list[Range] = []
    for seq in seqs:
        extend(ranges, (seq, seq))
    return ranges


def merged(*of: Iterable[Range]) -> list[Range]:
    """Every number that is in any, once, in order."""
    ranges: list[Range] = []
    for each in sorted(each for ranges in of for each in ranges):
        extend(ranges, each)
    return ranges


def spans(ranges: Iterable[Range]) -> list[live_pb2.SeqRange]:
    """As callers are told."""
    return [live_pb2.SeqRange(from_seq=first, to_seq=last) for first, last in ranges]
