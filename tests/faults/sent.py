"""What a caller has sent, message by message: a gap, which names messages, excuses the frames of these and no more."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from emulator.marks import Reader
from emulator.record.ranges import Range, Ranges
from parley import events
from parley.v1 import live_pb2

VOICE = 1000
"""Amplitude of 32768: above it, a frame is speech without doubt."""
MARK_SECONDS = 0.02
"""Of a marked frame."""


def has_voice(pcm: bytes) -> bool:
    """Whether nobody could take it for silence."""
    samples = array("h", pcm)
    return bool(samples) and (max(samples) > VOICE or min(samples) < -VOICE)


def by_stream(runs: Iterable[Mapping[str, Any]]) -> defaultdict[int, Ranges]:
    """Marked frames as the emulator's record tells them: first and last of each run."""
    found: defaultdict[int, Ranges] = defaultdict(Ranges)
    for run in runs:
        found[run["stream"]].add(run["first"], run["last"] + 1)
    return found


def without(frames: Ranges, *others: Ranges) -> Ranges:
    """What none of the others has."""
    left = frames
    for other in others:
        left = Ranges(part for first, after in left for part in other.missing(first, after))
    return left


def both(some: Ranges, others: Ranges) -> Ranges:
    """What both have."""
    return Ranges(part for first, after in some for part in others.within(first, after))


class Sent:
    """The marked frames of one caller's stream, by the number of the message that carried them."""

    def __init__(self) -> None:
        self.voiced = Ranges()
        """Frames that are speech."""
        self.texts: list[tuple[str, set[int]]] = []
        """Each with its number, and those that it was given when it was sent again, after a resume."""
        self._carried: dict[int, list[Range]] = {}
        """By number. A number that was given again, after a resume, means what it was given to last."""
        self._before: defaultdict[int, list[Range]] = defaultdict(list)
        """What a number was given to before."""
        self._newest: dict[int, int] = {}
        """Number of the message that carried a frame last."""
        self._first = 0
        """Number of the first message that left, 0: none has."""
        self._left = Ranges()
        """Frames that have left."""
        self._until = 0
        """Number after the newest frame that was said."""

    def said(self, pcm: bytes, first: int, frames: int) -> None:
        """The caller says something, in so many frames."""
        self._until = first + frames
        if has_voice(pcm):
            self.voiced.add(first, self._until)

    def left(self, request: live_pb2.ConverseRequest) -> None:
        """A numbered message leaves, or leaves again."""
        if request.HasField("text"):
            self._typed(request.text.text, request.seq)
            return
        self._first = self._first or request.seq
        found = [(mark.frame, mark.frame + 1) for mark in Reader().feed(b"".join(request.audio.frames))]
        self._before[request.seq] += self._carried.get(request.seq, [])
        self._carried[request.seq] = found
        for first, after in found:
            self._left.add(first, after)
            self._newest |= dict.fromkeys(range(first, after), request.seq)

    def _typed(self, text: str, seq: int) -> None:
        """Sent again it has the number that it had, or a lower one."""
        for known, numbers in self.texts:
            if known == text and seq <= min(numbers):
                numbers.add(seq)
                return
        self.texts.append((text, {seq}))

    def excused(self, got: Iterable[events.Event]) -> Ranges:
        """Frames that may be missing, because the caller was told so."""
        frames = Ranges()
        for event in got:
            match event:
                case (
                    events.Gap(direction="UPLINK", media_class="AUDIO")
                    | events.Gap(direction="UPLINK", reason="LOG_DISABLED")
                ):
                    for first, after in self._of(event.from_seq, event.to_seq):
                        frames.add(first, after)
                case events.StreamResumed(dropped=dropped):
                    for one in dropped:
                        for first, after in self._undelivered(one):
                            frames.add(first, after)
                case _:
                    pass
        return frames

    def _of(self, first: int, last: int) -> Iterator[Range]:
        for seq in range(first, last + 1):
            yield from self._carried.get(seq, ())

    def _undelivered(self, lost: events.Undelivered) -> Iterator[Range]:
        """What the client gave up itself. It names old numbers, or none where the frames had not left."""
        if lost.media_class == "VIDEO":
            return
        # Numbers from before this stream's first were given out by whoever had the session then.
        for seq in range(max(lost.from_seq, self._first), lost.to_seq + 1):
            if not self._before[seq]:
                yield from self._carried.get(seq, ())
            else:  # what it was given to since then is on its way
                yield from (frames for frames in self._before[seq] if not self._is_under_way(frames))
        if lost.media_class == "AUDIO":
            yield from self._left.missing(0, self._until)

    def _is_under_way(self, frames: Range) -> bool:
        """The number that they left with last is theirs still."""
        return frames in self._carried[self._newest[frames[0]]]
