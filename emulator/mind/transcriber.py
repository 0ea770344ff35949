"""The model that writes down what it hears and answers nothing (guide "Live transcription").

The frames are those that client authors saw of ``gemini-3.5-transcribe-live``: ``voiceActivity`` at both ends of
speech, interim transcripts, one final ``inputTranscription``, ``generationComplete``; no ``turnComplete``.
"""

from dataclasses import replace
from typing import Any

from emulator import texts
from emulator.actions import Action, IssueHandle, Note, Send
from emulator.api.protocol import ActivityEnd, ActivityStart, Audio, AudioStreamEnd, Event, Setup, Unknown
from emulator.api.server_content import content
from emulator.configuration.setup import Config
from emulator.mind.conversation import Conversation

_TAKEN = (Audio, AudioStreamEnd, ActivityStart, ActivityEnd, Setup, Unknown)


class Transcriber(Conversation):
    """A :class:`emulator.actions.Mind` whose turns are never the model's."""

    def __init__(self, config: Config, **parts: Any) -> None:
        # Nothing that it says could be interrupted.
        super().__init__(replace(config, interruptible=False), **parts)

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is wanted."""
        return self._attention.deadline

    def apply(self, event: Event, now: float) -> list[Action]:
        """A client message."""
        if not isinstance(event, _TAKEN):
            raise texts.AUDIO_ONLY.refusal()
        return super().apply(event, now)

    def start(self, now: float) -> list[Action]:
        """What was over and not understood when the snapshot was taken is understood now."""
        self._attention.start()
        return self._taken()

    def tick(self, now: float) -> list[Action]:
        """Time has passed."""
        self._attention.tick(now)
        return self._taken()

    def _ask(self, now: float, pictures: int | None = None) -> None:
        """An utterance is over: where a conversation would answer, there is nothing more to come."""
        self._history.take_question()
        self._turns.out += [Send(content(generationComplete=True)), Note("generation_complete")]
        if self._config.resumable:
            self._turns.out.append(IssueHandle(self.snapshot(hearing=False)))
