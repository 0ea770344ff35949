"""The caller's utterances on their way to the recogniser and back."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from emulator.actions import Guess, Listen
from emulator.audio import BYTES_PER_SAMPLE
from emulator.configuration.setup import Config
from emulator.hearing.vad import RATE
from emulator.mind.transcripts import InputTranscript, Message

UNKNOWN = "unknown"
"""The transcript of speech that was not understood."""

_MAX_LISTENING = 16


@dataclass(frozen=True)
class Utterance:
    """One that is being understood."""

    pcm: bytes
    transcript: InputTranscript | None
    """None for audio that came in a turn: nothing is told of it."""

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.pcm) / (BYTES_PER_SAMPLE * RATE)


class Utterances:
    """The one that is being spoken, and those that are being understood. A bounded number: one more is not heard."""

    def __init__(self, config: Callable[[], Config]) -> None:
        self._config = config
        self._number = 0
        """Of the one that is, or was last, spoken: what guesses are told apart by."""
        self._spoken: InputTranscript | None = None
        self._numbers = itertools.count(1)
        """Of those to be understood."""
        self._listening: dict[int, Utterance] = {}
        self._guessing = False
        self.began_at = 0.0
        """Seconds of audio before the one that is, or was last, spoken."""

    @property
    def listening(self) -> bool:
        """Whether any is being understood."""
        return bool(self._listening)

    @property
    def reading(self) -> bool:
        """Whether any of those is one that came in a turn."""
        return any(utterance.transcript is None for utterance in self._listening.values())

    def waiting(self) -> tuple[bytes, ...]:
        """The audio of those that are being understood, oldest first."""
        return tuple(utterance.pcm for utterance in self._listening.values())

    def begin(self, at: float) -> None:
        """Somebody speaks."""
        self._number += 1
        self._spoken = InputTranscript(self._config())
        self.began_at = at

    def guess(self, due: Callable[[], bytes | None]) -> Guess | None:
        """Ask what is being said, if that is wanted, not being asked already, and ``due`` gives what to ask about."""
        if self._spoken is None or self._guessing or not self._spoken.guesses or (pcm := due()) is None:
            return None
        self._guessing = True
        return Guess(self._number, pcm)

    def guessed(self, number: int, text: str | None, until: float) -> list[Message]:
        """What the client is told of a guess; ``until``: seconds of audio heard."""
        self._guessing = False
        if self._spoken is None or number != self._number or not text:
            return []
        return self._spoken.guessed(text, self.began_at, until)

    def end(self, pcm: bytes) -> Listen | None:
        """Somebody has spoken; None where too many wait already."""
        transcript, self._spoken = self._spoken, None
        return self._listen(pcm, transcript)

    def read(self, pcm: bytes) -> Listen | None:
        """Audio in a turn; None where too many wait already."""
        return self._listen(pcm, None)

    def understood(self, number: int) -> Utterance:
        """The utterance that a :class:`emulator.actions.Listen` was about."""
        return self._listening.pop(number)

    def _listen(self, pcm: bytes, transcript: InputTranscript | None) -> Listen | None:
        if len(self._listening) >= _MAX_LISTENING:
            return None
        number = next(self._numbers)
        self._listening[number] = Utterance(pcm, transcript)
        return Listen(number, pcm)
