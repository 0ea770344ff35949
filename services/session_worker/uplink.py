"""The receiving end of a session's uplink: who may send, order, loss, and what waits for the link. Plain code."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field, replace

from parley.v1 import fabric_pb2, live_pb2
from services.fabric.sequence import HOLE_WAIT, SequenceReceiver
from services.session_worker.coverage import Coverage
from services.session_worker.input_queue import InputQueue
from services.session_worker.kept_words import KEPT_ANYWAY
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


@dataclass(frozen=True, slots=True)
class _Known:
    """A request that another owner stored."""

    stored: Stored
    give: bool
    """It is to be given to the link."""

    def is_passed(self, seq: int) -> bool:
        """Whether it comes before a message of this number, if it comes at all."""
        number, own = self.stored.request.seq, self.stored.number
        return number <= seq if own is Number.OF_WHAT_IT_PRECEDES else number < seq


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
        self._unnumbered: list[_Known] = []
        """The same of streams that are gone, in the order in which they were sent: known by what they say. Few, and
        each until what comes has come by its number."""

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
            known, seq = _Known(each, give=each.position in give), each.request.seq
            if each.number is Number.GONE or (seq > received and each.number is Number.OF_WHAT_IT_PRECEDES):
                self._unnumbered.append(known)
            elif seq > received:
                self._known[seq] = known
            elif known.give:
                self.queue.append(each.request)
        self._unnumbered.sort(key=_position)
        taken = Taken()
        if not numbered:
            self.renumber()
            return taken
        for seq, known in list(self._known.items()):
            self.coverage.stored(seq)
            self._queue(self._receiver.message(seq, known.stored.request, now, audio=False), taken)
        return taken

    def renumber(self) -> None:
        """Another stream of the caller sends from `received + 1` on: what it has of the messages there, or others.

        What came early of the stream before goes: who sent it has it still, as it is not acked.
        """
        self._receiver = SequenceReceiver(self.received, audio_wait=HOLE_WAIT)
        self.coverage.renumber(self.received)
        known = [*self._unnumbered, *self._known.values()]
        self._unnumbered = [replace(one, stored=replace(one.stored, number=Number.GONE)) for one in known]
        self._unnumbered.sort(key=_position)
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
        self._leave_out(self.received + 1, self.received, taken)  # a number beyond that nobody has sent
        return taken

    def give_up(self, now: float) -> Taken:
        """Holes that waited too long become gaps."""
        taken = Taken()
        lost, released = self._receiver.give_up(now)
        for hole in lost:
            self._lose(hole.first, hole.last, live_pb2.MEDIA_CLASS_UNSPECIFIED, "LOST", taken)
        self._queue(released, taken)
        self._leave_out(self.received + 1, self.received, taken)  # a number beyond that nobody has sent
        return taken

    def all_came(self) -> Taken:
        """The caller says no more: what it has not sent again does not come."""
        taken = Taken()
        self._drop(len(self._unnumbered), self.received, taken)
        return taken

    def wait_anew(self, now: float) -> None:
        """The gateway is not heard: what is missing may come when it is."""
        self._receiver.wait_anew(now)

    def missing(self) -> list[live_pb2.SeqRange]:
        """What to ask the gateway for."""
        return [live_pb2.SeqRange(from_seq=hole.first, to_seq=hole.last) for hole in self._receiver.missing()]

    def _queue(self, requests: list[live_pb2.ConverseRequest], taken: Taken) -> None:
        for request in requests:
            self._leave_out(request.seq, request.seq, taken)
            known = self._known.pop(request.seq, None)
            if known is not None:
                self.coverage.stored(request.seq)
                # The stream that says so may be gone by the time that another owner reads it.
                taken.to_store.append((_renumbered(known, request.seq), 0))
            elif (known := self._come_again(request, taken)) is not None:
                # Not before the log knows which one it is.
                self.coverage.vital(request.seq)
                taken.to_store.append((_renumbered(known, request.seq), request.seq))
            if known is not None:
                if not known.give:
                    continue
            elif request.WhichOneof("payload") in VITAL:
                if request.WhichOneof("payload") in self._kept:
                    self.coverage.vital(request.seq)
                taken.to_store.append((fabric_pb2.LogEntry(request=request), request.seq))
            self._enqueue(request, taken)

    def _enqueue(self, request: live_pb2.ConverseRequest, taken: Taken) -> None:
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

    def _come_again(self, request: live_pb2.ConverseRequest, taken: Taken) -> _Known | None:
        """A request that the log has of a stream that is gone; None for another one."""
        if not self._unnumbered or request.WhichOneof("payload") not in self._kept:
            return None
        words = _words(request)
        for at, known in enumerate(self._unnumbered):
            if known.stored.number is Number.GONE and _words(known.stored.request) == words:
                self._drop(at, request.seq, taken)
                return self._unnumbered.pop(0)
        self._drop(len(self._unnumbered), request.seq, taken)
        return None

    def _leave_out(self, coming: int, seq: int, taken: Taken) -> None:
        """What comes next has the number `coming`. What comes again has the number that it had or, if what was acked is
        left out, a lower one, and in order: what is passed by now is not going to. It is given as part of `seq`."""
        if self._unnumbered:
            passed = [at for at, known in enumerate(self._unnumbered, 1) if known.is_passed(coming)]
            self._drop(max(passed, default=0), seq, taken)

    def _drop(self, count: int, seq: int, taken: Taken) -> None:
        """The caller goes on without the first so many, but has sent them: they come before what comes as `seq`."""
        for known in self._unnumbered[:count]:
            if known.give:
                taken.to_store.append((_renumbered(known, seq, left_out=True), 0))
                given = live_pb2.ConverseRequest()
                given.CopyFrom(known.stored.request)
                given.seq = seq
                self._enqueue(given, taken)
        del self._unnumbered[:count]

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


def _position(known: _Known) -> int:
    return known.stored.position


def _renumbered(known: _Known, seq: int, *, left_out: bool = False) -> fabric_pb2.LogEntry:
    renumbered = fabric_pb2.Renumbered(position=known.stored.position, seq=seq, left_out=left_out)
    return fabric_pb2.LogEntry(renumbered=renumbered)


def _words(request: live_pb2.ConverseRequest) -> bytes:
    """What it says, whatever its number."""
    unnumbered = live_pb2.ConverseRequest()
    unnumbered.CopyFrom(request)
    unnumbered.seq = 0
    return unnumbered.SerializeToString(deterministic=True)
