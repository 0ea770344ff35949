"""What is kept of calls: counts by tool, and one span each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, get_current_span

from parley.v1 import live_pb2
from services.fabric import metrics, names, telemetry
from services.fabric.meters import record
from services.tools.execute import Call, Execution, Executor, Refusal, Result

log = structlog.get_logger()


OUTCOMES: Final = ("succeeded", "failed", "timed_out", "cancelled", "unknown")
_TOTALS: Final = ("calls", *OUTCOMES, "refused")


def outcome_name(outcome: live_pb2.ToolOutcome) -> str:
    """`succeeded`, `failed`, `timed_out`, `cancelled` or `unknown`."""
    return live_pb2.ToolOutcome.Name(outcome).removeprefix("TOOL_OUTCOME_").lower()


@dataclass
class ToolCounts:
    """Calls of one tool since the start of the process."""

    calls: int = 0
    succeeded: int = 0
    failed: int = 0
    timed_out: int = 0
    cancelled: int = 0
    unknown: int = 0
    refused: int = 0
    """Of the failed ones: not begun, because busy, draining, or with wrong arguments."""
    nanoseconds: int = 0
    last_error: str = ""


@dataclass
class CallCounts:
    """Calls of every tool."""

    by_tool: dict[str, ToolCounts] = field(default_factory=dict)
    gone: ToolCounts = field(default_factory=ToolCounts)
    """Of tools that are no more: their names may change without end."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Calls that were not begun, by reason."""
    unreadable: int = 0
    """Messages on a tool's subject that were no calls."""

    def of(self, tool: str) -> ToolCounts:
        """Counts of one tool. Only for tools that exist: names from outside would grow without end."""
        return self.by_tool.setdefault(tool, ToolCounts())

    def count(self, tool: str, result: Result) -> None:
        """Take one result in."""
        counts = self.of(tool)
        name = outcome_name(result.outcome)
        counts.calls += 1
        setattr(counts, name, getattr(counts, name) + 1)
        if result.refusal is not None:
            counts.refused += 1
            self.refusals[result.refusal.value] += 1
        seconds = result.duration.total_seconds()
        record(metrics.TOOL_LATENCY, seconds, {names.GEN_AI_TOOL_NAME: tool, names.TOOL_OUTCOME: name})
        counts.nanoseconds += round(seconds * 1e9)
        if result.error:
            counts.last_error = result.error_type

    def forget(self, tool: str) -> None:
        """The tool is no more; its calls count on among all."""
        counts = self.by_tool.pop(tool, None)
        for name in _TOTALS if counts is not None else ():
            setattr(self.gone, name, getattr(self.gone, name) + getattr(counts, name))

    def totals(self) -> dict[str, int]:
        """Sums over all tools, for the ops port."""
        all_counts = [*self.by_tool.values(), self.gone]
        sums = {name: sum(getattr(counts, name) for counts in all_counts) for name in _TOTALS}
        refused = {f"refused_{refusal.value}": self.refusals[refusal.value] for refusal in Refusal}
        return sums | refused | {"unreadable": self.unreadable}


@contextmanager
def call_span(call: Call, parent: Context, attributes: Mapping[str, str | int]) -> Iterator[Span]:
    """The span of a call, as the current one, and its ids in what is logged meanwhile."""
    with (
        telemetry.tracer().start_as_current_span(
            f"{names.SPAN_TOOL_CALL} {call.name}",
            context=parent,
            kind=SpanKind.SERVER,
            attributes={**_attributes(call), **attributes},
            record_exception=False,
        ) as span,
        structlog.contextvars.bound_contextvars(tool=call.name, session=call.session, execution=call.execution_id),
    ):
        yield span


def note_result(span: Span, result: Result) -> None:
    """How a call ended, on its span. Of an error the type: messages and arguments may hold what the caller said."""
    span.set_attribute(names.TOOL_OUTCOME, outcome_name(result.outcome))
    if result.error_type:
        span.set_attribute(names.ERROR_TYPE, result.error_type)
        span.set_status(Status(StatusCode.ERROR, result.error_type))


async def run_counted(executor: Executor, execution: Execution, counts: CallCounts) -> Result:
    """Run a call under the current span, count it, log it."""
    call, span = execution.call, get_current_span()
    try:
        result = await executor.run(execution)
    except asyncio.CancelledError:
        cancelled = Result(live_pb2.TOOL_OUTCOME_CANCELLED)
        counts.count(call.name, cancelled)
        note_result(span, cancelled)
        raise
    counts.count(call.name, result)
    note_result(span, result)
    outcome = outcome_name(result.outcome)
    log.info("tool call", outcome=outcome, error=result.error_type, seconds=round(result.duration.total_seconds(), 4))
    return result


def _attributes(call: Call) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        names.GEN_AI_OPERATION: names.SPAN_TOOL_CALL,
        names.GEN_AI_TOOL_NAME: call.name,
        names.TOOL_EXECUTION: call.execution_id,
    }
    if call.call_id:
        attributes[names.GEN_AI_TOOL_CALL_ID] = call.call_id
    if call.session:
        attributes[names.SESSION_ID] = call.session
    if call.tenant:
        attributes[names.TENANT] = call.tenant
    return attributes
