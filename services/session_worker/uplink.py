"""The receiving end of a session's uplink: who may send, order, loss, and what waits for the link. Plain code."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from parley.v1 import fabric_pb2, live_pb2
from services.fabric.sequence import HOLE_WAIT, SequenceReceiver
from services.session_worker.coverage import Coverage
from services.session_worker.input_queue import InputQueue
from services.session_worker.kept_words import KEPT_ANYWAY
from services.session_worker.known_requests import KnownRequest, KnownRequests
from services.session_worker.restored_state import Number, Stored

VITAL = frozenset({"text", "turn", "tool_result", "context_update"})
"""Requests that are stored in the log and never shed."""


@dataclass(slots=True)
class Taken:
    """What came of an envelope or of time passing."""

    to_store: list[tuple[fabric_pb2.LogEntry, int]] = field(default_factory=list)
    """Entries for the log, each with the number of the request that is safe with it, or 0."""
    lost: list[live_pb2.Gap] = field(default_factory=list)
    """What will not reach the model."""
    input_waits: bool = False
    """There is something new for the link."""


class Uplink:
    """Everything on its way from the gateway to the link."""

    def __init__(self, max_audio_bytes: int, picture_interval: float = 0.0, *, log: bool = True) -> None:
        """`log`: False where the conversation is not stored: what is not is acked when it was answered."""
        self._kept = VITAL if log else KEPT_ANYWAY
        self.queue = InputQueue(max_audio_bytes, picture_interval)
        self.coverage = Coverage()
        # What is missing may be text, and the gateway answers at once with the message or a skip: no hurry.
        self._receiver: SequenceReceiver[live_pb2.ConverseRequest] = SequenceReceiver(audio_wait=HOLE_WAIT)
        self._known = KnownRequests()

    def restore(
        self, received: int, stored: Iterable[Stored], give: Container[int], *, numbered: bool, now: float
    ) -> Taken:
        """Begin where another owner ended, who had everything up to `received`.

        `stored`: requests of the log that may be beyond it, in order; `give`: positions of those that the link is to
        get. `numbered`: what comes has the numbers that it had; else as `renumber`.
        """
        self._receiver = SequenceReceiver(received, audio_wait=HOLE_WAIT)
        self.coverage.restore(received)
        for each in stored:
            known = KnownRequest(each, give=each.position in give)
            if each.number is Number.GONE or each.request.seq > received:
                self._known.add(known)
            elif known.give:
                self.queue.append(each.request)
        taken = Taken()
        if not numbered:
            self.renumber()
            return taken
        for known in self._known:
            request = known.stored.request
            self.coverage.stored(request.seq)
            self._queue(self._receiver.message(request.seq, request, now, audio=False), taken)
        return taken

    def renumber(self) -> None:
        """Another stream of the caller sends from `received + 1` on: what it has of the messages there, or others.

        What came early of the stream before goes: who sent it has it still, as it is not acked.
        """
        self._receiver = SequenceReceiver(self.received, audio_wait=HOLE_WAIT)
        self.coverage.renumber(self.received)
        self._known.renumber()

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
            for first, last in self._known.unknown(max(skip.range.from_seq, self.received + 1), skip.range.to_seq)
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
        # As part of what was received: beyond it nothing may have been sent.
        self._leave_out(self._known.take_passed(self.received + 1), self.received, taken)
        return taken

    def give_up(self, now: float) -> Taken:
        """Holes that waited too long become gaps."""
        taken = Taken()
        lost, released = self._receiver.give_up(now)
        for hole in lost:
            self._lose(hole.first, hole.last, live_pb2.MEDIA_CLASS_UNSPECIFIED, "LOST", taken)
        self._queue(released, taken)
        # As part of what was received: beyond it nothing may have been sent.
        self._leave_out(self._known.take_passed(self.received + 1), self.received, taken)
        return taken

    def all_came(self) -> Taken:
        """The caller says no more: what it has not sent again does not come."""
        taken = Taken()
        self._leave_out(self._known.take_all(), self.received, taken)
        return taken

    def wait_anew(self, now: float) -> None:
        """The gateway is not heard: what is missing may come when it is."""
        self._receiver.wait_anew(now)

    def missing(self) -> list[live_pb2.SeqRange]:
        """What to ask the gateway for."""
        return [live_pb2.SeqRange(from_seq=hole.first, to_seq=hole.last) for hole in self._receiver.missing()]

    def _queue(self, requests: list[live_pb2.ConverseRequest], taken: Taken) -> None:
        for request in requests:
            seq, payload = request.seq, request.WhichOneof("payload")
            self._leave_out(self._known.take_passed(seq), seq, taken)
            known = self._known.take_number(seq)
            if known is not None:
                self.coverage.stored(seq)
                # The stream that says so may be gone by the time that another owner reads it.
                taken.to_store.append((known.renumbered(seq), 0))
            elif payload in self._kept:
                left_out, known = self._known.take_words(request)
                self._leave_out(left_out, seq, taken)
                # Not before the log knows which one it is.
                self.coverage.vital(seq)
                stored = fabric_pb2.LogEntry(request=request) if known is None else known.renumbered(seq)
                taken.to_store.append((stored, seq))
            elif payload in VITAL:
                taken.to_store.append((fabric_pb2.LogEntry(request=request), seq))
            if known is None or known.give:
                self._enqueue(request, taken)

    def _enqueue(self, request: live_pb2.ConverseRequest, taken: Taken) -> None:
        for shed in self.queue.append(request):
            if shed.is_loss:
                self._lose(shed.seq, shed.seq, shed.media_class, shed.reason, taken)
            else:
                self.coverage.lost(shed.seq, shed.seq)
        taken.input_waits = True

    def _leave_out(self, passed: Iterable[KnownRequest], seq: int, taken: Taken) -> None:
        """The caller goes on without these, but has sent them: they are given now, as part of `seq`."""
        for known in passed:
            if known.give:
                taken.to_store.append((known.renumbered(seq, left_out=True), 0))
                given = live_pb2.ConverseRequest()
                given.CopyFrom(known.stored.request)
                given.seq = seq
                self._enqueue(given, taken)

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
