"""What of the downlink will not come, and whether the caller knows that. Plain code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from parley.v1 import fabric_pb2, live_pb2
from services.session_worker.seq_ranges import Range, merged

OVERLOAD: Final = "OVERLOAD"
"""Reason of a skip that a `gap` in the series names."""
FORGOTTEN: Final = "FORGOTTEN"
VOID: Final = "VOID"
"""Reason of a skip that the caller knows of, by `interrupted` or a `gap`."""


class Skips:
    """Of one session: what the gateway is to be told with the next envelope, and what the caller was told."""

    def __init__(self, before: int = 0) -> None:
        """`before`: number of the newest message of the owner before, of which nothing is known here."""
        self._before = before
        self._waiting: list[fabric_pb2.Skip] = []
        self._explained: list[Range] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self) -> list[fabric_pb2.Skip]:
        """What waits, to be told now."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def explain(self, first: int, last: int) -> None:
        """The caller is told by a message after these that their audio will not come."""
        self._explained = merged(self._explained, [(first, last)])

    def forget_explained(self, seq: int) -> None:
        """Nothing up to here is kept: a caller that lacks it may lack the explanation, too. So never more explanations
        are remembered than the ring has messages."""
        if self._explained and self._explained[0][1] <= seq:
            self._explained = [told for told in self._explained if told[1] > seq]

    def add_all(self, first: int, last: int, *, here: Iterable[int], forgotten: int) -> None:
        """None of this range will come but what is `here`, in order. `forgotten`: see `forget_explained`."""
        for seq in (*here, last + 1):
            if first <= seq <= last + 1:
                self._add_hole(first, seq - 1, forgotten)
                first = seq + 1

    def _add_hole(self, first: int, last: int, forgotten: int) -> None:
        """What the caller was told is VOID; the rest it must be told now."""
        for told_first, told_last in self._explained:
            void = max(first, told_first, forgotten + 1), min(last, told_last)
            if void[0] <= void[1]:
                self.add(first, void[0] - 1, FORGOTTEN)
                self.add(*void, VOID)
                first = void[1] + 1
        self.add(first, last, FORGOTTEN)

    def add(self, first: int, last: int, reason: str) -> None:
        """These will not come; neighbours leave as one range."""
        before = self._before
        # Only audio is shed, voided, or forgotten by a ring that is not full of words. What another worker sent, or had
        # no time to, may have been anything.
        self._add(first, min(last, before), live_pb2.MEDIA_CLASS_VITAL, reason)
        self._add(max(first, before + 1), last, live_pb2.MEDIA_CLASS_AUDIO, reason)

    def _add(self, first: int, last: int, media_class: live_pb2.MediaClass, reason: str) -> None:
        if last < first:
            return
        newest = self._waiting[-1] if self._waiting else None
        if (
            newest is not None
            and (newest.media_class, newest.reason) == (media_class, reason)
            and newest.range.to_seq == first - 1
        ):
            newest.range.to_seq = last
            return
        span = live_pb2.SeqRange(from_seq=first, to_seq=last)
        self._waiting.append(fabric_pb2.Skip(range=span, media_class=media_class, reason=reason))
