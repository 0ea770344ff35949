"""The process: what is started in which order, and stopped in the reverse one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final

import nats.errors
import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from services.fabric import ids, logs, process, telemetry
from services.fabric.auth import Authenticator, load_keys
from services.fabric.bus import Bus
from services.fabric.catalog import Catalog
from services.fabric.claims import TIMEOUT, Claims
from services.fabric.errors import ServiceError
from services.fabric.meters import Meters, Sample, samples
from services.fabric.ops import OpsServer
from services.fabric.settings import SettingError
from services.fabric.vitals import vitals
from services.tools.calls import CallCounts
from services.tools.claimed import ClaimedCalls
from services.tools.compensation import Compensations
from services.tools.execute import Executor
from services.tools.grpc_service import GrpcPort, ToolServicer
from services.tools.measures import TABLE, of_tools
from services.tools.registry import Registry
from services.tools.service import ToolEndpoints
from services.tools.settings import ToolsSettings
from services.tools.sources.build import sources_of
from services.tools.sources.keeper import SourceKeeper
from services.tools.sources.python import PythonSource
from services.tools.sources.secrets import Secrets

log = structlog.get_logger()

_FIRST_OFFERS: Final = 10.0
"""Seconds that the start waits for remote sources; those that take longer join later."""

_GOODBYE: Final = 5.0
"""Seconds in which remote sources are left in good manners."""


def run(settings: ToolsSettings) -> None:
    """Run the service until SIGTERM or SIGINT."""
    instance = settings.id or ids.instance_id("tools")
    logs.configure("tools", instance, settings.log_level, hide=Secrets.hide_all)
    traces = telemetry.Telemetry("parley-tools", instance, settings.otlp_endpoint, settings.otlp_metrics_endpoint)

    async def main() -> None:
        await ToolsProcess(settings, instance, traces.meters).main()

    try:
        process.run(main)
    finally:
        traces.shutdown()


class ToolsProcess:
    """Everything of one tools process."""

    def __init__(self, settings: ToolsSettings, instance: str, meters: Meters) -> None:
        self._settings = settings
        self._instance = instance
        self.registry = Registry()
        self._sources = sources_of(settings)
        self._keeper = SourceKeeper(self._sources, self.registry)
        self.counts = CallCounts()
        self.bus = Bus(settings, "tools", instance)
        self.executor = Executor(
            self.registry,
            max_concurrency=settings.max_concurrency,
            default_timeout=settings.default_timeout,
            max_result_bytes=settings.max_result_bytes,
            max_concurrency_per_tool=settings.max_concurrency_per_tool,
            max_concurrency_per_tenant=settings.max_concurrency_per_tenant,
            queue_wait=settings.queue_wait,
        )
        self.claims = ClaimedCalls(Claims(self.bus.client.jetstream(timeout=TIMEOUT)), self.executor)
        self.compensations = Compensations()
        self.endpoints = ToolEndpoints(
            self.bus,
            instance,
            self.registry,
            self.executor,
            self.counts,
            claims=self.claims,
            compensations=self.compensations,
            default_timeout=settings.default_timeout,
            max_tasks=2 * settings.max_concurrency,  # as many again may wait
        )
        keys = load_keys(Path(settings.api_keys_file)) if settings.api_keys_file else []
        servicer = ToolServicer(
            self.registry,
            self.executor,
            self.counts,
            authenticator=Authenticator(keys, development=not settings.api_keys_file),
            default_timeout=settings.default_timeout,
        )
        self.grpc = GrpcPort(settings.listen, servicer, reflects=not settings.api_keys_file)
        self._ops = OpsServer(settings.ops_listen, self.ready, self._counts, meters.exposition)
        self._meters = meters
        self._lag = process.LoopLag()
        self._declared: dict[str, bytes] = {}
        """What the catalog was told last, by the names of tools."""
        self._names: set[str] = set()
        """What it holds of ours."""
        self._serving = False

    def ready(self) -> bool:
        """Whether calls may be sent here."""
        return self._serving and self.bus.connected.is_set()

    async def main(self) -> None:
        """Serve until told to stop."""
        stop = process.stop_signal()
        self._meters.measure(self._samples)
        with self._settings.applying("ops_listen"):
            ops = await self._ops.start()
        self.bus.on_reconnect = self._on_reconnect
        self.bus.start()
        sources = asyncio.create_task(self._keeper.run(), name="sources")
        try:
            async with asyncio.TaskGroup() as group:
                tasks = (
                    group.create_task(self._lag.run(), name="loop lag"),
                    group.create_task(self._serve(ops), name="serve"),
                )
                await stop.wait()
                for task in tasks:
                    task.cancel()
            await self._drain()
        except* SettingError as group:
            raise group.exceptions[0] from None
        finally:
            # Only now: calls that were draining needed them.
            sources.cancel()
            await asyncio.wait({sources}, timeout=_GOODBYE)
            await self.bus.close()
            await self._ops.stop()

    async def _serve(self, ops: str) -> None:
        await self._first_offers()
        with self._settings.applying("listen"):
            address = await self.grpc.start()
        await self.bus.connected.wait()
        await _until_it_works("tools not on the bus yet", self.endpoints.start)
        catalog = Catalog(self.bus.js)
        await _until_it_works("tools not declared yet", lambda: self._declare(catalog))
        self._serving = True
        await self.grpc.serving(True)
        process.announce_ready("tools", self._instance, address=address, ops=ops)
        while True:
            await self.registry.changed.wait()
            self.registry.changed.clear()
            await _until_it_works("changed tools not on the bus yet", self.endpoints.sync)
            await _until_it_works("changed tools not declared yet", lambda: self._declare(catalog))

    async def _first_offers(self) -> None:
        modules = [source for source in self._sources if isinstance(source, PythonSource)]
        await self._keeper.tried(None, [source.name for source in modules])
        if unknown := [
            source.module for source in modules if source.unknown and source.module in self._settings.modules
        ]:
            raise SettingError("PARLEY_TOOLS_MODULES", ", ".join(unknown), "there is no such module")
        await self._keeper.tried(_FIRST_OFFERS)

    async def _declare(self, catalog: Catalog) -> None:
        """Tell the catalog what is new to it. Tools of a source that is away stay in it: sessions that name them can be
        opened, and the calls are answered by another process, or told that nobody is there."""
        tools = {tool.name: tool.declaration(self._settings.default_timeout) for tool in self.registry.all()}
        texts = {name: tool.SerializeToString(deterministic=True) for name, tool in tools.items()}
        changed = [tool for name, tool in tools.items() if self._declared.get(name) != texts[name]]
        gone = self._names - tools.keys()
        self._names |= tools.keys()
        if not self._declared:
            await catalog.ensure(self._settings.fabric_replicas)
        await catalog.publish(changed)
        await catalog.withdraw(sorted(gone))
        self._declared = texts
        self._names -= gone
        for name in gone:
            self.counts.forget(name)
        log.info("tools declared", tools=len(tools), changed=len(changed), withdrawn=len(gone))

    async def _on_reconnect(self) -> None:
        # The server may be another one, with an empty store: declare again.
        self._declared = {}
        self.registry.changed.set()

    async def _drain(self) -> None:
        log.info("stopping", running=self.executor.running)
        self._serving = False
        await self.grpc.serving(False)
        await self.endpoints.leave()
        began = time.monotonic()
        await self.executor.drain(self._settings.shutdown_grace)
        left = self._settings.shutdown_grace.total_seconds() - (time.monotonic() - began)
        await asyncio.gather(self.endpoints.stop(left), self.grpc.stop())
        log.info("stopped", overrunning=self.executor.overrunning)

    def _counts(self) -> dict[str, int | float]:
        return {
            "tools": len(self.registry.all()),
            "problems": len(self.registry.problems),
            "remarks": len(self.registry.remarks),
            "source_restarts": self._keeper.restarts,
            "running": self.executor.running,
            "waiting": self.executor.waiting,
            "overrunning": self.executor.overrunning,
            "subscriptions": self.bus.subscriptions(),
            "bus_errors": self.bus.errors,
            "unanswered": self.endpoints.unanswered,
            "unreported": self.endpoints.unreported,
            "claimed_before": self.claims.again,
            "unclaimed": self.claims.unclaimed,
            "unsettled": self.claims.unsettled,
            "compensated": self.compensations.done,
            "not_compensated": self.compensations.failed,
            "compensation_not_needed": self.compensations.not_needed,
            "loop_lag_seconds": round(self._lag.worst, 4),
            **self._loops(),
            **self.counts.totals(),
        }

    def _samples(self) -> Iterable[Sample]:
        yield from vitals(self.bus, self._lag, ready=self.ready())
        yield from samples(self._counts(), TABLE)
        yield from of_tools(self.counts)

    def _loops(self) -> dict[str, int]:
        loops = [
            source.loop for source in self._sources if isinstance(source, PythonSource) and source.loop is not None
        ]
        return {
            "loops_blocked": sum(loop.blocked is not None for loop in loops),
            "loop_blocks": sum(loop.counts.blocks for loop in loops),
            "left_tasks": sum(loop.counts.left_tasks for loop in loops),
            "cancelled_tasks": sum(loop.counts.cancelled_tasks for loop in loops),
        }


async def _until_it_works(problem: str, attempt: Callable[[], Awaitable[None]]) -> None:
    """Without NATS or JetStream this process is not ready, but alive."""
    async for state in AsyncRetrying(
        retry=retry_if_exception_type((nats.errors.Error, ServiceError, TimeoutError)),
        wait=wait_random_exponential(multiplier=0.1, max=5),
        before_sleep=lambda state: log.warning(problem, error=str(state.outcome and state.outcome.exception())),
    ):
        with state:
            await attempt()
