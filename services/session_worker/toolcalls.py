"""Function calls of the model, executed by the tools service over NATS, each once."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import structlog
from google.genai import types
from google.protobuf import duration_pb2
from opentelemetry import trace
from opentelemetry.context import Context

from parley.v1 import fabric_pb2, live_pb2, tools_pb2
from services.fabric import claims, names, subjects, telemetry
from services.fabric.bus import Bus
from services.fabric.claims import Claims
from services.fabric.errors import ServiceError
from services.fabric.process import stop_tasks
from services.fabric.records import FencedError
from services.session_worker import events, responses
from services.session_worker.call_book import CallBook, Identity, canonical
from services.session_worker.call_recovery import Owed, Recovered, owed
from services.session_worker.execution import Execution

log = structlog.get_logger()

_DEFAULT_TIMEOUT: Final = 30.0
_MOST_WAITING: Final = 128
"""Calls of a session that may wait for their outcomes."""
_REMEMBERED: Final = 1024
"""Ids of calls that are over: the backend may send one again."""

Respond = Callable[[types.FunctionResponse], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class _Running:
    execution: Execution
    task: asyncio.Task[fabric_pb2.ToolCallReply]


@dataclass(slots=True)
class _Waiting:
    """A call of the model that waits for its outcome; several may wait for one execution."""

    call: events.FunctionCall
    answer: int
    key: str
    task: asyncio.Task[None]


class ToolCalls:
    """The calls of one session. Every call gets exactly one answer unless the model cancelled it."""

    def __init__(
        self,
        bus: Bus,
        session: fabric_pb2.OpenSession,
        epoch: int,
        *,
        own: Callable[[], int],
        tool: Callable[[str], tools_pb2.Tool | None],
        respond: Respond,
        emit: Callable[[live_pb2.ConverseResponse], object],
        record: Callable[[fabric_pb2.LogEntry], None],
        fenced: Callable[[], None],
    ) -> None:
        """`own`: revision of the session's own `own`; `fenced`: the session turned out to have another owner."""
        self._bus = bus
        self._session = session
        self._epoch = epoch
        self._own = own
        self._respond = respond
        self._emit = emit
        self._record = record
        self._fenced = fenced
        self._tool = tool
        self._claims = Claims(bus.client.jetstream(timeout=claims.TIMEOUT))
        self._book = CallBook(session.session_id)
        self._waiting: dict[str, _Waiting] = {}
        self._running: dict[str, _Running] = {}
        """Executions by the key of their claim."""
        self._over: deque[str] = deque(maxlen=_REMEMBERED)
        self._large: list[Identity] = []
        """Calls with large outputs, which their claims let go of when the answer is over."""
        self._chores: set[asyncio.Task[None]] = set()
        self._handed_over = False

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self, call: events.FunctionCall, turn: int, answer: int, parent: Context) -> None:
        """Run a call of this turn, made for the answer that began with turn `answer`. An id that came before is
        ignored: the model gets one result."""
        if call.id in self._waiting or call.id in self._over:
            return
        self._let_go_before(answer)
        identity = self._identify(call, turn, answer)
        key = identity.key if isinstance(identity, Identity) else ""
        task = asyncio.create_task(self._run(call, turn, identity, parent), name=f"tool {call.name}")
        self._waiting[call.id] = _Waiting(call, answer, key, task)
        task.add_done_callback(lambda _: self._answered(call.id))

    def cancel(self, call_ids: Collection[str]) -> None:
        """Nobody wants these results: stop the executions; nothing is answered, by no later owner either."""
        for call_id in call_ids:
            waiting = self._waiting.get(call_id)
            if waiting is None:
                continue
            waiting.task.cancel()
            others = any(other.key == waiting.key for id_, other in self._waiting.items() if id_ not in call_ids)
            running = self._running.get(waiting.key)
            if running is not None and not others:
                running.task.cancel()
                self._later(running.execution.abandon())
                taken_back = fabric_pb2.ToolRecord(
                    call_id=call_id,
                    name=waiting.call.name,
                    claim_key=waiting.key,
                    outcome=live_pb2.TOOL_OUTCOME_CANCELLED,
                )
                self._record(fabric_pb2.LogEntry(tool=taken_back))

    def answer_restarted(self, answer: int) -> None:
        """The model will generate the answer anew that began with this turn, on a new link.

        Its calls of the old link are not answered any more; what they run goes on. When they come again, under new
        ids, they get the same outcomes: see `CallBook.identify`.
        """
        for waiting in self._waiting.values():
            if waiting.answer == answer:
                waiting.task.cancel()
        self._book.restarted(answer)

    async def recover(self, told: Collection[str]) -> Recovered:
        """After a takeover, before the link is read: what was claimed, and what of it is owed. ServiceError.

        `told`: claim keys of the log's tool records. Each call that is owed wants `finish`, except those for an answer
        that is generated anew, which come again.
        """
        found = await self._claims.all(self._session.session_id)
        newest = self._book.restore((claim.key, claim.record) for claim in found)
        return Recovered(newest, owed(found, told))

    async def finish(self, owed: Owed, deliver: Respond) -> None:
        """Wait for the outcome of a call of an earlier owner, log that the model is told, and hand it to `deliver`."""
        try:
            reply = await self._outcome(owed.call, owed.identity, owed.timeout, idempotent=owed.idempotent)
        except FencedError:
            self._fenced()
            return
        await self._tell(owed.call, owed.identity.turn, owed.identity, reply, deliver, took=reply.duration)

    async def close(self, *, hand_over: bool = False) -> None:
        """Stop everything. `hand_over`: the session goes on elsewhere, so what tools run goes on too."""
        self._handed_over = hand_over
        for running in self._running.values():
            running.execution.handed_over = hand_over
        await stop_tasks(
            [waiting.task for waiting in self._waiting.values()]
            + [running.task for running in self._running.values()]
            + [*self._chores]
        )

    def _identify(self, call: events.FunctionCall, turn: int, answer: int) -> Identity | str:
        """Which call it is, or why it cannot be run."""
        tool = self._tool(call.name)
        if tool is None:
            # Permission: the model gets what the profile names, whatever it asks for.
            return f"there is no tool named {call.name!r} in this conversation"
        if len(self._waiting) >= _MOST_WAITING:
            return "not run: too many calls are waiting for their results"
        arguments = canonical(call.args)
        if len(arguments.encode()) > claims.MAX_ARGUMENTS:
            return f"not run: the arguments have more than {claims.MAX_ARGUMENTS} bytes; shorten them"
        if self._book.full:
            return "not run: this conversation has made too many calls; none is possible any more"
        return self._book.identify(call.name, arguments, turn, answer, idempotent=tool.idempotent)

    def _answered(self, call_id: str) -> None:
        waiting = self._waiting.pop(call_id)
        self._over.append(call_id)
        if not any(other.key == waiting.key for other in self._waiting.values()):
            self._book.answered(waiting.key)

    async def _run(self, call: events.FunctionCall, turn: int, identity: Identity | str, parent: Context) -> None:
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
                if isinstance(identity, Identity):
                    tool = self._tool(call.name)
                    timeout = _DEFAULT_TIMEOUT if tool is None else _timeout(tool)
                    idempotent = tool is not None and tool.idempotent
                    reply = await self._outcome(call, identity, timeout, idempotent=idempotent)
                else:
                    reply = _failed(identity)
            except asyncio.CancelledError:
                span.set_attribute(names.TOOL_OUTCOME, "cancelled")
                if not self._handed_over:
                    self._activity(call, live_pb2.TOOL_PHASE_FINISHED, outcome=live_pb2.TOOL_OUTCOME_CANCELLED)
                raise
            except FencedError:
                span.set_attribute(names.TOOL_OUTCOME, "fenced")
                self._fenced()
                return
            outcome = live_pb2.ToolOutcome.Name(reply.outcome).removeprefix("TOOL_OUTCOME_").lower()
            span.set_attribute(names.TOOL_OUTCOME, outcome)
            if reply.outcome != live_pb2.TOOL_OUTCOME_SUCCEEDED:
                span.set_status(trace.StatusCode.ERROR, reply.error)
        took = responses.duration(time.monotonic() - began)
        known = identity if isinstance(identity, Identity) else None
        await self._tell(call, turn, known, reply, self._respond, took=took)

    async def _outcome(
        self, call: events.FunctionCall, identity: Identity, timeout: float, *, idempotent: bool
    ) -> fabric_pb2.ToolCallReply:
        """Of the execution that runs, or of one that is begun now. Cancelling the wait does not cancel that."""
        running = self._running.get(identity.key)
        if running is None:
            request = fabric_pb2.ToolCallRequest(
                schema_version=1,
                name=identity.tool,
                arguments_json=canonical(call.args),
                timeout=responses.duration(timeout),
                session_id=self._session.session_id,
                tenant=self._session.tenant,
                idempotency_key=identity.key,
                epoch=self._epoch,
                labels=dict(self._session.labels),
                turn=identity.turn,
                call_number=identity.number,
                call_id=call.id,
            )
            execution = Execution(
                self._bus, self._claims, request, own=self._own, idempotent=idempotent, again=identity.again
            )
            task = asyncio.create_task(execution.run(), name=f"execution of {call.name}")
            running = self._running[identity.key] = _Running(execution, task)
            task.add_done_callback(lambda _: self._ended(identity.key))
        return await asyncio.shield(running.task)

    def _ended(self, key: str) -> None:
        task = self._running.pop(key).task
        if not task.cancelled():
            task.exception()  # whoever waits for it has it; after a restart of the answer nobody does

    async def _tell(
        self,
        call: events.FunctionCall,
        turn: int,
        identity: Identity | None,
        reply: fabric_pb2.ToolCallReply,
        deliver: Respond,
        *,
        took: duration_pb2.Duration,
    ) -> None:
        response = _response(reply)
        key = "" if identity is None else identity.key
        record = responses.tool_record(call, response, reply.outcome, key, turn=turn)
        self._record(fabric_pb2.LogEntry(tool=record))
        if identity is not None and len(reply.output_json) + len(record.arguments_json) > claims.MAX_OUTPUT_KEPT:
            self._large.append(identity)
        # The caller learns of the outcome before the model can speak of it.
        self._activity(call, live_pb2.TOOL_PHASE_FINISHED, outcome=reply.outcome, message=reply.error, duration=took)
        await deliver(types.FunctionResponse(id=call.id, name=call.name, response=response))

    def _let_go_before(self, answer: int) -> None:
        for old in self._large:
            if old.turn != answer:
                self._later(self._shorten(old.key))
        self._large = [kept for kept in self._large if kept.turn == answer]

    async def _shorten(self, key: str) -> None:
        try:
            await self._claims.shorten(self._session.session_id, key)
        except (FencedError, ServiceError) as error:
            log.warning("claim not shortened", session=self._session.session_id, error=str(error))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        chore = asyncio.create_task(work, name="claim chore")
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

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
