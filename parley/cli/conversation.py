"""What a caller at a microphone does next: a decision without clock, network or files.

The shell in `talking.py` feeds it events and asks it at every frame of real time what to say.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Any

from parley import events
from parley.cli.wav import speech_end
from parley.playout import Playout

BARGE_IN_AFTER = 1.0
"""Seconds of a reply that must have been heard before the next step speaks over it."""


@dataclass(frozen=True)
class Step:
    """One thing that the caller says."""

    name: str
    pcm: bytes = field(default=b"", repr=False)
    """16 bit mono speech; empty for a step in writing."""
    text: str = ""
    barge_in: bool = False
    """Begins over the reply to the step before instead of after it."""


@dataclass
class ToolRun:
    """A function that the service ran for the conversation."""

    call_id: str
    name: str
    arguments: dict[str, Any]
    outcome: str = ""
    message: str = ""
    duration: timedelta | None = None


@dataclass
class Exchange:
    """One step and the answer to it, as far as it went."""

    step: Step
    begun_at: float
    said_at: float | None = None
    """When the voice (or the text) ended; the answer counts from here."""
    first_audio_at: float | None = None
    played_before: float = 0.0
    """Seconds of earlier answers that had been heard when this one began."""
    heard: str = ""
    """Transcript of the caller."""
    answer: str = ""
    """Transcript, or text, of the model."""
    interrupted: bool = False
    tools: list[ToolRun] = field(default_factory=list)
    # The rest is how far the answer is.
    turns: int = 0
    content_in_turn: bool = False
    answered: bool = False
    owes_answer: bool = False
    """A tool has finished and the model has not spoken since."""

    @property
    def tools_pending(self) -> bool:
        """A tool runs."""
        return any(not tool.outcome for tool in self.tools)

    @property
    def complete(self) -> bool:
        """The model has said all that it had to say to this step."""
        return self.answered and not self.tools_pending and not self.owes_answer

    @property
    def first_audio_ms(self) -> float | None:
        """Milliseconds from the end of the caller's speech to the first audio of the answer."""
        if self.said_at is None or self.first_audio_at is None:
            return None
        return (self.first_audio_at - self.said_at) * 1000


class Phase(Enum):
    """Where the caller stands."""

    SPEAKING = "speaking"
    LISTENING = "listening"
    DONE = "done"


@dataclass(frozen=True)
class Tick:
    """What to send for one frame of time."""

    frame: bytes | None
    """Audio; None where the caller has no microphone."""
    text: str | None = None
    """Text to send after the frame."""
    begun: Step | None = None
    """The step that begins with this frame."""
    done: bool = False
    """Nothing is left to say and everything has been heard; `frame` and `text` are None."""


