"""What a listener has heard: a model of a loudspeaker that plays in real time."""

from collections import deque

from parley import events


class Playout:
    """Plays 16 bit mono PCM in real time on a clock that the caller owns.

    Audio that arrives is queued and plays as soon as what is before it has played; `interrupted` empties
    the queue, so what a listener never heard is not in `rendered`. Times are seconds of any monotonic clock and
    must not go back. Bounds: `max_seconds` of recording; past it the oldest recording is kept, later audio still plays
    (counts) but is no longer recorded.
    """

    def __init__(self, *, now: float, rate: int = 24_000, max_seconds: float = 1800.0) -> None:
        """`now` is when the loudspeaker is switched on and `rendered` begins; `rate` is in samples a second."""
        self.rate = rate
        self._start = now
        self._time = now
        # (seq, pcm); the first one is cut as it plays.
        self._queue: deque[tuple[int, bytes]] = deque()
        self._queued_bytes = 0
        self._played_bytes = 0
        self._voided_bytes = 0
        self._tape = bytearray()
        self._max_tape = int(max_seconds * rate) * 2

    def add(self, event: events.Audio, now: float) -> None:
        """Queues audio that arrived at `now`. ValueError: another sample rate than the loudspeaker's."""
        if event.rate != self.rate:
            raise ValueError(f"audio at {event.rate} Hz on a playout of {self.rate} Hz")
        self.advance(now)
        self._queue.append((event.seq, event.pcm))
        self._queued_bytes += len(event.pcm)

    def interrupted(self, event: events.Interrupted, now: float) -> None:
        """Empties the queue at `now`: of what came before the interruption, and of what it names as void.

        The void range alone would not do. It names what the service takes back; audio that was acked on arrival, but
        waits here to be played, it counts as delivered.
        """
        self.advance(now)
        kept: deque[tuple[int, bytes]] = deque()
        for seq, pcm in self._queue:
            if seq < event.seq or event.void_from <= seq <= event.void_to:
                self._queued_bytes -= len(pcm)
                self._voided_bytes += len(pcm)
            else:
                kept.append((seq, pcm))
        self._queue = kept

    def advance(self, now: float) -> None:
        """Plays up to `now`; silence where the queue is empty."""
        # Counted from the start, not from the last call, so that rounding to samples never adds up.
        due = (round((now - self._start) * self.rate) - round((self._time - self._start) * self.rate)) * 2
        if due <= 0:
            return
        self._time = now
        while due > 0 and self._queue:
            seq, pcm = self._queue[0]
            piece = pcm[:due]
            self._record(piece)
            self._played_bytes += len(piece)
            self._queued_bytes -= len(piece)
            due -= len(piece)
            if len(piece) == len(pcm):
                self._queue.popleft()
            else:
                self._queue[0] = (seq, pcm[len(piece) :])
        self._record(bytes(max(0, min(due, self._max_tape - len(self._tape)))))

    def played_seconds(self, now: float) -> float:
        """Audio, not silence, that has been heard until `now`, in seconds."""
        self.advance(now)
        return self._played_bytes / 2 / self.rate

    def queued_seconds(self, now: float) -> float:
        """Audio that has arrived and is still to be heard at `now`, in seconds."""
        self.advance(now)
        return self._queued_bytes / 2 / self.rate

    def voided_seconds(self) -> float:
        """Audio that arrived but was never heard, because it was interrupted, in seconds."""
        return self._voided_bytes / 2 / self.rate

    def rendered(self, now: float) -> bytes:
        """What was heard from the start until `now`: PCM with silence where nothing played."""
        self.advance(now)
        return bytes(self._tape)

    def _record(self, pcm: bytes) -> None:
        self._tape += pcm[: max(0, self._max_tape - len(self._tape))]
