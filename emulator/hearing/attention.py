"""The caller's voice: from pieces of audio to utterances, with all that is told about it on the way."""

from collections.abc import Callable
from dataclasses import replace

from emulator import texts
from emulator.actions import Note, Send
from emulator.audio import BYTES_PER_SAMPLE
from emulator.configuration.setup import Config
from emulator.hearing.announcement import Kind, activity
from emulator.hearing.listening import Listener
from emulator.hearing.utterances import Utterance, Utterances
from emulator.hearing.vad import RATE, Boundary, SpeechEnded, SpeechStarted
from emulator.mind.history import History
from emulator.mind.transcripts import Message
from emulator.mind.turns import Turns
from emulator.record import LinkRecord
from emulator.session.handles import Hearing


class Attention:
    """Listens, interrupts the model when somebody speaks, and gives it the word when nobody does."""

    def __init__(
        self,
        config: Callable[[], Config],
        *,
        turns: Turns,
        history: History,
        record: LinkRecord,
        memory: Hearing | None,
    ) -> None:
        self._config = config
        self._turns = turns
        self._history = history
        self._record = record
        self._listener = Listener(config())
        self._utterances = Utterances(config)
        self._memory = memory
        if memory is not None:
            self._listener.recall(memory)
        self._content = False
        """Whether text or a picture came since activityStart."""

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is wanted."""
        return self._listener.deadline

    @property
    def speaking(self) -> bool:
        """Whether somebody speaks."""
        return self._listener.speaking

    @property
    def listening(self) -> bool:
        """Whether any utterance is being understood."""
        return self._utterances.listening

    @property
    def reading(self) -> bool:
        """Whether audio that came in a turn is being understood."""
        return self._utterances.reading

    def start(self) -> None:
        """What was over and not understood when a snapshot was taken is understood now."""
        for pcm in self._memory.ended if self._memory else ():
            if listen := self._utterances.read(pcm):
                self._record.listening_again(listen.number)
                self._turns.out.append(listen)
        if self.speaking:
            self._utterances.begin(0.0)
        self._hold()

    def memory(self) -> Hearing:
        """What is being heard, and has been heard and not understood."""
        return replace(self._listener.memory(), ended=self._utterances.waiting())

    def hear(self, pcm: bytes, mime_type: str, now: float) -> None:
        """A piece of audio."""
        self._turns.audio_came()
        before = self._listener.seconds
        boundaries = self._listener.hear(pcm, mime_type, now)
        self._record.heard_audio(pcm, self._listener.rate, now=now)
        self._history.listened(self._listener.seconds - before)
        self._pass(boundaries, now)
        if self.speaking:
            self._record.speech_sounded(self._listener.sounded)
        if guess := self._utterances.guess(self._listener.guess_due):
            self._turns.out.append(guess)

    def stream_end(self, now: float) -> None:
        """The microphone was closed."""
        self._pass(self._listener.stream_end(), now)

    def mark_start(self, now: float) -> None:
        """activityStart."""
        if not self.speaking:
            # What came before belongs to no activity.
            self._content = False
        self._pass(self._listener.start(), now)

    def mark_end(self, now: float, *, refused: bool) -> bool:
        """activityEnd. True where no audio came, so that there is nothing to understand first; ``refused``: where
        nothing at all came, that closes the connection."""
        ended = self._listener.end()
        content, self._content = self._content, False
        if ended.pcm:
            self._ended(ended, now)
            return False
        if refused and not content:
            raise texts.NO_TURN.refusal()
        self._record.speech_ended(None, ended.at, now=now, length=0.0)
        self._announce("ACTIVITY_END", ended.at)
        self._hold()
        return True

    def content_came(self) -> None:
        """Something other than audio came, which an activity may consist of."""
        self._content = True

    def read(self, pcm: bytes, now: float) -> None:
        """Audio in a turn, at 16 kHz."""
        self._history.listened(len(pcm) / (BYTES_PER_SAMPLE * RATE))
        if listen := self._utterances.read(pcm):
            self._turns.out.append(listen)
        else:
            self._record.event("utterance_dropped", at=now, bytes=len(pcm))
        self._hold()

    def understood(self, number: int) -> Utterance:
        """The utterance that was, or was not, understood."""
        utterance = self._utterances.understood(number)
        self._hold()
        return utterance

    def guessed(self, number: int, text: str | None) -> list[Message]:
        """What the client is told of a guess."""
        return self._utterances.guessed(number, text, self._listener.seconds)

    def tick(self, now: float) -> None:
        """Time has passed."""
        self._pass(self._listener.stalled(now), now)

    def cut_short(self, now: float) -> None:
        """Somebody speaks on before the answer has begun."""
        self._announce("ACTIVITY_START", self._utterances.began_at, interrupting=True)
        self._turns.cut_short(now)

    def _pass(self, boundaries: list[Boundary], now: float) -> None:
        for boundary in boundaries:
            if isinstance(boundary, SpeechStarted):
                self._began(boundary.at, now)
            else:
                self._ended(boundary, now)

    def _began(self, at: float, now: float) -> None:
        self._utterances.begin(at)
        self._record.speech_began(at, now=now)
        self._turns.out.append(Note("speech_began"))
        self._hold()
        interruptible = self._config().interruptible
        self._announce("ACTIVITY_START", at, interrupting=interruptible and self._turns.busy)
        if interruptible:
            self._turns.interrupt(now)

    def _ended(self, ended: SpeechEnded, now: float) -> None:
        listen = self._utterances.end(ended.pcm)
        length = len(ended.pcm) / (BYTES_PER_SAMPLE * RATE)
        self._record.speech_ended(listen.number if listen else None, ended.at, now=now, length=length)
        self._turns.out.append(Note("speech_ended"))
        self._announce("ACTIVITY_END", ended.at)
        if listen is not None:
            self._turns.out.append(listen)
        else:
            self._record.event("utterance_dropped", at=now, bytes=len(ended.pcm))
        self._hold()
        self._turns.proceed(now)

    def _announce(self, kind: Kind, at: float, *, interrupting: bool = False) -> None:
        self._turns.out += map(Send, activity(self._config(), kind, at, interrupting=interrupting))

    def _hold(self) -> None:
        """While somebody speaks, or has spoken and is not understood, the model may not begin."""
        self._turns.held = self.speaking or self.listening
