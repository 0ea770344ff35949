"""Frames that say who sent them, which they are and when. Plain code.

A frame is PCM16 at 16 kHz as far as anybody on the way knows: 32 bytes of stamp (magic, number of the call, number of
the frame from 1, when it was due and when it was sent), then noise that must come back as it was.
"""

import random
import struct
from typing import Final, NamedTuple

SAMPLE_RATE: Final = 16_000
_LAYOUT: Final = struct.Struct("<4sIQqq")
_MAGIC: Final = b"\xfePBf"


class Stamp(NamedTuple):
    """What a frame says. Clocks are monotonic nanoseconds of this machine."""

    call: int
    seq: int
    due: int
    sent: int


class Stamper:
    """Makes and reads frames of one length."""

    def __init__(self, frame_ms: int) -> None:
        self.frame_bytes = SAMPLE_RATE * frame_ms // 1000 * 2
        # Noise, because nothing on the way may gain by it: no compression, no recognised words, no silence.
        self._body = random.Random(frame_ms).randbytes(self.frame_bytes - _LAYOUT.size)

    def frame(self, stamp: Stamp) -> bytes:
        """The frame."""
        return _LAYOUT.pack(_MAGIC, *stamp) + self._body

    def read(self, frame: bytes) -> Stamp | None:
        """The stamp; None when a byte of the frame is not as it was sent."""
        if len(frame) != self.frame_bytes or not frame.endswith(self._body):
            return None
        magic, call, seq, due, sent = _LAYOUT.unpack_from(frame)
        return Stamp(call, seq, due, sent) if magic == _MAGIC else None

    def split(self, pcm: bytes) -> list[bytes]:
        """The frames of a message: whoever is behind joins what waits. A rest that is no whole frame comes last."""
        size = self.frame_bytes
        return [pcm] if len(pcm) == size else [pcm[at : at + size] for at in range(0, len(pcm), size)]
