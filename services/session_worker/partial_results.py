"""Results of one call that are not the last: which of them the model is given, and how. Plain code.

A model that goes on talking while a function runs takes several results of one call (`will_continue`). Any other waits
for the one: what comes before it is for the caller to see.
"""

from __future__ import annotations

import json
from typing import Any, Final

from google.genai import types

from parley.v1 import fabric_pb2, live_pb2, tools_pb2
from services.fabric.capabilities import ModelCapabilities
from services.session_worker import events, responses
from services.session_worker.live_config import blocks

MOST: Final = 100
"""Partial results of a call that the model is given: each stays in its context."""


class PartialResults:
    """Of one call."""

    def __init__(self, call: events.FunctionCall, tool: tools_pb2.Tool | None, model: ModelCapabilities) -> None:
        """`tool`: None when it is not known; then nothing is scheduled, and one result is all there is."""
        waits = tool is None or blocks(tool.declaration, model)
        self._call = call
        self._continues = not waits and model.continued_responses
        self._schedules = not waits and model.response_scheduling
        self._declared = live_pb2.RESPONSE_SCHEDULING_UNSPECIFIED if tool is None else tool.scheduling
        self._newest = ("", 0)
        self._given = 0

    def take(self, execution: str, report: fabric_pb2.ToolReport) -> bool:
        """Whether a report is news: they may come twice, and out of order. Each execution counts from 1."""
        counted, newest = self._newest
        if execution == counted and report.number <= newest:
            return False
        self._newest = (execution, report.number)
        return True

    def for_the_model(self, partial: fabric_pb2.PartialResult) -> types.FunctionResponse | None:
        """What the model is given of it; None: nothing."""
        output = output_of(partial)
        if not self._continues or output is None or self._given >= MOST:
            return None
        self._given += 1
        return types.FunctionResponse(
            id=self._call.id,
            name=self._call.name,
            response={"output": output},
            scheduling=self.scheduling(partial.scheduling),
            will_continue=True,
        )

    def scheduling(self, wished: live_pb2.ResponseScheduling) -> types.FunctionResponseScheduling | None:
        """When the model is to speak of a result, as it is told; None: it is not told."""
        return responses.scheduling(wished or self._declared) if self._schedules else None


def output_of(partial: fabric_pb2.PartialResult) -> dict[str, Any] | None:
    """The result as an object; None when it is none."""
    try:
        output = json.loads(partial.output_json)
    except ValueError:
        return None
    return output if isinstance(output, dict) else None
