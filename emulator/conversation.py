"""The caller's side of a conversation: speech, text, pictures and turns become questions for :mod:`emulator.turns`."""

import hashlib

from emulator.actions import Action, Listen, Send
from emulator.audio import rate_of, resample
from emulator.errors import Refusal, invalid
from emulator.handles import Snapshot
from emulator.history import History
from emulator.language import normalise
from emulator.pictures import size
from emulator.protocol import (
    ActivityEnd,
    ActivityStart,
    Audio,
    AudioStreamEnd,
    ClientContent,
    Content,
    ContextUpdate,
    Event,
    MediaChunks,
    Setup,
    Text,
    ToolResponse,
    Video,
)
from emulator.record import LinkRecord
from emulator.scenario import Scenario
from emulator.setup import Config
from emulator.speech import Pace
from emulator.turns import Question, Turns
from emulator.usage import text_tokens
from emulator.vad import RATE, Detector, Sensitivity, SpeechEnded, SpeechStarted
from emulator.voice import Voice

MARKERS_REFUSED = "Explicit activity control is not supported when automatic activity detection is enabled."
NO_ACTIVITY = "No turn to complete"
NOT_ENABLED = "Operation is not implemented, or supported, or enabled."
UNKNOWN = "unknown"
"""The transcript of speech that was not understood."""

_MAX_LISTENING = 16
_RATES = range(8000, 192001)


