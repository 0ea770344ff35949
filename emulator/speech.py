"""An answer on its way out: when each chunk is due, what has been sent, when it has been played."""

from dataclasses import dataclass

from emulator.audio import BYTES_PER_SAMPLE
from emulator.voice import RATE, Piece


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

    pcm: bytes
    words: tuple[str, ...]
    """Words that begin in it."""


class Answer:
    """The pieces of one answer, cut into chunks. Times are in seconds of one clock."""

    def __init__(self, pieces: list[Piece], pace: Pace, now: float) -> None:
        pcm = b"".join(piece.pcm for piece in pieces)
        size = max(1, round(pace.chunk * RATE)) * BYTES_PER_SAMPLE
        words: dict[int, list[str]] = {}
        at = 0
        for piece in pieces:
            words.setdefault(at // size, []).append(piece.text)
            at += len(piece.pcm)
        self._chunks = [
            Chunk(pcm[start : start + size], tuple(words.get(start // size, ()))) for start in range(0, len(pcm), size)
        ]
        self._started = now
        self._interval = pace.chunk / pace.generation_speed
        self._next = 0
        self._sent: list[str] = []
        self.seconds = len(pcm) / (RATE * BYTES_PER_SAMPLE)
        self.played_at = now + max(self.seconds / pace.playback_speed, (len(self._chunks) - 1) * self._interval)
        """When the last of it has been heard."""

    @property
    def generated(self) -> bool:
        """Whether all of it has been sent."""
        return self._next >= len(self._chunks)

    @property
    def deadline(self) -> float:
        """When something is to be done next."""
        return self.played_at if self.generated else self._started + self._next * self._interval

    @property
    def said(self) -> str:
        """The words that have been sent."""
        return " ".join(self._sent)

    @property
    def sent_seconds(self) -> float:
        """Seconds of speech that have been sent."""
        return sum(len(chunk.pcm) for chunk in self._chunks[: self._next]) / (RATE * BYTES_PER_SAMPLE)

    def due(self, now: float) -> list[Chunk]:
        """The chunks to send now."""
        chunks = []
        while not self.generated and self.deadline <= now:
            chunk = self._chunks[self._next]
            self._sent.extend(chunk.words)
            self._next += 1
            chunks.append(chunk)
        return chunks
