"""The parts that scripts are made of: open, hear the question, answer it, cut the stream, part. Plain code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from parley.conformance.caller import Call, Caller
from parley.conformance.steps import Done, Event, Finish, Nothing, Send, Status, Steps, Violation, Wait
from parley.v1 import live_pb2 as pb

T = TypeVar("T")

GRACE: Final = 0.5
"""Seconds after the end of the process in which its last messages may still be read."""
WINDOW: Final = 0.4
"""Seconds of audio that are sent beyond the client's ack."""
PIECE: Final = 0.1
"""Seconds of audio in a message."""
RATE: Final = 24_000
QUIET: Final = 0.4
"""Seconds without speech after which a question counts as asked."""
LONGEST_QUESTION: Final = 3.0
"""Seconds of speech after which it is answered although it goes on: a microphone may never be switched off."""
SESSION: Final = "ses_01hzy3v9k8m7n6p5q4r3s2t1v0"
TOKEN: Final = "token-of-the-conformance-session"
AUDIO: Final = pb.AudioOutput(frames=[b"\1\0" * round(RATE * PIECE)], sample_rate_hertz=RATE)
BYE: Final = pb.Ended(reason=pb.END_REASON_CALLER)


class Scene:
    """A session with the client under test."""

    def __init__(self, patience: float) -> None:
        """`patience`: seconds that the client may take for each thing that it must do next."""
        self.patience = patience
        self.caller = Caller()
        self.now = 0.0
        self.notes: list[str] = []
        """What is worth telling of a client that passes."""
        self._seen = 0
        """Calls that the script has taken."""
        self._downlink: dict[int, bytes] = {}

    # Waiting

    def step(self, seconds: float) -> Steps[Event | None]:
        """The next event, held to the rules; None when there is none within the time."""
        answer = yield Wait(seconds)
        self.now = max(self.now, answer.at)
        if isinstance(answer, Nothing | Done):
            return None
        self.caller.observe(answer)
        return answer

    def until(self, happened: Callable[[], T | None], what: str, more: float = 0) -> Steps[T]:
        """Wait until `happened` gives something true; `more` seconds than usual.

        Violation: `what` did not come in time.
        """
        yield from self.step(0)
        seconds = self.patience + more
        limit = self.now + seconds
        exited_limit: float | None = None
        while True:
            value = happened()
            if value:
                return value
            if self.caller.exit is not None and exited_limit is None:
                exited_limit = self.now + GRACE
            end = limit if exited_limit is None else min(limit, exited_limit)
            if self.now >= end:
                if exited_limit is not None:
                    raise Violation(f"the command ended with status {self.caller.exit} before {what}")
                raise Violation(f"waited {seconds:g} s for {what}")
            yield from self.step(end - self.now)

    # Streams

    @property
    def waiting(self) -> bool:
        """The client has opened a stream that the script has not taken."""
        return any(number > self._seen and call.open for number, call in self.caller.calls.items())

    def call(self, what: str = "the client's `open`") -> Steps[Call]:
        """The next stream of the client, with its first message."""

        def opened() -> Call | None:
            return next((call for n, call in self.caller.calls.items() if n > self._seen and call.open), None)

        call = yield from self.until(opened, what)
        self._seen = call.number
        return call

    def new_call(self, what: str = "the client's `open`") -> Steps[Call]:
        """The next stream, which must open a session rather than resume one."""
        call = yield from self.call(what)
        if call.resume is not None:
            raise Violation("wants to resume although there is no session to resume")
        return call

    def welcome(self, call: Call, *, next_seq: int = 1, existing: bool = False, window: float = 120) -> Steps[None]:
        """Say `opened`."""
        self.caller.attached(call, next_seq, existing=existing)
        opened = pb.Opened(session_id=SESSION, resume_token=TOKEN, next_uplink_seq=next_seq, existing=existing)
        opened.resume_window.FromMilliseconds(round(window * 1000))
        yield from self.send(call, pb.ConverseResponse(opened=opened))

    def open(self, *, window: float = 120) -> Steps[Call]:
        """A new session on the next stream, up to the question."""
        call = yield from self.new_call()
        yield from self.welcome(call, window=window)
        yield from self.question()
        return call

    def finish(self, call: Call, status: Status) -> Steps[float]:
        """End a stream; the time just before the client can know."""
        done = yield Finish(call.number, status)
        self.now = max(self.now, done.at)
        return done.at

    # What the gateway says

    def send(self, call: Call, response: pb.ConverseResponse) -> Steps[None]:
        """Send a response that is not part of the series."""
        yield Send(call.number, response.SerializeToString())

    def say(self, call: Call, *, acked: int = 0, unknown: bytes = b"", **payload: Any) -> Steps[int]:
        """Send a numbered response; its number. `unknown`: fields of a newer release behind it."""
        seq = self.caller.sent_seq = self.caller.sent_seq + 1
        response = pb.ConverseResponse(seq=seq, acked_seq=acked, **payload)
        self._downlink[seq] = response.SerializeToString() + unknown
        yield Send(call.number, self._downlink[seq])
        return seq

    def speak(self, call: Call, pieces: int) -> Steps[None]:
        """Send audio, at most `WINDOW` beyond what the client has acked."""
        unacked: list[int] = []
        for _ in range(pieces):

            def room() -> bool:
                unacked[:] = [seq for seq in unacked if seq > self.caller.acked]
                return call.half_closed or (len(unacked) + 1) * PIECE <= WINDOW + 1e-9

            what = f"an ack: {WINDOW:g} s of audio lie beyond the last one ({self.caller.acked})"
            yield from self.until(room, what)
            unacked.append((yield from self.say(call, audio=AUDIO)))

    def answer(self, call: Call, pieces: int = 3) -> Steps[None]:
        """Answer the question and end the turn."""
        yield from self.say(call, output_transcript=pb.Transcript(text="hello", finished=True))
        yield from self.speak(call, pieces)
        yield from self.say(call, generation_complete=pb.GenerationComplete())
        yield from self.say(call, turn_complete=pb.TurnComplete())

    # What the client does

    def question(self) -> Steps[None]:
        """Wait until the client has asked something: typed, or spoken and then quiet."""

        def asked() -> bool:
            caller = self.caller
            half_closed = any(call.half_closed for call in caller.calls.values())
            return half_closed or caller.asked_at is not None or caller.spoke_at is not None

        yield from self.until(asked, "a question (`text`, `turn` or `audio`)")
        limit = self.now + LONGEST_QUESTION
        while self.caller.asked_at is None and self.now < limit:
            if (yield from self.step(QUIET)) is None:
                return

    def acked(self, call: Call, seq: int, what: str = "") -> Steps[None]:
        """Wait until the client has acked so far. One that has half-closed cannot, and need not."""
        yield from self.until(lambda: call.half_closed or self.caller.acked >= seq, f"an ack of {seq}{what}")

    def part(self, call: Call) -> Steps[None]:
        """The client ends or half-closes, is confirmed, and its command ends with status 0."""
        yield from self.until(lambda: call.end or call.half_closed, "`end` or a half-close, with the turn complete")
        if call.end:
            yield from self.say(call, ended=BYE)
        yield from self.finish(call, Status())
        yield from self.exits(well=True)

    def exits(self, *, well: bool | None) -> Steps[None]:
        """The command ends without calling again; with status 0, another one, or (None) any."""

        def over() -> bool:
            if max(self.caller.calls, default=0) > self._seen:
                raise Violation("called `Converse` again, although there was no reason to")
            return self.caller.exit is not None

        yield from self.until(over, "the end of the command")
        status = self.caller.exit
        if well and status != 0:
            raise Violation(f"the command ended with status {status}, although the conversation went well")
        if well is False and status == 0:
            raise Violation("the command ended with status 0, although the conversation failed")

    def exits_or_opens_anew(self, first: Call) -> Steps[None]:
        """The session is lost for good: the command fails, or opens another one by another request id."""

        def over() -> bool:
            return self.waiting or self.caller.exit is not None

        yield from self.until(over, "the end of the command, or a new session")
        if self.waiting:
            anew = yield from self.call()
            if anew.resume is not None:
                raise Violation("tried to resume a session that is over")
            if first.open is not None and anew.open is not None and anew.open.request_id == first.open.request_id:
                raise Violation("opened a new session with the `request_id` of the one that is over")
            self.notes.append("opens another session")
            yield from self.finish(anew, Status("FAILED_PRECONDITION", "BACKEND_REFUSED"))
        yield from self.exits(well=False)

    def lose(self, call: Call, status: Status) -> Steps[Call]:
        """End the stream with a status that asks for a resume; the stream that resumes, waited for as it should be."""
        at = yield from self.finish(call, status)
        back = yield from self.call(f"a stream that resumes, after {status}")
        self.waited(at, back, status)
        self.check_resume(back)
        return back

    def resumed(self, back: Call, *, next_seq: int) -> Steps[None]:
        """Attach the stream that resumes, and send again what it does not have."""
        yield from self.welcome(back, next_seq=next_seq, existing=True)
        have = back.resume.last_received_seq if back.resume is not None else 0
        for seq, response in self._downlink.items():
            if seq > have:
                yield Send(back.number, response)

    def waited(self, at: float, back: Call, status: Status) -> None:
        """Violation when the client came back before it was asked to."""
        if status.retry_delay is not None and back.at - at < status.retry_delay:
            raise Violation(f"called again after {back.at - at:.3f} s; RetryInfo said {status.retry_delay:g} s")

    def check_resume(self, back: Call) -> None:
        """Violation when this stream does not resume the session."""
        resume = back.resume
        if resume is None:
            raise Violation("opened a session anew instead of resuming the one that it has")
        if resume.session_id != SESSION:
            raise Violation(f"wants to resume {resume.session_id[:40]!r}; its session is {SESSION}")
        if resume.resume_token != TOKEN:
            raise Violation("presented another `resume_token` than `opened` gave it")
        if not self.caller.acked <= resume.last_received_seq <= self.caller.sent_seq:
            raise Violation(
                f"`last_received_seq` is {resume.last_received_seq}; it acked {self.caller.acked}, "
                f"and the newest message is {self.caller.sent_seq}"
            )
