"""Functions that the caller runs itself: which calls are out, what their results become. Plain code: time is given."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from google.genai import types
from google.protobuf import json_format

from parley.v1 import errors_pb2, live_pb2
from services.fabric.capabilities import ModelCapabilities
from services.fabric.errors import invalid_field
from services.session_worker import events, responses
from services.session_worker.live_config import blocks

_MOST_PENDING: Final = 128
_REMEMBERED: Final = 1024
"""Ids of calls that are over: a result that was on its way when one was cancelled is no mistake of the caller's."""


@dataclass(slots=True)
class Pending:
    """A call whose result is awaited."""

    call: events.FunctionCall
    blocks: bool
    since: float
    """Of the call, or of its latest interim result; monotonic seconds."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What a call gets."""

    call: events.FunctionCall
    response: types.FunctionResponse
    outcome: live_pb2.ToolOutcome
    final: bool = True
    """False: more results follow."""


class CallerTools:
    """The calls of one session that its caller runs. Each is given out once, and answered unless it is cancelled."""

    def __init__(self, config: live_pb2.SessionConfig, model: ModelCapabilities, timeout: float) -> None:
        self._blocks = {function.name: blocks(function, model) for function in config.caller_tools}
        self._model = model
        self._timeout = timeout
        self._pending: dict[str, Pending] = {}
        self._over: deque[str] = deque(maxlen=_REMEMBERED)
        self._inherited = False
        self.ignored = 0
        """Results that came too late, or twice."""

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def pending(self) -> list[events.FunctionCall]:
        """Calls that the caller runs."""
        return [pending.call for pending in self._pending.values()]

    def restore(self, calls: Iterable[events.FunctionCall], now: float) -> None:
        """Calls that an earlier owner gave out, whose results may come. There may be others, of its last moment."""
        self._inherited = True
        for call in calls:
            self._pending[call.id] = Pending(call, self._blocks.get(call.name, False), now)

    def __contains__(self, name: str) -> bool:
        return name in self._blocks

    def call(self, call: events.FunctionCall, now: float) -> live_pb2.ToolCall | Answered | None:
        """What the caller is told of a call, or what it gets at once; None for one that was given out already."""
        if call.id in self._pending or call.id in self._over:
            return None
        if len(self._pending) >= _MOST_PENDING:
            return self._failed(call, "too many calls are waiting for their results")
        self._pending[call.id] = Pending(call, self._blocks[call.name], now)
        return live_pb2.ToolCall(call_id=call.id, name=call.name, arguments=responses.struct(call.args))

    def cancel(self, ids: tuple[str, ...]) -> list[str]:
        """The model does not want these results any more; return those that the caller has to be told of."""
        cancelled = [call_id for call_id in ids if call_id in self._pending]
        for call_id in cancelled:
            self._settle(call_id)
        return cancelled

    def result(self, result: live_pb2.ToolResult, now: float) -> Answered | None:
        """What the model gets; None for a result that nobody wants. ServiceError for one that cannot be right."""
        pending = self._pending.get(result.call_id)
        if pending is None and (self._inherited or result.call_id in self._over):
            self.ignored += 1
            return None
        if pending is None:
            raise invalid_field(
                "tool_result.call_id", "no call of this session has it", errors_pb2.ERROR_REASON_TOOL_CALL_UNKNOWN
            )
        self._check(result, pending)
        pending.since = now
        if not result.will_continue:
            self._settle(result.call_id)
        failed = result.WhichOneof("outcome") == "error"
        response = {"error": result.error} if failed else {"output": json_format.MessageToDict(result.output)}
        return Answered(
            pending.call,
            types.FunctionResponse(
                id=pending.call.id,
                name=pending.call.name,
                response=response,
                scheduling=responses.scheduling(result.scheduling),
                will_continue=True if result.will_continue else None,
            ),
            live_pb2.TOOL_OUTCOME_FAILED if failed else live_pb2.TOOL_OUTCOME_SUCCEEDED,
            final=not result.will_continue,
        )

    def expire(self, now: float) -> list[Answered]:
        """Calls that the caller has not answered in time."""
        late = [pending.call for pending in self._pending.values() if now - pending.since > self._timeout]
        for call in late:
            self._settle(call.id)
        problem = "the caller did not answer in time; whether it had its effect is unknown"
        return [self._failed(call, problem, live_pb2.TOOL_OUTCOME_TIMED_OUT) for call in late]

    def _check(self, result: live_pb2.ToolResult, pending: Pending) -> None:
        for name, takes in (
            ("scheduling", self._model.response_scheduling),
            ("will_continue", self._model.continued_responses),
        ):
            if not getattr(result, name):
                continue
            if not takes:
                raise invalid_field(f"tool_result.{name}", "the session's model takes none: leave it unset")
            if pending.blocks:
                problem = f"only for functions that do not block, and {pending.call.name} does: leave it unset"
                raise invalid_field(f"tool_result.{name}", problem)

    def _failed(
        self, call: events.FunctionCall, problem: str, outcome: live_pb2.ToolOutcome = live_pb2.TOOL_OUTCOME_FAILED
    ) -> Answered:
        response: dict[str, Any] = {"error": problem}
        return Answered(call, types.FunctionResponse(id=call.id, name=call.name, response=response), outcome)

    def _settle(self, call_id: str) -> None:
        del self._pending[call_id]
        self._over.append(call_id)
