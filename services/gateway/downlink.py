"""Downlink of one stream: order, what is missing, what the caller may be sent now. Plain code: time is an argument.

What arrives is put in order and queued. Non-audio leaves at once. Audio leaves while the caller is not more than
`audio_ahead` behind; what is held back holds back what follows it, except that `interrupted` first removes the queued
audio that it voids. The worker is told as received only what was handed to gRPC: so its own window (5 s of audio
beyond that) is the bound of this queue too. Over the queue's own, larger bound nothing more is taken: it counts as
missing and is asked for again when there is room, while the worker's ring keeps it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from parley.v1 import fabric_pb2, live_pb2
from services.fabric.sequence import Lost, SequenceReceiver

LOST: Final = "LOST"
_NAMED_BY_WORKER: Final = frozenset({"VOID", "OVERLOAD"})
"""Reasons of skips that the worker itself tells the caller of, with `interrupted` or a `gap` in the series."""
_MAX_UNACKED: Final = 1024
"""Audio messages remembered as sent; for callers that never ack."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One response, ready for gRPC."""

    response: bytes
    seq: int = 0
    """0: not in the series."""
    audio_ms: int = 0
    void_from: int = 0
    void_to: int = 0


class Downlink:
    """Receiver and queue."""

    def __init__(self, next_seq: int, *, audio_ahead_ms: int, max_items: int, max_bytes: int) -> None:
        self._receiver: SequenceReceiver[Outgoing] = SequenceReceiver(next_seq - 1)
        self._queue: deque[Outgoing] = deque()
        self._urgent: deque[Outgoing] = deque()
        self._queue_bytes = 0
        self._in_flight: Outgoing | None = None
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._audio_ahead_ms = audio_ahead_ms
        self._acking = False
        self._unacked: deque[tuple[int, int]] = deque()
        self._ahead_ms = 0
        self.acked = next_seq - 1
        """Highest `seq` that the caller acked."""
        self.last_audio = 0
        """Newest audio that the caller was or will be sent."""
        self.refused_items = 0
        self.voided_items = 0
        self.voided_bytes = 0
        self.lost_items = 0

    # From the worker

    def take(self, envelope: fabric_pb2.DownlinkEnvelope, now: float) -> None:
        """The content of an envelope."""
        gaps: list[live_pb2.Gap] = []
        for skip in envelope.skips:
            self._skip(skip, gaps, now)
        for gap in gaps:
            self.say(live_pb2.ConverseResponse(gap=gap))
        for item in envelope.items:
            if self._full:
                self.refused_items += 1
                continue
            outgoing = Outgoing(item.response, item.seq, item.audio_milliseconds, item.void_from_seq, item.void_to_seq)
            if item.seq:
                self._push_all(self._receiver.message(item.seq, outgoing, now, audio=item.audio_milliseconds > 0))
            else:
                self._urgent.append(outgoing)
                self._queue_bytes += len(outgoing.response)
        if not self._full:
            self._receiver.sender_is_at(envelope.last_seq, now)

    def _skip(self, skip: fabric_pb2.Skip, gaps: list[live_pb2.Gap], now: float) -> None:
        first, last = max(skip.range.from_seq, self._receiver.received + 1), skip.range.to_seq
        if last < first:
            return
        if skip.reason not in _NAMED_BY_WORKER:
            self.lost_items += last - first + 1
            newest = gaps[-1] if gaps else None
            # One gap for audio with words in between, which come.
            same = newest is not None and (newest.media_class, newest.reason) == (skip.media_class, skip.reason)
            if newest is not None and same and skip.media_class == live_pb2.MEDIA_CLASS_AUDIO:
                newest.to_seq = last
            else:
                gaps.append(_gap(first, last, skip.media_class, skip.reason))
        self._push_all(self._receiver.skip(first, last, now))

    def wait_anew(self, now: float) -> None:
        """The worker was out of reach, and could send nothing again until now."""
        self._receiver.wait_anew(now)

    def tick(self, now: float) -> bool:
        """Give up holes that waited too long; the caller is told. True when there is news for the writer."""
        if self._full:
            return False
        lost, released = self._receiver.give_up(now)
        for hole in lost:
            self.lost_items += hole.last - hole.first + 1
            # Nobody knows what it was; the caller is told the worst.
            gap = live_pb2.ConverseResponse(gap=_gap(hole.first, hole.last, live_pb2.MEDIA_CLASS_VITAL, LOST))
            self._push(Outgoing(gap.SerializeToString()))
        self._push_all(released)
        return bool(lost)

    def cut(self) -> int:
        """The worker is gone: what did not come will not come. Return the highest `seq` that is here or was sent."""
        received = self._receiver.received
        self.go_on(received + 1)
        return received

    def go_on(self, next_seq: int) -> None:
        """Another worker goes on with this number."""
        duplicates = self._receiver.duplicates
        self._receiver = SequenceReceiver(next_seq - 1)
        self._receiver.duplicates = duplicates

    def missing(self) -> list[Lost]:
        """What to ask the worker for."""
        return [] if self._full else self._receiver.missing()

    @property
    def received(self) -> int:
        """Up to here everything was handed to gRPC, voided or given up."""
        if self._in_flight is not None and self._in_flight.seq:
            return self._in_flight.seq - 1
        for outgoing in self._queue:
            if outgoing.seq:
                return outgoing.seq - 1
        return self._receiver.received

    @property
    def _full(self) -> bool:
        return len(self._queue) + len(self._urgent) >= self._max_items or self._queue_bytes >= self._max_bytes

    def _push_all(self, released: Iterable[Outgoing]) -> None:
        for outgoing in released:
            self._push(outgoing)

    def _push(self, outgoing: Outgoing) -> None:
        if outgoing.void_from and outgoing.void_to >= outgoing.void_from:
            self._void(outgoing.void_from, outgoing.void_to)
        if outgoing.audio_ms:
            self.last_audio = outgoing.seq
        self._queue.append(outgoing)
        self._queue_bytes += len(outgoing.response)

    def _void(self, first: int, last: int) -> None:
        kept: deque[Outgoing] = deque()
        for outgoing in self._queue:
            if outgoing.audio_ms and first <= outgoing.seq <= last:
                self.voided_items += 1
                self.voided_bytes += len(outgoing.response)
                self._queue_bytes -= len(outgoing.response)
            else:
                kept.append(outgoing)
        self._queue = kept
        # The caller throws away what it has of it: it no longer stands between the caller and what comes next.
        still = deque(sent for sent in self._unacked if not first <= sent[0] <= last)
        self._ahead_ms = sum(milliseconds for _, milliseconds in still)
        self._unacked = still

    # From the gateway itself

    def say(self, response: live_pb2.ConverseResponse) -> None:
        """Send an unnumbered response before everything that waits."""
        outgoing = Outgoing(response.SerializeToString())
        self._urgent.append(outgoing)
        self._queue_bytes += len(outgoing.response)

    # To the caller

    def next(self) -> Outgoing | None:
        """What may be sent now; None when nothing may. `written` must follow before the next call."""
        if self._urgent:
            outgoing = self._urgent.popleft()
        elif self._queue and self._may_leave(self._queue[0]):
            outgoing = self._queue.popleft()
        else:
            return None
        self._queue_bytes -= len(outgoing.response)
        self._in_flight = outgoing
        return outgoing

    def _may_leave(self, outgoing: Outgoing) -> bool:
        if not outgoing.audio_ms or not self._acking or not self._ahead_ms:
            return True
        return self._ahead_ms + outgoing.audio_ms <= self._audio_ahead_ms

    def written(self) -> None:
        """gRPC took what `next` gave."""
        outgoing, self._in_flight = self._in_flight, None
        if outgoing is None or not outgoing.audio_ms:
            return
        if outgoing.seq <= self.acked:
            return  # the ack was faster: nothing would ever take it off the window again
        self._unacked.append((outgoing.seq, outgoing.audio_ms))
        self._ahead_ms += outgoing.audio_ms
        if len(self._unacked) > _MAX_UNACKED:
            self._ahead_ms -= self._unacked.popleft()[1]

    def ack(self, seq: int) -> None:
        """The caller has everything up to `seq`."""
        self._acking = True
        seq = min(seq, self._receiver.received)
        if seq <= self.acked:
            return
        self.acked = seq
        while self._unacked and self._unacked[0][0] <= seq:
            self._ahead_ms -= self._unacked.popleft()[1]

    def acks_are_over(self) -> None:
        """The caller closed its side: from here on gRPC's windows hold back alone."""
        self._acking = False

    @property
    def idle(self) -> bool:
        """Nothing waits, nothing is being written and nothing is missing."""
        return not (self._queue or self._urgent or self._in_flight or self._receiver.missing())

    @property
    def waiting_items(self) -> int:
        """Responses in the queue."""
        return len(self._queue) + len(self._urgent)

    @property
    def waiting_bytes(self) -> int:
        """Bytes in the queue."""
        return self._queue_bytes

    @property
    def duplicates(self) -> int:
        """Responses that came twice."""
        return self._receiver.duplicates


def _gap(first: int, last: int, media_class: live_pb2.MediaClass, reason: str) -> live_pb2.Gap:
    return live_pb2.Gap(
        direction=live_pb2.DIRECTION_DOWNLINK, from_seq=first, to_seq=last, media_class=media_class, reason=reason
    )
