"""What is done to processes: killed, frozen, restarted, drained. Each kind comes round again in an order of chance.

Two lanes strike at the same time, one at workers and the message bus, the other at gateways and tools services.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress

import grpc.aio

from parley.cli._child import Child
from parley.cli.stack import Stack
from parley.v1 import sessions_pb2, sessions_pb2_grpc
from tests.faults.call import Call
from tests.faults.chaos.report import Report
from tests.support.eventually import eventually
from tests.support.ports import reserved

WORKERS, GATEWAYS, TOOLS = 3, 2, 2
FROZEN = 10.0
"""Seconds."""
_AWAY = (0.2, 3.0)
"""Seconds that a killed nats-server is away."""
_DRAIN_LIMIT = 60.0
"""Seconds that a process which is told to go may take; longer than its own limit."""
_LET_GO = 3.0
"""Seconds in which the watchdog of a thawed worker may end it."""

Strike = Callable[[], Awaitable[None]]


class Strikes:
    """Everything that may happen to the processes of a stack."""

    def __init__(self, stack: Stack, calls: Mapping[str, Call], report: Report, chance: random.Random) -> None:
        """`calls`: those that are open, by session."""
        self._stack = stack
        self._calls = calls
        self._report = report
        self._chance = chance
        self._gateways_busy = asyncio.Lock()
        """Never are both gateways away."""
        self.lanes: tuple[dict[str, Strike], ...] = (
            {
                "worker killed": self._worker_killed,
                "worker, gateway killed": self._both_killed,
                "worker frozen": self._worker_frozen,
                "workers restarted": self._workers_restarted,
                "nats restarted": self._nats_restarted,
                "nats frozen": self._nats_frozen,
            },
            {
                "gateway killed": self._gateway_killed,
                "gateway frozen": self._gateway_frozen,
                "gateways restarted": self._gateways_restarted,
                "tools killed": self._tools_killed,
                "tools frozen": self._tools_frozen,
            },
        )
        """By kind."""

    async def run(self, lane: Mapping[str, Strike], every: float, over: Callable[[], bool]) -> None:
        """One after the other, about `every` seconds between the end of one and the next, for ever."""
        while True:
            for kind in self._chance.sample(list(lane), len(lane)):
                await asyncio.sleep(self._chance.uniform(0.5, 1.5) * every)
                if over():
                    return
                await lane[kind]()

    # Workers

    async def _worker_killed(self) -> None:
        worker = self._pick(self._stack.workers)
        await self._note("worker killed", worker=worker)
        await self._kill(worker)
        await self._fill_up_workers()

    async def _both_killed(self) -> None:
        async with self._gateways_busy:
            worker, gateway = self._pick(self._stack.workers), self._pick(self._stack.gateways)
            await self._note("worker, gateway killed", worker=worker, gateway=gateway)
            await asyncio.gather(self._kill(worker), self._kill(gateway))
            await asyncio.gather(self._fill_up_workers(), self._start_gateway(gateway))

    async def _worker_frozen(self) -> None:
        worker = self._pick(self._stack.workers)
        await self._note("worker frozen", worker=worker)
        # Its watchdog may end it when it wakes up.
        worker.stopping = True
        async with self._frozen(worker):
            pass
        with suppress(TimeoutError):
            async with asyncio.timeout(_LET_GO):
                await worker.process.wait()
        worker.stopping = not worker.running
        await self._fill_up_workers()

    async def _workers_restarted(self) -> None:
        self._report.faults["workers restarted"] += 1
        for worker in self._running(self._stack.workers):
            await self._stack.start_worker()
            await self._note("worker drained", worker=worker)
            await self._drain(worker)

    async def _fill_up_workers(self) -> None:
        while len(self._running(self._stack.workers)) < WORKERS:
            await self._stack.start_worker()

    # The message bus

    async def _nats_restarted(self) -> None:
        await self._note("nats restarted")
        port = int(self._stack.nats.ready["url"].rpartition(":")[2])
        await self._kill(self._stack.nats)
        with reserved(str(port)):
            await asyncio.sleep(self._chance.uniform(*_AWAY))
            await self._stack.start_nats(port=port)

    async def _nats_frozen(self) -> None:
        await self._note("nats frozen")
        async with self._frozen(self._stack.nats):
            pass

    # Gateways

    async def _gateway_killed(self) -> None:
        async with self._gateways_busy:
            gateway = self._pick(self._stack.gateways)
            await self._note("gateway killed", gateway=gateway)
            await self._kill(gateway)
            await self._start_gateway(gateway)

    async def _gateway_frozen(self) -> None:
        async with self._gateways_busy:
            gateway = self._pick(self._stack.gateways)
            await self._note("gateway frozen", gateway=gateway)
            async with self._frozen(gateway):
                pass

    async def _gateways_restarted(self) -> None:
        self._report.faults["gateways restarted"] += 1
        for gateway in self._running(self._stack.gateways):
            async with self._gateways_busy:
                if not gateway.running:
                    continue  # the other lane killed it meanwhile; its successor is new
                await self._note("gateway drained", gateway=gateway)
                await self._drain(gateway)
                await self._start_gateway(gateway)

    async def _start_gateway(self, before: Child) -> None:
        """At the same address: callers know no other."""
        await self._stack.start_gateway(PARLEY_GATEWAY_LISTEN=str(before.ready["address"]))

    # Tools

    async def _tools_killed(self) -> None:
        tools = self._pick(self._stack.tools)
        await self._note("tools killed")
        await self._kill(tools)
        await self._stack.start_tools()

    async def _tools_frozen(self) -> None:
        await self._note("tools frozen")
        async with self._frozen(self._pick(self._stack.tools)):
            pass

    # How

    def _running(self, children: list[Child]) -> list[Child]:
        return [child for child in children if child.running]

    def _pick(self, children: list[Child]) -> Child:
        return self._chance.choice(self._running(children))

    async def _kill(self, child: Child) -> None:
        child.stopping = True
        child.signal(signal.SIGKILL)
        await child.gone()

    async def _drain(self, child: Child) -> None:
        """As a deploy does it; nobody may be left when the process goes."""
        status = await child.stop(_DRAIN_LIMIT)
        if status:
            self._report.broken(f"{child.name} ended with status {status} when it was told to go")

    @asynccontextmanager
    async def _frozen(self, child: Child) -> AsyncIterator[None]:
        child.signal(signal.SIGSTOP)
        try:
            yield
            await asyncio.sleep(FROZEN)
        finally:
            child.signal(signal.SIGCONT)

    # Whom it hits

    async def _note(self, kind: str, *, worker: Child | None = None, gateway: Child | None = None) -> None:
        """Count a strike, and the sessions that it hits, each by the state of its turn."""
        hit = set(self._calls)
        if worker is not None or gateway is not None:
            hit &= await self._sessions(worker, gateway)
        self._report.hit(kind, [call.state for session, call in self._calls.items() if session in hit])
        self._report.open_at_once.append(len(self._calls))

    async def _sessions(self, worker: Child | None, gateway: Child | None) -> set[str]:
        """Of a worker, or on a gateway. Nothing, when nobody tells: it is for the summary only."""
        found: set[str] = set()

        async def listed() -> bool:
            address = str(self._pick(self._stack.gateways).ready["address"])
            async with grpc.aio.insecure_channel(address) as channel:
                stub = sessions_pb2_grpc.SessionServiceStub(channel)
                answer = await stub.ListSessions(sessions_pb2.ListSessionsRequest(page_size=1000), timeout=2)
            for session in answer.sessions:
                if (worker is not None and session.worker == worker.ready["id"]) or (
                    gateway is not None and session.gateway == gateway.ready["id"]
                ):
                    found.add(session.session_id)
            return True

        with suppress(grpc.aio.AioRpcError, AssertionError):
            await eventually(listed, 2)
        return found
