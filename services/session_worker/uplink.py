"""The receiving end of a session's uplink: who may send, order, loss, and what waits for the link. Plain code."""

from __future__ import annotations

from dataclasses import dataclass, field

from parley.v1 import fabric_pb2, live_pb2
from services.fabric.sequence import HOLE_WAIT, SequenceReceiver
from services.session_worker.coverage import Coverage
from services.session_worker.input_queue import InputQueue

VITAL = frozenset({"text", "turn", "tool_result", "context_update"})
"""Requests that are stored in the log and never shed."""


@dataclass(slots=True)
class Taken:
    """What came of an envelope or of time passing."""

    to_store: list[live_pb2.ConverseRequest] = field(default_factory=list)
    """Requests for the log."""
    lost: list[live_pb2.Gap] = field(default_factory=list)
    """What will not reach the model."""
    input_waits: bool = False
    """There is something new for the link."""


class Uplink:
    """Everything on its way from the gateway to the link."""

    def __init__(self, max_audio_bytes: int, picture_interval: float = 0.0) -> None:
        self.queue = InputQueue(max_audio_bytes, picture_interval)
        self.coverage = Coverage()
        # What is missing may be text, and the gateway answers at once with the message or a skip: no hurry.
        self._receiver: SequenceReceiver[live_pb2.ConverseRequest] = SequenceReceiver(audio_wait=HOLE_WAIT)

    @property
    def received(self) -> int:
        """Highest `seq` up to which everything arrived or was given up."""
        return self._receiver.received

    def take(self, envelope: fabric_pb2.UplinkEnvelope, now: float) -> Taken:
        """Requests and skips of an envelope."""
        taken = Taken()
        for raw in envelope.requests:
            request = live_pb2.ConverseRequest.FromString(raw)
            audio = request.WhichOneof("payload") == "audio"
            self._queue(self._receiver.message(request.seq, request, now, audio=audio), taken)
        for skip in envelope.skips:
            self._lose(skip.range.from_seq, skip.range.to_seq, skip.media_class, skip.reason, taken)
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

    def missing(self) -> list[live_pb2.SeqRange]:
        """What to ask the gateway for."""
        return [live_pb2.SeqRange(from_seq=hole.first, to_seq=hole.last) for hole in self._receiver.missing()]

    def _queue(self, requests: list[live_pb2.ConverseRequest], taken: Taken) -> None:
        for request in requests:
            if request.WhichOneof("payload") in VITAL:
                self.coverage.vital(request.seq)
                taken.to_store.append(request)
            for shed in self.queue.append(request):
                self._lose(shed.seq, shed.seq, shed.media_class, shed.reason, taken)
            taken.input_waits = True

    def _lose(self, first: int, last: int, media_class: live_pb2.MediaClass, reason: str, taken: Taken) -> None:
        for seq in range(first, last + 1):
            self.coverage.stored(seq)
        taken.lost.append(
            live_pb2.Gap(
                direction=live_pb2.DIRECTION_UPLINK,
                from_seq=first,
                to_seq=last,
                media_class=media_class,
                reason=reason,
            )
        )
