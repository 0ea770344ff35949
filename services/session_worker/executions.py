"""What runs for the model of one session: each call once, however often it is asked for, waited for or taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from parley.v1 import fabric_pb2
from services.fabric import claims
from services.fabric.bus import Bus
from services.fabric.claims import Claims
from services.fabric.errors import ServiceError
from services.fabric.process import stop_tasks
from services.fabric.records import FencedError
from services.session_worker import events, responses
from services.session_worker.call_book import Identity, canonical
from services.session_worker.execution import Execution, Terms, Trouble, no_trouble
from services.session_worker.tool_reports import Listener

log = structlog.get_logger()

_LAST_LOOK: Final = 2.0
"""Seconds that a session which ends waits for tools that are to undo what they did: with it their claims go, and with
these the right to do so."""

Take = Callable[[str, fabric_pb2.ToolReport], Awaitable[None]]


@dataclass(slots=True)
class _Running:
    execution: Execution
    task: asyncio.Task[fabric_pb2.ToolCallReply]
    listeners: set[Listener] = field(default_factory=set)


class Executions:
    """By the key of their claims."""

    def __init__(
        self,
        bus: Bus,
        session: fabric_pb2.OpenSession,
        epoch: int,
        own: Callable[[], int],
        trouble: Trouble = no_trouble,
    ) -> None:
        """`own`: revision of the session's own `own`; `trouble`: see `Trouble`."""
        self._trouble = trouble
        self.claims = Claims(bus.client.jetstream(timeout=claims.TIMEOUT))
        self._bus = bus
        self._session = session
        self._epoch = epoch
        self._own = own
        self._running: dict[str, _Running] = {}
        self._chores: set[asyncio.Task[None]] = set()
        self._undoing: set[asyncio.Task[None]] = set()
        """Of them: those that have something undone."""

    async def outcome(
        self, call: events.FunctionCall, identity: Identity, terms: Terms, take: Take
    ) -> fabric_pb2.ToolCallReply:
        """Of the execution that runs, or of one that is begun now; `take` is handed what it says before. Cancelling the
        wait does not cancel the execution. FencedError."""
        running = self._running.get(identity.key)
        if running is None:
            listeners: set[Listener] = set()

            def heard(execution_id: str, report: fabric_pb2.ToolReport) -> None:
                for one in listeners:
                    one.hear(execution_id, report)

            execution = self._execution(call, identity, terms, heard)
            task = asyncio.create_task(execution.run(), name=f"execution of {call.name}")
            running = self._running[identity.key] = _Running(execution, task, listeners)
            task.add_done_callback(lambda _: self._ended(identity.key))
        listener = Listener()
        running.listeners.add(listener)
        try:
            return await listener.until_done(running.task, take)
        finally:
            running.listeners.discard(listener)

    def _execution(
        self,
        call: events.FunctionCall,
        identity: Identity,
        terms: Terms,
        heard: Callable[[str, fabric_pb2.ToolReport], None] | None = None,
    ) -> Execution:
        request = fabric_pb2.ToolCallRequest(
            schema_version=1,
            name=identity.tool,
            arguments_json=canonical(call.args),
            timeout=responses.duration(terms.timeout),
            session_id=self._session.session_id,
            tenant=self._session.tenant,
            idempotency_key=identity.key,
            epoch=self._epoch,
            labels=dict(self._session.labels),
            turn=identity.turn,
            call_number=identity.number,
            call_id=call.id,
        )
        return Execution(
            self._bus,
            self.claims,
            request,
            terms,
            own=self._own,
            again=identity.again,
            heard=heard,
            trouble=self._trouble,
        )

    def _ended(self, key: str) -> None:
        task = self._running.pop(key).task
        if not task.cancelled():
            task.exception()  # whoever waits for it has it; after a restart of the turn nobody does

    def take_back(self, call: events.FunctionCall, identity: Identity, terms: Terms) -> None:
        """Nobody wants the result, whether it runs still or has ended."""
        running = self._running.get(identity.key)
        if running is not None:
            running.task.cancel()
        execution = self._execution(call, identity, terms) if running is None else running.execution
        chore = self.later(execution.take_back())
        if terms.compensates:
            self._undoing.add(chore)
            chore.add_done_callback(self._undoing.discard)

    async def shorten(self, key: str) -> None:
        """Let a settled claim go of what is large in it."""
        try:
            await self.claims.shorten(self._session.session_id, key)
        except (FencedError, ServiceError) as error:
            log.warning("claim not shortened", session=self._session.session_id, error=str(error))

    def later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something about a claim for which nobody waits."""
        chore = asyncio.create_task(work, name="claim chore")
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)
        return chore

    async def close(self, *, hand_over: bool) -> None:
        """Stop everything. `hand_over`: the session goes on elsewhere, so what tools run goes on too."""
        running = list(self._running.values())
        for one in running:
            one.execution.handed_over = hand_over
        await stop_tasks(one.task for one in running)
        if not hand_over:
            undone = [one.execution for one in running if one.execution.terms.compensates]
            last = [*self._undoing, *(self.later(execution.settled()) for execution in undone)]
            if last:
                await asyncio.wait(last, timeout=_LAST_LOOK)
        await stop_tasks(self._chores)