class Conversation:
    """Runs through steps: speaks, then listens until the answer is complete and heard, or interrupts it."""

    def __init__(self, steps: Sequence[Step], *, frame_bytes: int, playout: Playout) -> None:
        """`frame_bytes` is the length of a tick's audio. A conversation with any speech sends silence in between."""
        if not steps:
            raise ValueError("a conversation needs something to say")
        self.exchanges: list[Exchange] = []
        self.last_progress = 0.0
        """When something happened last that brings the conversation on."""
        self._steps = list(steps)
        self._frame_bytes = frame_bytes
        self._playout = playout
        self._microphone = any(step.pcm for step in steps)
        self._phase = Phase.LISTENING
        self._position = 0
        self._voice_end = 0
        self._connected = True

    def tick(self, now: float) -> Tick:
        """Called once a frame, in real time."""
        begun = None
        if self._phase is Phase.LISTENING and self._may_go_on(now):
            if len(self.exchanges) == len(self._steps):
                self._phase = Phase.DONE
            else:
                begun = self._begin(now)
        if self._phase is Phase.DONE:
            return Tick(None, done=True)
        silence = bytes(self._frame_bytes) if self._microphone else None
        if self._phase is Phase.LISTENING:
            return Tick(silence)
        exchange = self.exchanges[-1]
        step = exchange.step
        if not step.pcm:
            exchange.said_at = self.last_progress = now
            self._phase = Phase.LISTENING
            return Tick(silence, text=step.text, begun=begun)
        return Tick(self._speak(exchange, now), begun=begun)

    def on_event(self, event: events.Event, now: float) -> None:
        """Takes what the service said at `now`; audio must be in the playout already."""
        if isinstance(event, events.StreamLost | events.StreamResumed):
            self._connected = isinstance(event, events.StreamResumed)
            self.last_progress = now
        if not self.exchanges:
            return
        current = self.exchanges[-1]
        # What the model says while the caller still speaks belongs to the answer before.
        answering = current if current.said_at is not None else (self.exchanges[-2:-1] or [current])[0]
        match event:
            case events.Audio() | events.Text(thought=False):
                self._on_content(event, answering, now)
            case events.InputTranscript():
                current.heard += event.text
            case events.OutputTranscript():
                answering.answer += event.text
            case events.ToolActivity():
                self._on_tool(event, answering)
            case events.Interrupted():
                self._on_interrupted(event, answering, current)
            case events.TurnComplete():
                self._on_turn_complete(event, answering)
            case _:
                return
        self.last_progress = now

    def stalled_for(self, now: float) -> float:
        """Seconds without anything that brings the conversation on, while the caller listens."""
        if self._phase is not Phase.LISTENING or not self.exchanges or not self._connected:
            return 0.0
        if self._playout.queued_seconds(now) > 0:
            self.last_progress = now
        return now - self.last_progress

    def _speak(self, exchange: Exchange, now: float) -> bytes:
        step = exchange.step
        frame = step.pcm[self._position : self._position + self._frame_bytes]
        self._position += len(frame)
        if exchange.said_at is None and self._position >= self._voice_end:
            exchange.said_at = now
        if self._position >= len(step.pcm):
            self._phase = Phase.LISTENING
            self.last_progress = now
        return frame.ljust(self._frame_bytes, b"\0")

    def _begin(self, now: float) -> Step:
        step = self._steps[len(self.exchanges)]
        self.exchanges.append(Exchange(step, now, played_before=self._playout.played_seconds(now)))
        self._position = 0
        self._voice_end = speech_end(step.pcm, self._frame_bytes) if step.pcm else 0
        self._phase = Phase.SPEAKING
        return step

    def _may_go_on(self, now: float) -> bool:
        if not self.exchanges:
            return True
        exchange = self.exchanges[-1]
        if exchange.complete and self._playout.queued_seconds(now) == 0:
            return True
        following = self._steps[len(self.exchanges) :][:1]
        if not following or not following[0].barge_in or exchange.first_audio_at is None:
            return False
        heard = self._playout.played_seconds(now) - exchange.played_before
        return heard >= BARGE_IN_AFTER and not exchange.tools_pending and not exchange.owes_answer

    def _on_content(self, event: events.Event, exchange: Exchange, now: float) -> None:
        if isinstance(event, events.Text):
            exchange.answer += event.text
        elif exchange.first_audio_at is None:
            exchange.first_audio_at = now
            exchange.played_before = self._playout.played_seconds(now)
        exchange.content_in_turn = True

    def _on_tool(self, event: events.ToolActivity, exchange: Exchange) -> None:
        known = next((tool for past in self.exchanges for tool in past.tools if tool.call_id == event.call_id), None)
        if known is None:
            known = ToolRun(event.call_id, event.name, dict(event.arguments))
            exchange.tools.append(known)
        if event.phase == "FINISHED":
            known.outcome, known.message, known.duration = event.outcome or "UNKNOWN", event.message, event.duration
            if known in exchange.tools and event.outcome != "CANCELLED":
                exchange.owes_answer = True
                exchange.content_in_turn = False

    def _on_interrupted(self, event: events.Interrupted, answering: Exchange, current: Exchange) -> None:
        # The interruption may come just after the caller's last word; it cuts off the answer before all the same.
        cut = answering
        if event.reason == "BARGE_IN" and answering is current and not current.content_in_turn:
            cut = (self.exchanges[-2:-1] or [current])[0]
        cut.content_in_turn = False
        if event.reason == "BARGE_IN":
            cut.interrupted = True

    def _on_turn_complete(self, event: events.TurnComplete, exchange: Exchange) -> None:
        # A model that need not wait for its tools completes a turn without content when it calls one.
        if exchange.content_in_turn or event.waiting_for_input:
            exchange.turns += 1
            exchange.answered = True
            if not exchange.tools_pending:
                exchange.owes_answer = False
        exchange.content_in_turn = False
