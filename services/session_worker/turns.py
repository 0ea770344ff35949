"""Where the conversation stands: whose turn it is and what is owed. Plain code: the time is an argument."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.session_worker import events


@dataclass(slots=True)
class Turn:
    """One answer of the model and what led to it."""

    number: int
    began: float
    """Monotonic seconds."""
    heard: str = ""
    """What the caller said, as transcribed."""
    said: str = ""
    """What the model said, as transcribed or written."""
    first_audio: float | None = None
    audio_seconds: float = 0.0
    interrupted: bool = False
    tool_calls: list[str] = field(default_factory=list)
    usage: events.Usage | None = None


class TurnState:
    """Follows the link's events.

    A turn begins with the first event that belongs to it (a transcript of the caller, speech, a tool call) and ends
    with `turnComplete`. `owes_answer` says that the model has been given something to answer and has not begun to.
    """

    def __init__(self) -> None:
        self.current: Turn | None = None
        self.count = 0
        self.owes_answer = False
        self.pending_calls: set[str] = set()
        self.last_event = 0.0
        """When the model was last heard, in monotonic seconds."""

    @property
    def busy(self) -> bool:
        """Something is in progress or owed: not the moment to let go of the caller."""
        return self.current is not None or self.owes_answer or bool(self.pending_calls)

    def asked(self) -> None:
        """The model was given something that it answers."""
        self.owes_answer = True

    def call_settled(self, call_id: str) -> None:
        """A function call was answered; the model will speak of it."""
        if call_id in self.pending_calls:
            self.pending_calls.discard(call_id)
            self.owes_answer = True

    def on_event(self, event: events.Event, now: float) -> Turn | None:
        """Follow one event; return the turn that it ended, if it did."""
        self.last_event = now
        match event:
            case events.InputTranscript(text=text):
                self._turn(now).heard += text
            case events.OutputTranscript(text=text) | events.Text(text=text, thought=False):
                self._turn(now).said += text
                self.owes_answer = False
            case events.Audio():
                turn = self._turn(now)
                turn.audio_seconds += len(event.pcm) / 2 / event.rate
                if turn.first_audio is None:
                    turn.first_audio = now
                self.owes_answer = False
            case events.FunctionCall():
                self._turn(now).tool_calls.append(event.name)
                self.pending_calls.add(event.id)
                self.owes_answer = False
            case events.CallsCancelled(ids=ids):
                self.pending_calls.difference_update(ids)
            case events.Interrupted():
                if self.current is not None:
                    self.current.interrupted = True
            case events.Usage():
                if self.current is not None:
                    self.current.usage = event
            case events.TurnComplete(idle=idle):
                self.owes_answer = self.owes_answer and not idle
                ended, self.current = self.current, None
                return ended
            case _:
                pass
        return None

    def _turn(self, now: float) -> Turn:
        if self.current is None:
            self.count += 1
            self.current = Turn(self.count, now)
        return self.current
