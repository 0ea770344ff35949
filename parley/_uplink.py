"""What goes to the service, across streams: numbers it, keeps it until it is acked, and says what leaves next.

Plain code but for the wait for room in the outbox: the time is an argument.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

from parley import events
from parley._outbox import Outbox, Outgoing
from parley._ring import Loss, MediaClass, UplinkRing
from parley.v1 import live_pb2 as pb

HORIZON = 15.0
"""Seconds. Sound and pictures older than this are not brought to a model any more, here as in the service."""
JOIN_SECONDS = 0.5
"""Frames that wait behind a slow stream leave together, up to this much audio (the service takes at most 1 s)."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What a new stream means for what was sent before."""

    replayed: tuple[tuple[int, int], ...]
    """Ranges, both ends included, that are sent again; none or one."""
    dropped: tuple[events.Undelivered, ...]


class Uplink:
    """One session's messages to the service."""

    def __init__(self, *, rate: int, on_ready: Callable[[], None]) -> None:
        """`rate`: of the caller's audio, in samples a second. `on_ready`: something waits to be sent."""
        self.outbox = Outbox(on_ready)
        self.ring = UplinkRing()
        self.next_seq = 1
        """Number of the next new message."""
        self.half_closing = False
        """Nothing more will be queued, and the session is not to end."""
        self.end_left = False
        """`end` was handed to gRPC, once at least."""
        self.lost_messages = 0
        self.lost_bytes = 0
        self._rate = rate
        self._max_joined_bytes = int(rate * JOIN_SECONDS) * 2
        self._again: deque[pb.ConverseRequest] = deque()

    @property
    def idle(self) -> bool:
        """Everything that was queued has been handed to the stream of the moment."""
        return not self._again and not len(self.outbox)

    def attach(self, next_uplink_seq: int, now: float) -> Replay:
        """A stream is attached to a session that has everything below `next_uplink_seq`, and nothing above."""
        oldest = now - HORIZON
        losses = self.ring.rebase(next_uplink_seq, self.next_seq, oldest)
        losses += [Loss(0, item.media_class, item.size, "TOO_OLD") for item in self.outbox.expire(oldest)]
        self._again = deque(self.ring.after(next_uplink_seq - 1))
        self.next_seq = next_uplink_seq + len(self._again)
        self.lost_messages += len(losses)
        self.lost_bytes += sum(loss.size for loss in losses)
        replayed = ((next_uplink_seq, self.next_seq - 1),) if self._again else ()
        return Replay(replayed, _summary(losses, self._rate))

    def next_request(self) -> pb.ConverseRequest | None:
        """The next numbered message for the stream of the moment; None when there is none, or it has to wait."""
        if self._again:
            return self._again.popleft()
        if self.ring.full or not (taken := self.outbox.take(max_audio_bytes=self._max_joined_bytes)):
            return None
        first = taken[0]
        request = _request(self.next_seq, taken)
        self.end_left = self.end_left or first.payload == "end"
        self.ring.add(self.next_seq, first.media_class, sum(item.size for item in taken), request, taken[-1].at)
        self.next_seq += 1
        return request

    def undelivered(self) -> str:
        """What the service has not acked, in words; empty when there is nothing."""
        counts: Counter[str] = Counter()
        audio = 0
        for request in self.ring.after(0):
            counts[str(request.WhichOneof("payload"))] += 1
            audio += sum(map(len, request.audio.frames))
        for item in self.outbox:
            counts[item.payload] += 1
            audio += item.size if item.media_class is MediaClass.AUDIO else 0
        counts.pop("audio", None)
        words = [f"{count} {payload}" for payload, count in counts.items()]
        return ", ".join([*words, *([f"{audio / 2 / self._rate:.1f} s of audio"] if audio else [])])


def _request(seq: int, taken: list[Outgoing]) -> pb.ConverseRequest:
    first = taken[0]
    request = pb.ConverseRequest(seq=seq)
    if first.media_class is MediaClass.AUDIO:
        request.audio.frames.extend(item.message for item in taken)
    else:
        getattr(request, first.payload).CopyFrom(first.message)
        # An empty message is a payload too; copying one does not make it present.
        getattr(request, first.payload).SetInParent()
    return request


def _summary(losses: Iterable[Loss], rate: int) -> tuple[events.Undelivered, ...]:
    """One line for each class and reason."""
    groups: dict[tuple[str, str], list[Loss]] = {}
    for loss in losses:
        name = loss.media_class.name if loss.media_class else "UNKNOWN"
        groups.setdefault((name, loss.reason), []).append(loss)
    summary = []
    for (name, reason), group in groups.items():
        numbers = [loss.seq for loss in group if loss.seq]
        seconds = sum(loss.size for loss in group) / 2 / rate if name == "AUDIO" else 0.0
        audio = timedelta(seconds=seconds)
        summary.append(
            events.Undelivered(name, reason, len(group), audio, min(numbers, default=0), max(numbers, default=0))
        )
    return tuple(summary)
