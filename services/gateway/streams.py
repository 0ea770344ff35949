"""All streams of the process: who gets which downlink, housekeeping, and whether workers are still there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

import structlog

from parley.v1 import errors_pb2, fabric_pb2
from services.fabric import subjects
from services.fabric.bus import Bus, Writer
from services.fabric.errors import ServiceError
from services.gateway.moving import Mover
from services.gateway.recovery import Recovery
from services.gateway.session_timeline import GatewayTimeline
from services.gateway.settings import GatewaySettings
from services.gateway.stream import Stream, envelope_in

log = structlog.get_logger()

TICK: Final = 0.05
SILENT: Final = 0.6
"""Seconds without downlink (a worker says something every 500 ms) after which it is asked whether it is there."""
SESSION_SILENT: Final = 3.0
"""Seconds after which it is asked whether it has the session."""
LOST: Final = 15.0
"""Seconds without downlink after which a stream is given up although its worker answers, or cannot be asked."""
FLUSH_LIMIT: Final = 5.0
"""Seconds that a closed stream may take to hand its last uplink to NATS."""


class Streams:
    """The streams by session. A session has two for the moment in which one takes over from another."""

    def __init__(
        self,
        settings: GatewaySettings,
        bus: Bus,
        writer: Writer,
        *,
        recovery: Recovery,
        mover: Mover,
        timeline: GatewayTimeline,
        now: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._writer = writer
        self._recovery = recovery
        self._mover = mover
        self._timeline = timeline
        self._now = now
        self._by_session: dict[str, list[Stream]] = {}
        self._closing: dict[Stream, float] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._probed: dict[tuple[str, str], float] = {}
        self._probing: set[tuple[str, str]] = set()
        self.dropped: Counter[str] = Counter()
        """What was dropped, by name; streams add theirs when they end."""

    # Who gets what

    def create(self) -> Stream:
        """A stream that is nowhere yet."""
        return Stream(self._settings, self._writer, self._now, self._timeline.gap)

    def add(self, session: str, stream: Stream) -> None:
        """From here on `stream` gets the downlink of `session`."""
        self.remove(stream)
        stream.session = session
        self._by_session.setdefault(session, []).append(stream)

    def supersede(self, stream: Stream) -> None:
        """This one is attached: of its session's streams the newest goes on. The worker says so, too, but that may be
        lost, and one that did not know would take the session back when its worker changes."""
        superseded = ServiceError(errors_pb2.ERROR_REASON_SUPERSEDED, "another stream took this session over")
        there = [each for each in self._by_session.get(stream.session, ()) if each.attached and not each.told_to_end]
        newest = max((each.generation for each in there), default=0)
        for each in there:
            if each.generation < newest:
                each.finish(superseded)

    def remove(self, stream: Stream) -> None:
        """`stream` gets nothing any more."""
        listed = self._by_session.get(stream.session)
        if listed and stream in listed:
            listed.remove(stream)
            if not listed:
                del self._by_session[stream.session]

    def close(self, stream: Stream) -> None:
        """A stream is over: it gets nothing more, and the worker is told. Safe to call twice."""
        self.remove(stream)
        if stream.closed:
            return
        self._count_dropped(stream)
        stream.close()
        if not stream.flushed:
            self._closing[stream] = self._now() + FLUSH_LIMIT

    def on_downlink(self, subject: str, payload: bytes) -> None:
        """Takes what comes on the one downlink subscription."""
        streams = self._by_session.get(subjects.session_of(subject))
        if not streams:
            self.dropped["downlink_unroutable"] += 1
            return
        envelope = envelope_in(payload)
        if envelope is None:
            self.dropped["downlink_unreadable"] += 1
            return
        for stream in tuple(streams):
            stream.on_envelope(envelope)

    def all(self) -> list[Stream]:
        """Every stream that is not over."""
        return [stream for listed in self._by_session.values() for stream in listed]

    def __len__(self) -> int:
        return sum(map(len, self._by_session.values()))

    # Time

    async def run(self, each_tick: Callable[[float], Coroutine[Any, Any, None]]) -> None:
        """Housekeeping for ever: one timer for all streams."""
        while True:
            await asyncio.sleep(TICK)
            now = self._now()
            self._tick(now)
            await each_tick(now)

    def _tick(self, now: float) -> None:
        connected = self._bus.connected.is_set()
        for stream in self.all():
            if not connected:
                stream.out_of_touch(now)
            stream.tick(now)
            if not (connected and stream.needs_worker):
                continue
            if stream.wish is not None and now >= stream.move_at:
                self.keep(asyncio.create_task(self._mover.move(stream, stream.wish), name=f"move {stream.session}"))
            elif now - stream.heard > SILENT:
                self._doubt(stream, now)
        for stream, limit in list(self._closing.items()):
            if not stream.flushed and now < limit:
                continue
            if not stream.flushed:
                assert stream.uplink is not None
                self.dropped["uplink_unflushed_items"] += stream.uplink.waiting_items
                self.dropped["uplink_unflushed_bytes"] += stream.uplink.waiting_bytes
            self._writer.forget(stream)
            del self._closing[stream]

    def _doubt(self, stream: Stream, now: float) -> None:
        if now - stream.heard > LOST:
            stream.finish(_worker_lost(stream.worker))
            return
        # One question for all streams of a worker: where it has a hiccup, they are all silent.
        key = (stream.worker, stream.session if now - stream.heard > SESSION_SILENT else "")
        if key not in self._probing and now - self._probed.get(key, -SILENT) >= SILENT:
            self._probing.add(key)
            self.keep(asyncio.create_task(self._probe(*key), name=f"probe {stream.session}"))

    async def _probe(self, worker: str, session: str) -> None:
        """Ask a silent worker whether it is there and holds the session; nobody listening twice proves its death."""
        try:
            proof = await self._recovery.prove_gone(worker, session)
            if proof == fabric_pb2.PROOF_OF_DEATH_NOT_HELD:
                self._recover([each for each in self._by_session.get(session, []) if each.worker == worker], proof)
            elif proof is not None:
                log.warning("worker lost", worker=worker, proof=fabric_pb2.ProofOfDeath.Name(proof))
                self._recover([stream for stream in self.all() if stream.worker == worker], proof)
        except ServiceError:
            pass  # it hangs, or NATS does: that is no proof
        finally:
            self._probing.discard((worker, session))
            self._probed = {key: at for key, at in self._probed.items() if self._now() - at < SILENT}
            self._probed[worker, session] = self._now()

    def _recover(self, streams: Iterable[Stream], proof: fabric_pb2.ProofOfDeath) -> None:
        """The worker of these is gone: others go on with them."""
        for stream in streams:
            if stream.needs_worker:
                recovery = self._recovery.recover(stream, proof)
                self.keep(asyncio.create_task(recovery, name=f"recover {stream.session}"))

    async def on_reconnect(self) -> None:
        """NATS is back: everybody says where it stands, which shows both sides what was lost."""
        for stream in self.all():
            if stream.attached:
                stream.heard = self._now()
                stream.say_status()

    def bus_was_lost(self, since: float) -> None:
        """This process had no connection to NATS since then (monotonic seconds)."""
        for stream in self.all():
            self._timeline.bus_was_lost(stream, since, self._now())

    def drain(self, time_left: float) -> None:
        """This gateway goes away: tell every caller."""
        for stream in self.all():
            self.tell_to_go(stream, time_left)

    def tell_to_go(self, stream: Stream, time_left: float) -> None:
        """This gateway goes away: tell a caller."""
        stream.drain(time_left)
        self._timeline.draining(stream, time_left)

    # Tasks and counts

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Hold a task until it ends."""
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, ServiceError):
            log.error("task failed", task=task.get_name(), exc_info=error)

    async def stop(self) -> None:
        """Cancel what is left."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def flushing(self) -> int:
        """Closed streams whose last uplink has not left."""
        return sum(not stream.flushed for stream in self._closing)

    def _count_dropped(self, stream: Stream) -> None:
        uplink, downlink = stream.uplink, stream.downlink
        if uplink is None or downlink is None:
            return
        self.dropped.update(_dropped_by(stream))

    def counts(self) -> dict[str, int]:
        """For /debug/vars."""
        streams = self.all()
        dropped = Counter(self.dropped)
        sums: Counter[str] = Counter()
        for stream in streams:
            dropped.update(_dropped_by(stream))
            if stream.uplink is not None and stream.downlink is not None:
                sums["uplink_ring_bytes"] += stream.uplink.ring_bytes
                sums["uplink_waiting_items"] += stream.uplink.waiting_items
                sums["uplink_waiting_bytes"] += stream.uplink.waiting_bytes
                sums["downlink_waiting_items"] += stream.downlink.waiting_items
                sums["downlink_waiting_bytes"] += stream.downlink.waiting_bytes
        gauges = (
            "uplink_ring_bytes",
            "uplink_waiting_items",
            "uplink_waiting_bytes",
            "downlink_waiting_items",
            "downlink_waiting_bytes",
        )
        return {
            "streams": len(streams),
            "streams_closing": len(self._closing),
            "stream_tasks": len(self._tasks),
            **{name: sums[name] for name in gauges},
            **{f"dropped_{name}": count for name, count in sorted(dropped.items())},
        }


def _dropped_by(stream: Stream) -> dict[str, int]:
    uplink, downlink = stream.uplink, stream.downlink
    if uplink is None or downlink is None:
        return {}
    return {
        "uplink_shed_items": uplink.shed_items,
        "uplink_shed_bytes": uplink.shed_bytes,
        "uplink_ring_forgotten_items": uplink.forgotten_items,
        "uplink_duplicates": stream.duplicate_uplink,
        "downlink_voided_items": downlink.voided_items,
        "downlink_voided_bytes": downlink.voided_bytes,
        "downlink_refused_items": downlink.refused_items,
        "downlink_lost_items": downlink.lost_items,
        "downlink_duplicates": downlink.duplicates,
        "downlink_stale_envelopes": stream.stale_envelopes,
    }


def _worker_lost(worker: str) -> ServiceError:
    return ServiceError(errors_pb2.ERROR_REASON_WORKER_LOST, f"the session's worker ({worker}) is gone")
