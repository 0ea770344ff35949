"""What a listener hears: a queue for a sound card, and a model of a loudspeaker for whoever has none."""

import threading
from dataclasses import dataclass

from parley import events
from parley._pcm_queue import PcmQueue
from parley.audio import Resampler


@dataclass(frozen=True, slots=True)
class PlayoutStats:
    """Seconds of speech, from the beginning until now."""

    queued: float
    """Waits to be played."""
    played: float
    """Was given to the sound card; it is heard when the card's own buffer has passed."""
    voided: float
    """Was interrupted before it was played."""
    dropped: float
    """Did not fit into the queue."""


class PlayoutQueue:
    """The model's speech between a session and a sound card.

        queue = parley.PlayoutQueue(rate=48_000)
        ...
        async for event in session:     # in the event loop
            queue.feed(event)
        ...
        outdata[:] = queue.read(len(outdata))   # in the sound card's callback, in a thread of its own

    `Interrupted` empties it at once. Speech that follows silence starts when `prefill_seconds` of it are queued, or
    have been waited for, so that pieces that arrive unevenly do not crackle. An answer comes faster than it plays, so
    much may wait; what would exceed `max_seconds` is dropped as it arrives, and counted.

    `feed` belongs to one thread; everything may be called while another thread reads.
    """

    def __init__(self, *, rate: int = 24_000, prefill_seconds: float = 0.06, max_seconds: float = 300.0) -> None:
        """`rate` is the sound card's, in samples a second; other than the model's 24000, `parley[audio]` is needed.

        ValueError: a rate outside of 8000 to 192000, or a prefill that is negative or does not fit into `max_seconds`.
        MissingExtra, from `feed` too: the extra is needed and not installed.
        """
        if not 0 <= prefill_seconds < max_seconds:
            raise ValueError(f"prefill_seconds must be 0 to less than {max_seconds:g}, not {prefill_seconds:g}")
        self.rate = rate
        self._resampler = Resampler(24_000, rate)
        self._prefill = self._bytes(prefill_seconds)
        self._queue = PcmQueue(max_bytes=self._bytes(max_seconds))
        self._lock = threading.Lock()
        self._newest = 0
        self._filling = True
        """Silence is played until enough is queued."""
        self._waited = 0
        """Bytes of silence played while something was queued."""

    @property
    def stats(self) -> PlayoutStats:
        """Counters as they are now."""
        with self._lock:
            queue = self._queue
            counts = (queue.queued, queue.taken, queue.voided, queue.dropped)
        return PlayoutStats(*(count / 2 / self.rate for count in counts))

    def feed(self, event: events.Event) -> None:
        """Takes the next event of the session: queues its audio, empties the queue, or does nothing."""
        match event:
            case events.Audio(seq=seq, pcm=pcm, rate=rate):
                if rate != self._resampler.source:
                    self._finish_stream()
                    self._resampler = Resampler(rate, self.rate)
                self._newest = seq
                self._add(self._resampler.push(pcm))
            case events.Interrupted():
                if event.takes_back(self._newest):
                    self._resampler.reset()
                with self._lock:
                    self._queue.void(event)
            case events.GenerationComplete() | events.TurnComplete():
                self._finish_stream()

    def clear(self) -> None:
        """Empties the queue, for a listener who presses stop; belongs to the thread that feeds."""
        self._resampler.reset()
        with self._lock:
            self._queue.clear()

    def read(self, n_bytes: int) -> bytes:
        """Exactly the next `n_bytes` of PCM at `rate`, 16 bit mono, with silence where there is no speech.

        Never waits for more than the lock. ValueError: an odd number.
        """
        if n_bytes < 0 or n_bytes % 2:
            raise ValueError(f"whole 16 bit samples are read; not {n_bytes} bytes")
        with self._lock:
            if self._filling and not self._may_start(n_bytes):
                return bytes(n_bytes)
            pcm = self._queue.take(n_bytes)
            self._filling = len(pcm) < n_bytes
            self._waited = 0
        return pcm + bytes(n_bytes - len(pcm))

    def _may_start(self, n_bytes: int) -> bool:
        if not self._queue.queued:
            self._waited = 0
            return False
        if self._queue.queued >= self._prefill or self._waited >= self._prefill:
            return True
        self._waited += n_bytes
        return False

    def _finish_stream(self) -> None:
        """Queues what the resampler still holds of an answer."""
        self._add(self._resampler.flush())

    def _add(self, pcm: bytes) -> None:
        with self._lock:
            self._queue.add(self._newest, pcm)

    def _bytes(self, seconds: float) -> int:
        return round(seconds * self.rate) * 2


class Playout:
    """Plays 16 bit mono PCM in real time on a clock that the caller owns, and keeps what was heard.

    Audio that arrives is queued and plays as soon as what is before it has played; `interrupted` empties
    the queue, so what a listener never heard is not in `rendered`. Times are seconds of any monotonic clock and
    must not go back. Bounds: `max_seconds` of recording; past it the oldest recording is kept, later audio still plays
    (counts) but is no longer recorded. `QUEUE_SECONDS` may be queued; audio beyond that is dropped.
    """

    QUEUE_SECONDS = 1800.0

    def __init__(self, *, now: float, rate: int = 24_000, max_seconds: float = 1800.0) -> None:
        """`now` is when the loudspeaker is switched on and `rendered` begins; `rate` is in samples a second."""
        self.rate = rate
        self._start = now
        self._time = now
        self._max_tape = int(max_seconds * rate) * 2
        self._queue = PcmQueue(max_bytes=int(self.QUEUE_SECONDS * rate) * 2)
        self._tape = bytearray()

    def add(self, event: events.Audio, now: float) -> None:
        """Queues audio that arrived at `now`. ValueError: another sample rate than the loudspeaker's."""
        if event.rate != self.rate:
            raise ValueError(f"audio at {event.rate} Hz on a playout of {self.rate} Hz")
        self.advance(now)
        self._queue.add(event.seq, event.pcm)

    def interrupted(self, event: events.Interrupted, now: float) -> None:
        """Empties the queue at `now`: of what came before the interruption, and of what it names as void."""
        self.advance(now)
        self._queue.void(event)

    def advance(self, now: float) -> None:
        """Plays up to `now`; silence where the queue is empty."""
        # Counted from the start, not from the last call, so that rounding to samples never adds up.
        due = (round((now - self._start) * self.rate) - round((self._time - self._start) * self.rate)) * 2
        if due <= 0:
            return
        self._time = now
        pcm = self._queue.take(due)
        self._record(pcm)
        self._record(bytes(max(0, min(due - len(pcm), self._max_tape - len(self._tape)))))

    def played_seconds(self, now: float) -> float:
        """Audio, not silence, that has been heard until `now`, in seconds."""
        self.advance(now)
        return self._queue.taken / 2 / self.rate

    def queued_seconds(self, now: float) -> float:
        """Audio that has arrived and is still to be heard at `now`, in seconds."""
        self.advance(now)
        return self._queue.queued / 2 / self.rate

    def voided_seconds(self) -> float:
        """Audio that arrived but was never heard, because it was interrupted, in seconds."""
        return self._queue.voided / 2 / self.rate

    def rendered(self, now: float) -> bytes:
        """What was heard from the start until `now`: PCM with silence where nothing played."""
        self.advance(now)
        return bytes(self._tape)

    def _record(self, pcm: bytes) -> None:
        self._tape += pcm[: max(0, self._max_tape - len(self._tape))]
