"""The gateway process: what it is made of, and its life from start to drain."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import nats.errors
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from nats.aio.msg import Msg

from parley import _grpc
from parley.v1 import errors_pb2, fabric_pb2, fleet_pb2_grpc, live_pb2, sessions_pb2_grpc, tools_pb2_grpc
from services.fabric import ids, logs, process, subjects
from services.fabric.auth import ApiKey, Authenticator
from services.fabric.bus import Bus, Writer
from services.fabric.catalog import Catalog
from services.fabric.errors import ServiceError
from services.fabric.meters import Sample, samples
from services.fabric.ops import OpsServer
from services.fabric.records import SessionRecords
from services.fabric.streams import MismatchError
from services.fabric.telemetry import Telemetry
from services.fabric.timeline import Timeline
from services.fabric.vitals import vitals
from services.gateway.calls import MAX_METADATA
from services.gateway.fleet_service import FleetService
from services.gateway.live_service import SERVICE as LIVE
from services.gateway.live_service import LiveService
from services.gateway.measures import TABLE
from services.gateway.moving import Mover
from services.gateway.opening import Opener
from services.gateway.placement import WorkerTable
from services.gateway.recovery import Recovery
from services.gateway.session_service import SessionService
from services.gateway.session_timeline import GatewayTimeline
from services.gateway.settings import GatewaySettings
from services.gateway.streams import Streams
from services.gateway.sweeping import Sweeper
from services.gateway.tool_service import ToolService
from services.gateway.watches import Watches

log = structlog.get_logger()

SERVICES: Final = (LIVE, "parley.v1.SessionService", "parley.v1.FleetService", "parley.v1.ToolService")
_KIB: Final = 1024
_GRPC_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    # Windows stay as small as they are set: with probing, 105 s of audio fit into them.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 64 * _KIB),
    ("grpc.http2.write_buffer_size", 8 * _KIB),
    ("grpc.max_receive_message_length", 4 * _KIB * _KIB),
    # Between the two gRPC refuses some calls, without a word of ours; a smaller excess is refused with details.
    ("grpc.max_metadata_size", 4 * MAX_METADATA),
    ("grpc.absolute_max_metadata_size", 5 * MAX_METADATA),
    ("grpc.so_reuseport", 0),
    # A caller whose host is gone is noticed within 30 s.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)
_ANNOUNCE_PENDING = 4_096
_ANNOUNCE_PENDING_BYTES = 4 * _KIB * _KIB
_RETRY = 0.5
_MEND_RETRY = 2.0
"""Seconds after which a stream that somebody has to mend is looked at again."""


async def _none() -> bytes:
    return b""


class Gateway:
    """One gateway process."""

    def __init__(
        self,
        settings: GatewaySettings,
        keys: list[ApiKey],
        profiles: Mapping[str, live_pb2.SessionConfig],
        exposition: Callable[[], Awaitable[bytes]] = _none,
    ) -> None:
        """`exposition`: of the process's metrics."""
        now = asyncio.get_running_loop().time
        self._now = now
        self._settings = settings
        self.id = settings.id or ids.instance_id("gw")
        self._bus = Bus(settings, "gateway", self.id)
        self._writer = Writer(self._bus, hop="gateway_uplink")
        self._records = SessionRecords(self._bus.js)
        self._catalog = Catalog(self._bus.js)
        self._table = WorkerTable(random.Random())
        self._recovery = Recovery(settings, self.id, bus=self._bus, records=self._records, table=self._table, now=now)
        self._mover = Mover(self._bus, self._table, self._recovery, now)
        self._timeline = Timeline(self._bus, self.id)
        timeline = GatewayTimeline(self._timeline, self.id)
        self._streams = Streams(
            settings,
            self._bus,
            self._writer,
            recovery=self._recovery,
            mover=self._mover,
            timeline=timeline,
            now=now,
        )
        self._sweeper = Sweeper(
            settings,
            self._bus,
            self._records,
            self._table,
            timeline=timeline,
            prove_gone=self._recovery.prove_gone,
        )
        self._watches = Watches(settings, self._bus, self._records)
        self._fabric_ready = asyncio.Event()
        self._loop_lag = process.LoopLag()
        authenticator = Authenticator(keys, development=settings.development)
        opener = Opener(
            settings,
            self.id,
            bus=self._bus,
            session_records=self._records,
            catalog=self._catalog,
            profiles=profiles,
            table=self._table,
            recovery=self._recovery,
            streams=self._streams,
            timeline=timeline,
            fabric_ready=self._fabric_ready,
        )
        self._live = LiveService(settings, authenticator, opener, self._streams, timeline)
        self._health = health.aio.HealthServicer()
        self._healthy: bool | None = None
        self._server = _grpc.server(options=_GRPC_OPTIONS)
        self._server.add_generic_rpc_handlers((self._live.handler(),))
        sessions_pb2_grpc.add_SessionServiceServicer_to_server(
            SessionService(
                settings,
                authenticator,
                bus=self._bus,
                session_records=self._records,
                watches=self._watches,
                table=self._table,
                timeline=timeline,
            ),
            self._server,
        )
        fleet_pb2_grpc.add_FleetServiceServicer_to_server(
            FleetService(authenticator, self._bus, self._table, now), self._server
        )
        tools_pb2_grpc.add_ToolServiceServicer_to_server(
            ToolService(settings, authenticator, self._bus, self._catalog), self._server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if settings.development:
            reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        self._ops = OpsServer(settings.ops_listen, self.ready, self.counts, exposition)
        self._tasks: list[asyncio.Task[Any]] = []
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails when a task that the process cannot do without has failed."""
        self.address = ""
        self.ops_url = ""

    # Life

    async def start(self) -> None:
        """Listen for callers and begin to connect to NATS; returns without waiting for it."""
        await self._set_health(ready=False)
        host, _, _ = self._settings.listen.rpartition(":")
        with self._settings.applying("listen"):
            port = self._server.add_insecure_port(self._settings.listen)
        self.address = f"{host}:{port}"
        with self._settings.applying("ops_listen"):
            self.ops_url = await self._ops.start()
        self._bus.on_reconnect = self._on_reconnect
        self._bus.on_outage = self._streams.bus_was_lost
        self._bus.start()
        await self._server.start()
        for name, coroutine in (
            ("housekeeping", self._streams.run(self._on_tick)),
            ("loop lag", self._loop_lag.run()),
            ("fabric", self._join_fabric()),
            ("sweeper", self._sweep()),
        ):
            task = asyncio.create_task(coroutine, name=name)
            task.add_done_callback(self._task_done)
            self._tasks.append(task)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed.done():
            log.error("process fails", task=task.get_name(), exc_info=error)
            self.failed.set_exception(error)

    async def stop(self) -> None:
        """Drain: tell every stream, wait for the grace period, end what is left, close everything."""
        grace = self._settings.shutdown_grace.total_seconds()
        self._live.draining = True
        await self._health.enter_graceful_shutdown()
        self._watches.drain()
        self._streams.drain(grace)
        await self._until(lambda: not self._live.open_calls, grace)
        going = ServiceError(errors_pb2.ERROR_REASON_GATEWAY_DRAINING, "this gateway went away; resume on another one")
        for stream in self._streams.all():
            stream.finish(going)
        await self._until(lambda: not self._live.open_calls and not len(self._watches), 1.0)
        # Time for calls that have just come to be refused: of what gRPC cuts off, callers must guess the meaning.
        await self._server.stop(grace=2.0)
        await self._until(lambda: not self._streams.flushing, 1.0)
        await self._streams.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._timeline.stop()
        await self._bus.close()
        await self._ops.stop()

    async def _until(self, done: Any, limit: float) -> None:
        deadline = self._now() + limit
        while not done() and self._now() < deadline:
            await asyncio.sleep(0.02)

    # NATS

    async def _join_fabric(self) -> None:
        """Subscribe once NATS is there, and see to it that the streams exist; tries until it works."""
        client = self._bus.client
        await self._bus.connected.wait()
        await self._bus.subscribe_media(subjects.downlink_wildcard(self.id), self._streams.on_downlink)
        await client.subscribe(
            subjects.FLEET_ANNOUNCE,
            cb=self._on_announcement,
            pending_msgs_limit=_ANNOUNCE_PENDING,
            pending_bytes_limit=_ANNOUNCE_PENDING_BYTES,
        )
        while True:
            try:
                await self._bus.connected.wait()
                await client.publish(subjects.WORKER_QUERY)
                await self._records.ensure(self._settings.fabric_replicas)
                await self._catalog.ensure(self._settings.fabric_replicas)
                break
            except (nats.errors.Error, ServiceError, TimeoutError) as error:
                log.warning("streams not ready", error=str(error) or type(error).__name__)
                await asyncio.sleep(_MEND_RETRY if isinstance(error, MismatchError) else _RETRY)
        self._fabric_ready.set()
        # Only now: where there is little room, it is for what calls need.
        self._timeline.start(self._settings.fabric_replicas, self._settings.timeline_retention)

    async def _sweep(self) -> None:
        await self._fabric_ready.wait()
        await self._sweeper.run()

    async def _on_announcement(self, message: Msg) -> None:
        self._table.heard(fabric_pb2.WorkerAnnouncement.FromString(message.data), self._now())

    async def _on_reconnect(self) -> None:
        await self._streams.on_reconnect()
        await self._bus.client.publish(subjects.WORKER_QUERY)

    # State

    def ready(self) -> bool:
        """Whether callers should come here."""
        return (
            self._bus.connected.is_set()
            and self._fabric_ready.is_set()
            and not self._live.draining
            and len(self._table) > 0
        )

    async def _on_tick(self, now: float) -> None:
        if self._bus.connected.is_set():
            self._table.forget_silent(now)
        ready = self.ready()
        if ready != self._healthy and not self._live.draining:
            await self._set_health(ready=ready)

    async def _set_health(self, *, ready: bool) -> None:
        self._healthy = ready
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *SERVICES):
            await self._health.set(name, status)

    def counts(self) -> dict[str, int | float | str | bool]:
        """For /debug/vars."""
        return {
            "id": self.id,
            "ready": self.ready(),
            "draining": self._live.draining,
            "calls": self._live.open_calls,
            "watches": len(self._watches),
            "workers": len(self._table),
            "subscriptions": self._bus.subscriptions(),
            "bus_connected": self._bus.connected.is_set(),
            "bus_errors": self._bus.errors,
            "publish_failed": self._writer.failed,
            "sessions_swept": self._sweeper.swept,
            "sessions_recovered": self._recovery.recovered,
            "sessions_moved": self._mover.moved,
            "sessions_not_recovered": self._recovery.given_up,
            "loop_lag_ms": round(self._loop_lag.worst * 1000, 1),
            **self._streams.counts(),
            **self._timeline.counts,
        }

    def samples(self) -> Iterable[Sample]:
        """For the metrics."""
        yield from vitals(self._bus, self._loop_lag, ready=self.ready())
        yield from samples(self.counts(), TABLE)


async def serve(settings: GatewaySettings, keys: list[ApiKey], profiles: Mapping[str, live_pb2.SessionConfig]) -> None:
    """Run a gateway until SIGTERM."""
    stop = process.stop_signal()
    gateway = Gateway(settings, keys, profiles, lambda: traces.meters.exposition())  # noqa: PLW0108 - made later, with its id
    logs.configure("gateway", gateway.id, settings.log_level)
    traces = Telemetry("parley-gateway", gateway.id, settings.otlp_endpoint, settings.otlp_metrics_endpoint)
    traces.meters.measure(gateway.samples)
    if settings.development:
        log.warning("DEVELOPMENT MODE: callers need no key; never run this where others can reach it")
    try:
        await gateway.start()
        process.announce_ready("gateway", gateway.id, address=gateway.address, ops=gateway.ops_url)
        stopping = asyncio.create_task(stop.wait(), name="stop signal")
        ends: list[asyncio.Future[Any]] = [stopping, gateway.failed]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        await gateway.stop()
        if gateway.failed.done():
            gateway.failed.result()
    finally:
        await asyncio.to_thread(traces.shutdown)
