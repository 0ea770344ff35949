"""Marks hidden in audio, so that what came through can be named frame by frame.

A mark takes the least significant bit of a frame's first 160 samples, which nobody hears and no recogniser minds:

======  ===========================================================
bits    meaning
======  ===========================================================
32      the sync pattern
16      stream: which caller, or which run of a test
32      number of the frame within its stream
16      length of the frame in samples
32      CRC-32 of the three fields above
32      CRC-32 of them and of all other bits of the frame
======  ===========================================================

It lives as long as the samples do: pieces of any size, base64 and gRPC leave it as it is; resampling, mixing and lossy
codecs remove it. A frame that is not whole has no mark. Audio that nobody marked shows a false one with a probability
of 2**-96 for each sample where lowest bits are random; a damaged frame passes as whole with one of 2**-32.
"""

import zlib
from dataclasses import dataclass

SHORTEST = 160
"""Samples a frame must have."""
LONGEST = 48000
"""Samples it may have."""
STREAMS = 1 << 16
FRAMES = 1 << 32

_WIDTH = 2  # bytes of a sample
_SYNC = 0x1ACFFC1D  # the attached sync marker of CCSDS 131.0-B: it does not resemble itself when shifted
_SYNC_BITS = format(_SYNC, "032b").encode()
_FIELDS = slice(32, 96)
_FIELDS_CHECK = slice(96, 128)
_CHECK = slice(128, 160)
_HEADER = SHORTEST * _WIDTH
_LOWEST_BIT = bytes(b"01"[byte & 1] for byte in range(256))
_CLEARED = bytes(byte & 0xFE for byte in range(256))
_ONE = bytes(byte & 1 for byte in range(256))


@dataclass(frozen=True, slots=True)
class Mark:
    """A marked frame that was found whole."""

    stream: int
    frame: int
    start: int
    """Bytes that the reader was fed before it."""
    size: int
    """Bytes."""

    @property
    def end(self) -> int:
        """Bytes that the reader was fed up to its end."""
        return self.start + self.size


def mark(pcm: bytes, *, stream: int, first: int, frame_ms: float = 20, rate: int = 16000) -> bytes:
    """``pcm`` (mono PCM16, little-endian) with a mark in each frame, numbered from ``first``.

    A rest that is shorter than a frame is a frame of its own, or left as it is where it has fewer than 160 samples.
    """
    length = round(rate * frame_ms / 1000)
    if not SHORTEST <= length <= LONGEST:
        raise ValueError(f"a marked frame has {SHORTEST} to {LONGEST} samples; {frame_ms} ms at {rate} Hz are {length}")
    size = length * _WIDTH
    count = -(-len(pcm) // size)
    if not 0 <= stream < STREAMS or first < 0 or first + count > FRAMES:
        raise ValueError(f"streams are numbered from 0 to {STREAMS - 1}, frames from 0 to {FRAMES - 1}")
    return b"".join(_marked(pcm[at : at + size], stream, first + at // size) for at in range(0, len(pcm), size))


class Reader:
    """Finds the marks in a stream of PCM16 that comes in pieces of any size.

    It holds back at most one frame; a piece without marks costs about two microseconds for 20 ms at 16 kHz.
    """

    def __init__(self, start: int = 0) -> None:
        self._held = b""
        self._start = start
        self._wanted = 0
        """Bytes that must be held before looking makes sense."""

    def feed(self, pcm: bytes) -> list[Mark]:
        """The marks of the frames that ``pcm`` completes."""
        data = self._held + pcm if self._held else pcm
        if len(data) < self._wanted:
            self._held = data
            return []
        found: list[Mark] = []
        samples = len(data) // _WIDTH
        bits = data[: samples * _WIDTH : _WIDTH].translate(_LOWEST_BIT)
        seen = self._wanted = 0
        while True:
            at = bits.find(_SYNC_BITS, seen)
            if at < 0:
                # The pattern may have begun at the end.
                seen = max(seen, samples - len(_SYNC_BITS) + 1)
                break
            if samples - at < SHORTEST:
                seen, self._wanted = at, _HEADER
                break
            header = bits[at : at + SHORTEST]
            fields = int(header[_FIELDS], 2)
            size = (fields & 0xFFFF) * _WIDTH
            if int(header[_FIELDS_CHECK], 2) != zlib.crc32(fields.to_bytes(8)):
                seen = at + 1
                continue
            frame = data[at * _WIDTH : at * _WIDTH + size]
            if len(frame) < size:
                seen, self._wanted = at, size
                break
            if int(header[_CHECK], 2) != _check(fields, frame):
                seen = at + 1
                continue
            found.append(Mark(fields >> 48, fields >> 16 & FRAMES - 1, self._start + at * _WIDTH, size))
            seen = at + size // _WIDTH
        self._held = data[seen * _WIDTH :]
        self._start += seen * _WIDTH
        return found


def _marked(frame: bytes, stream: int, number: int) -> bytes:
    samples = len(frame) // _WIDTH
    if samples < SHORTEST or len(frame) % _WIDTH:
        return frame
    fields = stream << 48 | number << 16 | samples
    header = _SYNC << 64 | fields
    for check in (zlib.crc32(fields.to_bytes(8)), _check(fields, frame)):
        header = header << 32 | check
    bits = format(header, f"0{SHORTEST}b").encode().translate(_ONE)
    lowest = int.from_bytes(frame[:_HEADER:_WIDTH].translate(_CLEARED)) | int.from_bytes(bits)
    marked = bytearray(frame)
    marked[:_HEADER:_WIDTH] = lowest.to_bytes(SHORTEST)
    return bytes(marked)


def _check(fields: int, frame: bytes) -> int:
    """Over everything but the lowest bits that the mark itself takes."""
    check = zlib.crc32(fields.to_bytes(8))
    check = zlib.crc32(frame[:_HEADER:_WIDTH].translate(_CLEARED), check)
    check = zlib.crc32(frame[1:_HEADER:_WIDTH], check)
    return zlib.crc32(frame[_HEADER:], check)
