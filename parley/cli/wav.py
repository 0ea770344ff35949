"""WAV files in and out: 16 bit PCM mono, brought to the rate that a session expects."""

import array
import math
import sys
import wave
from operator import mul
from pathlib import Path

from parley.cli._failures import CliError

_ZERO_CROSSINGS = 12
"""Half-width of the resampler's kernel; 12 keeps what it folds back below -60 dB, far below what a VAD hears."""


def read_wav(path: Path, rate: int = 16_000) -> bytes:
    """The samples of a file at `rate`. CliError says what is wrong with the file and what would be right."""
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, own_rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            pcm = file.readframes(file.getnframes())
    except FileNotFoundError:
        raise CliError(f"there is no file {path}") from None
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}") from None
    except (wave.Error, EOFError) as error:
        # The module says nothing when the file ends before its header does.
        raise CliError(f"{path} is no PCM WAV file: {str(error) or _why_short(path)}") from None
    if channels != 1 or width != 2 or not 8000 <= own_rate <= 48_000:
        raise CliError(
            f"{path} has {channels} channel(s) of {8 * width} bit at {own_rate} Hz; wanted is 16 bit PCM, mono, at "
            f"8000 to 48000 Hz (sox {path} -b 16 -c 1 -r {rate} OUT.wav)"
        )
    # A file that was cut off may end within a sample.
    pcm = pcm[: len(pcm) // width * width]
    if not pcm:
        raise CliError(f"{path} has no sound: it is a WAV file without samples")
    return resample(pcm, own_rate, rate)


def write_wav(path: Path, pcm: bytes, rate: int) -> None:
    """Writes 16 bit mono samples; missing folders are made. CliError when the place cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(pcm)
    except OSError as error:
        raise CliError(f"cannot write {path}: {error.strerror}") from None


def resample(pcm: bytes, source: int, target: int) -> bytes:
    """16 bit mono samples at another rate, by a windowed sinc (polyphase); same rate: the same bytes."""
    if source == target:
        return pcm
    divisor = math.gcd(source, target)
    up, down = target // divisor, source // divisor
    # Below both Nyquist limits, in cycles per input sample.
    cutoff = min(1.0, target / source)
    reach = math.ceil(_ZERO_CROSSINGS / cutoff)
    phases = [_kernel(phase / up, cutoff, reach) for phase in range(up)]
    samples = _samples(pcm)
    padded = array.array("d", [0.0] * reach + list(samples) + [0.0] * (reach + 1))
    out = array.array("h")
    for index in range(len(samples) * up // down):
        at, phase = divmod(index * down, up)
        value = sum(map(mul, padded[at : at + 2 * reach + 1], phases[phase]))
        out.append(max(-32_768, min(32_767, round(value))))
    if sys.byteorder == "big":
        out.byteswap()
    return out.tobytes()


def speech_end(pcm: bytes, frame_bytes: int, *, floor: float = 0.02) -> int:
    """Bytes until the end of the last frame whose peak is above `floor` of the loudest one; 0 for silence.

    Recordings end in some silence; waiting for an answer begins where the voice ended.
    """
    samples = _samples(pcm)
    loudest = max(map(abs, samples), default=0)
    frame = frame_bytes // 2
    for start in range((len(samples) - 1) // frame * frame, -1, -frame):
        if loudest and max(map(abs, samples[start : start + frame])) > loudest * floor:
            return min(len(pcm), (start + frame) * 2)
    return 0


def _why_short(path: Path) -> str:
    return "it ends within its header" if path.stat().st_size else "it is empty (0 bytes)"


def _samples(pcm: bytes) -> "array.array[int]":
    samples = array.array("h")
    samples.frombytes(pcm)
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def _kernel(offset: float, cutoff: float, reach: int) -> list[float]:
    """Weights of 2 * reach + 1 input samples for an output `offset` samples after the middle one; they add up to 1."""
    weights = []
    for tap in range(-reach, reach + 1):
        distance = tap - offset
        x = math.pi * distance * cutoff
        sinc = 1.0 if abs(x) < 1e-12 else math.sin(x) / x
        window = 0.5 + 0.5 * math.cos(math.pi * distance / (reach + 1)) if abs(distance) <= reach + 1 else 0.0
        weights.append(sinc * window)
    total = sum(weights)
    return [weight / total for weight in weights]
