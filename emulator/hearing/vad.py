"""Where speech begins and ends in the PCM heard: WebRTC's detector on 20 ms frames, a loudness gate, and hysteresis.

Time here is audio time, counted in what was sent; a caller that sends faster than real time changes nothing, and one
that stops sending is not silent: silence is heard, too.
"""

import copy
from collections import deque
from dataclasses import dataclass, replace

import webrtcvad

from emulator.audio import BYTES_PER_SAMPLE, Intake, loudness
from emulator.session.handles import Hearing

RATE = 16000
FRAME_SECONDS = 0.02
FRAME_BYTES = int(RATE * FRAME_SECONDS) * BYTES_PER_SAMPLE
_TRAIL_FRAMES = 8
# Of the frames since the onset began, at least this part must be speech.
_DENSITY = 0.8
# WebRTC's modes: 0 takes almost anything for speech, 3 very little.
_OPENING_MODES = {True: 2, False: 3}
_CLOSING_MODES = {True: 2, False: 1}
# What the loudness gate is multiplied by where speech is to begin less readily, and where it is to end less readily.
_HARD_START = 4.0
_HARD_END = 0.5

# A muted microphone. WebRTC's detector learns nothing from it, and after so many frames no longer calls it speech for
# the sake of what came before: asking it is vain.
_NOTHING = bytes(FRAME_BYTES)
_HANGOVER_FRAMES = 20


@dataclass(frozen=True)
class Sensitivity:
    """When speech is taken to begin and to end."""

    prefix: float = 0.06
    """Seconds of speech before an utterance begins."""
    look_back: float = 0.3
    """Seconds kept from before the onset: a recogniser wants to hear a soft first sound."""
    silence: float = 0.5
    """Seconds of silence before it ends."""
    longest: float = 30.0
    """Seconds at which it ends in any case."""
    easy_start: bool = True
    """Whether faint speech is speech (HIGH); otherwise it begins four times as loud (LOW)."""
    easy_end: bool = True
    """Whether faint speech ends an utterance like silence (HIGH); otherwise it goes on at half the loudness (LOW)."""


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
    at: float
    """Seconds of audio before the silence that ended it."""


Boundary = SpeechStarted | SpeechEnded


class Segmenter:
    """The state machine: one frame and whether it is speech at a time."""

    def __init__(self, sensitivity: Sensitivity) -> None:
        self._needed = max(1, round(sensitivity.prefix / FRAME_SECONDS))
        self._patience = max(1, round(sensitivity.silence / FRAME_SECONDS))
        self._longest = max(1, round(sensitivity.longest / FRAME_SECONDS))
        self._look_back = round(sensitivity.look_back / FRAME_SECONDS)
        window = max(self._needed, round(self._needed / _DENSITY))
        self._recent: deque[bool] = deque(maxlen=window)
        self._before: deque[bytes] = deque(maxlen=self._look_back + window)
        self._speech: list[bytes] = []
        self._quiet = 0
        self._frames = 0
        self.padding = 0.0
        """Seconds in the frames that were not heard: what pauses of the stream have filled up."""
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
        spoken = len(self._recent) - self._recent.index(True)
        self.speaking, self._quiet = True, 0
        self._speech = list(self._before)[-(spoken + self._look_back) :]
        self._forget()
        return SpeechStarted(at=self._time(self._frames - spoken))

    def flush(self) -> Boundary | None:
        """The stream paused: speech that has begun is over, and what comes next has nothing before it."""
        self._forget()
        return self._end() if self.speaking else None

    def so_far(self) -> bytes:
        """The utterance under way."""
        return b"".join(self._speech)

    @property
    def frames_so_far(self) -> int:
        """Its length."""
        return len(self._speech)

    @property
    def sounded(self) -> float:
        """Seconds of audio before the silence that it has come to, if any."""
        return self._time(self._frames - self._quiet)

    def memory(self) -> Hearing:
        """What it goes by."""
        speech = tuple(self._speech) if self.speaking else None
        return Hearing(recent=tuple(self._before), voiced=tuple(self._recent), speech=speech, quiet=self._quiet)

    def recall(self, hearing: Hearing) -> None:
        """Go on where another one was. Time counts anew."""
        self._before.extend(hearing.recent)
        self._recent.extend(hearing.voiced)
        self.speaking, self._speech = hearing.speech is not None, list(hearing.speech or ())
        self._quiet = hearing.quiet

    def _time(self, frames: int) -> float:
        """Never before this connection's audio, wherever speech began."""
        return round(max(0.0, frames * FRAME_SECONDS - self.padding), 3)

    def _forget(self) -> None:
        self._before.clear()
        self._recent.clear()

    def _end(self) -> SpeechEnded:
        # Of the silence that ended it, the recogniser needs no more than this.
        spoken = max(0, len(self._speech) - max(0, self._quiet - _TRAIL_FRAMES))
        ended = SpeechEnded(b"".join(self._speech[:spoken]), at=self.sounded)
        self.speaking, self._speech, self._quiet = False, [], 0
        return ended


