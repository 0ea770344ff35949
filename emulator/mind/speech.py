"""An answer on its way out: when each chunk is due, what has been sent, when it has been played."""

from collections.abc import Sequence
from dataclasses import dataclass

from emulator.audio import BYTES_PER_SAMPLE
from emulator.voice import RATE, Piece

# Nothing is sent more often: what is produced faster comes in bursts, as the service's does, and costs one write.
_BURST_SECONDS = 0.04


@dataclass(frozen=True)
class Pace:
    """How fast answers are produced and played."""

    generation_speed: float
    """Seconds of speech in a second."""
    playback_speed: float
    chunk: float
    """Seconds of speech in a frame."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One frame of speech."""

    pcms: tuple[bytes, ...]
    """Where one text ends and another begins, the end of the one and the beginning of the other."""
    words: tuple[str, ...]
    """Words that begin in it."""

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, self.pcms))

    @property
    def seconds(self) -> float:
        """Length of its speech."""
        return self.size / (RATE * BYTES_PER_SAMPLE)


class Answer:
    """The texts of one answer in their pieces, cut into chunks. Times are in seconds of one clock."""

    def __init__(self, texts: Sequence[Sequence[Piece]], pace: Pace, now: float, heard_from: float) -> None:
        """``heard_from``: when what was said before it has been heard."""
        size = max(1, round(pace.chunk * RATE)) * BYTES_PER_SAMPLE
        self._chunks: list[Chunk] = []
        for pieces in texts:
            chunks = _cut(pieces, size)
            if self._chunks and chunks:
                chunks[:1] = _joined(self._chunks.pop(), chunks[0])
            self._chunks += chunks
        self._started = now
        self._interval = pace.chunk / pace.generation_speed
        self._next = 0
        self._burst_at = now - _BURST_SECONDS
        self._sent: list[str] = []
        self.words = tuple(piece.text for pieces in texts for piece in pieces)
        """All that it says."""
        self.seconds = sum(chunk.seconds for chunk in self._chunks)
        generated_at = now + (len(self._chunks) - 1) * self._interval
        self.played_at = max(max(now, heard_from) + self.seconds / pace.playback_speed, generated_at)
        """When the last of it has been heard."""

    @property
    def generated(self) -> bool:
        """Whether all of it has been sent."""
        return self._next >= len(self._chunks)

    @property
    def deadline(self) -> float:
        """When the next chunks are due; of an answer that has been sent, when it has been heard."""
        return self.played_at if self.generated else max(self._chunk_at, self._burst_at + _BURST_SECONDS)

    @property
    def _chunk_at(self) -> float:
        return self._started + self._next * self._interval

    @property
    def said(self) -> str:
        """The words that have been sent."""
        return " ".join(self._sent)

    @property
    def sent_seconds(self) -> float:
        """Seconds of speech that have been sent."""
        return sum(chunk.seconds for chunk in self._chunks[: self._next])

    def due(self, now: float) -> list[Chunk]:
        """The chunks to send now."""
        chunks = []
        while not self.generated and self._chunk_at <= now:
            self._burst_at = now
            chunk = self._chunks[self._next]
            self._sent.extend(chunk.words)
            self._next += 1
            chunks.append(chunk)
        return chunks


def _joined(end: Chunk, beginning: Chunk) -> list[Chunk]:
    """The end of one text and the beginning of the next, in one frame."""
    return [Chunk(end.pcms + beginning.pcms, end.words + beginning.words)]


def _cut(pieces: Sequence[Piece], size: int) -> list[Chunk]:
    pcm = b"".join(piece.pcm for piece in pieces)
    words: dict[int, list[str]] = {}
    at = 0
    for piece in pieces:
        words.setdefault(at // size, []).append(piece.text)
        at += len(piece.pcm)
    return [
        Chunk((pcm[start : start + size],), tuple(words.get(start // size, ()))) for start in range(0, len(pcm), size)
    ]
