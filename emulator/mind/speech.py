"""An answer on its way out: when each chunk is due, what has been sent, when it has been played."""

from dataclasses import dataclass

from emulator.mind.chunks import Chunk, Cut

# Nothing is sent more often: what is produced faster comes in bursts, as the service's does, and costs one write.
_BURST_SECONDS = 0.04
# Of speech, sent in one go: 64 kB. However fast it is produced, who reads can take it in between.
_AT_ONCE_SECONDS = 1.0


@dataclass(frozen=True)
class Pace:
    """How fast answers are produced and played."""

    generation_speed: float
    """Seconds of speech in a second."""
    playback_speed: float
    chunk: float
    """Seconds of speech in a frame."""


class Answer:
    """The chunks of one answer. Times are in seconds of one clock."""

    def __init__(self, cut: Cut, pace: Pace, now: float, heard_from: float) -> None:
        """``heard_from``: when what was said before it has been heard."""
        self._chunks = cut.chunks
        self._started = now
        self._interval = pace.chunk / pace.generation_speed
        self._next = 0
        self._burst_at = now - _BURST_SECONDS
        self._sent: list[str] = []
        self.words = cut.words
        """All that it says."""
        self.seconds = cut.seconds
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
        """The chunks to send now; where there are many, the rest is due at once."""
        chunks: list[Chunk] = []
        seconds = 0.0
        while not self.generated and self._chunk_at <= now:
            if seconds >= _AT_ONCE_SECONDS:
                self._burst_at = now - _BURST_SECONDS
                break
            self._burst_at = now
            chunk = self._chunks[self._next]
            self._sent.extend(chunk.words)
            self._next += 1
            seconds += chunk.seconds
            chunks.append(chunk)
        return chunks
