"""PCM16 arithmetic that several modules share."""

import math
import re
from functools import lru_cache

import numpy as np
import numpy.typing as npt

# Made once: from its name it takes longer than what is done with it.
_PCM16 = np.dtype("<i2")
BYTES_PER_SAMPLE = 2
_RATE = re.compile(r"\brate=(\d+)")
# Of the resampler's filter: zero crossings to each side, what it lets pass of what the lower rate can carry, and how
# many places between two samples are told apart.
_CROSSINGS = 12
_PASSED = 0.95
_PLACES = 256


def rate_of(mime_type: str, default: int = 16000) -> int:
    """The sampling rate that a blob's mime type states, as in ``audio/pcm;rate=16000``."""
    found = _RATE.search(mime_type)
    # Of more digits than any rate has, the first are as wrong as all of them.
    return int(found.group(1)[:12]) if found else default


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
    """A stream of PCM16 pieces at one rate, given out at another, with no seam between the pieces.

    By a windowed sinc, so that speech keeps its high sounds and sounds that the lower rate cannot carry do not come
    back as others. What comes out is not late, but the last few samples wait for those behind them.
    """

    def __init__(self, source: int, target: int) -> None:
        common = math.gcd(source, target)
        self._source, self._target = source // common, target // common
        width = _taps(self._source, self._target).shape[1]
        self._held: npt.NDArray[np.float32] = np.zeros(width // 2 - 1, dtype=np.float32)
        self._next = 0
        """Position of the next sample to give, counted from the first one held, in parts of the target rate."""
        self._odd = b""

    def feed(self, pcm: bytes) -> bytes:
        """What ``pcm`` adds to the output."""
        pcm = self._odd + pcm
        whole = len(pcm) // BYTES_PER_SAMPLE * BYTES_PER_SAMPLE
        self._odd = pcm[whole:]
        samples = np.concatenate((self._held, np.frombuffer(pcm[:whole], dtype="<i2").astype(np.float32)))
        taps = _taps(self._source, self._target)
        phases, width = taps.shape
        reach = (len(samples) - width + 1) * self._target
        count = max(0, -(-(reach - self._next) // self._source))
        if count == 0:
            self._held = samples
            return b""
        positions = self._next + self._source * np.arange(count)
        windows = np.lib.stride_tricks.sliding_window_view(samples, width)[positions // self._target]
        given = np.einsum("ij,ij->i", windows, taps[positions % self._target * phases // self._target])
        after = self._next + self._source * count
        self._held = samples[after // self._target :]
        self._next = after % self._target
        return _clip(given)


class Intake:
    """A stream of PCM16 whose rate may change from piece to piece, given out at one rate in whole samples."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._rate = target
        self._resampler: Resampler | None = None
        self._odd = b""

    def feed(self, pcm: bytes, rate: int) -> bytes:
        """What ``pcm`` adds to the output. Half a sample at its end waits for the other half."""
        if rate != self._rate:
            self._rate, self._odd = rate, b""
            self._resampler = None if rate == self._target else Resampler(rate, self._target)
        if self._resampler is not None:
            return self._resampler.feed(pcm)
        if not self._odd and len(pcm) % BYTES_PER_SAMPLE == 0:
            return pcm
        pcm = self._odd + pcm
        whole = len(pcm) // BYTES_PER_SAMPLE * BYTES_PER_SAMPLE
        self._odd = pcm[whole:]
        return pcm[:whole]


def loudness(pcm: bytes) -> float:
    """Root mean square of PCM16, 0 to 32767."""
    if len(pcm) < BYTES_PER_SAMPLE:
        return 0.0
    samples = np.frombuffer(pcm, _PCM16).astype(np.float32)
    return math.sqrt(float(samples @ samples) / len(samples))


@lru_cache(maxsize=32)
def _taps(source: int, target: int) -> npt.NDArray[np.float32]:
    """The filter at each place that a sample to give can have between two given ones: places, taps."""
    slower = max(1.0, source / target)
    half = math.ceil(_CROSSINGS * slower)
    places = min(target, _PLACES)
    times = np.arange(1 - half, half + 1) - np.arange(places)[:, None] / places
    taps = np.sinc(times * _PASSED / slower) * np.cos(np.pi / 2 * times / (half + 1)) ** 2
    even: npt.NDArray[np.float32] = (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32)
    return even


def _cut(spectrum: npt.NDArray[np.complex128], bins: int) -> npt.NDArray[np.complex128]:
    kept = np.zeros(bins, dtype=np.complex128)
    shared = min(bins, len(spectrum))
    kept[:shared] = spectrum[:shared]
    return kept


def _clip(samples: npt.NDArray[np.floating]) -> bytes:
    return np.clip(np.round(samples), -32768, 32767).astype("<i2").tobytes()
