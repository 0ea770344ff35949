"""The caller's audio as one link or one conversation heard it: how much, which, and where the marked frames were."""

import hashlib
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from emulator.marks import Reader
from emulator.record.ranges import Range

_WIDTH = 2  # bytes of a sample


@dataclass
class AudioHeard:
    """All PCM heard, in order."""

    size: int = 0
    """Bytes."""
    chunks: int = 0
    seconds: float = 0.0
    digest: Any = field(default_factory=hashlib.sha256)

    def add(self, pcm: bytes, rate: int) -> None:
        """One piece."""
        self.size += len(pcm)
        self.chunks += 1
        self.seconds += len(pcm) / (_WIDTH * rate)
        self.digest.update(pcm)

    def view(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "bytes": self.size,
            "chunks": self.chunks,
            "seconds": round(self.seconds, 3),
            "sha256": self.digest.hexdigest(),
        }


@dataclass(slots=True)
class Run:
    """Marked frames of one stream that follow each other without a gap."""

    stream: int
    first: int
    """Number of the first frame."""
    count: int
    start: int
    """Bytes of audio before the first."""
    size: int
    """Bytes of each."""

    @property
    def end(self) -> int:
        """Bytes of audio up to the end of the last."""
        return self.start + self.count * self.size

    def frames(self, start: int, end: int) -> Range:
        """The frames that lie wholly within these bytes."""
        first = max(0, -(-(start - self.start) // self.size))
        after = min(self.count, max(0, (end - self.start) // self.size))
        return self.first + first, self.first + max(first, after)

    def bytes(self, frames: Range) -> Range:
        """Where these frames are."""
        first, after = (self.start + (number - self.first) * self.size for number in frames)
        return first, after


class MarkedAudio:
    """One link's audio. The runs are bounded; frames that fit nowhere are counted."""

    def __init__(self, limit: int) -> None:
        self.heard = AudioHeard()
        self.runs: list[Run] = []
        self.dropped = 0
        self._limit = limit
        self._rate = 0
        self._reader = Reader()
        self._paces: list[tuple[float, int, int]] = []
        """Seconds and bytes of audio before each change of the rate, and the rate."""

    def add(self, pcm: bytes, rate: int) -> None:
        """One piece."""
        if rate != self._rate:
            self._change(rate)
        for mark in self._reader.feed(pcm):
            last = self.runs[-1] if self.runs else None
            if (
                last is not None
                and mark.start == last.end
                and mark.frame == last.first + last.count
                and mark.stream == last.stream
                and mark.size == last.size
            ):
                last.count += 1
            elif len(self.runs) < self._limit:
                self.runs.append(Run(mark.stream, mark.frame, 1, mark.start, mark.size))
            else:
                self.dropped += 1
        self.heard.add(pcm, rate)

    def at(self, seconds: float) -> int:
        """Bytes of audio that take ``seconds``."""
        index = bisect_right(self._paces, seconds, key=lambda pace: pace[0]) - 1
        if index < 0:
            return 0
        since, size, rate = self._paces[index]
        return min(self.heard.size, size + round((seconds - since) * rate) * _WIDTH)

    def seconds(self, size: int) -> float:
        """How long the first ``size`` bytes take."""
        index = bisect_right(self._paces, size, key=lambda pace: pace[1]) - 1
        if index < 0:
            return 0.0
        since, before, rate = self._paces[index]
        return since + (size - before) / (_WIDTH * rate)

    def _change(self, rate: int) -> None:
        # What a frame began at another rate is no frame any more.
        self._rate, self._reader = rate, Reader(self.heard.size)
        if len(self._paces) < self._limit:
            self._paces.append((self.heard.seconds, self.heard.size, rate))
