"""One `Converse` stream: the thin shell round its uplink and downlink.

A stream is opening (downlink that is early waits), attached (it pumps), closed (what waits is flushed to the worker,
then `detached`). Two tasks serve it, a reader and a writer; both end by themselves when the call is over, because an
operation of gRPC that is cancelled halfway stays behind. Everything that waits for time is done by one housekeeping
tick for all streams of the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError
from opentelemetry.context import Context

from parley.v1 import errors_pb2, fabric_pb2, live_pb2
from services.fabric import subjects
from services.fabric.bus import Writer
from services.fabric.errors import ServiceError
from services.fabric.hops import Hop
from services.gateway.calls import CallerGoneError, internal_error
from services.gateway.downlink import Downlink
from services.gateway.settings import GatewaySettings
from services.gateway.uplink import Batch, Uplink
from services.gateway.uplink_check import UplinkValidator, parse

Call = grpc.aio.ServicerContext[bytes, bytes]

STATUS_EVERY = 0.5
"""Seconds after which an envelope goes up although there is nothing to say: the heartbeat of the stream."""
ASK_EVERY = 0.05
"""Least seconds between two requests for missing downlink."""
HALF_CLOSE_WAIT = 0.05
"""Seconds after which a closed request side is believed: a call reads as closed just before it is cancelled."""
SENDER_HEARD = 1.5
"""Seconds since the worker was last heard in which what does not come is given up."""
_HOP = Hop("gateway_downlink")
MAX_HELD = 256
"""Envelopes kept until the attachment is known. What is beyond is sent again on request."""


class Stream:
    """A caller's stream. Also the Sender of its uplink."""

    def __init__(
        self,
        settings: GatewaySettings,
        writer: Writer,
        now: Callable[[], float],
        told_of: Callable[[Stream, live_pb2.Gap], None] = lambda _stream, _gap: None,
    ) -> None:
        """`told_of`: the caller is told of this loss."""
        self._settings = settings
        self._told_of = told_of
        self.tenant = ""
        self._writer = writer
        self._now = now
        self.session = ""
        self.trace = Context()
        """Of its open: what becomes of the session belongs to it."""
        self.worker = ""
        self.epoch = 0
        self.generation = 0
        self.closed = False
        self.recovering = False
        """Its worker is gone, and another is being looked for."""
        self.moving = False
        """Its worker lets it go, and another one has a place for it."""
        self.wish: fabric_pb2.MoveWish | None = None
        """Its worker wishes that it goes on with another one."""
        self.move_at = 0.0
        """When that may be tried."""
        self.flushed = False
        """After it was closed: everything has been handed to NATS."""
        self.heard = now()
        """When the worker last said anything to it."""
        self.uplink: Uplink | None = None
        self.downlink: Downlink | None = None
        self._held: list[fabric_pb2.DownlinkEnvelope] = []
        self._subject = ""
        self._validator: UplinkValidator | None = None
        self._finished: asyncio.Future[ServiceError | CallerGoneError | None] = (
            asyncio.get_running_loop().create_future()
        )
        self._wake_writer = asyncio.Event()
        self._room = asyncio.Event()
        self._ending: fabric_pb2.StreamEnd | None = None
        self._half_closed = False
        self._status_due = False
        self._sent_at = 0.0
        self._asked_at = 0.0
        self._progress_at = 0.0
        self._uplink_acked = 0
        self.stale_envelopes = 0
        self.duplicate_uplink = 0
        self.opening: asyncio.Task[Any] | None = None
        """Its open, which runs to its end also when the caller leaves."""

    # Attaching

    def attach(self, worker: str, attached: fabric_pb2.Attached, validator: UplinkValidator) -> None:
        """The worker took the stream; what was held is taken in."""
        settings = self._settings
        now = self._now()
        self.worker = worker
        self.epoch = attached.epoch
        self.generation = attached.attach_generation
        self._subject = subjects.uplink(worker, self.session)
        self._validator = validator
        self.uplink = Uplink(
            attached.next_uplink_seq,
            ring_items=settings.uplink_ring_items,
            ring_bytes=settings.uplink_ring_bytes,
            outbox_items=settings.uplink_outbox_items,
            outbox_bytes=settings.uplink_outbox_bytes,
        )
        self.downlink = Downlink(
            attached.next_downlink_seq,
            audio_ahead_ms=round(settings.audio_ahead.total_seconds() * 1000),
            max_items=settings.downlink_queue_items,
            max_bytes=settings.downlink_queue_bytes,
            told_of=lambda gap: self._told_of(self, gap),
        )
        self._sent_at = self._progress_at = now
        self._take_held()

    def _take_held(self) -> None:
        self.heard = self._now()
        held, self._held = self._held, []
        for envelope in held:
            self.on_envelope(envelope)

    def lose_worker(self) -> fabric_pb2.TakeOver:
        """The worker is gone: nothing of its epoch counts any more, while the caller's side goes on. Return what the
        next one must know."""
        uplink, downlink = self.uplink, self.downlink
        assert uplink is not None
        assert downlink is not None
        self.recovering = True
        command = fabric_pb2.TakeOver(
            session_id=self.session,
            floor=downlink.cut(),
            downlink_acked_seq=downlink.acked,
            last_audio_seq=downlink.last_audio,
            attach_generation=self.generation,
            uplink_acked_seq=uplink.acked,
            uplink_sent_seq=uplink.last_sent,
        )
        command.silence.FromMilliseconds(round((self._now() - self.heard) * 1000))
        return command

    def reattach(self, worker: str, attached: fabric_pb2.Attached) -> None:
        """Another worker has the session; the caller's stream goes on."""
        uplink, downlink = self.uplink, self.downlink
        assert uplink is not None
        assert downlink is not None
        self.worker, self.epoch, self.generation = worker, attached.epoch, attached.attach_generation
        self._subject = subjects.uplink(worker, self.session)
        self._uplink_acked = 0
        if attached.next_uplink_seq < uplink.first:
            # The worker before had it from an earlier stream, and no other worker could restore it yet.
            self.recovering = False
            wanted = "the session's new worker wants what this stream has never carried; resume, and send it again"
            self.finish(ServiceError(errors_pb2.ERROR_REASON_WORKER_LOST, wanted))
            return
        uplink.send_from(attached.next_uplink_seq)
        downlink.go_on(attached.next_downlink_seq)
        self.recovering = False
        self.wish = None
        self._take_held()
        self.say_status()

    @property
    def attached(self) -> bool:
        """Whether a worker has it."""
        return self.uplink is not None

    @property
    def half_closed(self) -> bool:
        """Its caller says no more."""
        return self._half_closed

    @property
    def needs_worker(self) -> bool:
        """It has had a worker, and cannot do without one."""
        return self.attached and not self.told_to_end and not self.recovering and not self.moving and not self.closed

    @property
    def told_to_end(self) -> bool:
        """The worker let go of it: from now on its silence is right."""
        return self._ending is not None

    # From the worker

    def on_envelope(self, envelope: fabric_pb2.DownlinkEnvelope) -> None:
        """Downlink for this session; not necessarily for this stream of it."""
        uplink, downlink = self.uplink, self.downlink
        early = uplink is None or (self.recovering and envelope.epoch > self.epoch)
        if early and not self.closed:
            if len(self._held) < MAX_HELD:
                self._held.append(envelope)
            return
        known = (envelope.attach_generation, envelope.epoch) == (self.generation, self.epoch)
        if uplink is None or downlink is None or self.recovering or self.closed or not known:
            self.stale_envelopes += 1
            return
        now = self._now()
        if now - self.heard >= SENDER_HEARD:
            downlink.wait_anew(now)
        self.heard = now
        if envelope.items and downlink.at_rest:
            _HOP.entered(self)
        downlink.take(envelope, now)
        self.wish = envelope.move if envelope.HasField("move") else None
        if envelope.uplink_acked_seq > self._uplink_acked:
            self._uplink_acked = envelope.uplink_acked_seq
            uplink.ack(envelope.uplink_acked_seq)
            self._room.set()
        if envelope.uplink_stored:
            uplink.stored([(span.from_seq, span.to_seq) for span in envelope.uplink_stored])
            self._room.set()
        for hole in envelope.uplink_missing:
            uplink.send_again(hole.from_seq, hole.to_seq)
        if uplink.pending:
            self._writer.wake(self)
        if envelope.HasField("stream_end"):
            if self._ending is None:
                self._progress_at = now
            self._ending = envelope.stream_end
            if envelope.stream_end.failure.reason == errors_pb2.ERROR_REASON_SUPERSEDED:
                self._finish_as_told()  # what waits here goes to the stream that took over
        self._wake_writer.set()

    # To the worker (Sender)

    def next_publication(self) -> tuple[str, bytes] | None:
        """The next envelope; None when there is nothing to say."""
        uplink, downlink = self.uplink, self.downlink
        if uplink is None or downlink is None or self.flushed or self.recovering:
            return None
        if not (uplink.pending or self._status_due or self.closed):
            return None
        batch = uplink.next_batch() if uplink.pending else Batch()
        done = not uplink.pending
        envelope = fabric_pb2.UplinkEnvelope(
            schema_version=1,
            epoch=self.epoch,
            attach_generation=self.generation,
            requests=batch.requests,
            skips=batch.skips,
            last_seq=uplink.last_sent,
            downlink_received_seq=downlink.received,
            downlink_acked_seq=downlink.acked,
            half_closed=self._half_closed and done,
            detached=self.closed and done,
        )
        for hole in downlink.missing():
            envelope.downlink_missing.add(from_seq=hole.first, to_seq=hole.last)
        self.flushed = envelope.detached
        self._status_due = False
        self._sent_at = self._now()
        self._room.set()
        return self._subject, envelope.SerializeToString()

    # Time

    def tick(self, now: float) -> None:
        """Housekeeping, every 50 ms or so."""
        downlink = self.downlink
        if downlink is None or self.closed:
            return
        # Of one that is silent nothing is known: perhaps it sends again, perhaps another takes its place. One that let
        # go sends nothing again.
        if (self.told_to_end or now - self.heard < SENDER_HEARD) and downlink.tick(now):
            self._wake_writer.set()
        asks = now - self._asked_at >= ASK_EVERY and bool(downlink.missing())
        if asks:
            self._asked_at = now
        if asks or now - self._sent_at >= STATUS_EVERY:
            self.say_status()
        if self._ending is not None and now - self._progress_at > self._settings.end_wait.total_seconds():
            self._finish_as_told()

    def out_of_touch(self, now: float) -> None:
        """There is no connection to NATS: silence proves nothing, and what is missing may come when there is one."""
        self.heard = now
        if self.downlink is not None and not self.told_to_end:
            self.downlink.wait_anew(now)

    def say_status(self) -> None:
        """Send an envelope even if it is empty."""
        self._status_due = True
        self._writer.wake(self)

    # To and from the caller

    async def pump(self, context: Call, keep: Callable[[asyncio.Task[Any]], None]) -> ServiceError | None:
        """Move messages both ways until either side ends; the error to end the call with, None for OK.

        CallerGoneError when the caller left. `keep` holds the two tasks until they end by themselves.
        """
        keep(asyncio.create_task(self._read(context), name=f"read {self.session}"))
        keep(asyncio.create_task(self._write(context), name=f"write {self.session}"))
        end = await self._finished
        if isinstance(end, CallerGoneError):
            raise end
        return end

    def finish(self, end: ServiceError | CallerGoneError | None) -> None:
        """End the stream with this; the first one counts."""
        if not self._finished.done():
            self._finished.set_result(end)

    def drain(self, time_left: float) -> None:
        """Tell the caller that this gateway goes away."""
        if self.downlink is None:
            return
        response = live_pb2.ConverseResponse(gateway_draining=live_pb2.GatewayDraining())
        response.gateway_draining.time_left.FromMilliseconds(round(time_left * 1000))
        self.downlink.say(response)
        self._wake_writer.set()

    def close(self) -> None:
        """The stream is over: flush what waits, then tell the worker."""
        if self.closed:
            return
        self.closed = True
        self._held.clear()
        _HOP.dropped(self)
        self._wake_writer.set()
        self._room.set()
        if self.attached and self._ending is None and not self.recovering:
            self._writer.wake(self)
        else:  # the worker never had it, or let go of it by itself
            self.flushed = True
            self._writer.forget(self)

    async def _read(self, context: Call) -> None:
        try:
            await self._read_all(context)
        except ServiceError as error:
            self.finish(error)
        except (grpc.aio.BaseError, grpc.RpcError, asyncio.CancelledError):
            self.finish(CallerGoneError())
        except Exception as error:  # noqa: BLE001 - the last line of defence: logged with an id
            self.finish(internal_error(error))

    async def _read_all(self, context: Call) -> None:
        uplink, downlink, validator = self.uplink, self.downlink, self._validator
        assert uplink is not None
        assert downlink is not None
        assert validator is not None
        read, wake = context.read, self._writer.wake
        while not self.closed:
            raw: object = await read()
            if raw is grpc.aio.EOF:
                await asyncio.sleep(HALF_CLOSE_WAIT)
                if not self.closed:
                    self._half_closed = True
                    downlink.acks_are_over()
                    self._wake_writer.set()
                    self.say_status()
                return
            assert isinstance(raw, bytes)
            request = parse(raw)
            if request.HasField("ack"):
                if request.seq:
                    raise ServiceError(
                        errors_pb2.ERROR_REASON_SEQUENCE_BROKEN,
                        "seq: must be 0 on `ack`",
                        {"seq": "must be 0 on `ack`"},
                    )
                downlink.ack(request.ack.seq)
                self._wake_writer.set()
                continue
            media_class = validator.check(request, len(raw))
            if media_class is None:
                self.duplicate_uplink += 1
                continue
            uplink.take(request.seq, raw, media_class)
            wake(self)
            while uplink.full and not self.closed:
                self._room.clear()
                await self._room.wait()

    async def _write(self, context: Call) -> None:
        downlink = self.downlink
        assert downlink is not None
        write, wake = context.write, self._wake_writer
        try:
            while not self.closed:
                outgoing = downlink.next()
                if outgoing is None:
                    _HOP.dropped(self)  # what is here waits for the caller
                    if self._ending is not None and downlink.idle:
                        self._finish_as_told()
                        return
                    wake.clear()
                    await wake.wait()
                    continue
                await write(outgoing.response)
                downlink.written()
                _HOP.left(self)
                self._progress_at = self._now()
        except (grpc.aio.BaseError, grpc.RpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            self.finish(CallerGoneError())
        except Exception as error:  # noqa: BLE001 - the last line of defence: logged with an id
            self.finish(internal_error(error))

    def _finish_as_told(self) -> None:
        assert self._ending is not None
        failed = self._ending.HasField("failure")
        self.finish(ServiceError.from_failure(self._ending.failure) if failed else None)


def envelope_in(data: bytes) -> fabric_pb2.DownlinkEnvelope | None:
    """The envelope in a NATS message; None when it is none."""
    try:
        return fabric_pb2.DownlinkEnvelope.FromString(data)
    except DecodeError:
        return None
