"""What was sent and may have to be sent again: a bounded buffer of unacked messages."""

from collections import deque
from dataclasses import dataclass
from enum import Enum

from parley.v1 import live_pb2 as pb


class MediaClass(Enum):
    """How a message is treated under pressure: video goes first, then audio, the rest never."""

    VIDEO = 1
    AUDIO = 2
    VITAL = 3


@dataclass(frozen=True, slots=True)
class Loss:
    """A message that will not be sent, or not again."""

    seq: int
    """0: it had not been numbered."""
    media_class: MediaClass | None
    """None: so much was forgotten that nobody knows any more."""
    size: int
    reason: str
    """`FORGOTTEN`: too much was unacked. `TOO_OLD`: media that a conversation has left behind."""


@dataclass(slots=True)
class _Entry:
    seq: int
    media_class: MediaClass
    size: int
    at: float
    request: pb.ConverseRequest


class UplinkRing:
    """Unacked uplink messages in order of `seq`.

    Over a bound the oldest video goes, then the oldest audio, each counted; text, turns and tool results stay. When
    those alone exceed the bound, `full` is true and the sender has to wait for an ack.
    """

    REMEMBERED = 4096
    """Messages of which it is known what they were when they are gone."""

    def __init__(self, *, max_items: int = 4096, max_bytes: int = 2 << 20) -> None:
        """The default holds a minute of 16 kHz speech, four times what is ever replayed to a model."""
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._entries: deque[_Entry] = deque()
        self._bytes = 0
        self._forgotten: dict[int, Loss] = {}
        self.dropped_items = 0
        self.dropped_bytes = 0
        self.acked_seq = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._bytes

    @property
    def full(self) -> bool:
        """Nothing may be added before an ack: what is held is over the bound and none of it may be dropped."""
        return len(self._entries) > self._max_items or self._bytes > self._max_bytes

    def add(self, seq: int, media_class: MediaClass, size: int, request: pb.ConverseRequest, at: float = 0.0) -> None:
        """Keeps a message of `size` bytes that is about to be sent; `at`: when the application sent it."""
        self._entries.append(_Entry(seq, media_class, size, at, request))
        self._bytes += size
        if self.full:
            self._shed(MediaClass.VIDEO)
        if self.full:
            self._shed(MediaClass.AUDIO)

    def acked(self, seq: int) -> bool:
        """Forgets everything up to `seq`; true when that made room. A lower `seq` than before changes nothing."""
        if seq <= self.acked_seq:
            return False
        before = len(self._entries)
        self.acked_seq = seq
        while self._entries and self._entries[0].seq <= seq:
            self._bytes -= self._entries.popleft().size
        if self._forgotten:
            self._forgotten = {number: loss for number, loss in self._forgotten.items() if number > seq}
        return len(self._entries) < before

    def after(self, seq: int) -> list[pb.ConverseRequest]:
        """What is held above `seq`, oldest first: what a resumed stream has to send again."""
        return [entry.request for entry in self._entries if entry.seq > seq]

    def rebase(self, first: int, end: int, oldest: float) -> list[Loss]:
        """Makes what is held fit for a service that has everything below `first`, and nothing from there to `end`.

        Media that was sent before the time `oldest` is dropped. The rest is numbered from `first` on: the service
        takes no holes, and does not know the numbers from there on. Returns what it will never get.
        """
        entries, self._entries = self._entries, deque()
        held = {}
        for entry in entries:
            if entry.seq < first:
                self._entries.append(entry)
            else:
                held[entry.seq] = entry
        losses = []
        seq = first
        # What was acked is safe, whatever the service asks for.
        for number in range(max(first, self.acked_seq + 1), end):
            match held.get(number):
                case None:
                    losses.append(self._forgotten.get(number) or Loss(number, None, 0, "FORGOTTEN"))
                case _Entry(media_class=media_class, size=size, at=at) if (
                    media_class is not MediaClass.VITAL and at < oldest
                ):
                    losses.append(Loss(number, media_class, size, "TOO_OLD"))
                    self._bytes -= size
                case entry:
                    entry.seq = entry.request.seq = seq
                    self._entries.append(entry)
                    seq += 1
        self.acked_seq = min(self.acked_seq, first - 1)
        self._forgotten = {number: loss for number, loss in self._forgotten.items() if number < first}
        return losses

    def _shed(self, media_class: MediaClass) -> None:
        entries, self._entries = self._entries, deque()
        items = len(entries)
        for entry in entries:
            over = items > self._max_items or self._bytes > self._max_bytes
            if over and entry.media_class is media_class:
                items -= 1
                self._bytes -= entry.size
                self.dropped_items += 1
                self.dropped_bytes += entry.size
                self._forgotten[entry.seq] = Loss(entry.seq, media_class, entry.size, "FORGOTTEN")
                if len(self._forgotten) > self.REMEMBERED:
                    del self._forgotten[next(iter(self._forgotten))]
            else:
                self._entries.append(entry)
