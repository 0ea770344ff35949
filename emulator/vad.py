"""Where speech begins and ends in the PCM heard: WebRTC's detector on 20 ms frames, a loudness gate, and hysteresis.

Time here is audio time, counted in frames heard; a caller that sends faster than real time changes nothing.
"""

from collections import deque
from dataclasses import dataclass

import webrtcvad

from emulator.audio import Resampler, loudness

RATE = 16000
FRAME_SECONDS = 0.02
FRAME_BYTES = int(RATE * FRAME_SECONDS) * 2
# Kept from before the onset beside the prefix, so that the recogniser hears a soft first sound.
_LOOK_BACK_FRAMES = 15
# Of the frames since the onset began, at least this part must be speech.
_DENSITY = 0.8


@dataclass(frozen=True)
class Sensitivity:
    """When speech is taken to begin and to end."""

    prefix: float = 0.06
    """Seconds of speech before an utterance begins."""
    silence: float = 0.5
    """Seconds of silence before it ends."""
    longest: float = 30.0
    """Seconds at which it ends in any case."""
    easy_start: bool = True
    easy_end: bool = True


@dataclass(frozen=True)
class SpeechStarted:
    """Somebody speaks."""

    at: float
    """Seconds of audio before the speech began."""


@dataclass(frozen=True)
class SpeechEnded:
    """Somebody has spoken."""

    pcm: bytes
    """The utterance at 16 kHz, with what was kept before it."""


Boundary = SpeechStarted | SpeechEnded


class Segmenter:
    """The state machine: one frame and whether it is speech at a time."""

    def __init__(self, sensitivity: Sensitivity) -> None:
        self._needed = max(1, round(sensitivity.prefix / FRAME_SECONDS))
        self._patience = max(1, round(sensitivity.silence / FRAME_SECONDS))
        self._longest = max(1, round(sensitivity.longest / FRAME_SECONDS))
        window = max(self._needed, round(self._needed / _DENSITY))
        self._recent: deque[bool] = deque(maxlen=window)
        self._before: deque[bytes] = deque(maxlen=_LOOK_BACK_FRAMES + window)
        self._speech: list[bytes] = []
        self._quiet = 0
        self._frames = 0
        self.speaking = False

    def push(self, frame: bytes, voiced: bool) -> Boundary | None:
        """What ``frame`` changes."""
        self._frames += 1
        if self.speaking:
            self._speech.append(frame)
            self._quiet = 0 if voiced else self._quiet + 1
            if self._quiet >= self._patience or len(self._speech) >= self._longest:
                return self._end()
            return None
        self._recent.append(voiced)
        self._before.append(frame)
        if not voiced or sum(self._recent) < self._needed:
            return None
        onset = self._frames - len(self._recent) + self._recent.index(True)
        self.speaking, self._quiet = True, 0
        self._speech = list(self._before)
        self._before.clear()
        self._recent.clear()
        return SpeechStarted(at=round(onset * FRAME_SECONDS, 3))

    def flush(self) -> Boundary | None:
        """The stream paused: speech that has begun is over."""
        return self._end() if self.speaking else None

    def _end(self) -> SpeechEnded:
        pcm = b"".join(self._speech)
        self.speaking, self._speech, self._quiet = False, [], 0
        return SpeechEnded(pcm)


class Detector:
    """The segmenter fed with PCM of any rate in pieces of any size."""

    def __init__(self, sensitivity: Sensitivity, gate: float) -> None:
        self._segmenter = Segmenter(sensitivity)
        # 0 takes almost anything for speech, 3 very little.
        self._opening = webrtcvad.Vad(2 if sensitivity.easy_start else 3)
        self._closing = webrtcvad.Vad(2 if sensitivity.easy_end else 1)
        self._gate = gate
        self._rate = RATE
        self._resampler: Resampler | None = None
        self._pending = b""

    @property
    def speaking(self) -> bool:
        """Whether an utterance is under way."""
        return self._segmenter.speaking

    def feed(self, pcm: bytes, rate: int) -> list[Boundary]:
        """The boundaries in ``pcm``."""
        if rate != self._rate:
            self._rate, self._pending = rate, b""
            self._resampler = None if rate == RATE else Resampler(rate, RATE)
        self._pending += self._resampler.feed(pcm) if self._resampler else pcm
        found = []
        whole = len(self._pending) // FRAME_BYTES * FRAME_BYTES
        for start in range(0, whole, FRAME_BYTES):
            frame = self._pending[start : start + FRAME_BYTES]
            if boundary := self._segmenter.push(frame, self._voiced(frame)):
                found.append(boundary)
        self._pending = self._pending[whole:]
        return found

    def flush(self) -> list[Boundary]:
        """The boundaries that a pause of the stream makes."""
        self._pending = b""
        boundary = self._segmenter.flush()
        return [boundary] if boundary else []

    def _voiced(self, frame: bytes) -> bool:
        detector = self._closing if self._segmenter.speaking else self._opening
        return bool(detector.is_speech(frame, RATE)) and loudness(frame) >= self._gate
