"""Function calls of the model, executed by the tools service over NATS."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog
from google.genai import types
from opentelemetry import trace
from opentelemetry.context import Context

from parley.v1 import fabric_pb2, live_pb2, tools_pb2
from services.fabric import ids, names, subjects, telemetry
from services.fabric.bus import Bus, NoResponderError
from services.fabric.errors import ServiceError
from services.fabric.process import stop_tasks
from services.session_worker import events, responses

log = structlog.get_logger()

_DEFAULT_TIMEOUT: Final = 30.0
_REPLY_MARGIN: Final = 2.0
"""Seconds beyond the tool's own deadline that its reply may take."""


class ToolCalls:
    """The calls of one session. Every call gets exactly one answer unless the model cancelled it."""

    def __init__(
        self,
        bus: Bus,
        session: fabric_pb2.OpenSession,
        epoch: int,
        *,
        tool: Callable[[str], tools_pb2.Tool | None],
        respond: Callable[[types.FunctionResponse], Coroutine[Any, Any, None]],
        emit: Callable[[live_pb2.ConverseResponse], object],
        record: Callable[[fabric_pb2.LogEntry], None],
    ) -> None:
        self._bus = bus
        self._session = session
        self._epoch = epoch
        self._respond = respond
        self._emit = emit
        self._record = record
        self._tool = tool
        self._running: dict[str, tuple[asyncio.Task[None], str]] = {}
        self._ordinals: dict[tuple[int, str], int] = {}

    def __len__(self) -> int:
        return len(self._running)

    def start(self, call: events.FunctionCall, turn: int, parent: Context) -> None:
        """Run a call. A duplicate of one that runs is ignored: the model gets one answer."""
        if call.id in self._running:
            return
        execution = f"exe_{ids.sortable_id()}"
        task = asyncio.create_task(self._run(call, turn, parent, execution), name=f"tool {call.name}")
        self._running[call.id] = (task, execution)
        task.add_done_callback(lambda _: self._running.pop(call.id, None))

    def cancel(self, call_ids: tuple[str, ...]) -> None:
        """Nobody wants these results: stop the executions; nothing is answered."""
        for call_id in call_ids:
            if call_id in self._running:
                self._running[call_id][0].cancel()

    def turn_restarted(self, turn: int) -> None:
        """The model is asked again what it was answering in this turn: the calls of it are counted anew."""
        self._ordinals = {key: count for key, count in self._ordinals.items() if key[0] != turn}

    async def close(self) -> None:
        """Stop everything that runs."""
        await stop_tasks([task for task, _ in self._running.values()])

    def _idempotency_key(self, call: events.FunctionCall, turn: int) -> str:
        # Not the model's id: it changes when a turn is generated anew.
        arguments = json.dumps(call.args, sort_keys=True, separators=(",", ":"))
        content = "\0".join((self._session.session_id, str(turn), call.name, arguments))
        ordinal = self._ordinals[turn, content] = self._ordinals.get((turn, content), 0) + 1
        return hashlib.sha256(f"{content}\0{ordinal}".encode()).hexdigest()

    async def _run(self, call: events.FunctionCall, turn: int, parent: Context, execution: str) -> None:
        began = time.monotonic()
        self._activity(call, live_pb2.TOOL_PHASE_STARTED, arguments=responses.struct(dict(call.args)))
        with telemetry.tracer().start_as_current_span(
            f"{names.SPAN_TOOL_CALL} {call.name}", parent, trace.SpanKind.CLIENT
        ) as span:
            span.set_attributes(
                {
                    names.SESSION_ID: self._session.session_id,
                    names.GEN_AI_OPERATION: "execute_tool",
                    names.GEN_AI_TOOL_NAME: call.name,
                    names.GEN_AI_TOOL_CALL_ID: call.id,
                    names.MESSAGING_SYSTEM: "nats",
                    names.MESSAGING_DESTINATION: subjects.tool_call(call.name),
                }
            )
            try:
                reply = await self._execute(call, turn, execution)
            except asyncio.CancelledError:
                await self._bus.client.publish(subjects.tool_cancel(execution), b"")
                span.set_attribute(names.TOOL_OUTCOME, "cancelled")
                self._activity(call, live_pb2.TOOL_PHASE_FINISHED, outcome=live_pb2.TOOL_OUTCOME_CANCELLED)
                raise
            outcome = live_pb2.ToolOutcome.Name(reply.outcome).removeprefix("TOOL_OUTCOME_").lower()
            span.set_attribute(names.TOOL_OUTCOME, outcome)
            if reply.outcome != live_pb2.TOOL_OUTCOME_SUCCEEDED:
                span.set_status(trace.StatusCode.ERROR, reply.error)
        response = _response(reply)
        self._record(fabric_pb2.LogEntry(tool=responses.tool_record(call, response, reply.outcome)))
        # The caller learns of the outcome before the model can speak of it.
        self._activity(
            call,
            live_pb2.TOOL_PHASE_FINISHED,
            outcome=reply.outcome,
            message=reply.error,
            duration=responses.duration(time.monotonic() - began),
        )
        await self._respond(types.FunctionResponse(id=call.id, name=call.name, response=response))

    async def _execute(self, call: events.FunctionCall, turn: int, execution: str) -> fabric_pb2.ToolCallReply:
        tool = self._tool(call.name)
        if tool is None:
            # Permission: the model gets what the profile names, whatever it asks for.
            return _failed(f"there is no tool named {call.name!r} in this conversation")
        timeout = _timeout(tool)
        request = fabric_pb2.ToolCallRequest(
            schema_version=1,
            execution_id=execution,
            name=call.name,
            arguments_json=json.dumps(call.args),
            timeout=responses.duration(timeout),
            session_id=self._session.session_id,
            tenant=self._session.tenant,
            idempotency_key=self._idempotency_key(call, turn),
            epoch=self._epoch,
            labels=dict(self._session.labels),
        )
        subject = subjects.tool_call(call.name)
        try:
            return await self._bus.request(
                subject, request, fabric_pb2.ToolCallReply, timeout + _REPLY_MARGIN, telemetry.headers()
            )
        except NoResponderError:
            return _failed(f"the tool {call.name!r} is not available at the moment")
        except ServiceError as error:
            log.warning("tool call without answer", tool=call.name, session=self._session.session_id, error=str(error))
            return fabric_pb2.ToolCallReply(
                outcome=live_pb2.TOOL_OUTCOME_UNKNOWN,
                error=f"the tool {call.name!r} did not answer; whether it had its effect is unknown",
            )

    def _activity(self, call: events.FunctionCall, phase: live_pb2.ToolPhase, **fields: Any) -> None:
        activity = live_pb2.ToolActivity(call_id=call.id, name=call.name, phase=phase, **fields)
        self._emit(live_pb2.ConverseResponse(tool_activity=activity))


def _timeout(tool: tools_pb2.Tool) -> float:
    return tool.timeout.ToTimedelta().total_seconds() if tool.HasField("timeout") else _DEFAULT_TIMEOUT


def _failed(error: str) -> fabric_pb2.ToolCallReply:
    return fabric_pb2.ToolCallReply(outcome=live_pb2.TOOL_OUTCOME_FAILED, error=error)


def _response(reply: fabric_pb2.ToolCallReply) -> dict[str, Any]:
    """What the model gets: `output` or `error`, as the Live API spells them."""
    if reply.outcome == live_pb2.TOOL_OUTCOME_SUCCEEDED:
        return {"output": json.loads(reply.output_json or "{}")}
    return {"error": reply.error or "the tool failed"}
