"""The model's speech within a turn: what is due, what has been sent, what has been heard, what was cut off."""

from collections.abc import Mapping, Sequence
from typing import Any

from emulator.actions import Action, Note, Send
from emulator.api import server_content
from emulator.configuration.setup import Config
from emulator.mind.chunks import Cutter
from emulator.mind.history import History
from emulator.mind.speech import Answer, Pace
from emulator.mind.transcripts import OutputTranscript
from emulator.record import LinkRecord


class Speaker:
    """Speaks one answer after another; knows which of the turn's audio the caller has not heard yet."""

    def __init__(self, config: Config, *, cutter: Cutter, pace: Pace, history: History, record: LinkRecord) -> None:
        self._config = config
        self._cutter = cutter
        self._pace = pace
        self._history = history
        self._record = record
        self._transcript = OutputTranscript(config)
        self._answer: Answer | None = None
        """What is being said."""
        self._unheard: list[Answer] = []
        """What was said, or begun, and is not part of the history yet."""
        self._sounded = False
        """Whether anything was heard in this turn."""
        self._incomplete = False
        """Whether something was said since ``generationComplete``."""
        self.heard_at = 0.0
        """When all that was said so far will have been played."""

    @property
    def speaking(self) -> bool:
        """Whether an answer is on its way."""
        return self._answer is not None

    @property
    def deadline(self) -> float | None:
        """When more of it is due."""
        return None if self._answer is None else self._answer.deadline

    @property
    def said(self) -> str:
        """What was said in this turn so far."""
        return " ".join(answer.said for answer in self._unheard)

    def turn(self) -> None:
        """Another turn begins."""
        self._sounded = self._incomplete = False

    def say(self, texts: Sequence[str], now: float) -> list[Action]:
        """Begin to say ``texts``, one after another."""
        cut = self._cutter.cut(texts, self._pace.chunk)
        if not cut.chunks:
            return []
        self._answer = Answer(cut, self._pace, now, self.heard_at)
        self._unheard.append(self._answer)
        self.heard_at = self._answer.played_at
        return [*map(Send, self._transcript.ahead(self._answer.words)), *self.go_on(now)]

    def go_on(self, now: float) -> list[Action]:
        """What is due of it."""
        answer = self._answer
        if answer is None:
            return []
        actions: list[Action] = []
        for chunk in answer.due(now):
            self._history.spoke(chunk.seconds)
            transcription = self._transcript.beside(chunk.words)
            if transcription is None:
                actions.append(chunk.alone)
            else:
                actions += map(Send, server_content.audio(chunk.turn, transcription, self._config))
            if not self._sounded:
                self._sounded = True
                actions.append(Note("first_audio"))
            self._incomplete = True
        if answer.generated:
            self._answer = None
            actions += map(Send, self._transcript.behind(answer.words))
        return actions

    def generated(self, grounding: Mapping[str, Any]) -> list[Action]:
        """``generationComplete``, once for what was said; what it rests on goes with it."""
        members: dict[str, Any] = {"generationComplete": True} if self._incomplete else {}
        if grounding:
            members["groundingMetadata"] = dict(grounding)
        actions: list[Action] = [Send(server_content.content(**members))] if members else []
        if self._incomplete:
            self._incomplete = False
            actions.append(Note("generation_complete"))
        return actions

    def finish(self, now: float, *, interrupted: bool = False) -> None:
        """What was said becomes history; what was not sent was never said."""
        for answer in self._unheard:
            self._history.model(answer.said)
            said = {
                "text": answer.said,
                "interrupted": interrupted and not (answer.generated and now >= answer.played_at),
                "audio_seconds_sent": round(answer.sent_seconds, 3),
                "audio_seconds": round(answer.seconds, 3),
            }
            self._record.add("said", said, at=now)
        self._unheard.clear()
        if interrupted:
            # Whoever plays it drops the rest.
            self._answer, self.heard_at = None, now
