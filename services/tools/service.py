"""The tools on NATS: a micro service with one endpoint a tool, and one subscription for cancellations.

nats-py awaits the handler of a subscription for one message at a time. So the handlers here only admit a call and hand
it to a task of its own; what is over the bound is refused at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Final

import nats.errors
import structlog
from google.protobuf.message import DecodeError
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.micro.request import Request
from nats.micro.service import Endpoint, EndpointStats, Service, ServiceConfig
from opentelemetry.trace import Span, get_current_span

from parley._version import __version__
from parley.v1 import fabric_pb2
from services.fabric import claims, ids, names, subjects, telemetry
from services.fabric.bus import Bus, settle
from services.fabric.claims import Claim
from services.fabric.process import stop_tasks
from services.tools import claimed, compensation
from services.tools.calls import CallCounts, call_span, note_result, run_counted
from services.tools.claimed import ClaimedCalls, running
from services.tools.compensation import Compensations
from services.tools.execute import Call, Execution, Executor, Refusal, Result, refused
from services.tools.registry import Registry
from services.tools.tool import Tool

log = structlog.get_logger()

_CANCELLATIONS: Final = subjects.tool_cancel("*")
_ROUND_TRIP: Final = 2.0
"""Seconds that leaving a subject may take; a NATS server that does not answer must not hold up the shutdown."""
_MAX_TRACEPARENT: Final = 64
_REPLY_AFTER: Final = 1.0
"""Seconds after which a reply does not wait any longer for JetStream to store the outcome."""


class ToolEndpoints:
    """Serves the tools of a registry on NATS."""

    def __init__(
        self,
        bus: Bus,
        instance: str,
        registry: Registry,
        executor: Executor,
        counts: CallCounts,
        *,
        claims: ClaimedCalls,
        compensations: Compensations,
        default_timeout: timedelta,
        max_tasks: int,
    ) -> None:
        self._bus = bus
        self._instance = instance
        self._registry = registry
        self._executor = executor
        self._counts = counts
        self._claims = claims
        self._compensations = compensations
        self._default_timeout = default_timeout
        self._max_tasks = max_tasks
        self._tasks: set[asyncio.Task[None]] = set()
        self._service: Service | None = None
        self._endpoints: dict[str, Endpoint] = {}
        self._cancellations: Subscription | None = None
        self._leaving = False
        self.unanswered = 0
        """Replies that NATS did not take."""
        self.unreported = 0
        """The same of progress and partial results."""

    async def start(self) -> None:
        """Subscribe. May be called again after a NATS error; later lost connections nats-py mends by itself."""
        client = self._bus.client
        if self._cancellations is None:
            self._cancellations = await client.subscribe(_CANCELLATIONS, cb=self._on_cancel)
        if self._service is None:
            self._service = Service(
                client,
                ServiceConfig(
                    name=subjects.TOOLS_SERVICE,
                    version=__version__,
                    description="Functions that models call",
                    metadata={"instance": self._instance},
                    queue_group=subjects.TOOLS_QUEUE,
                    stats_handler=self._stats,
                ),
            )
        await self._service.start()
        await self.sync()

    async def sync(self) -> None:
        """Listen for calls of the tools that can be called now, and of no others: a source that is away here may be
        there in another process. May be called again after a NATS error."""
        service = self._service
        if service is None or self._leaving:
            return
        wanted = {tool.name: _metadata(tool) for tool in self._registry.all() if not tool.unavailable()}
        for name, endpoint in list(self._endpoints.items()):
            if wanted.get(name) != endpoint._metadata:
                del self._endpoints[name]
                service._endpoints.remove(endpoint)  # nats-py has no public way to take one back
                if endpoint._subscription is not None:
                    await endpoint._subscription.drain()  # type: ignore[no-untyped-call]
        for name, metadata in wanted.items():
            if name in self._endpoints:
                continue
            await service.add_endpoint(
                name=name.replace(".", "_"),  # an endpoint's name knows no dots
                subject=subjects.tool_call(name),
                handler=self._handler(name),
                metadata=metadata,
            )
            self._endpoints[name] = service._endpoints[-1]
        await settle(self._bus.client)

    def _handler(self, name: str) -> Callable[[Request], Awaitable[None]]:
        async def handle(request: Request) -> None:
            await self._on_call(name, request)

        return handle

    async def _on_call(self, name: str, request: Request) -> None:
        try:
            message = fabric_pb2.ToolCallRequest.FromString(request.data)
        except DecodeError:
            self._counts.unreadable += 1
            await request.respond_error("400", "not a parley.v1.ToolCallRequest")
            return
        if message.name not in ("", name):
            await request.respond_error("400", f"a call of {message.name!r} came on the subject of {name!r}")
            return
        if (problem := claimed.problem(message)) is not None:
            await request.respond_error("400", problem)
            return
        if message.compensates:
            if not claimed.wants_claim(message):
                await request.respond_error("400", "only calls of sessions can be undone")
            elif len(self._tasks) >= self._max_tasks:
                await self._reply(request, claims.not_run("the tools service is busy; try again in a second"))
            else:
                self._spawn(self._undo(request, message), f"undo {name}")
            return
        call = Call(
            name=name,
            arguments_json=message.arguments_json,
            execution_id=message.execution_id or ids.sortable_id(),
            timeout=message.timeout.ToTimedelta() if message.HasField("timeout") else None,
            session=message.session_id,
            tenant=message.tenant,
            caller=message.caller,
            idempotency_key=message.idempotency_key,
            call_id=message.call_id,
            labels=dict(message.labels),
        )
        if len(self._tasks) >= self._max_tasks:
            await self._refuse(call, request, refused(Refusal.BUSY, "the tools service is busy; try again in a second"))
            return
        admitted = self._executor.admit(call)
        if isinstance(admitted, Result):
            await self._refuse(call, request, admitted)
            return
        self._spawn(self._serve(admitted, request, message), f"tool call {name}")

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _refuse(self, call: Call, request: Request, result: Result) -> None:
        with self._span(call, request):
            self._count_refusal(call, result)
        await self._reply(request, _answer(result))

    def _count_refusal(self, call: Call, result: Result) -> None:
        self._counts.count(call.name, result)
        note_result(get_current_span(), result)
        log.warning("tool call refused", tool=call.name, session=call.session, reason=result.error_type)

    def _span(self, call: Call, request: Request, epoch: int = 0) -> AbstractContextManager[Span]:
        attributes: dict[str, str | int] = {
            names.MESSAGING_SYSTEM: "nats",
            names.MESSAGING_DESTINATION: request.subject,
        }
        if epoch:
            attributes[names.EPOCH] = epoch
        return call_span(call, telemetry.context_from(request.headers), attributes)

    async def _serve(self, execution: Execution, request: Request, message: fabric_pb2.ToolCallRequest) -> None:
        try:
            with self._span(execution.call, request, message.epoch) as span:
                claim, reply = await self._claim_and_run(execution, request, message, span)
        finally:
            self._executor.withdraw(execution)
        if claim is None:
            await self._reply(request, reply)
            return
        assert self._service is not None
        limit, parent = self._executor.limit(execution), telemetry.context_from(request.headers)
        right = running(self._service.id) if compensation.wanted(execution, reply.outcome) else None
        if right is not None:
            reply.error += "; what it may have done is being undone"
        mine = await self._settle(request, message, claim, reply, right)
        if mine is not None:
            undone = await self._compensations.after(execution, limit, parent)
            await self._claims.undone(message.session_id, mine, undone)

    async def _settle(
        self,
        request: Request,
        message: fabric_pb2.ToolCallRequest,
        claim: Claim,
        reply: fabric_pb2.ToolCallReply,
        right: fabric_pb2.Compensation | None,
    ) -> Claim | None:
        # Stored first, so that whoever has the reply finds the same in the claim.
        settling = asyncio.create_task(
            self._claims.settle(message.session_id, claim, reply, right), name="settle a claim"
        )
        try:
            done, _ = await asyncio.wait({settling}, timeout=_REPLY_AFTER)
            await self._reply(request, settling.result()[0] if done else reply)
            return (await settling)[1]
        finally:
            await stop_tasks([settling])

    async def _undo(self, request: Request, message: fabric_pb2.ToolCallRequest) -> None:
        """A call that has ended is to be undone: by whoever is asked first."""
        tool = self._registry.get(message.name)
        if tool is None or tool.compensate is None or self._service is None or self._executor.draining:
            await self._reply(request, claims.not_run(f"the tool {message.name!r} cannot be undone here"))
            return
        claim = await self._claims.set_out_to_undo(message, self._service.id)
        if isinstance(claim, fabric_pb2.ToolCallReply):
            await self._reply(request, claim)
            return
        limit = tool.timeout or self._default_timeout
        undoing = compensation.of_claim(claim, message, tool.compensate, limit)
        undone = await self._compensations.undo(undoing, telemetry.context_from(request.headers))
        await self._reply(request, await self._claims.undone(message.session_id, claim, undone))

    async def _claim_and_run(
        self, execution: Execution, request: Request, message: fabric_pb2.ToolCallRequest, span: Span
    ) -> tuple[Claim | None, fabric_pb2.ToolCallReply]:
        """The answer to a call, and the claim that it was run under. None: it needs none, or was not run here."""
        # Wrong arguments claim nothing: the model may call again, with others.
        if not claimed.wants_claim(message) or self._executor.bind(execution) is not None:
            return None, await self._run(execution)
        assert self._service is not None
        # A call that gets no place claims nothing either.
        asked = time.perf_counter()
        kept_out = await self._executor.place(execution)
        span.set_attribute(names.TOOL_WAITED_MS, round((time.perf_counter() - asked) * 1000, 1))
        if kept_out is not None:
            self._count_refusal(execution.call, kept_out)
            return None, _answer(kept_out)
        traceparent = (request.headers or {}).get(telemetry.TRACEPARENT, "")[:_MAX_TRACEPARENT]
        claim = await self._claims.claim(message, execution, self._service.id, traceparent)
        if isinstance(claim, fabric_pb2.ToolCallReply):
            span.set_attribute(names.TOOL_OUTCOME, "not_run")
            return None, claim
        span.add_event(names.EVENT_CLAIMED)
        return claim, await self._run(execution)

    async def _run(self, execution: Execution) -> fabric_pb2.ToolCallReply:
        reports = execution.context.reports
        reports.listen(lambda report: self._report(execution.call.execution_id, report))
        try:
            result = await run_counted(self._executor, execution, self._counts)
        finally:
            await reports.close()
        reply = _answer(result)
        reply.scheduling = reports.scheduling
        return reply

    async def _report(self, execution_id: str, report: fabric_pb2.ToolReport) -> None:
        if not self._bus.connected.is_set():
            self.unreported += 1  # stale when NATS is back
            return
        try:
            await self._bus.client.publish(subjects.tool_progress(execution_id), report.SerializeToString())
        except nats.errors.Error:
            self.unreported += 1

    async def _reply(self, request: Request, reply: fabric_pb2.ToolCallReply) -> None:
        try:
            await request.respond(reply.SerializeToString())
        except (nats.errors.Error, ValueError) as error:  # ValueError: nobody asked for a reply
            self.unanswered += 1
            log.warning("tool call not answered", error=str(error) or type(error).__name__)

    async def _on_cancel(self, message: Msg) -> None:
        execution_id = message.subject.split(".")[2]
        if self._executor.cancel(execution_id):
            log.info("tool call cancelled", execution=execution_id)

    def _stats(self, stats: EndpointStats) -> object:
        # The handler that nats-py measures only hands a call on: put in what the calls really took.
        counts = self._counts.of(stats.subject.removeprefix(subjects.tool_call("")))
        stats.num_errors = counts.calls - counts.succeeded
        stats.processing_time = counts.nanoseconds
        stats.average_processing_time = counts.nanoseconds // max(1, counts.calls)
        stats.last_error = counts.last_error
        return {"timed_out": counts.timed_out, "cancelled": counts.cancelled, "refused": counts.refused}

    async def leave(self) -> None:
        """Take no more calls. What has been delivered is still handed to its task."""
        # `Service.stop` drops calls that were delivered and not yet handled; draining hands them on first.
        self._leaving = True
        if self._service is None:
            return
        endpoints, self._service._endpoints = self._service._endpoints, []
        leaving = [endpoint._subscription.drain() for endpoint in endpoints if endpoint._subscription is not None]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ROUND_TRIP):
                for problem in await asyncio.gather(*leaving, return_exceptions=True):
                    if isinstance(problem, Exception):
                        log.warning("could not leave a subject", error=str(problem) or type(problem).__name__)

    async def stop(self, grace: float = 0.0) -> None:
        """Send the answers that are due, undo what is being undone, then leave the other subjects. Call it when the
        executor is drained; `grace`: seconds that are left for all of it."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(_ROUND_TRIP, grace))
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_ROUND_TRIP)
        with contextlib.suppress(nats.errors.Error, TimeoutError):
            async with asyncio.timeout(_ROUND_TRIP):
                if self._cancellations is not None:
                    await self._cancellations.unsubscribe()
                if self._service is not None:
                    await self._service.stop()


def _metadata(tool: Tool) -> dict[str, str]:
    return {"tool": tool.name, "idempotent": str(tool.idempotent).lower()}


def _answer(result: Result) -> fabric_pb2.ToolCallReply:
    reply = fabric_pb2.ToolCallReply(
        schema_version=1, outcome=result.outcome, output_json=result.output_json, error=result.error
    )
    reply.duration.FromTimedelta(result.duration)
    match result.refusal:
        case None:
            reply.status = fabric_pb2.CALL_STATUS_ENDED
        case Refusal.RUNNING_ALREADY:
            reply.status = fabric_pb2.CALL_STATUS_RUNNING
        case _:
            reply.status = fabric_pb2.CALL_STATUS_NOT_BEGUN
    return reply
