"""Audio that waits to be heard: bounded, each piece with the number of the message that brought it."""

from collections import deque

from parley import events


class PcmQueue:
    """First in, first out, by bytes. No clock, no lock; counts what was taken, voided and dropped, in bytes."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # The first piece is cut as it is taken; a view makes that free.
        self._pieces: deque[tuple[int, memoryview]] = deque()
        self.queued = 0
        self.taken = 0
        self.voided = 0
        self.dropped = 0

    def add(self, seq: int, pcm: bytes) -> None:
        """Queues a piece of message `seq`. What does not fit is dropped whole, so that what waits stays as it is."""
        if self.queued + len(pcm) > self._max_bytes:
            self.dropped += len(pcm)
        elif pcm:
            self._pieces.append((seq, memoryview(pcm)))
            self.queued += len(pcm)

    def take(self, n_bytes: int) -> bytes:
        """The next `n_bytes`, or what there is."""
        taken = []
        left = n_bytes
        while left > 0 and self._pieces:
            seq, pcm = self._pieces[0]
            taken.append(pcm[:left])
            if len(pcm) > left:
                self._pieces[0] = (seq, pcm[left:])
            else:
                self._pieces.popleft()
            left -= len(taken[-1])
        count = n_bytes - left
        self.queued -= count
        self.taken += count
        return b"".join(taken)

    def void(self, event: events.Interrupted) -> None:
        """Drops what the interruption takes back."""
        kept: deque[tuple[int, memoryview]] = deque()
        for seq, pcm in self._pieces:
            if event.takes_back(seq):
                self.queued -= len(pcm)
                self.voided += len(pcm)
            else:
                kept.append((seq, pcm))
        self._pieces = kept

    def clear(self) -> None:
        """Drops everything; counts as voided."""
        self._pieces.clear()
        self.voided += self.queued
        self.queued = 0
