"""Another sample rate for PCM that arrives in pieces; needs the extra `parley[audio]`."""

from typing import Any

from parley.errors import MissingExtra

LOWEST_RATE = 8_000
HIGHEST_RATE = 192_000


class Resampler:
    """Mono PCM, 16 bit signed little endian, from one sample rate to another, piece by piece.

    The pieces of a stream may have any length: what comes out, put together, is the same to the bit as if it had come
    in one piece. It is some 10 to 15 ms behind what went in (30 ms from 8000 Hz); `flush` gives the rest. One instance
    for one stream in one direction, used by one thread at a time. With equal rates it hands on what it gets.
    """

    def __init__(self, source: int, target: int) -> None:
        """Samples a second, 8000 to 192000, e.g. 44100. ValueError: others. MissingExtra: soxr is not installed."""
        for rate in (source, target):
            if not LOWEST_RATE <= rate <= HIGHEST_RATE:
                raise ValueError(f"a sample rate must be {LOWEST_RATE} to {HIGHEST_RATE} Hz, not {rate}")
        self.source = source
        self.target = target
        self._stream = None if source == target else _open(source, target)

    def push(self, pcm: bytes) -> bytes:
        """What is ready after `pcm`, possibly nothing. ValueError: an odd number of bytes."""
        if len(pcm) % 2:
            raise ValueError(f"audio must be whole 16 bit samples; got {len(pcm)} bytes")
        return bytes(pcm) if self._stream is None else _run(self._stream, pcm, last=False)

    def flush(self) -> bytes:
        """The rest of the stream; the next piece begins a new one."""
        if self._stream is None:
            return b""
        rest = _run(self._stream, b"", last=True)
        self._stream.clear()
        return rest

    def reset(self) -> None:
        """Forgets the stream; the next piece begins a new one."""
        if self._stream is not None:
            self._stream.clear()


def _run(stream: Any, pcm: bytes, *, last: bool) -> bytes:
    import numpy as np

    # Float inside: on 16 bit samples soxr adds dither, which differs with the length of the pieces.
    samples = np.frombuffer(pcm, dtype="<i2").astype(np.float32)
    resampled = stream.resample_chunk(samples, last=last)
    return bytes(np.clip(np.rint(resampled), -32_768, 32_767).astype("<i2").tobytes())


def _open(source: int, target: int) -> Any:
    try:
        import soxr
    except ImportError as error:
        raise MissingExtra("audio", "resampling") from error
    # Variable rate only because its filters work sample by sample: 12 ms behind at 48 to 16 kHz, where the fixed ones,
    # which work in blocks, are 37 ms behind. Pass band and noise are as good (tests/client/test_audio.py).
    return soxr.ResampleStream(source, target, 1, dtype="float32", quality="HQ", vr=True)
