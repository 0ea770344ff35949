"""Uplink of one stream: what waits for NATS (outbox) and what the worker has not acked (ring). Plain code.

Both are bounded. What the outbox cannot hold is shed, video first, then the oldest audio, and a `Skip` goes in its
place; text and the like are never shed: `full` tells the reader to stop instead, and gRPC's windows hold the caller
back. What the ring cannot hold can no longer be sent again; if the worker asks for it, a `Skip` says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from parley.v1 import fabric_pb2, live_pb2
from services.fabric.ring import Ring

MAX_BATCH_ITEMS: Final = 64
MAX_BATCH_BYTES: Final = 512 * 1024
MAX_RUNS: Final = 4096
"""Stretches of one class that are remembered for what the ring has forgotten."""
OVERLOAD: Final = "OVERLOAD"
_VITAL: Final = live_pb2.MEDIA_CLASS_VITAL


@dataclass(slots=True)
class _Item:
    first: int
    last: int
    raw: bytes | None
    """None once it was shed; adjacent ones are then joined."""
    media_class: live_pb2.MediaClass


@dataclass(slots=True)
class _Run:
    first: int
    last: int
    media_class: live_pb2.MediaClass


@dataclass(slots=True)
class Batch:
    """What goes into one envelope."""

    requests: list[bytes] = field(default_factory=list)
    skips: list[fabric_pb2.Skip] = field(default_factory=list)
    size: int = 0

    def takes(self, size: int) -> bool:
        """Whether one more of this size fits; the first always does."""
        if not self.requests:
            return True
        return len(self.requests) < MAX_BATCH_ITEMS and self.size + size <= MAX_BATCH_BYTES

    def add(self, raw: bytes) -> None:
        """Take one more."""
        self.requests.append(raw)
        self.size += len(raw)

    def skip(self, first: int, last: int, media_class: live_pb2.MediaClass, reason: str) -> None:
        """Say that a range will not come."""
        before = self.skips[-1] if self.skips else None
        if before is not None and before.media_class == media_class and before.range.to_seq == first - 1:
            before.range.to_seq = last
            return
        span = live_pb2.SeqRange(from_seq=first, to_seq=last)
        self.skips.append(fabric_pb2.Skip(range=span, media_class=media_class, reason=reason))


class Uplink:
    """Ring and outbox."""

    def __init__(
        self, next_seq: int, *, ring_items: int, ring_bytes: int, outbox_items: int, outbox_bytes: int
    ) -> None:
        self._ring: Ring[_Item] = Ring(ring_items, ring_bytes)
        self._outbox: deque[_Item] = deque()
        self._outbox_bytes = 0
        self._waiting = 0
        self._videos = 0
        self._max_items = outbox_items
        self._max_bytes = outbox_bytes
        self._runs: deque[_Run] = deque()
        self._again: dict[int, _Item] = {}
        self._lost: dict[int, _Run] = {}
        self._stored: list[tuple[int, int]] = []
        self.first = next_seq
        """The first `seq` that this stream carries; what came before is with the caller alone, until it is acked."""
        self.last_taken = next_seq - 1
        self.last_sent = next_seq - 1
        """Highest `seq` sent or skipped."""
        self.shed_items = 0
        self.shed_bytes = 0

    @property
    def full(self) -> bool:
        """Stop reading from the caller."""
        return self._over or self._ring.full

    @property
    def _over(self) -> bool:
        return self._waiting > self._max_items or self._outbox_bytes > self._max_bytes

    @property
    def pending(self) -> bool:
        """Whether anything waits to be sent."""
        return bool(self._outbox or self._again or self._lost)

    @property
    def ring_bytes(self) -> int:
        """Bytes kept until they are acked."""
        return self._ring.bytes

    @property
    def forgotten_items(self) -> int:
        """Messages that the ring could not keep."""
        return self._ring.forgotten_items

    @property
    def waiting_items(self) -> int:
        """Messages in the outbox."""
        return self._waiting

    @property
    def waiting_bytes(self) -> int:
        """Bytes in the outbox."""
        return self._outbox_bytes

    def take(self, seq: int, raw: bytes, media_class: live_pb2.MediaClass) -> None:
        """A message of the caller, checked, with the next `seq`."""
        item = _Item(seq, seq, raw, media_class)
        size = len(raw)
        self._ring.append(seq, item, size, expendable=media_class != _VITAL)
        self._note(seq, media_class)
        self._outbox.append(item)
        self._outbox_bytes += size
        self._waiting += 1
        self._videos += media_class == live_pb2.MEDIA_CLASS_VIDEO
        self.last_taken = seq
        while self._over and self._shed_one():
            pass

    def _note(self, seq: int, media_class: live_pb2.MediaClass) -> None:
        runs = self._runs
        if runs and runs[-1].media_class == media_class:
            runs[-1].last = seq
            return
        runs.append(_Run(seq, seq, media_class))
        if len(runs) > MAX_RUNS:
            oldest = runs.popleft()
            runs[0].first = oldest.first

    def _shed_one(self) -> bool:
        wanted = live_pb2.MEDIA_CLASS_VIDEO if self._videos else live_pb2.MEDIA_CLASS_AUDIO
        found = (n for n, item in enumerate(self._outbox) if item.raw is not None and item.media_class == wanted)
        index = next(found, None)
        if index is None:
            return False
        item = self._outbox[index]
        assert item.raw is not None
        self.shed_items += 1
        self.shed_bytes += len(item.raw)
        self._left_outbox(item)
        item.raw = None
        before = self._outbox[index - 1] if index else None
        if before is not None and before.raw is None and before.media_class == wanted:
            before.last = item.last
            del self._outbox[index]
        return True

    def _left_outbox(self, item: _Item) -> None:
        if item.raw is None:
            return
        self._outbox_bytes -= len(item.raw)
        self._waiting -= 1
        self._videos -= item.media_class == live_pb2.MEDIA_CLASS_VIDEO

    def stored(self, ranges: list[tuple[int, int]]) -> None:
        """The worker has these safe, beyond what it acks: text behind audio must not fill the ring for ever."""
        if ranges == self._stored:
            return  # told in every envelope until the ack has passed them
        self._stored = ranges
        self._ring.discard(lambda entry: any(first <= entry.seq <= last for first, last in ranges))

    def ack(self, seq: int) -> None:
        """The worker can restore everything up to `seq` without the caller."""
        seq = min(seq, self.last_taken)
        if seq <= self._ring.acked:
            return
        self._ring.ack(seq)
        while self._runs and self._runs[0].last <= seq:
            self._runs.popleft()
        for waiting in (self._again, self._lost):
            for old in [first for first in waiting if first <= seq]:
                del waiting[old]

    def send_again(self, first: int, last: int) -> None:
        """The worker misses this range."""
        first, last = max(first, self._ring.acked + 1), min(last, self.last_sent)
        expected = first
        for entry in self._ring.between(first, last):
            self._never_again(expected, entry.seq - 1)
            self._again[entry.seq] = entry.item
            expected = entry.seq + 1
        self._never_again(expected, last)

    def send_from(self, seq: int) -> None:
        """Another worker goes on from here: what the one before was sent comes again."""
        self._again.clear()
        self._lost.clear()
        self._stored.clear()
        self.send_again(seq, self.last_sent)

    @property
    def acked(self) -> int:
        """Highest `seq` that the worker can restore without the caller."""
        return self._ring.acked

    def _never_again(self, first: int, last: int) -> None:
        if first > last:
            return
        for run in self._runs:
            if run.last >= first and run.first <= last:
                start = max(run.first, first)
                self._lost[start] = _Run(start, min(run.last, last), run.media_class)

    def next_batch(self) -> Batch:
        """What leaves next: first what is sent again, then what waits, joined up to the bounds of a batch."""
        batch = Batch()
        for run in self._lost.values():
            batch.skip(run.first, run.last, run.media_class, OVERLOAD)
        self._lost.clear()
        for seq in list(self._again):
            item = self._again[seq]
            if item.raw is None:
                batch.skip(seq, seq, item.media_class, OVERLOAD)
            elif batch.takes(len(item.raw)):
                batch.add(item.raw)
            else:
                return batch
            del self._again[seq]
        for item in self._drain(batch):
            self.last_sent = item.last
        return batch

    def _drain(self, batch: Batch) -> Iterator[_Item]:
        while self._outbox:
            item = self._outbox[0]
            if item.raw is None:
                batch.skip(item.first, item.last, item.media_class, OVERLOAD)
            elif batch.takes(len(item.raw)):
                batch.add(item.raw)
            else:
                return
            self._left_outbox(item)
            yield self._outbox.popleft()
