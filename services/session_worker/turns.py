"""Where the conversation stands: whose turn it is and what is owed. Plain code: the time is an argument."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from services.session_worker import events


@dataclass(slots=True)
class Turn:
    """One answer of the model and what led to it."""

    number: int
    began: float
    """When the model was given what it answers, or else its first sign; monotonic seconds."""
    told_at: float | None = None
    """When it was given the first result since the turn before; None: it was not."""
    heard: str = ""
    """What the caller said, as transcribed."""
    said: str = ""
    """What the model said, as transcribed or written."""
    heard_at: float | None = None
    """When the newest piece of that came."""
    first_output: float | None = None
    """When the model began to answer, be it with a function call."""
    first_audio: float | None = None
    audio_seconds: float = 0.0
    interrupted: bool = False
    generated: bool = False
    """The whole answer was produced; the rest of the turn is playing time."""
    talks: bool = False
    """Sound was the newest of its output, and no call."""
    tool_calls: list[str] = field(default_factory=list)
    usage: events.Usage | None = None


class RepeatedTranscript:
    """What was heard is given to another link as audio, which transcribes it again: tells what is new in that."""

    def __init__(self, known: str) -> None:
        self._known = " ".join(known.split())
        self._again = ""

    def news(self, transcript: events.InputTranscript) -> events.InputTranscript:
        """The piece without what is known already; the rest as it is once it differs."""
        if not self._known:
            return transcript
        self._again += transcript.text
        words = " ".join(self._again.split())
        if self._known.startswith(words):
            if words == self._known:
                self._known = ""
            return replace(transcript, text="")
        rest = words.removeprefix(self._known) if words.startswith(self._known) else transcript.text
        self._known = ""
        return replace(transcript, text=rest)


class TurnState:
    """Follows the link's events.

    A turn begins with the first event that belongs to it (a transcript of the caller, speech, a tool call) and ends
    with `turnComplete`, or with `generationComplete` where the model says nothing more. `owes_answer` says that the
    model has been given something to answer and has not begun to.
    """

    def __init__(self, count: int = 0, *, completes_turns: bool = True) -> None:
        """`count`: turns before; `completes_turns`: of the model's capabilities."""
        self._completes_turns = completes_turns
        self.current: Turn | None = None
        self.count = count
        self._owed: int | None = None
        self._owed_since = 0.0
        self.pending_calls: dict[str, int] = {}
        """Calls without their results, and the turn of each."""
        self.typed = False
        """What the model was asked last was ordered content, and nothing else was asked meanwhile."""
        self.cut_off = False
        """The model was interrupted in what it does now, whether or not anything was heard of that."""
        self._began_cut_off = False
        """The turn of the moment began behind an interruption whose end has not come."""
        self._told_at: float | None = None
        self.last_event = 0.0
        """When the model was last heard, in monotonic seconds."""

    @property
    def owes_answer(self) -> bool:
        """The model has been given something to answer and has not begun to."""
        return self._owed is not None

    @property
    def over(self) -> int:
        """Number of the newest turn that is over."""
        return self.count if self.current is None else self.count - 1

    @property
    def busy(self) -> bool:
        """Something is in progress or owed: not the moment to let go of the caller."""
        return self.current is not None or self.owes_answer or bool(self.pending_calls)

    @property
    def speaks(self) -> bool:
        """The model is in the middle of saying something."""
        turn = self.current
        return turn is not None and (turn.first_audio is not None or bool(turn.said))

    @property
    def told_at(self) -> float | None:
        """As in the turn of the moment."""
        return None if self.current is None else self.current.told_at

    @property
    def waits_for_call(self) -> bool:
        """The model's turn is not over because a call of it has no result yet."""
        return self.current is not None and self.current.number in self.pending_calls.values()

    def asked(self, now: float, *, typed: bool = False) -> None:
        """The model was given something that it answers: in this turn, or in the next if this one already speaks.
        `typed`: ordered content (`client_content`)."""
        self.typed = typed and self._owed is None
        if self._owed is None:
            self._owed_since = now
        self._owed = self.count if self.current is not None and not self.speaks else self.count + 1

    def call_settled(self, call_id: str, now: float, *, silent: bool = False) -> None:
        """A function call was answered; the model will speak of it, unless it was told not to."""
        if self.pending_calls.pop(call_id, None) is not None and not silent:
            if self.current is None and self._told_at is None:
                self._told_at = now
            self.asked(now)

    def on_event(self, event: events.Event, now: float) -> Turn | None:
        """Follow one event; return the turn that it ended, if it did."""
        self.last_event = now
        match event:
            case events.InputTranscript(text=text):
                turn = self._turn(now)
                turn.heard += text
                turn.heard_at = now
            case events.OutputTranscript(text=text) | events.Text(text=text, thought=False):
                turn = self._turn(now)
                turn.said += text
                self._answered_by(turn, now)
            case events.Audio():
                turn = self._turn(now)
                turn.audio_seconds += len(event.pcm) / 2 / event.rate
                if turn.first_audio is None:
                    turn.first_audio = now
                turn.talks = True
                self._answered_by(turn, now)
            case events.FunctionCall():
                turn = self._turn(now)
                turn.tool_calls.append(event.name)
                turn.talks = False
                self.pending_calls[event.id] = turn.number
                self._answered_by(turn, now)
            case events.CallsCancelled(ids=ids):
                for call_id in ids:
                    self.pending_calls.pop(call_id, None)
            case events.Interrupted():
                self.cut_off = True
                if self.current is not None:
                    self.current.interrupted = True
            case events.GenerationComplete() if not self._completes_turns:
                ended, self.current = self.current, None
                self._answered_by(ended, now)
                return ended
            case events.GenerationComplete():
                if self.current is not None:
                    self.current.generated = True
            case events.Usage():
                if self.current is not None:
                    self.current.usage = event
            case events.TurnComplete(idle=False) if self._is_empty and not self.cut_off:
                pass  # it thinks on, and what it says or calls then belongs to this turn
            case events.TurnComplete(idle=idle):
                ended, self.current = self.current, None
                self.typed = self.typed and self._owed is not None
                cut_off, self.cut_off, self._began_cut_off = self.cut_off, False, False
                # What was typed is not answered by a turn that was cut off before the model said anything.
                if idle and not (cut_off and (ended is None or ended.first_output is None)):
                    self._answered_by(ended, now)
                return ended
            case _:
                pass
        return None

    def restart(self, first: int) -> set[str]:
        """The link is gone. Another one is asked again what this one was answering since turn `first`, as that turn.

        Returns the calls of these turns that had no answer: they come again. Those of earlier ones do not, and are
        waited for no more: what they return is told in words.
        """
        self.count, self.current, self.cut_off, self._began_cut_off = first - 1, None, False, False
        self._told_at = None
        pending, self.pending_calls = self.pending_calls, {}
        self._owed = None
        return {call_id for call_id, turn in pending.items() if turn >= first}

    @property
    def _is_empty(self) -> bool:
        """The model has said nothing yet."""
        return self.current is None or self.current.first_output is None

    def _answered_by(self, turn: Turn | None, now: float) -> None:
        """`turn` settles what is owed, unless it began before that was asked. An empty turn settles it too."""
        if turn is not None and turn.first_output is None:
            turn.first_output = now
            if turn is self.current and self._began_cut_off:
                turn.interrupted = self.cut_off = self._began_cut_off = False
        if self._owed is not None and (turn is None or turn.number >= self._owed):
            self._owed = None

    def _turn(self, now: float) -> Turn:
        if self.current is None:
            self.count += 1
            # The answer to a question begins with the question, as whoever asked sees it.
            self.current = Turn(self.count, now if self._owed is None else self._owed_since, told_at=self._told_at)
            self._told_at = None
            # Transcripts come when they like: the end that comes next may still be that of what was cut off before.
            self.current.interrupted = self._began_cut_off = self.cut_off
        return self.current
