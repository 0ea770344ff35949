"""A sound card of the tests: plays and records in real time, in a thread of its own."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

RATE = 48_000
BLOCK = RATE // 50 * 2
"""Bytes."""


class Card:
    """What `examples/microphone.py` needs of a sound card. The test speaks with `say` and hears `played`."""

    input_rate = RATE
    output_rate = RATE

    def __init__(self) -> None:
        self.played = bytearray()
        self.opened = threading.Event()
        self._stop = threading.Event()
        self._unplugged = threading.Event()
        self._said = b""
        self._lock = threading.Lock()

    @contextmanager
    def open(
        self, heard: Callable[[bytes], None], wanted: Callable[[int], bytes], gone: Callable[[], None]
    ) -> Iterator[None]:
        thread = threading.Thread(target=self._run, args=(heard, wanted, gone))
        thread.start()
        self.opened.set()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def say(self, pcm: bytes) -> None:
        """Something at the card's rate, into the microphone; silence follows."""
        with self._lock:
            self._said += pcm

    @property
    def silent(self) -> bool:
        """All was said."""
        return not self._said

    def unplug(self) -> None:
        self._unplugged.set()

    def speech_after(self, mark: int) -> float:
        """Seconds of sound that were played since the byte `mark`."""
        samples = np.frombuffer(bytes(self.played[mark:]), "<i2")
        return float(np.count_nonzero(np.abs(samples) > 50)) / RATE

    def quiet_for(self, seconds: float) -> bool:
        """The last seconds of what was played are silence."""
        last = bytes(self.played[-round(seconds * RATE) * 2 :])
        return not np.frombuffer(last, "<i2").any()

    def _run(self, heard: Callable[[bytes], None], wanted: Callable[[int], bytes], gone: Callable[[], None]) -> None:
        start, block = time.monotonic(), 0
        while not self._stop.is_set() and not self._unplugged.is_set():
            with self._lock:
                piece, self._said = self._said[:BLOCK], self._said[BLOCK:]
            heard(piece + bytes(BLOCK - len(piece)))
            pcm = wanted(BLOCK)
            assert len(pcm) == BLOCK
            self.played += pcm
            block += 1
            self._stop.wait(max(0.0, start + block / 50 - time.monotonic()))
        gone()  # also when it was closed, as PortAudio does
