"""The caller's voice as it comes in: what of it is speech, by detection or by the caller's own markers."""

import copy
from dataclasses import replace

from emulator import texts
from emulator.audio import BYTES_PER_SAMPLE, Intake, rate_of
from emulator.configuration.setup import Config
from emulator.hearing.vad import RATE, Boundary, Detector, Sensitivity, SpeechEnded, SpeechStarted
from emulator.session.handles import Hearing

_RATES = range(8000, 48001)
# The first guess at an utterance, and how much longer it must be for the next: so that all guesses together cost four
# times what understanding it costs, however long it is.
_FIRST_GUESS_SECONDS = 0.5
_GUESS_GROWTH = 1.25


def sensitivity(config: Config) -> Sensitivity:
    """When speech begins and ends: as the setup says, else as the switches do."""
    wanted, switches = config.detection, config.switches
    found = Sensitivity(
        prefix=switches.vad_prefix.total_seconds(),
        silence=switches.vad_silence.total_seconds(),
        longest=switches.max_utterance.total_seconds(),
        easy_start=wanted.easy_start,
        easy_end=wanted.easy_end,
    )
    if wanted.silence_ms is not None and switches.silence_duration == "honoured":
        found = replace(found, silence=wanted.silence_ms / 1000)
    if wanted.prefix_ms is None:
        return found
    padding = wanted.prefix_ms / 1000
    match switches.prefix_padding:
        case "minimum":
            return replace(found, prefix=padding)
        case "look_back":
            return replace(found, look_back=padding)
        case "both":
            # Never less than a recogniser wants before the first sound.
            return replace(found, prefix=padding, look_back=max(padding, found.look_back))


class Listener:
    """From pieces of audio to the boundaries of speech. Time is that of the audio, but for a caller that stalls."""

    def __init__(self, config: Config) -> None:
        wanted = sensitivity(config)
        self._detector = Detector(wanted, config.switches.vad_loudness)
        self._marked = config.detection.manual
        self._keeps_all = config.turn_coverage == "all input"
        self._flushes = config.switches.audio_stream_end == "flushed"
        self._patience = wanted.silence if config.switches.stalled_speech == "ends" else None
        self._longest = int(wanted.longest * RATE) * BYTES_PER_SAMPLE
        self._intake = Intake(RATE)
        self._activity: bytearray | None = None
        """What was heard since activityStart."""
        self._outside = bytearray()
        """What was heard since the last activity, where a turn includes it."""
        self._last_audio = 0.0
        self._type = ""
        self.rate = RATE
        """Of the latest piece."""
        self._next_guess = _FIRST_GUESS_SECONDS
        self.seconds = 0.0
        """Audio sent on this connection."""

    def memory(self) -> Hearing:
        """What is being heard."""
        if not self._marked:
            return self._detector.memory()
        speech = None if self._activity is None else (bytes(self._activity),)
        return Hearing(marked=True, recent=(bytes(self._outside),), speech=speech, intake=copy.deepcopy(self._intake))

    def recall(self, hearing: Hearing) -> None:
        """Go on hearing where another connection was, unless this one goes by something else."""
        if hearing.marked != self._marked:
            return
        if not self._marked:
            self._detector.recall(hearing)
            return
        self._outside = bytearray().join(hearing.recent)
        self._activity = None if hearing.speech is None else bytearray().join(hearing.speech)
        if hearing.intake is not None:
            self._intake = copy.deepcopy(hearing.intake)

    @property
    def speaking(self) -> bool:
        """Whether speech is under way."""
        return self._activity is not None if self._marked else self._detector.speaking

    @property
    def sounded(self) -> float:
        """Seconds of audio up to the newest sound of the speech under way."""
        return self.seconds if self._marked else self._detector.sounded

    @property
    def deadline(self) -> float | None:
        """When a caller that sends no more has stalled."""
        waits = self._patience is not None and not self._marked and self._detector.speaking
        return self._last_audio + (self._patience or 0.0) if waits else None

    def hear(self, pcm: bytes, mime_type: str, now: float) -> list[Boundary]:
        """The boundaries in a piece of audio. Raises :class:`emulator.errors.Refusal` for what is no PCM."""
        if mime_type != self._type:
            # Hardly ever: a caller keeps to one.
            self.rate, self._type = check(mime_type), mime_type
        rate = self.rate
        self.seconds += len(pcm) / (BYTES_PER_SAMPLE * rate)
        self._last_audio = now
        if not self._marked:
            return self._fresh(self._detector.feed(pcm, rate))
        heard = self._intake.feed(pcm, rate)
        if self._activity is not None:
            self._activity += heard[: max(0, self._longest - len(self._activity))]
        elif self._keeps_all:
            self._outside += heard
            del self._outside[: -self._longest]
        return []

    def stream_end(self) -> list[Boundary]:
        """The microphone was closed. Where the caller marks its activity, only the markers count."""
        return self._detector.flush() if self._flushes and not self._marked else []

    def stalled(self, now: float) -> list[Boundary]:
        """The boundary that a caller makes who has stalled by ``now``."""
        deadline = self.deadline
        return self._detector.flush() if deadline is not None and deadline <= now else []

    def start(self) -> list[Boundary]:
        """activityStart; one within an activity changes nothing."""
        if not self._marked:
            raise texts.MARKERS_REFUSED.refusal()
        if self._activity is not None:
            return []
        self._activity, self._outside = self._outside, bytearray()
        return self._fresh([SpeechStarted(self.seconds)])

    def end(self) -> SpeechEnded:
        """activityEnd, with what was heard since the start: as it was sent, with nothing before and after it."""
        if not self._marked:
            raise texts.MARKERS_REFUSED.refusal()
        if self._activity is None:
            raise texts.NO_TURN.refusal()
        ended, self._activity = SpeechEnded(bytes(self._activity), self.seconds), None
        return ended

    def guess_due(self) -> bytes | None:
        """The utterance under way, when it has grown enough for another guess at it."""
        if not self.speaking:
            return None
        if self._activity is None:
            seconds = self._detector.seconds_so_far
        else:
            seconds = len(self._activity) / (BYTES_PER_SAMPLE * RATE)
        if seconds < self._next_guess:
            return None
        self._next_guess = seconds * _GUESS_GROWTH
        return self._detector.so_far() if self._activity is None else bytes(self._activity)

    def _fresh(self, boundaries: list[Boundary]) -> list[Boundary]:
        if any(isinstance(boundary, SpeechStarted) for boundary in boundaries):
            self._next_guess = _FIRST_GUESS_SECONDS
        return boundaries


def check(mime_type: str) -> int:
    """The rate of audio of that type. Raises :class:`emulator.errors.Refusal` for what is no PCM."""
    rate = rate_of(mime_type)
    if mime_type.partition(";")[0].strip().lower() != "audio/pcm" or rate not in _RATES:
        raise texts.AUDIO_REFUSED.refusal(type=mime_type[:40])
    return rate
