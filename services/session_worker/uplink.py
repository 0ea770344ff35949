"""The receiving end of a session's uplink: who may send, order, loss, and what waits for the link. Plain code."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from parley.v1 import fabric_pb2, live_pb2
from services.fabric.sequence import HOLE_WAIT, SequenceReceiver
from services.session_worker.coverage import Coverage
from services.session_worker.input_queue import InputQueue
from services.session_worker.kept_words import KEPT_ANYWAY

VITAL = frozenset({"text", "turn", "tool_result", "context_update"})
"""Requests that are stored in the log and never shed."""


@dataclass(slots=True)
class Taken:
    """What came of an envelope or of time passing."""

    to_store: list[live_pb2.ConverseRequest] = field(default_factory=list)
    """Requests for the log."""
    renumbered: list[tuple[int, int]] = field(default_factory=list)
    """Requests of the log that are to be given, under other numbers: the one that it has, the one of now."""
    lost: list[live_pb2.Gap] = field(default_factory=list)
    """What will not reach the model."""
    input_waits: bool = False
    """There is something new for the link."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A request that another owner stored."""

    seq: int
    words: bytes
    give: bool
    """It is to be given to the link."""


class Uplink:
    """Everything on its way from the gateway to the link."""

    def __init__(self, max_audio_bytes: int, picture_interval: float = 0.0, *, log: bool = True) -> None:
        """`log`: False where the conversation is not stored: what is not is acked when it was answered."""
        self._kept = VITAL if log else KEPT_ANYWAY
        self.queue = InputQueue(max_audio_bytes, picture_interval)
        self.coverage = Coverage()
        # What is missing may be text, and the gateway answers at once with the message or a skip: no hurry.
        self._receiver: SequenceReceiver[live_pb2.ConverseRequest] = SequenceReceiver(audio_wait=HOLE_WAIT)
        self._known: dict[int, _Known] = {}
        """Stored by another owner, by number."""
        self._known_words: deque[_Known] = deque()
        """The same by content, where the numbers may be others now."""

    def restore(
        self, received: int, stored: Iterable[live_pb2.ConverseRequest], give: set[int], *, numbered: bool, now: float
    ) -> None:
        """Begin where another owner ended, who had everything up to `received`.

        `stored`: requests of the log that may be beyond it, in order; `give` those of them that the link is to get.
        `numbered`: what comes has the numbers that it had; a caller that comes back may have given it others.
        """
        self._receiver = SequenceReceiver(received, audio_wait=HOLE_WAIT)
        self.coverage.restore(received)
        for request in stored:
            if request.seq <= received:
                if request.seq in give:
                    self.queue.append(request)
                continue
            known = _Known(request.seq, _words(request), give=request.seq in give)
            if numbered:
                self._known[request.seq] = known
                self.coverage.stored(request.seq)
                self._queue(self._receiver.message(request.seq, request, now, audio=False), Taken())
            else:
                self._known_words.append(known)

    def renumber(self) -> None:
        """Another stream of the caller sends from `received + 1` on: what it has of the messages there, or others.

        What came early of the stream before goes: who sent it has it still, as it is not acked.
        """
        self._receiver = SequenceReceiver(self.received, audio_wait=HOLE_WAIT)
        self.coverage.renumber(self.received)
        self._known_words.extend(self._known.values())
        self._known.clear()

    @property
    def received(self) -> int:
        """Highest `seq` up to which everything arrived or was given up."""
        return self._receiver.received

    def take(self, envelope: fabric_pb2.UplinkEnvelope, now: float) -> Taken:
        """Requests and skips of an envelope."""
        taken = Taken()
        # What the log has is looked up before audio in the same envelope lets it go on its way.
        lost = [
            (first, last, skip)
            for skip in envelope.skips
            # Up to what was received it was told before, or has come.
            for first, last in self._unknown(max(skip.range.from_seq, self.received + 1), skip.range.to_seq)
        ]
        for raw in envelope.requests:
            request = live_pb2.ConverseRequest.FromString(raw)
            audio = request.WhichOneof("payload") == "audio"
            self._queue(self._receiver.message(request.seq, request, now, audio=audio), taken)
        for first, last, skip in lost:
            self._lose(first, last, skip.media_class, skip.reason, taken)
        for skip in envelope.skips:
            self._queue(self._receiver.skip(skip.range.from_seq, skip.range.to_seq, now), taken)
        self._receiver.sender_is_at(envelope.last_seq, now)
        return taken

    def give_up(self, now: float) -> Taken:
        """Holes that waited too long become gaps."""
        taken = Taken()
        lost, released = self._receiver.give_up(now)
        for hole in lost:
            self._lose(hole.first, hole.last, live_pb2.MEDIA_CLASS_UNSPECIFIED, "LOST", taken)
        self._queue(released, taken)
        return taken

    def wait_anew(self, now: float) -> None:
        """The gateway is not heard: what is missing may come when it is."""
        self._receiver.wait_anew(now)

    def missing(self) -> list[live_pb2.SeqRange]:
        """What to ask the gateway for."""
        return [live_pb2.SeqRange(from_seq=hole.first, to_seq=hole.last) for hole in self._receiver.missing()]

    def _queue(self, requests: list[live_pb2.ConverseRequest], taken: Taken) -> None:
        for request in requests:
            known = self._as_known(request)
            if known is not None:
                self.coverage.stored(request.seq)
                if not known.give:
                    continue
                if known.seq != request.seq:
                    taken.renumbered.append((known.seq, request.seq))
            elif request.WhichOneof("payload") in VITAL:
                if request.WhichOneof("payload") in self._kept:
                    self.coverage.vital(request.seq)
                taken.to_store.append(request)
            for shed in self.queue.append(request):
                if shed.is_loss:
                    self._lose(shed.seq, shed.seq, shed.media_class, shed.reason, taken)
                else:
                    self.coverage.lost(shed.seq, shed.seq)
            taken.input_waits = True

    def _unknown(self, first: int, last: int) -> list[tuple[int, int]]:
        """The range, which may be empty, without what the log of the owner before has of it."""
        if not self._known and first <= last:
            return [(first, last)]
        ranges: list[tuple[int, int]] = []
        for seq in range(first, last + 1):
            if seq in self._known:
                continue
            if ranges and ranges[-1][1] == seq - 1:
                ranges[-1] = (ranges[-1][0], seq)
            else:
                ranges.append((seq, seq))
        return ranges

    def _as_known(self, request: live_pb2.ConverseRequest) -> _Known | None:
        """A request as another owner stored it; None for one that is not in the log."""
        if (known := self._known.pop(request.seq, None)) is not None:
            return known
        if not self._known_words or request.WhichOneof("payload") not in self._kept:
            return None
        # What was acked need not come again, and what does has its number or, if something was left out, a lower one.
        words = _words(request)
        while self._known_words:
            known = self._known_words.popleft()
            if known.words == words and request.seq <= known.seq:
                return known
        return None

    def _lose(self, first: int, last: int, media_class: live_pb2.MediaClass, reason: str, taken: Taken) -> None:
        self.coverage.lost(first, last)
        taken.lost.append(
            live_pb2.Gap(
                direction=live_pb2.DIRECTION_UPLINK,
                from_seq=first,
                to_seq=last,
                media_class=media_class,
                reason=reason,
            )
        )


def _words(request: live_pb2.ConverseRequest) -> bytes:
    """What it says, whatever its number."""
    unnumbered = live_pb2.ConverseRequest()
    unnumbered.CopyFrom(request)
    unnumbered.seq = 0
    return unnumbered.SerializeToString(deterministic=True)
