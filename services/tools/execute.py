"""Run one call: check the arguments, bound it in time and number, and always end with an answer.

The answer waits for no function that is cut off, but for a moment in which one that heeds it ends: whoever has the
answer then finds its place free. A coroutine that ignores its cancellation and a thread, which nobody can stop, are
left behind: they are counted as overrunning and keep their slot until they end.
"""

from __future__ import annotations

import asyncio
import math
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum
from typing import Any, Final

import structlog

from parley.v1 import live_pb2
from services.tools import results
from services.tools.arguments import ArgumentsError
from services.tools.context import OutcomeUnknownError, ToolContext, ToolError
from services.tools.places import Claimant, Full, Places
from services.tools.registry import Registry
from services.tools.threads import DaemonThreads
from services.tools.tool import Tool

log = structlog.get_logger()

_MAX_ERROR: Final = 500
"""Characters of an error that the model is given."""
_MAX_MESSAGE: Final = 16 * 1024
"""Characters of an exception's message that are looked at, and that the log takes."""
_SHARE: Final = 0.75
"""Of the process's places that one tool, or one tenant, may have unless somebody says otherwise."""
_HEEDED_WITHIN: Final = 0.25
"""Seconds that the answer to a call that was cut off waits for the end of its function."""


class Refusal(Enum):
    """Why a call was not begun."""

    UNKNOWN_TOOL = "unknown_tool"
    UNAVAILABLE = "unavailable"
    WRONG_ARGUMENTS = "wrong_arguments"
    NOT_PERMITTED = "not_permitted"
    BUSY = "busy"
    TOOL_BUSY = "tool_busy"
    TENANT_BUSY = "tenant_busy"
    DRAINING = "draining"
    RUNNING_ALREADY = "running_already"


@dataclass(frozen=True)
class Call:
    """A request to run a tool."""

    name: str
    arguments_json: str
    execution_id: str
    timeout: timedelta | None = None
    """Time it may take; None: the tool's own."""
    session: str = ""
    tenant: str = ""
    caller: str = ""
    idempotency_key: str = ""
    call_id: str = ""
    """As the model calls it; empty outside a session."""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """How a call ended."""

    outcome: live_pb2.ToolOutcome
    output_json: str = ""
    error: str = ""
    """For the model to read."""
    error_type: str = ""
    """For telemetry: a class name or a word."""
    duration: timedelta = timedelta(0)
    refusal: Refusal | None = None
    violations: Mapping[str, str] = field(default_factory=dict)
    """Path of an argument to what is wrong with it."""


@dataclass(frozen=True)
class Ended:
    """How the function itself ended. Made where it ran, so that nothing it raises gets out of there."""

    output_json: str = ""
    error: str = ""
    error_type: str = ""
    outcome: live_pb2.ToolOutcome = live_pb2.TOOL_OUTCOME_SUCCEEDED


@dataclass
class Execution:
    """A call that was admitted: it has a place or waits for one. It holds it until its function has ended."""

    call: Call
    tool: Tool
    context: ToolContext
    stop: asyncio.Future[Result]
    """Set when somebody ends it from outside."""
    turn: asyncio.Future[None]
    """Set when it has a place."""
    admitted: float
    """When its time began to run, on `time.perf_counter`."""
    function: Callable[[], Any] | None = None
    """Ready to be called; None until its arguments are checked."""
    answered: bool = False
    work: asyncio.Future[Ended] | None = None
    """The function, which may run on after the answer; cancelled: it was cut off. None: it has not begun."""


