"""Starts and stops the worker process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

import structlog

from services.fabric import ids, logs, process
from services.fabric.bus import Bus, Writer
from services.fabric.catalog import Catalog
from services.fabric.conversation_log import ensure_log
from services.fabric.meters import Sample, samples
from services.fabric.ops import Counts, OpsServer
from services.fabric.records import SessionRecords
from services.fabric.telemetry import Telemetry
from services.fabric.timeline import Timeline
from services.fabric.vitals import vitals
from services.session_worker.leftovers import Leftovers
from services.session_worker.lifeline import Lifeline
from services.session_worker.link import Dialer
from services.session_worker.measures import TABLE
from services.session_worker.settings import WorkerSettings
from services.session_worker.shared import Services
from services.session_worker.watchdog import Watchdog
from services.session_worker.worker import Worker

log = structlog.get_logger()


async def serve(settings: WorkerSettings) -> None:
    """Run until SIGTERM or SIGINT."""
    me = settings.id or ids.instance_id("wk")
    logs.configure("session-worker", me, settings.log_level)
    telemetry = Telemetry("parley-session-worker", me, settings.otlp_endpoint, settings.otlp_metrics_endpoint)
    stop = process.stop_signal()
    bus = Bus(settings, "worker", me)
    lifeline = Lifeline(bus, settings.ownership_ttl.total_seconds())
    bus.on_reconnect = lifeline.reconnected
    dialer = Dialer(settings, lifeline.holds)
    writer = Writer(bus, lifeline.holds, hop="worker_downlink")
    watchdog = Watchdog(settings.loop_limit.total_seconds())
    lag = process.LoopLag()
    records = SessionRecords(bus.js)
    leftovers = Leftovers(bus.js, records, settings.record_retention.total_seconds())
    timeline = Timeline(bus, me)
    services = Services(
        me, bus, writer, records, Catalog(bus.js), dialer, leftovers, lifeline, settings, timeline=timeline
    )
    worker = Worker(services, lag)
    bus.on_outage = worker.bus_was_lost

    def counts() -> Counts:
        return {
            "service": "session-worker",
            "id": me,
            "subscriptions": bus.subscriptions(),
            "publish_failures": writer.failed,
            "ownership_lapses": lifeline.lapses,
            **worker.counts,
            **timeline.counts,
        }

    serving = False

    def ready() -> bool:
        return serving and bus.connected.is_set() and lifeline.holds() and not worker.draining

    def measures() -> Iterable[Sample]:
        yield from vitals(bus, lag, ready=ready())
        yield from samples(counts(), TABLE)

    telemetry.meters.measure(measures)
    ops = OpsServer(settings.ops_listen, ready, counts, telemetry.meters.exposition)
    with settings.applying("ops_listen"):
        ops_address = await ops.start()
    bus.start()
    tasks: list[asyncio.Task[None]] = []
    try:
        if await _connected_or_stopped(bus, stop):
            await records.ensure(settings.fabric_replicas)
            await ensure_log(bus.js, settings.fabric_replicas, settings.log_retention)
            await worker.subscribe()
            await bus.barrier()
            lifeline.begin()
            timeline.start(settings.fabric_replicas, settings.timeline_retention)
            tasks = [
                asyncio.create_task(work, name=name)
                for work, name in (
                    (worker.run(), "worker"),
                    (leftovers.run(), "leftovers"),
                    (lifeline.run(), "lifeline"),
                    (lag.run(), "loop lag"),
                )
            ]
            watchdog.start()
            serving = True
            process.announce_ready("worker", me, ops=ops_address)
            await process.first_of(stop, tasks)
            await worker.stop(settings.shutdown_grace.total_seconds(), stop.again)
    finally:
        watchdog.stop()
        await process.stop_tasks(tasks)
        await dialer.close()
        await timeline.stop()
        await bus.close()
        await ops.stop()
        await asyncio.to_thread(telemetry.shutdown)


async def _connected_or_stopped(bus: Bus, stop: asyncio.Event) -> bool:
    """Wait for the message bus; False when the process is told to stop first."""
    waits = [asyncio.create_task(bus.connected.wait()), asyncio.create_task(stop.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await wait
    return bus.connected.is_set()
