"""The rules that hold whatever a script does: numbers, acks, order of messages, real time. Plain code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from parley.conformance.steps import Called, Event, Exited, HalfClosed, Left, Received, Reported, Unreadable, Violation
from parley.v1 import live_pb2 as pb

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_RATE: Final = 16_000
AHEAD: Final = 1.5
"""Seconds of audio by which a client may be ahead of real time: frames that waited leave together."""
MAX_EVENTS: Final = 20_000
"""Messages and reports in a check; the longest takes seconds."""
MAX_MESSAGE: Final = 1.0
"""Seconds of audio in a message, at most."""


@dataclass(slots=True)
class Call:
    """One stream of the client."""

    number: int
    at: float
    connection: str
    metadata: Mapping[str, str]
    open: pb.Open | None = None
    """Its first message."""
    half_closed: bool = False
    left: bool = False
    end: bool = False
    """It carried `end`."""
    repeats: bool = False
    """It is attached to a session that exists: until its first new message it may send again what is known."""
    repeated: int = 0
    """Number of the last message that was sent again."""

    @property
    def resume(self) -> pb.Resume | None:
        """What it wants to resume; None when it opens a session."""
        return self.open.resume if self.open is not None and self.open.HasField("resume") else None


@dataclass(slots=True)
class Caller:
    """Everything that the client under test did; `observe` raises Violation as soon as it breaks a rule."""

    calls: dict[int, Call] = field(default_factory=dict)
    uplink: dict[int, pb.ConverseRequest] = field(default_factory=dict)
    """Numbered messages of the session."""
    next_seq: int = 1
    sent_seq: int = 0
    """Highest number that was sent to the client."""
    acked: int = 0
    asked_at: float | None = None
    """When the newest message came that asks for an answer at once."""
    spoke_at: float | None = None
    """When the newest audio came."""
    reports: list[Reported] = field(default_factory=list)
    exit: int | None = None
    """Exit status."""
    _events: int = 0
    _rate: int = _RATE
    _audio: float = 0.0
    _audio_since: float | None = None

    def observe(self, event: Event) -> None:
        """Take what happened. Violation when the client may not do that."""
        self._events += 1
        if self._events > MAX_EVENTS:
            raise Violation(f"sent or reported more than {MAX_EVENTS} times in one conversation")
        match event:
            case Called():
                self.calls[event.call] = Call(event.call, event.at, event.connection, event.metadata)
                check_traceparent(event.metadata.get("traceparent", ""))
            case Received():
                self._received(self.calls[event.call], event.request, event.at)
            case Unreadable():
                raise Violation("sent bytes that are no parley.v1.ConverseRequest")
            case HalfClosed():
                self.calls[event.call].half_closed = True
            case Left():
                self.calls[event.call].left = True
            case Reported():
                self.reports.append(event)
            case Exited():
                self.exit = event.status

    def attached(self, call: Call, next_seq: int, *, existing: bool) -> None:
        """The gateway says `opened` on this call."""
        call.repeats = existing
        self.next_seq = next_seq

    def _received(self, call: Call, request: pb.ConverseRequest, at: float) -> None:
        kind = request.WhichOneof("payload")
        if call.open is None:
            if kind != "open":
                raise Violation(f"the first message of a stream must be `open`, not `{kind}`")
            self._open(call, request)
            return
        if kind is None:
            raise Violation("sent a message without payload")
        if kind == "open":
            raise Violation("sent `open` a second time on the same stream")
        if kind == "ack":
            self._ack(request)
            return
        if call.end:
            raise Violation(f"sent `{kind}` after `end`")
        fresh = self._number(call, request)
        if kind == "end":
            call.end = True
        elif kind == "audio":
            self._hear(request.audio, at, fresh=fresh)
        elif kind in ("text", "audio_stream_end", "activity_end") or (kind == "turn" and request.turn.turn_complete):
            self.asked_at = at

    def _open(self, call: Call, request: pb.ConverseRequest) -> None:
        opening = call.open = request.open
        if request.seq:
            raise Violation(f"`open` must carry seq 0, not {request.seq}")
        check_traceparent(opening.traceparent)
        source = opening.WhichOneof("source")
        if opening.HasField("resume"):
            if source is not None:
                raise Violation(f"`open` must not have `{source}` beside `resume`")
            return
        if not _REQUEST_ID.fullmatch(opening.request_id):
            raise Violation(f"`open.request_id` must match {_REQUEST_ID.pattern}; it is {opening.request_id[:140]!r}")
        if source is None:
            raise Violation("`open` has neither `profile` nor `config`")
        self._rate = opening.config.input_sample_rate_hertz or _RATE

    def _ack(self, request: pb.ConverseRequest) -> None:
        if request.seq:
            raise Violation(f"`ack` must carry seq 0, not {request.seq}")
        if request.ack.seq > self.sent_seq:
            raise Violation(f"acked {request.ack.seq}, but the newest message is {self.sent_seq}")
        self.acked = max(self.acked, request.ack.seq)

    def _number(self, call: Call, request: pb.ConverseRequest) -> bool:
        """Whether the message was never sent before. Violation: its number is not the next one."""
        seq = request.seq
        if seq == self.next_seq:
            self.next_seq += 1
            call.repeats = False
            known = self._is_known(seq, request)
            self.uplink[seq] = request
            return not known
        if call.repeats and 0 < seq < self.next_seq and call.repeated in (0, seq - 1):
            call.repeated = seq
            self._is_known(seq, request)
            return False
        raise Violation(f"sent `{request.WhichOneof('payload')}` with seq {seq}; expected {self.next_seq}")

    def _is_known(self, seq: int, request: pb.ConverseRequest) -> bool:
        before = self.uplink.get(seq)
        if before is not None and before != request:
            raise Violation(f"sent message {seq} again with another content")
        return before is not None

    def _hear(self, audio: pb.AudioInput, at: float, *, fresh: bool) -> None:
        if not audio.frames or any(not frame or len(frame) % 2 for frame in audio.frames):
            raise Violation("each frame of `audio` must hold whole 16 bit samples: an even number of bytes, at least 2")
        seconds = sum(map(len, audio.frames)) / 2 / self._rate
        if seconds > MAX_MESSAGE:
            raise Violation(f"one message holds {seconds:.1f} s of audio; at most {MAX_MESSAGE:g} s")
        self.spoke_at = at
        if not fresh:
            return
        if self._audio_since is None:
            self._audio_since = at
        self._audio += seconds
        if (ahead := self._audio - (at - self._audio_since)) > AHEAD:
            raise Violation(f"sent audio faster than real time: {ahead:.1f} s ahead; at most {AHEAD:g} s")


def check_traceparent(value: str) -> None:
    """Violation when a trace context is there and malformed."""
    if value and not _TRACEPARENT.fullmatch(value):
        raise Violation(f"`traceparent` is no W3C trace context: {value[:80]!r}")