class Executor:
    """Runs calls. `admit` takes a place or one in the waiting room, `run` waits for it and does the work."""

    def __init__(
        self,
        registry: Registry,
        *,
        max_concurrency: int,
        default_timeout: timedelta,
        max_result_bytes: int,
        max_concurrency_per_tool: int | None = None,
        max_concurrency_per_tenant: int | None = None,
        queue_wait: timedelta = timedelta(seconds=2),
    ) -> None:
        """Without limits of their own a tool and a tenant may have three quarters of the places. `queue_wait`: longest
        time that a call waits where its tool or its tenant has as many as it may."""
        share = math.ceil(max_concurrency * _SHARE)
        self._registry = registry
        self._places = Places(
            max_concurrency,
            tool_limit=max_concurrency_per_tool or share,
            tenant_limit=max_concurrency_per_tenant or share,
        )
        self._queue_wait = queue_wait
        self._default_timeout = default_timeout
        self._max_result_bytes = max_result_bytes
        self._threads = DaemonThreads(max_concurrency)
        self._executions: dict[str, Execution] = {}
        self._changed = asyncio.Event()
        self.draining = False

    @property
    def running(self) -> int:
        """Calls that somebody waits for, also those that wait for a place."""
        return sum(1 for execution in self._executions.values() if not execution.answered)

    @property
    def waiting(self) -> int:
        """Calls that wait for a place."""
        return self._places.waiting

    @property
    def overrunning(self) -> int:
        """Functions that still run although their call was answered."""
        return len(self._executions) - self.running

    def admit(self, call: Call) -> Execution | Result:
        """Take a place for a call, or one in the waiting room, or say why not. Does not wait."""
        tool = self._registry.get(call.name)
        if tool is None:
            return refused(Refusal.UNKNOWN_TOOL, f"there is no tool {call.name!r}")
        if not tool.permits(call.tenant):
            return refused(Refusal.NOT_PERMITTED, f"not run: the tool {call.name!r} is not for this tenant")
        if self.draining:
            return _draining()
        if call.execution_id in self._executions:
            return refused(Refusal.RUNNING_ALREADY, f"execution {call.execution_id} is running already")
        if reason := tool.unavailable():
            return refused(Refusal.UNAVAILABLE, f"not run: the tool {call.name!r} is not available: {reason}")
        full = self._places.ask(call.execution_id, Claimant(call.name, call.tenant, tool.max_concurrency))
        if full is not None:
            return busy(full, call.name)
        admitted = time.perf_counter()
        context = ToolContext(
            tool=call.name,
            execution_id=call.execution_id,
            idempotency_key=call.idempotency_key,
            session=call.session,
            tenant=call.tenant,
            caller=call.caller,
            labels=dict(call.labels),
            deadline=admitted + self._limit(tool, call).total_seconds(),
        )
        context.reports.hide = tool.hide
        loop = asyncio.get_running_loop()
        execution = Execution(call, tool, context, loop.create_future(), loop.create_future(), admitted)
        self._executions[call.execution_id] = execution
        return execution

    async def place(self, execution: Execution) -> Result | None:
        """Wait for the call's place; why it gets none. `run` does it too, unless it was done."""
        key = execution.call.execution_id
        if not self._places.has(key) and not execution.stop.done():
            # What begins late has little time left: better that the model hears of it, and asks again.
            left = execution.context.seconds_left / 2
            await asyncio.wait(
                (execution.turn, execution.stop),
                timeout=min(left, self._queue_wait.total_seconds()),
                return_when=asyncio.FIRST_COMPLETED,
            )
        if execution.stop.done():
            return execution.stop.result()
        return None if self._places.has(key) else busy(self._places.why(key) or Full.TOOL, execution.call.name)

    def bind(self, execution: Execution) -> Result | None:
        """Check the arguments; the refusal when they do not fit. `run` does it too, unless it was done."""
        if execution.function is None:
            try:
                execution.function = execution.tool.bind(execution.call.arguments_json, execution.context)
            except ArgumentsError as error:
                return refused(Refusal.WRONG_ARGUMENTS, str(error)[:_MAX_ERROR], error.violations)
        return None

    def withdraw(self, execution: Execution) -> None:
        """An admitted call is not run after all. Without effect on one that was answered."""
        if not execution.answered:
            self._answered(execution, None)

    def cancel(self, execution_id: str) -> bool:
        """Nobody wants the result any more. False when there is no such call, or it has been answered."""
        return self._stop(
            execution_id,
            Result(live_pb2.TOOL_OUTCOME_CANCELLED, error="the call was cancelled", error_type="cancelled"),
        )

    async def run(self, execution: Execution) -> Result:
        """Run an admitted call to its answer. Raises nothing but CancelledError, and then ends the call too."""
        started = time.perf_counter()  # uvloop counts whole milliseconds
        work: asyncio.Future[Ended] | None = None
        try:
            if (refusal := self.bind(execution)) is not None:
                return refusal
            if (kept_out := await self.place(execution)) is not None:
                return kept_out
            limit = self.limit(execution)
            left = execution.admitted + limit.total_seconds() - time.perf_counter()
            if left <= 0:
                return Result(
                    live_pb2.TOOL_OUTCOME_TIMED_OUT, error="its time was up before it began", error_type="timeout"
                )
            assert execution.function is not None
            work = execution.work = self._begin(execution.tool, execution.function)
            await asyncio.wait((work, execution.stop), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            result = self._result(work, execution.stop, limit)
            duration = timedelta(seconds=time.perf_counter() - started)
            if not work.done():
                self._cut_off(execution, work)
                await asyncio.wait((work,), timeout=_HEEDED_WITHIN)
            return replace(result, duration=duration)
        finally:
            self._answered(execution, work)

    def limit(self, execution: Execution) -> timedelta:
        """Time that a call may take, from when it was admitted."""
        return self._limit(execution.tool, execution.call)

    def _limit(self, tool: Tool, call: Call) -> timedelta:
        limit = tool.timeout or self._default_timeout
        return limit if call.timeout is None else min(limit, call.timeout)

    def _result(self, work: asyncio.Future[Ended], stop: asyncio.Future[Result], limit: timedelta) -> Result:
        if work.cancelled():
            # Nobody but the function itself can have done that: we cancel only after the answer.
            return Result(
                live_pb2.TOOL_OUTCOME_FAILED, error="the function cancelled itself", error_type="CancelledError"
            )
        if work.done():
            ended = work.result()
            return Result(ended.outcome, ended.output_json, ended.error, ended.error_type)
        if stop.done():
            return stop.result()
        return Result(
            live_pb2.TOOL_OUTCOME_TIMED_OUT,
            error=f"no result within {limit.total_seconds():g} s",
            error_type="timeout",
        )

    def _answered(self, execution: Execution, work: asyncio.Future[Ended] | None) -> None:
        execution.answered = True
        self._changed.set()
        if work is None or work.done():
            self._release(execution)
            return
        self._cut_off(execution, work)
        work.add_done_callback(lambda _: self._release(execution))
        if not isinstance(work, asyncio.Task):
            log.warning("function overruns; its thread cannot be stopped", tool=execution.tool.name)

    def _cut_off(self, execution: Execution, work: asyncio.Future[Ended]) -> None:
        """Tell the function that nobody waits for it any more. Once: a second time would disturb what it clears up."""
        if not execution.context.cancellation.is_set():
            execution.context.cancellation.set()
            if isinstance(work, asyncio.Task):
                work.cancel()

    def _release(self, execution: Execution) -> None:
        del self._executions[execution.call.execution_id]
        for called in self._places.leave(execution.call.execution_id):
            self._executions[called].turn.set_result(None)
        self._changed.set()

    def _begin(self, tool: Tool, function: Callable[[], Any]) -> asyncio.Future[Ended]:
        if not tool.is_async:
            return self._threads.run(lambda: self._call(tool, function))
        return asyncio.create_task(self._await(tool, function), name=f"tool {tool.name}")

    def _call(self, tool: Tool, function: Callable[[], Any]) -> Ended:
        try:
            return Ended(results.encode(function(), self._max_result_bytes, tool.hide))
        except BaseException as error:  # noqa: BLE001 - sys.exit in a function must not end the service
            return _failed(error, tool)

    async def _await(self, tool: Tool, function: Callable[[], Any]) -> Ended:
        try:
            return Ended(results.encode(await function(), self._max_result_bytes, tool.hide))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - sys.exit in a function must not end the service
            return _failed(error, tool)

    def _stop(self, execution_id: str, result: Result) -> bool:
        execution = self._executions.get(execution_id)
        if execution is None or execution.answered or execution.stop.done():
            return False
        execution.stop.set_result(result)
        return True

    async def drain(self, grace: timedelta) -> None:
        """Take no more calls; let those that run finish within `grace`, then cut them off."""
        self.draining = True
        try:
            async with asyncio.timeout(grace.total_seconds()):
                while self.running:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            log.warning("calls cut off by the end of the grace period", calls=self.running)
        lost = "the tools service shut down while it ran; it may or may not have had its effect"
        for execution_id, execution in list(self._executions.items()):
            if execution.work is not None:
                self._stop(execution_id, Result(live_pb2.TOOL_OUTCOME_UNKNOWN, error=lost, error_type="shutdown"))
            else:
                self._stop(execution_id, _draining())
        self._threads.close()


def busy(full: Full, tool: str) -> Result:
    """A call for which there is no place."""
    match full:
        case Full.PROCESS:
            return refused(Refusal.BUSY, "the tools service is busy; try again in a second")
        case Full.TOOL:
            return refused(
                Refusal.TOOL_BUSY, f"not run: the tool {tool!r} is busy with other calls; try again in a few seconds"
            )
        case Full.TENANT:
            return refused(Refusal.TENANT_BUSY, "not run: too many other calls are running; try again in a few seconds")


def _draining() -> Result:
    return refused(Refusal.DRAINING, "the tools service is shutting down; try again")


def refused(refusal: Refusal, error: str, violations: Mapping[str, str] | None = None) -> Result:
    """A call that was not begun."""
    return Result(
        live_pb2.TOOL_OUTCOME_FAILED,
        error=error,
        error_type=refusal.value,
        refusal=refusal,
        violations=violations or {},
    )


def _failed(error: BaseException, tool: Tool) -> Ended:
    """What the model is told: type and message, never a stack trace. The log gets the rest."""
    name = type(error).__name__
    try:
        message = str(error)
    except BaseException:  # noqa: BLE001 - an exception that cannot even be printed
        message = ""
    short = len(message) <= _MAX_MESSAGE
    message = " ".join(tool.hide(message[:_MAX_MESSAGE]).split())
    ran = isinstance(error, results.ResultError)
    if ran:
        message = f"the tool ran, but {message}"
    elif not isinstance(error, ToolError):
        if short:
            log.error("tool raised", error_type=name, exc_info=error)
        else:
            log.error("tool raised", error_type=name, exception="".join(traceback.format_tb(error.__traceback__, -20)))
        message = f"{name}: {message}" if message else name
    if len(message) > _MAX_ERROR:
        message = message[:_MAX_ERROR] + "..."
    # What has had its effect is not to be done again for want of a result.
    unknown = isinstance(error, OutcomeUnknownError) or (ran and not tool.idempotent)
    outcome = live_pb2.TOOL_OUTCOME_UNKNOWN if unknown else live_pb2.TOOL_OUTCOME_FAILED
    return Ended(error=message or "the function failed", error_type=name, outcome=outcome)