class Conversation:
    """A :class:`emulator.actions.Mind` that follows a scenario."""

    def __init__(
        self,
        config: Config,
        *,
        scenario: Scenario,
        voice: Voice,
        pace: Pace,
        sensitivity: Sensitivity,
        gate: float,
        snapshot: Snapshot,
        record: LinkRecord,
    ) -> None:
        self._history = History(snapshot)
        if not snapshot.history:
            self._history.meter.text += text_tokens(config.instructions)
        self._turns = Turns(config, scenario=scenario, voice=voice, pace=pace, history=self._history, record=record)
        self._record = record
        self._detector = Detector(sensitivity, gate)
        self._longest = int(sensitivity.longest * RATE) * 2
        self._manual: bytearray | None = None
        """What was heard since activityStart."""
        self._listening: set[int] = set()
        """Utterances that are being understood."""
        self._utterances = 0
        self._pictures_in_turns = 0
        self._seeding = config.seeds_history
        self._seconds = 0.0
        self._began_at = 0.0

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is wanted."""
        return self._turns.deadline

    def apply(self, event: Event, now: float) -> list[Action]:
        """A client message."""
        if isinstance(event, Setup):
            raise invalid()
        if self._turns.config.broken_by_affective_dialog:
            raise invalid()
        match event:
            case Audio(data, mime_type):
                self._hear(data, mime_type, now)
            case Video(data, mime_type):
                self._see(data, mime_type, now)
            case MediaChunks(chunks):
                if not self._turns.config.rules.media_chunks:
                    raise invalid()
                for data, mime_type in chunks:
                    if mime_type.startswith("image/"):
                        self._see(data, mime_type, now)
                    else:
                        self._hear(data, mime_type, now)
            case AudioStreamEnd():
                self._boundaries(self._detector.flush(), now)
            case ActivityStart() | ActivityEnd():
                self._mark(event, now)
            case Text(text):
                self._type(text, now)
            case ClientContent(turns, complete):
                self._read(turns, complete, now)
            case ToolResponse(responses):
                for response in responses:
                    entry = {"id": response.id, "name": response.name, "response": response.response}
                    self._record.add("tool_responses", entry, at=now)
                self._turns.respond(responses, now)
            case ContextUpdate():
                self._update(event, now)
        return self._taken()

    def heard(self, number: int, text: str | None, now: float) -> list[Action]:
        """An utterance was understood, or not (None)."""
        self._listening.discard(number)
        sentence = text or UNKNOWN
        self._record.add("heard", sentence, at=now)
        self._transcribe(sentence)
        self._history.user(sentence, spoken=True)
        self._hold()
        config = self._turns.config
        if self._speaking and config.interruptible and not self._turns.busy:
            self._history.take_question()
            self._turns.cut_short(now, self._began_at)
        else:
            self._ask(now)
        return self._taken()

    def tick(self, now: float) -> list[Action]:
        """Time has passed."""
        self._turns.tick(now)
        return self._taken()

    @property
    def _speaking(self) -> bool:
        return self._detector.speaking or self._manual is not None

    def _taken(self) -> list[Action]:
        out, self._turns.out = self._turns.out, []
        return out

    def _hold(self) -> None:
        self._turns.held = self._speaking or bool(self._listening)

    def _hear(self, pcm: bytes, mime_type: str, now: float) -> None:
        rate = rate_of(mime_type)
        if not mime_type.startswith("audio/") or rate not in _RATES:
            raise invalid()
        self._record.heard_audio(pcm, rate)
        length = len(pcm) / (2 * rate)
        self._seconds += length
        self._history.meter.audio_seconds += length
        if not self._turns.config.detection.manual:
            self._boundaries(self._detector.feed(pcm, rate), now)
        elif self._manual is not None and len(self._manual) < self._longest:
            self._manual += resample(pcm, rate, RATE)

    def _boundaries(self, boundaries: list[SpeechStarted | SpeechEnded], now: float) -> None:
        for boundary in boundaries:
            if isinstance(boundary, SpeechStarted):
                self._speech_began(boundary.at, now)
            else:
                self._speech_ended(boundary.pcm, now)

    def _mark(self, event: ActivityStart | ActivityEnd, now: float) -> None:
        if not self._turns.config.detection.manual:
            raise invalid(MARKERS_REFUSED)
        if isinstance(event, ActivityStart):
            self._manual = bytearray()
            self._speech_began(self._seconds, now)
        elif self._manual is None:
            raise invalid(NO_ACTIVITY)
        else:
            pcm, self._manual = bytes(self._manual), None
            self._speech_ended(pcm, now)

    def _speech_began(self, at: float, now: float) -> None:
        self._began_at = at
        self._record.event("speech_began", at=now, audio_seconds=round(at, 3))
        self._hold()
        if self._turns.config.interruptible:
            self._turns.interrupt(now, at)

    def _speech_ended(self, pcm: bytes, now: float) -> None:
        self._record.event("speech_ended", at=now, seconds=round(len(pcm) / (2 * RATE), 3))
        if len(self._listening) < _MAX_LISTENING:
            self._utterances += 1
            self._listening.add(self._utterances)
            self._turns.out.append(Listen(self._utterances, pcm))
        else:
            self._record.event("utterance_dropped", at=now, bytes=len(pcm))
        self._hold()
        self._turns.proceed(now)

    def _transcribe(self, sentence: str) -> None:
        config = self._turns.config
        if not (config.input_transcription or config.rules.transcribes_unasked):
            return
        pieces = [f"{word} " for word in sentence.split()] if config.rules.transcribes_words else [sentence]
        for piece in pieces:
            self._turns.out.append(Send({"serverContent": {"inputTranscription": {"text": piece}}}))

    def _see(self, data: bytes, mime_type: str, now: float) -> None:
        if not mime_type.startswith("image/"):
            raise invalid()
        self._history.pictures += 1
        self._history.meter.pictures += 1
        entry: dict[str, object] = {"bytes": len(data), "mime": mime_type, "sha256": hashlib.sha256(data).hexdigest()}
        if pixels := size(data):
            entry["width"], entry["height"] = pixels
        self._record.add("video", entry, at=now)

    def _type(self, text: str, now: float) -> None:
        """Realtime text: activity, like speech."""
        self._record.add("texts", text, at=now)
        if self._turns.config.interruptible:
            self._turns.interrupt(now)
        # A bare full stop or space only asks for the answer that is due (frameworks nudge so after seeding history).
        if normalise(text) or not self._history.asks:
            self._history.user(text)
        self._ask(now)

    def _read(self, turns: tuple[Content, ...], complete: bool, now: float) -> None:
        """Ordered turns."""
        config = self._turns.config
        for turn in turns:
            self._check(turn)
            self._record.add("turns", {"role": turn.role or "user", "text": turn.text}, at=now)
        if config.rules.typed_turn_interrupts and not self._seeding:
            self._turns.interrupt(now)
        for turn in turns:
            if turn.role == "model":
                self._history.told(turn.text)
            else:
                self._history.user(turn.text)
            self._pictures_in_turns += len(turn.images)
            self._history.pictures += len(turn.images)
            self._history.meter.pictures += len(turn.images)
        if self._seeding:
            self._seeding = not complete
        elif complete:
            # A typed turn does not see what was streamed before it.
            self._ask(now, pictures=self._pictures_in_turns)

    def _check(self, turn: Content) -> None:
        config = self._turns.config
        if (turn.role is None and config.rules.role_required) or (turn.role == "system" and not config.vertex):
            raise invalid()
        if any(rate_of(mime_type) == 24000 for _, mime_type in turn.audio):
            raise Refusal(1008, NOT_ENABLED)

    def _update(self, event: ContextUpdate, now: float) -> None:
        self._record.add("context_updates", event.received, at=now)
        if event.instructions is not None:
            self._turns.config = self._turns.config.with_instructions(event.instructions)
            self._history.meter.text += text_tokens(event.instructions.text)
        if event.tools is not None:
            self._turns.config = self._turns.config.with_tools(event.tools)

    def _ask(self, now: float, pictures: int | None = None) -> None:
        seen = self._history.pictures if pictures is None else pictures
        self._turns.ask(Question(self._history.take_question(), seen), now)
