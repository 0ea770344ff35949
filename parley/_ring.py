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


@dataclass(slots=True)
class _Entry:
    seq: int
    media_class: MediaClass
    size: int
    request: pb.ConverseRequest


class UplinkRing:
    """Unacked uplink messages in order of `seq`.

    Over a bound the oldest video goes, then the oldest audio, each counted; text, turns and tool results stay. When
    those alone exceed the bound, `full` is true and the sender has to wait for an ack.
    """

    def __init__(self, *, max_items: int = 4096, max_bytes: int = 2 << 20) -> None:
        """The default holds a minute of 16 kHz speech, four times what is ever replayed to a model."""
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._entries: deque[_Entry] = deque()
        self._bytes = 0
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

    def add(self, seq: int, media_class: MediaClass, size: int, request: pb.ConverseRequest) -> None:
        """Keeps a message of `size` bytes that is about to be sent."""
        self._entries.append(_Entry(seq, media_class, size, request))
        self._bytes += size
        if self.full:
            self._shed(MediaClass.VIDEO)
        if self.full:
            self._shed(MediaClass.AUDIO)

    def acked(self, seq: int) -> bool:
        """Forgets everything up to `seq`; true when that made room. A lower `seq` than before changes nothing."""
        before = len(self._entries)
        self.acked_seq = max(self.acked_seq, seq)
        while self._entries and self._entries[0].seq <= seq:
            self._bytes -= self._entries.popleft().size
        return len(self._entries) < before

    def after(self, seq: int) -> list[pb.ConverseRequest]:
        """What is held above `seq`, oldest first: what a resumed stream has to send again."""
        return [entry.request for entry in self._entries if entry.seq > seq]

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
            else:
                self._entries.append(entry)
