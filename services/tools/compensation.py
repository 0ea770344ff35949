"""Undoing what a call did, because nobody wants its result.

Who writes first into the call's claim that it sets out to do so has the right, for ever: it is done once, or not at
all. If its process dies meanwhile, the claim goes on saying that it is being done: whether it was, is unknown.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from threading import Event
from typing import Any, Final

import structlog
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode

from parley.v1 import fabric_pb2, live_pb2
from services.fabric import names, telemetry
from services.fabric.claims import Claim
from services.tools.context import ToolContext
from services.tools.execute import Ended, Execution
from services.tools.reports import Reports
from services.tools.threads import DaemonThreads
from services.tools.tool import Compensate

log = structlog.get_logger()

RUNNING: Final = fabric_pb2.COMPENSATION_STATE_RUNNING
DONE: Final = fabric_pb2.COMPENSATION_STATE_DONE
NOT_NEEDED: Final = fabric_pb2.COMPENSATION_STATE_NOT_NEEDED
FAILED: Final = fabric_pb2.COMPENSATION_STATE_FAILED

_CUT_OFF: Final = frozenset({live_pb2.TOOL_OUTCOME_CANCELLED, live_pb2.TOOL_OUTCOME_TIMED_OUT})
_LONGEST_END: Final = 60.0
"""Seconds that a function which was cut off may take to end: what it still does cannot be undone."""
_MAX_THREADS: Final = 16
_MAX_ERROR: Final = 500
_SHUT_DOWN: Final = "the tools service shut down meanwhile"


@dataclass(frozen=True)
class Undoing:
    """What is to be undone."""

    compensate: Compensate
    arguments_json: str
    result_json: str
    """Empty: there is none."""
    context: ToolContext
    limit: timedelta
    """Time that it may take."""


def wanted(execution: Execution, outcome: live_pb2.ToolOutcome) -> bool:
    """Whether a call ended so that what it did is to be undone: nobody gets its result."""
    return execution.tool.compensate is not None and outcome in _CUT_OFF


def what_happened(work: asyncio.Future[Ended] | None) -> str | None:
    """Of a function that has ended: its result as JSON, empty when it was cut off; None when it had no effect."""
    if work is None:
        return None
    if work.cancelled():
        return ""
    ended = work.result()
    if ended.outcome == live_pb2.TOOL_OUTCOME_SUCCEEDED:
        return ended.output_json
    return "" if ended.outcome == live_pb2.TOOL_OUTCOME_UNKNOWN else None


def of_claim(claim: Claim, request: fabric_pb2.ToolCallRequest, compensate: Compensate, limit: timedelta) -> Undoing:
    """A call that has ended, as its claim tells of it; large arguments are in the request alone by then."""
    record = claim.record
    context = ToolContext(
        tool=record.tool,
        execution_id=record.execution_id,
        idempotency_key=request.idempotency_key,
        session=request.session_id,
        tenant=request.tenant,
        caller=request.caller,
        labels=dict(request.labels),
    )
    arguments = record.arguments_json or request.arguments_json
    return Undoing(compensate, arguments, record.outcome.output_json, _fresh(context, limit), limit)


class Compensations:
    """Undoes calls, in time, and counts what becomes of it."""

    def __init__(self) -> None:
        self._threads = DaemonThreads(_MAX_THREADS)
        self.done = 0
        self.failed = 0
        """Of them: raised, took too long, or could not begin."""
        self.not_needed = 0

    async def after(self, execution: Execution, limit: timedelta, parent: Context) -> fabric_pb2.Compensation:
        """Wait for the end of a function that was cut off, and undo what it did. Raises nothing."""
        assert execution.tool.compensate is not None
        work, context = execution.work, execution.context
        if work is not None and not work.done():
            try:
                await asyncio.wait({work}, timeout=max(_LONGEST_END, limit.total_seconds()))
            except asyncio.CancelledError:
                self._ended(context, FAILED, _SHUT_DOWN)
                raise
            if not work.done():
                return self._ended(context, FAILED, "the function that it should undo did not end")
        result = what_happened(work)
        if result is None:
            return self._ended(context, NOT_NEEDED)
        arguments = execution.call.arguments_json
        return await self.undo(
            Undoing(execution.tool.compensate, arguments, result, _fresh(context, limit), limit), parent
        )

    async def undo(self, undoing: Undoing, parent: Context) -> fabric_pb2.Compensation:
        """Do it. Raises nothing."""
        context = undoing.context
        with telemetry.tracer().start_as_current_span(
            f"{names.SPAN_COMPENSATE} {context.tool}",
            context=parent,
            kind=SpanKind.INTERNAL,
            attributes={
                names.GEN_AI_TOOL_NAME: context.tool,
                names.TOOL_EXECUTION: context.execution_id,
                names.SESSION_ID: context.session,
                names.TENANT: context.tenant,
            },
            record_exception=False,
        ) as span:
            try:
                error = await self._call(undoing)
            except asyncio.CancelledError:
                self._ended(context, FAILED, _SHUT_DOWN)
                raise
            if error:
                span.set_status(Status(StatusCode.ERROR, "not undone"))
        return self._ended(context, FAILED if error else DONE, error)

    async def _call(self, undoing: Undoing) -> str:
        """Why it failed; empty when it did not."""
        compensate, context = undoing.compensate, undoing.context
        arguments = json.loads(undoing.arguments_json or "{}")
        result = json.loads(undoing.result_json) if undoing.result_json else None

        def call() -> Any:
            try:
                return compensate(arguments, result, context)
            except BaseException as error:  # noqa: BLE001 - sys.exit in a function must not end the service
                return _Raised(error)

        async def await_it() -> Any:
            try:
                return await compensate(arguments, result, context)
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001
                return _Raised(error)

        work: asyncio.Future[Any]
        work = asyncio.create_task(await_it()) if inspect.iscoroutinefunction(compensate) else self._threads.run(call)
        try:
            done, _ = await asyncio.wait({work}, timeout=undoing.limit.total_seconds())
        finally:
            if not work.done():
                context.cancellation.set()
                work.cancel()
        if not done:
            return f"not undone within {undoing.limit.total_seconds():g} s"
        if work.cancelled():
            return "CancelledError"
        raised = work.result()
        if not isinstance(raised, _Raised):
            return ""
        log.error("compensation raised", tool=context.tool, exc_info=raised.error)
        return f"{type(raised.error).__name__}: {raised.text}"[:_MAX_ERROR]

    def _ended(
        self, context: ToolContext, state: fabric_pb2.CompensationState, error: str = ""
    ) -> fabric_pb2.Compensation:
        match state:
            case fabric_pb2.COMPENSATION_STATE_DONE:
                self.done += 1
            case fabric_pb2.COMPENSATION_STATE_NOT_NEEDED:
                self.not_needed += 1
            case _:
                self.failed += 1
        say = log.error if error else log.info
        name = fabric_pb2.CompensationState.Name(state).removeprefix("COMPENSATION_STATE_").lower()
        say("tool call compensated", tool=context.tool, session=context.session, state=name, error=error)
        return fabric_pb2.Compensation(state=state, error=error)


@dataclass(frozen=True)
class _Raised:
    error: BaseException

    @property
    def text(self) -> str:
        try:
            return " ".join(str(self.error).split())
        except BaseException:  # noqa: BLE001 - an exception that cannot even be printed
            return ""


def _fresh(context: ToolContext, limit: timedelta) -> ToolContext:
    """The context of a call for whoever undoes it: with time of its own, and nobody has cancelled it."""
    deadline = time.perf_counter() + limit.total_seconds()
    return replace(context, cancellation=Event(), deadline=deadline, reports=Reports())
