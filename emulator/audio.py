"""PCM16 arithmetic that several modules share."""

import re

import numpy as np
import numpy.typing as npt

BYTES_PER_SAMPLE = 2
_RATE = re.compile(r"rate=(\d{4,6})\b")


def rate_of(mime_type: str, default: int = 16000) -> int:
    """The sampling rate that a blob's mime type states, as in ``audio/pcm;rate=16000``."""
    found = _RATE.search(mime_type)
    return int(found.group(1)) if found else default


def resample(pcm: bytes, source: int, target: int) -> bytes:
    """``pcm`` (mono PCM16, little-endian) at another rate, by its spectrum: all that the lower rate can carry is kept.

    Whole buffers only; a stream of small pieces goes through :class:`Resampler`.
    """
    if source == target or not pcm:
        return pcm
    samples = np.frombuffer(pcm[: len(pcm) // 2 * 2], dtype="<i2").astype(np.float64)
    # Silence up to a multiple of the source rate's tenth makes both transforms small products of primes, hence fast.
    block = max(1, source // 10)
    padded = -(-len(samples) // block) * block
    spectrum = np.fft.rfft(samples, padded)
    length = padded * target // source
    given = np.fft.irfft(_cut(spectrum, length // 2 + 1), length) * (length / padded)
    return _clip(given[: max(1, round(len(samples) * target / source))])


class Resampler:
    """A stream of PCM16 pieces at one rate, given out at another, with no seam between the pieces."""

    def __init__(self, source: int, target: int) -> None:
        self._step = source / target
        self._next = 0.0  # position of the next sample to give, counted from the first held one
        self._held: npt.NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self._odd = b""

    def feed(self, pcm: bytes) -> bytes:
        """What ``pcm`` adds to the output."""
        pcm = self._odd + pcm
        whole = len(pcm) // 2 * 2
        self._odd = pcm[whole:]
        samples = np.concatenate((self._held, np.frombuffer(pcm[:whole], dtype="<i2").astype(np.float32)))
        if len(samples) < 2:
            self._held = samples
            return b""
        count = max(0, int(np.floor((len(samples) - 1 - self._next) / self._step)) + 1)
        positions = self._next + np.arange(count) * self._step
        given = np.interp(positions, np.arange(len(samples)), samples)
        after = self._next + count * self._step
        keep_from = min(int(after), len(samples) - 1)
        self._held = samples[keep_from:]
        self._next = after - keep_from
        return _clip(given)


def loudness(pcm: bytes) -> float:
    """Root mean square of PCM16, 0 to 32767."""
    if len(pcm) < BYTES_PER_SAMPLE:
        return 0.0
    samples = np.frombuffer(pcm, dtype="<i2").astype(np.float32)
    return float(np.sqrt(np.mean(samples * samples)))


def _cut(spectrum: npt.NDArray[np.complex128], bins: int) -> npt.NDArray[np.complex128]:
    kept = np.zeros(bins, dtype=np.complex128)
    shared = min(bins, len(spectrum))
    kept[:shared] = spectrum[:shared]
    return kept


def _clip(samples: npt.NDArray[np.floating]) -> bytes:
    return np.clip(np.round(samples), -32768, 32767).astype("<i2").tobytes()
