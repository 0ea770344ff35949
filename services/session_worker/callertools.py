"""Functions that the caller runs itself: which calls are out, what their results become. Plain code: time is given.

An answer that is generated anew makes its calls again, under new ids. The caller runs each once all the same: it knows
the call by the id that it was given out with, and its result goes to the model under the id that came last.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from google.genai import types
from google.protobuf import json_format

from parley.v1 import errors_pb2, fabric_pb2, live_pb2
from services.fabric.capabilities import ModelCapabilities
from services.fabric.errors import invalid_field
from services.session_worker import events, responses
from services.session_worker.call_book import canonical
from services.session_worker.live_config import blocks

_MOST_PENDING: Final = 128
_REMEMBERED: Final = 1024
"""Ids of calls that are over: a result that was on its way when one was cancelled is no mistake of the caller's."""


@dataclass(slots=True)
class Pending:
    """A call whose result is awaited."""

    told_as: str
    """Id that the caller knows it by."""
    call: events.FunctionCall
    """As the model made it last."""
    turn: int
    """That made the call."""
    answer: int
    """Turn with which the answer began that it is made for; 0: not known."""
    blocks: bool
    since: float
    """Of the call, or of its latest interim result; monotonic seconds."""
    came_early: live_pb2.ToolResult | None = None
    """The result, until the model makes the call again."""

    def is_made_by(self, call: events.FunctionCall) -> bool:
        """It is the same call."""
        return (self.call.name, canonical(self.call.args)) == (call.name, canonical(call.args))


@dataclass(frozen=True, slots=True)
class Answered:
    """What a call gets."""

    told_as: str
    """Id that the caller knows it by."""
    call: events.FunctionCall
    turn: int
    """That made the call."""
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
        """By the caller's id, as are the others."""
        self._again: dict[str, Pending] = {}
        """Made for an answer that is generated anew, and not made again since."""
        self._over: deque[str] = deque(maxlen=_REMEMBERED)
        self._inherited = False
        self.ignored = 0
        """Results that came too late, or twice."""

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def pending(self) -> list[events.FunctionCall]:
        """Calls that the caller runs and whose results the model wants."""
        return [pending.call for pending in self._pending.values()]

    @property
    def records(self) -> list[fabric_pb2.CallerCall]:
        """Calls that the caller runs, for a checkpoint."""
        return [
            fabric_pb2.CallerCall(
                call_id=pending.told_as,
                name=pending.call.name,
                arguments_json=json.dumps(pending.call.args),
                turn=pending.answer,
            )
            for pending in (*self._again.values(), *self._pending.values())
        ]

    def restore(self, records: Iterable[fabric_pb2.CallerCall], now: float) -> None:
        """Calls that an earlier owner gave out, whose results may come. There may be others, of its last moment."""
        self._inherited = True
        for record in records:
            call = events.FunctionCall(record.call_id, record.name, json.loads(record.arguments_json or "{}"))
            blocks = self._blocks.get(call.name, False)
            self._pending[call.id] = Pending(call.id, call, record.turn, record.turn, blocks, now)

    def answer_restarted(self, answer: int) -> None:
        """The model generates the answer anew that began with this turn: its calls may come again."""
        for pending in list(self._pending.values()):
            if pending.answer >= answer or not pending.answer:
                self._again[pending.told_as] = self._pending.pop(pending.told_as)

    def answer_over(self) -> list[str]:
        """What has not come again by now does not; return the calls that the caller has to be told of."""
        gone, self._again = self._again, {}
        self._over.extend(gone)
        return [pending.told_as for pending in gone.values() if pending.came_early is None]

    def __contains__(self, name: str) -> bool:
        return name in self._blocks

    def call(
        self, call: events.FunctionCall, turn: int, answer: int, now: float
    ) -> live_pb2.ToolCall | Answered | None:
        """What the caller is told of a call of this turn, made for the answer that began with turn `answer`, or what it
        gets at once; None for one that was given out already."""
        if call.id in self._over or any(call.id == pending.call.id for pending in self._pending.values()):
            return None
        pending = Pending(call.id, call, turn, answer, self._blocks[call.name], now)
        if call.problem:
            return self._failed(pending, f"not run: {call.problem}")
        same = next((earlier for earlier in self._again.values() if earlier.is_made_by(call)), None)
        if same is not None:
            same.call, same.turn, same.answer = call, turn, answer
            self._pending[same.told_as] = self._again.pop(same.told_as)
            return None if same.came_early is None else self.result(same.came_early, now)
        if len(self._pending) >= _MOST_PENDING:
            return self._failed(pending, "too many calls are waiting for their results")
        self._pending[call.id] = pending
        return live_pb2.ToolCall(call_id=call.id, name=call.name, arguments=responses.struct(call.args))

    def cancel(self, ids: tuple[str, ...]) -> list[str]:
        """The model does not want these results any more; return those that the caller has to be told of."""
        cancelled = [pending for pending in self._pending.values() if pending.call.id in ids]
        for pending in cancelled:
            self._settle(pending)
        return [pending.told_as for pending in cancelled]

    def result(self, result: live_pb2.ToolResult, now: float) -> Answered | None:
        """What the model gets; None for a result that nobody wants. ServiceError for one that cannot be right."""
        early = self._again.get(result.call_id)
        pending = early or self._pending.get(result.call_id)
        if pending is None and (self._inherited or result.call_id in self._over):
            self.ignored += 1
            return None
        if pending is None:
            raise invalid_field(
                "tool_result.call_id", "no call of this session has it", errors_pb2.ERROR_REASON_TOOL_CALL_UNKNOWN
            )
        self._check(result, pending)
        pending.since = now
        if early is not None:
            early.came_early = result
            return None
        if not result.will_continue:
            self._settle(pending)
        failed = result.WhichOneof("outcome") == "error"
        response = {"error": result.error} if failed else {"output": json_format.MessageToDict(result.output)}
        return Answered(
            pending.told_as,
            pending.call,
            pending.turn,
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
        late = [pending for pending in self._pending.values() if now - pending.since > self._timeout]
        for pending in late:
            self._settle(pending)
        problem = "the caller did not answer in time; whether it had its effect is unknown"
        timed_out = live_pb2.TOOL_OUTCOME_TIMED_OUT
        return [self._failed(pending, problem, timed_out) for pending in late]

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
        self, pending: Pending, problem: str, outcome: live_pb2.ToolOutcome = live_pb2.TOOL_OUTCOME_FAILED
    ) -> Answered:
        call = pending.call
        response = types.FunctionResponse(id=call.id, name=call.name, response={"error": problem})
        return Answered(pending.told_as, call, pending.turn, response, outcome)

    def _settle(self, pending: Pending) -> None:
        del self._pending[pending.told_as]
        self._over.extend({pending.told_as, pending.call.id})
