"""The sending end of a session's downlink: numbers, ring, outbox, window, void ranges. Plain code: no awaits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from parley.v1 import fabric_pb2, live_pb2
from services.fabric import subjects
from services.fabric.ring import Ring
from services.session_worker.losses import Losses
from services.session_worker.skips import OVERLOAD, VOID, Skips

_MAX_ITEMS_PER_ENVELOPE: Final = 64
_MAX_BYTES_PER_ENVELOPE: Final = 256 * 1024
_MAX_RING_ITEMS: Final = 16_384


@dataclass(slots=True)
class _Uplink:
    """What the downlink tells the gateway about the other direction."""

    received: int = 0
    acked: int = 0
    stored: list[tuple[int, int]] = field(default_factory=list)
    """Safe beyond `acked`; told in every envelope until `acked` has passed it."""


@dataclass(frozen=True, slots=True)
class _Overload:
    """A gap in the outbox, and what it says."""

    item: fabric_pb2.DownlinkItem
    response: live_pb2.ConverseResponse


class Downlink:
    """Everything on its way to the caller. A `Sender` for the process's writer."""

    def __init__(
        self,
        session: str,
        epoch: int,
        max_bytes: int,
        audio_ahead_ms: int,
        *,
        last_seq: int = 0,
        told: Callable[[live_pb2.ConverseResponse], None] = lambda _response: None,
    ) -> None:
        """`last_seq`: number of the newest message of the owner before; `told`: the caller is told this of a loss that
        is found here; of a burst of overload as it begins."""
        self._told = told
        self._session = session
        self._epoch = epoch
        self._audio_ahead_ms = audio_ahead_ms
        self._ring: Ring[fabric_pb2.DownlinkItem] = Ring(_MAX_RING_ITEMS, max_bytes)
        self._max_bytes = max_bytes
        self._outbox: deque[fabric_pb2.DownlinkItem] = deque()
        self._outbox_bytes = 0
        self._skips = Skips(last_seq)
        self._in_flight: deque[tuple[int, int]] = deque()  # (seq, audio ms) that the gateway has not passed on
        self._in_flight_ms = 0
        self._last_seq = last_seq
        self._overload: _Overload | None = None
        """A gap that has not left, and may name more."""
        self.losses = Losses()
        self._turn_first = last_seq + 1
        self._farewells: deque[tuple[str, bytes]] = deque()
        self._gateway = ""
        self._generation = 0
        self._stream_end: fabric_pb2.StreamEnd | None = None
        self._status_due = False
        self._missing: list[live_pb2.SeqRange] = []
        self.wish: fabric_pb2.MoveWish | None = None
        """That the gateway move the session, said with everything until it is."""
        self._newest = last_seq
        """Number of the newest message that is more than news of the link."""
        self.muted = False
        """Nothing is published for now: the session may be somebody else's."""
        self.uplink = _Uplink()
        self._told_acked = 0
        self.received = 0
        """Highest `seq` that the gateway has passed on."""
        self.shed_items = 0
        self.shed_bytes = 0

    @property
    def last_seq(self) -> int:
        """Number of the newest message."""
        return self._last_seq

    @property
    def acked(self) -> int:
        """The caller has everything up to here."""
        return self._ring.acked

    @property
    def attached(self) -> bool:
        """A stream is attached and not yet told to close."""
        return bool(self._gateway)

    @property
    def waiting(self) -> int:
        """Messages that are not published."""
        return len(self._outbox)

    @property
    def ring_bytes(self) -> int:
        """Bytes kept until they are acked."""
        return self._ring.bytes

    @property
    def drained(self) -> bool:
        """Nothing waits to be published."""
        return not (self._outbox or self._farewells or self._skips or self._stream_end is not None)

    @property
    def delivered(self) -> bool:
        """The caller has everything, as far as it tells: its gateway while it is attached, else its own acks."""
        known = self.received if self._gateway or not self._ring.acked else self._ring.acked
        return max(known, self._ring.acked) >= self._newest and not self.losses

    # What the session says

    def emit(self, response: live_pb2.ConverseResponse, *, audio_ms: int = 0) -> int:
        """Number a response and queue it; return its `seq`. What was lost before is told before it, unless it is audio.
        Where the caller does not keep up, the oldest audio gives way, and a gap names it."""
        if not audio_ms:
            self.tell_losses()
        seq = self._emit(response, audio_ms)
        if response.gap.direction == live_pb2.DIRECTION_UPLINK:
            self.losses.told(response.gap, seq)
        self._shed_over_bound()
        return seq

    def tell_losses(self) -> None:
        """Tell the caller now what was lost of the uplink."""
        for gap in self.losses.take():
            response = live_pb2.ConverseResponse(gap=gap)
            self.losses.told(gap, self._emit(response))
            self._told(response)

    @property
    def untold_losses(self) -> list[fabric_pb2.UntoldLoss]:
        """Whoever goes on after this worker must tell the caller of them."""
        return self.losses.untold(max(self._ring.acked or self.received, self._ring.forgotten))

    def _emit(self, response: live_pb2.ConverseResponse, audio_ms: int = 0) -> int:
        self._last_seq += 1
        response.seq = self._last_seq
        response.acked_seq = self._told_acked = self.uplink.acked
        item = fabric_pb2.DownlinkItem(
            response=response.SerializeToString(), seq=self._last_seq, audio_milliseconds=audio_ms
        )
        if response.WhichOneof("payload") == "interrupted":
            item.void_from_seq = response.interrupted.void_from_seq
            item.void_to_seq = response.interrupted.void_to_seq
        if response.WhichOneof("payload") != "link_state":
            self._newest = self._last_seq
        size = len(item.response)
        # For a caller that never acks: what gRPC has taken gives way to what is new.
        self._ring.make_room(size, up_to=self.received)
        self._ring.append(self._last_seq, item, size, expendable=audio_ms > 0)
        self._skips.forget_explained(self._ring.forgotten)
        if response.WhichOneof("payload") == "turn_complete":
            self._turn_first = self._last_seq + 1
        if self._gateway:
            self._outbox.append(item)
            self._outbox_bytes += size
        return self._last_seq

    def interrupt(self, reason: live_pb2.InterruptionReason) -> None:
        """The answer was cut off: void the audio that the caller has not acked, and tell it before anything else.

        A caller that never acks may have played every answer before this one: only this one is void then, and what
        waits here of those before.
        """
        waiting = [item.seq for item in self._outbox if item.audio_milliseconds]
        after = self._ring.acked or min([self._turn_first, *waiting]) - 1
        kept = [entry.seq for entry in self._ring.after(after) if entry.item.audio_milliseconds]
        audio = [*waiting, *kept]
        first = min(audio, default=self._last_seq + 1)
        last = max(audio, default=self._last_seq)
        if audio:
            self._skips.explain(first, last)
        self._skip_queued_audio(VOID)
        self._ring.discard(lambda entry: entry.seq > after and bool(entry.item.audio_milliseconds))
        self.emit(
            live_pb2.ConverseResponse(
                interrupted=live_pb2.Interrupted(reason=reason, void_from_seq=first, void_to_seq=last)
            )
        )

    def _shed_over_bound(self) -> None:
        while self._outbox_bytes > self._max_bytes:
            item = next((item for item in self._outbox if item.audio_milliseconds), None)
            if item is None:
                return
            self._outbox.remove(item)
            self._outbox_bytes -= len(item.response)
            self.shed_items += 1
            self.shed_bytes += len(item.response)
            self._ring.discard(lambda entry, seq=item.seq: entry.seq == seq)  # type: ignore[misc]
            self._skips.add(item.seq, item.seq, OVERLOAD)
            self._skips.explain(item.seq, item.seq)
            self._name_overload(item.seq)

    def _name_overload(self, seq: int) -> None:
        """In the gap of this burst, as long as that is here and no audio has left meanwhile: all audio that it names is
        lost."""
        overload = self._overload
        if overload is None or overload.response.gap.to_seq >= seq:
            gap = live_pb2.Gap(
                direction=live_pb2.DIRECTION_DOWNLINK,
                from_seq=seq,
                to_seq=seq,
                media_class=live_pb2.MEDIA_CLASS_AUDIO,
                reason=OVERLOAD,
            )
            response = live_pb2.ConverseResponse(gap=gap)
            self._emit(response)
            self._told(response)
            self._overload = _Overload(self._outbox[-1], response)
            return
        item, response = overload.item, overload.response
        response.gap.to_seq = seq
        self._outbox_bytes -= len(item.response)
        item.response = response.SerializeToString()
        self._outbox_bytes += len(item.response)

    def _skip_queued_audio(self, reason: str) -> None:
        kept: deque[fabric_pb2.DownlinkItem] = deque()
        for item in self._outbox:
            if item.audio_milliseconds:
                self._outbox_bytes -= len(item.response)
                self._skips.add(item.seq, item.seq, reason)
            else:
                kept.append(item)
        self._outbox = kept

    def drop_queued_audio(self) -> None:
        """Nobody takes it any more; what else waits goes out at once."""
        self._skip_queued_audio("ENDED")

    def end_stream(self, failure: fabric_pb2.Failure | None = None) -> None:
        """Let go of the stream once everything queued is on its way. The first failure counts."""
        self.tell_losses()
        if self._gateway and not (self._stream_end is not None and self._stream_end.HasField("failure")):
            self._stream_end = fabric_pb2.StreamEnd()
            if failure is not None:
                self._stream_end.failure.CopyFrom(failure)

    # What the gateway says

    def attach(
        self,
        gateway: str,
        generation: int,
        last_received: int,
        superseded: fabric_pb2.Failure,
        *,
        passed_on: int = 0,
    ) -> int:
        """A new stream takes over; the old one is told so. Return the first `seq` that the new one gets.

        `last_received`: the caller has everything up to here; `passed_on`: the gateway of its stream has, which another
        stream will not get from it.
        """
        self.tell_losses()
        if self._gateway:
            envelope = self._farewell(self.received)
            envelope.stream_end.failure.CopyFrom(superseded)
            self._farewells.append((subjects.downlink(self._gateway, self._session), envelope.SerializeToString()))
        self._gateway, self._generation = gateway, generation
        self._stream_end = None
        self._skips.take()
        self._missing = []
        self._in_flight.clear()
        self._in_flight_ms = 0
        self.acknowledge(last_received)
        first = max(last_received, passed_on, self._ring.acked) + 1
        self.received = first - 1
        self._outbox = deque(entry.item for entry in self._ring.after(first - 1))
        self._outbox_bytes = sum(len(item.response) for item in self._outbox)
        self._skip_all(first, self._last_seq, [item.seq for item in self._outbox])
        return first

    def detach(self) -> None:
        """The stream is gone; what is unacked stays in the ring."""
        self._gateway = ""
        self._stream_end = None
        self._outbox.clear()
        self._outbox_bytes = 0
        self._skips.take()
        self._missing.clear()

    def let_go(self, to_worker: str) -> None:
        """The session goes on elsewhere: nothing more comes, and the gateway is told so."""
        if self._gateway:
            wish = fabric_pb2.MoveWish(to_worker=to_worker, released=True)
            envelope = self._farewell(self._announced())
            envelope.move.CopyFrom(wish)
            self._farewells.append((subjects.downlink(self._gateway, self._session), envelope.SerializeToString()))
        self.detach()

    def _farewell(self, last_seq: int) -> fabric_pb2.DownlinkEnvelope:
        """The last envelope to the stream that is attached."""
        return fabric_pb2.DownlinkEnvelope(
            schema_version=1, epoch=self._epoch, attach_generation=self._generation, last_seq=last_seq
        )

    def clear(self) -> None:
        """Forget everything; for a session that is over."""
        self.detach()
        self._farewells.clear()
        self._in_flight.clear()
        self._ring.discard(lambda _entry: True)

    def passed_on(self, seq: int) -> None:
        """The gateway has passed on everything up to `seq`: the window opens."""
        self.received = max(self.received, min(seq, self._last_seq))
        while self._in_flight and self._in_flight[0][0] <= seq:
            self._in_flight_ms -= self._in_flight.popleft()[1]

    def acknowledge(self, seq: int) -> None:
        """The caller has everything up to `seq`."""
        self._ring.ack(min(seq, self._last_seq))
        self._skips.forget_explained(self._ring.acked)

    def resend(self, missing: list[tuple[int, int]]) -> None:
        """The gateway misses these ranges: send them again, or say that they will not come."""
        again: list[fabric_pb2.DownlinkItem] = []
        queued = {item.seq for item in self._outbox}
        for first, last in missing:
            kept = {entry.seq: entry.item for entry in self._ring.between(first, last)}
            again += [item for seq, item in kept.items() if seq not in queued]
            self._skip_all(first, min(last, self._last_seq), sorted(kept.keys() | queued))
        self._outbox.extendleft(reversed(again))
        self._outbox_bytes += sum(len(item.response) for item in again)

    def ask_for(self, missing: list[live_pb2.SeqRange]) -> None:
        """Ask the gateway for uplink that did not come."""
        self._missing = missing
        self._status_due = True

    def tell(self) -> None:
        """Publish where the uplink stands, soon."""
        self._status_due = True

    def status(self) -> None:
        """Publish where both directions stand, also when there is nothing else to say."""
        self._status_due = True
        if self._told_acked != self.uplink.acked and self._gateway:
            self._told_acked = self.uplink.acked
            news = live_pb2.ConverseResponse(acked_seq=self.uplink.acked)
            self._outbox.append(fabric_pb2.DownlinkItem(response=news.SerializeToString()))

    def _skip_all(self, first: int, last: int, here: Iterable[int]) -> None:
        """None of this range will come but what is `here`, in order."""
        self._skips.add_all(first, last, here=here, forgotten=self._ring.forgotten)

    # What the writer takes

    def next_publication(self) -> tuple[str, bytes] | None:
        """The next envelope; None when there is nothing to send, or the window is shut, or nobody may be told."""
        if self.muted:
            return None
        if self._farewells:
            return self._farewells.popleft()
        if not self._gateway:
            return None
        items = self._take()
        ending = self._stream_end is not None and not self._outbox
        if not (items or self._skips or self._status_due or ending):
            return None
        envelope = fabric_pb2.DownlinkEnvelope(
            schema_version=1,
            epoch=self._epoch,
            attach_generation=self._generation,
            items=items,
            last_seq=self._announced(),
            uplink_received_seq=self.uplink.received,
            uplink_acked_seq=self.uplink.acked,
            uplink_missing=self._missing,
            uplink_stored=[live_pb2.SeqRange(from_seq=first, to_seq=last) for first, last in self.uplink.stored],
            skips=self._skips.take(),
            move=self.wish,
        )
        self._missing, self._status_due = [], False
        subject = subjects.downlink(self._gateway, self._session)
        if ending:
            envelope.stream_end.CopyFrom(self._stream_end or fabric_pb2.StreamEnd())
            self.detach()
        return subject, envelope.SerializeToString()

    def _announced(self) -> int:
        """Highest `seq` that was sent: what still waits here is not missing there."""
        first_waiting = next((item.seq for item in self._outbox if item.seq), 0)
        return first_waiting - 1 if first_waiting else self._last_seq

    def _take(self) -> list[fabric_pb2.DownlinkItem]:
        items: list[fabric_pb2.DownlinkItem] = []
        size = 0
        while self._outbox and len(items) < _MAX_ITEMS_PER_ENVELOPE:
            item = self._outbox[0]
            if item.audio_milliseconds and self._in_flight_ms >= self._audio_ahead_ms:
                break
            size += len(item.response)
            if items and size > _MAX_BYTES_PER_ENVELOPE:
                break
            items.append(self._outbox.popleft())
            if item.audio_milliseconds or (self._overload is not None and item is self._overload.item):
                self._overload = None
            self._outbox_bytes -= len(item.response)
            if item.audio_milliseconds:
                self._in_flight.append((item.seq, item.audio_milliseconds))
                self._in_flight_ms += item.audio_milliseconds
        return items