class Detector:
    """The segmenter fed with PCM of any rate in pieces of any size."""

    def __init__(self, sensitivity: Sensitivity, gate: float) -> None:
        self._segmenter = Segmenter(sensitivity)
        self._opening = webrtcvad.Vad(_OPENING_MODES[sensitivity.easy_start])
        self._closing = webrtcvad.Vad(_CLOSING_MODES[sensitivity.easy_end])
        self._opening_gate = gate * (1.0 if sensitivity.easy_start else _HARD_START)
        self._closing_gate = gate * (1.0 if sensitivity.easy_end else _HARD_END)
        self._intake = Intake(RATE)
        self._muted = 0
        """Frames in a row without any sound."""
        self._pending = b""

    @property
    def speaking(self) -> bool:
        """Whether an utterance is under way."""
        return self._segmenter.speaking

    @property
    def seconds_so_far(self) -> float:
        """Length of the utterance under way."""
        return self._segmenter.frames_so_far * FRAME_SECONDS

    @property
    def sounded(self) -> float:
        """Seconds of audio up to the newest speech of it."""
        return self._segmenter.sounded

    def so_far(self) -> bytes:
        """The utterance under way, at 16 kHz."""
        return self._segmenter.so_far()

    def memory(self) -> Hearing:
        """What it goes by; what the model of background noise has learnt is not part of it."""
        return replace(self._segmenter.memory(), rest=self._pending, intake=copy.deepcopy(self._intake))

    def recall(self, hearing: Hearing) -> None:
        """Go on where another one was."""
        self._segmenter.recall(hearing)
        self._pending = hearing.rest
        if hearing.intake is not None:
            self._intake = copy.deepcopy(hearing.intake)

    def feed(self, pcm: bytes, rate: int) -> list[Boundary]:
        """The boundaries in ``pcm``."""
        self._pending += self._intake.feed(pcm, rate)
        whole = len(self._pending) // FRAME_BYTES * FRAME_BYTES
        found = self._push(self._pending[:whole])
        self._pending = self._pending[whole:]
        return found

    def flush(self) -> list[Boundary]:
        """The boundaries that a pause of the stream makes."""
        # The last frame is filled up, so that audio time does not lose what has been sent of it.
        found = self._push(self._pending.ljust(FRAME_BYTES, b"\0")) if self._pending else []
        boundary = self._segmenter.flush()
        if self._pending:
            self._segmenter.padding += FRAME_SECONDS - len(self._pending) / (BYTES_PER_SAMPLE * RATE)
            self._pending = b""
        return [*found, boundary] if boundary else found

    def _push(self, pcm: bytes) -> list[Boundary]:
        found = []
        for start in range(0, len(pcm), FRAME_BYTES):
            frame = pcm[start : start + FRAME_BYTES]
            if boundary := self._segmenter.push(frame, self._voiced(frame)):
                found.append(boundary)
        return found

    def _voiced(self, frame: bytes) -> bool:
        if frame == _NOTHING:
            self._muted += 1
            if self._muted > _HANGOVER_FRAMES:
                return False
        else:
            self._muted = 0
        if self._segmenter.speaking:
            detector, gate = self._closing, self._closing_gate
        else:
            detector, gate = self._opening, self._opening_gate
        return bool(detector.is_speech(frame, RATE)) and loudness(frame) >= gate
