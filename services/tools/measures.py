"""Which metrics the counts of the tools service are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from services.fabric import metrics, names
from services.fabric.meters import Sample, Table
from services.tools.calls import OUTCOMES, CallCounts
from services.tools.execute import Refusal

TABLE: Final[Table] = {
    "tools": (metrics.TOOLS, {}),
    "problems": (metrics.PROBLEMS, {}),
    "source_restarts": (metrics.SOURCE_RESTARTS, {}),
    "running": (metrics.RUNNING, {names.STATE: "running"}),
    "waiting": (metrics.RUNNING, {names.STATE: "waiting"}),
    "overrunning": (metrics.RUNNING, {names.STATE: "overrunning"}),
    "unanswered": (metrics.UNDELIVERED, {names.REASON: "reply"}),
    "unreported": (metrics.UNDELIVERED, {names.REASON: "report"}),
    "claimed_before": (metrics.CLAIMS, {names.OUTCOME: "again"}),
    "unclaimed": (metrics.CLAIMS, {names.OUTCOME: "unclaimed"}),
    "unsettled": (metrics.CLAIMS, {names.OUTCOME: "unsettled"}),
    "compensated": (metrics.COMPENSATIONS, {names.OUTCOME: "done"}),
    "not_compensated": (metrics.COMPENSATIONS, {names.OUTCOME: "failed"}),
    "compensation_not_needed": (metrics.COMPENSATIONS, {names.OUTCOME: "not_needed"}),
    "loops_blocked": (metrics.LOOPS_BLOCKED, {}),
    **{f"refused_{refusal.value}": (metrics.TOOL_REFUSALS, {names.REASON: refusal.value}) for refusal in Refusal},
}


def of_tools(counts: CallCounts) -> Iterable[Sample]:
    """Calls by tool and outcome. Calls of a tool that is no more are forgotten here: a process that withdraws names
    without end keeps no series of them."""
    for tool, calls in counts.by_tool.items():
        for outcome in OUTCOMES:
            if number := getattr(calls, outcome):
                yield metrics.TOOL_CALLS, number, {names.GEN_AI_TOOL_NAME: tool, names.TOOL_OUTCOME: outcome}
