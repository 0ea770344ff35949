"""Every `WatchSession` of this process: how many there may be, and how one runs from its first event to its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, Final

import grpc.aio

from parley.v1 import errors_pb2, fabric_pb2
from services.fabric.bus import Bus
from services.fabric.errors import ServiceError
from services.fabric.process import stop_tasks
from services.fabric.record_watch import watch_records
from services.fabric.records import SessionRecords
from services.gateway.calls import AnyContext, CallerGoneError
from services.gateway.lifecycle import Event, Lifecycle
from services.gateway.settings import GatewaySettings

_PAUSE: Final = 0.25
"""Seconds before a watch that NATS broke off is begun again."""


class Watches:
    """The watches of a gateway."""

    def __init__(self, settings: GatewaySettings, bus: Bus, session_records: SessionRecords) -> None:
        self._settings = settings
        self._bus = bus
        self._records = session_records
        self._now = asyncio.get_running_loop().time
        self._scopes: set[asyncio.Timeout] = set()
        self._of_tenant: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._late: set[asyncio.Task[None]] = set()
        """Writes of watches that were given up: until the caller reads or leaves, they take room as a watch does."""
        self._draining = False

    def __len__(self) -> int:
        return len(self._scopes) + len(self._late)

    def drain(self) -> None:
        """End every watch, and admit no more: this gateway goes away."""
        self._draining = True
        for scope in self._scopes:
            scope.reschedule(self._now())

    @contextlib.asynccontextmanager
    async def admit(self, tenant: str) -> AsyncIterator[None]:
        """Room for one watch. ServiceError where there is none, and within when the gateway drains."""
        going = ServiceError(errors_pb2.ERROR_REASON_GATEWAY_DRAINING, "this gateway goes away; watch at another one")
        if self._draining:
            raise going
        most, most_of_tenant = self._settings.max_watches, self._settings.max_watches_per_tenant
        if len(self) >= most:
            message = f"this gateway has as many watches as it takes ({most})"
            raise ServiceError(errors_pb2.ERROR_REASON_NO_CAPACITY, message)
        if self._of_tenant[tenant] >= most_of_tenant:
            message = f"the tenant has as many watches at this gateway as it may have ({most_of_tenant})"
            raise ServiceError(errors_pb2.ERROR_REASON_TENANT_LIMIT, message)
        scope = asyncio.timeout(None)
        self._scopes.add(scope)
        self._of_tenant[tenant] += 1
        try:
            async with scope:
                yield
        except TimeoutError:
            if scope.expired():
                raise going from None
            raise
        finally:
            self._scopes.remove(scope)
            self._of_tenant -= Counter([tenant])

    async def run(self, own: fabric_pb2.OwnRecord, revision: int, context: AnyContext) -> None:
        """Send the session as it is, then what happens to it, until it is over.

        CallerGoneError when the caller left; ServiceError when it does not read, or when NATS stays away.
        """
        # In a task of its own, because nats-py swallows a cancellation that comes while it sends: one is not enough.
        watching = self._keep(self._watch(own, revision, context), f"watch {own.session.session_id}")
        try:
            await asyncio.wait({watching})
            watching.result()
        finally:
            await stop_tasks([watching])

    async def _watch(self, own: fabric_pb2.OwnRecord, revision: int, context: AnyContext) -> None:
        session = own.session.session_id
        life = Lifecycle(own, revision, None)
        if not life.ended:
            life = Lifecycle(own, revision, await self._records.read_attachment(session))
        await self._send(life.current(), context)
        async with contextlib.aclosing(self._events(session, life)) as events:
            async for event in events:
                await self._send(event, context)

    async def _events(self, session: str, life: Lifecycle) -> AsyncGenerator[Event, None]:
        """What happens until the session is over. A watch that NATS breaks off begins anew with what is there then."""
        limit = self._settings.fabric_wait.total_seconds()
        give_up: float | None = None
        while not life.ended:
            try:
                async with watch_records(self._bus.js, session) as changes:
                    while not life.ended:
                        change = await changes.next(self._settings.watch_check.total_seconds())
                        event = await self._look(session, life, limit) if change is None else _take(life, *change)
                        give_up = None
                        if event is not None:
                            yield event
            except ServiceError:
                give_up = give_up or self._now() + limit
                if self._now() >= give_up or not self._bus.connected.is_set():
                    raise
                await asyncio.sleep(_PAUSE)

    async def _look(self, session: str, life: Lifecycle, limit: float) -> Event | None:
        """A watch was quiet: is NATS still there, or back in time, and the session?"""
        await self._bus.wait_connected(limit)
        found = await self._records.read_own(session)
        return life.gone() if found is None else life.own(*found)

    async def _send(self, event: Event, context: AnyContext) -> None:
        # A write is not cancelled when it takes too long: it ends by itself with the call (see stream.py).
        writing = self._keep(context.write(event), f"write {event.session.session_id}")
        limit = self._settings.watch_send_timeout.total_seconds()
        done, _ = await asyncio.wait({writing}, timeout=limit)
        if not done:
            self._late.add(writing)
            message = f"the caller has not read for {limit:g} s; watch again and read faster"
            raise ServiceError(errors_pb2.ERROR_REASON_CALLER_SLOW, message)
        try:
            writing.result()
        except (grpc.aio.BaseError, grpc.RpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            raise CallerGoneError from None

    def _keep(self, what: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(what, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._late.discard(task)
        if not task.cancelled():
            task.exception()  # looked at: when nobody waits for it any more, it only says that the call is over


def _take(life: Lifecycle, record: fabric_pb2.OwnRecord | fabric_pb2.AttachmentRecord, revision: int) -> Event | None:
    if isinstance(record, fabric_pb2.OwnRecord):
        return life.own(record, revision)
    return life.attachment(record)
