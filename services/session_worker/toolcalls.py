"""Function calls of the model, executed by the tools service over NATS, each once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Collection, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import structlog
from google.genai import types
from google.protobuf import duration_pb2
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode

from parley.v1 import fabric_pb2, live_pb2, tools_pb2
from services.fabric import claims, names, subjects
from services.fabric.bus import Bus
from services.fabric.capabilities import ModelCapabilities
from services.fabric.process import stop_tasks
from services.fabric.records import FencedError
from services.session_worker import events, measured, responses
from services.session_worker.call_book import CallBook, Identity, canonical
from services.session_worker.call_recovery import Owed, Recovered, owed
from services.session_worker.execution import Terms, Trouble, no_trouble
from services.session_worker.executions import Executions
from services.session_worker.partial_results import PartialResults, output_of
from services.session_worker.session_trace import CALL_SPANS, SessionTrace

log = structlog.get_logger()

_DEFAULT_TIMEOUT: Final = 30.0
_MOST_WAITING: Final = 128
"""Calls of a session that may wait for their outcomes."""
_REMEMBERED: Final = 1024
"""Calls that are over: the backend may send one again, or take one back whose result was on its way."""

Respond = Callable[[types.FunctionResponse], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class _Waiting:
    """A call of the model that waits for its outcome; several may wait for one execution."""

    call: events.FunctionCall
    answer: int
    """Turn with which the answer began that it is made for."""
    identity: Identity | None
    """None: it cannot be run."""
    terms: Terms
    task: asyncio.Task[None]

    @property
    def key(self) -> str:
        return "" if self.identity is None else self.identity.key


class ToolCalls:
    """The calls of one session. Every call gets exactly one answer unless the model cancelled it."""

    def __init__(
        self,
        bus: Bus,
        session: fabric_pb2.OpenSession,
        epoch: int,
        *,
        own: Callable[[], int],
        model: ModelCapabilities,
        trace: SessionTrace,
        tool: Callable[[str], tools_pb2.Tool | None],
        respond: Respond,
        respond_partly: Respond,
        emit: Callable[[live_pb2.ConverseResponse], object],
        emit_news: Callable[[live_pb2.ConverseResponse], object],
        record: Callable[[fabric_pb2.LogEntry], None],
        fenced: Callable[[], None],
        trouble: Trouble = no_trouble,
    ) -> None:
        """`own`: revision of the session's own `own`; `respond_partly`: gives the model a result that is not the last,
        if it can be given now; `emit_news`: tells the caller what it may miss; `fenced`: the session turned out to have
        another owner; `trouble`: is told what went wrong with a call before its outcome."""
        self._session = session
        self._model = model
        self._trace = trace
        self._tool = tool
        self._respond = respond
        self._respond_partly = respond_partly
        self._emit = emit
        self._emit_news = emit_news
        self._record = record
        self._fenced = fenced
        self._executions = Executions(bus, session, epoch, own, trouble)
        self._book = CallBook(session.session_id)
        self._waiting: dict[str, _Waiting] = {}
        self._over: dict[str, tuple[events.FunctionCall, Identity, Terms] | None] = {}
        """Calls that are over, by id: what is to be undone when the model takes them back; None: nothing."""
        self._left: dict[str, Owed] = {}
        """Calls for an answer that began anew which have not come again, by the key of their claim."""
        self._large: list[Identity] = []
        """Calls with large outputs, which their claims let go of when the answer is over."""
        self._handed_over = False

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self, call: events.FunctionCall, turn: int, answer: int, parent: Context) -> None:
        """Run a call of this turn, made for the answer that began with turn `answer`. An id that came before is
        ignored: the model gets one result."""
        if call.id in self._waiting or call.id in self._over:
            return
        self._let_go_before(answer)
        identity, terms = self._identify(call, turn, answer), _terms(self._tool(call.name))
        task = asyncio.create_task(self._run(call, turn, identity, terms, parent), name=f"tool {call.name}")
        known = identity if isinstance(identity, Identity) else None
        self._waiting[call.id] = waiting = _Waiting(call, answer, known, terms, task)
        self._left.pop(waiting.key, None)
        task.add_done_callback(lambda _: self._answered(call.id))

    def cancel(self, call_ids: Collection[str]) -> None:
        """Nobody wants these results: stop the executions; nothing is answered, by no later owner either."""
        for call_id in call_ids:
            waiting = self._waiting.get(call_id)
            if waiting is None:
                # Its result was on its way: the model does not take it any more.
                if (over := self._over.get(call_id)) is not None:
                    self._executions.take_back(*over)
                continue
            waiting.task.cancel()
            # Not those that are cancelled, and gone in a moment.
            others = any(one.key == waiting.key and not one.task.cancelling() for one in self._waiting.values())
            if waiting.identity is not None and not others:
                self._executions.take_back(waiting.call, waiting.identity, waiting.terms)
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
        ids, they get the same outcomes: see `CallBook.identify`. When they do not: see `left_behind`.
        """
        for waiting in self._waiting.values():
            if waiting.answer == answer:
                waiting.task.cancel()
                if waiting.identity is not None:
                    terms = waiting.terms
                    self.comes_again(Owed(waiting.call, waiting.identity, terms.timeout, idempotent=terms.idempotent))
        self._book.restarted(answer)

    async def recover(self, told: Collection[str]) -> Recovered:
        """After a takeover, before the link is read: what was claimed, and what of it is owed. ServiceError.

        `told`: claim keys of the log's tool records. Each call that is owed wants `finish`, or `comes_again` where its
        answer is generated anew.
        """
        found = await self._executions.claims.all(self._session.session_id)
        newest = self._book.restore((claim.key, claim.record) for claim in found)
        return Recovered(newest, owed(found, told))

    def comes_again(self, owed: Owed) -> None:
        """The answer that this call is for is generated anew, and the call with it, most likely."""
        self._left[owed.identity.key] = owed

    def left_behind(self, turn: int) -> list[Owed]:
        """The calls that did not come again, now that their turn is over: the model knows of them, or of what they are
        for, and has no outcome yet. Each wants `finish`."""
        over = {key: left for key, left in self._left.items() if left.identity.turn <= turn}
        for key in over:
            del self._left[key]
        return list(over.values())

    async def finish(self, owed: Owed, deliver: Respond) -> None:
        """Wait for the outcome of a call of an earlier owner, log that the model is told, and hand it to `deliver`."""
        call, partials = owed.call, PartialResults(owed.call, self._tool(owed.call.name), self._model)
        compensates = _terms(self._tool(owed.call.name)).compensates
        terms = Terms(owed.timeout, owed.idempotent, compensates=compensates)
        with self._span(call, self._trace.context) as span:
            span.set_attribute(names.TOOL_INHERITED, True)
            try:
                reply = await self._executions.outcome(
                    call, owed.identity, terms, partial(self._report, call, partials)
                )
            except FencedError:
                span.set_attribute(names.TOOL_OUTCOME, "fenced")
                self._fenced()
                return
            _note_outcome(span, reply)
        await self._tell(call, owed.identity.turn, owed.identity, reply, partials, deliver=deliver, took=reply.duration)

    async def close(self, *, hand_over: bool = False) -> None:
        """Stop everything. `hand_over`: the session goes on elsewhere, so what tools run goes on too."""
        self._handed_over = hand_over
        await stop_tasks([waiting.task for waiting in self._waiting.values()])
        await self._executions.close(hand_over=hand_over)

    def _identify(self, call: events.FunctionCall, turn: int, answer: int) -> Identity | str:
        """Which call it is, or why it cannot be run."""
        tool = self._tool(call.name)
        if tool is None:
            # Permission: the model gets what the profile names, whatever it asks for.
            return f"there is no tool named {call.name!r} in this conversation"
        if call.problem:
            return f"not run: {call.problem}"
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
        identity, terms = waiting.identity, waiting.terms
        undone = None if identity is None or not terms.compensates else (waiting.call, identity, terms)
        self._over[call_id] = undone
        if len(self._over) > _REMEMBERED:
            del self._over[next(iter(self._over))]
        if not any(other.key == waiting.key for other in self._waiting.values()):
            self._book.answered(waiting.key)

    async def _run(
        self, call: events.FunctionCall, turn: int, identity: Identity | str, terms: Terms, parent: Context
    ) -> None:
        began = time.monotonic()
        partials = PartialResults(call, self._tool(call.name), self._model)
        self._activity(call, live_pb2.TOOL_PHASE_STARTED, arguments=responses.struct(dict(call.args)))
        with self._span(call, parent) as span:
            try:
                if isinstance(identity, Identity):
                    take = partial(self._report, call, partials)
                    reply = await self._executions.outcome(call, identity, terms, take)
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
            except Exception:
                # A fault of ours; a model without an answer would wait for ever.
                log.exception("call of a tool failed", session=self._session.session_id, tool=call.name)
                reply = claims.unknown(call.name)
            _note_outcome(span, reply)
        measured.tool_called(reply, time.monotonic() - began)
        took = responses.duration(time.monotonic() - began)
        known = identity if isinstance(identity, Identity) else None
        await self._tell(call, turn, known, reply, partials, deliver=self._respond, took=took)

    def _span(self, call: events.FunctionCall, parent: Context) -> AbstractContextManager[Span]:
        name = f"{names.SPAN_TOOL_CALL} {call.name}"
        attributes = {
            names.GEN_AI_OPERATION: names.SPAN_TOOL_CALL,
            names.GEN_AI_TOOL_NAME: call.name,
            names.GEN_AI_TOOL_CALL_ID: call.id,
            names.MESSAGING_SYSTEM: "nats",
            names.MESSAGING_DESTINATION: subjects.tool_call(call.name),
        }
        return self._trace.span(name, kind=SpanKind.CLIENT, parent=parent, spans=CALL_SPANS, attributes=attributes)

    async def _report(
        self, call: events.FunctionCall, partials: PartialResults, execution: str, report: fabric_pb2.ToolReport
    ) -> None:
        """The tool says something before it ends: for the caller, and for a model that takes it."""
        if not partials.take(execution, report):
            return
        if report.HasField("progress"):
            said = report.progress
            fields = {"fraction": said.fraction} if said.HasField("fraction") else {}
            self._activity(call, live_pb2.TOOL_PHASE_PROGRESS, message=said.message, **fields)
        elif (output := output_of(report.partial)) is not None:
            self._activity(call, live_pb2.TOOL_PHASE_PROGRESS, output=responses.struct(output))
            response = partials.for_the_model(report.partial)
            if response is not None:
                await self._respond_partly(response)

    async def _tell(
        self,
        call: events.FunctionCall,
        turn: int,
        identity: Identity | None,
        reply: fabric_pb2.ToolCallReply,
        partials: PartialResults,
        *,
        deliver: Respond,
        took: duration_pb2.Duration,
    ) -> None:
        response = _response(reply)
        key = "" if identity is None else identity.key
        scheduling = partials.scheduling(reply.scheduling)
        silent = scheduling == types.FunctionResponseScheduling.SILENT
        record = responses.tool_record(call, response, reply.outcome, key, turn=turn, silent=silent)
        self._record(fabric_pb2.LogEntry(tool=record))
        if identity is not None and len(reply.output_json) + len(record.arguments_json) > claims.MAX_OUTPUT_KEPT:
            self._large.append(identity)
        # The caller learns of the outcome before the model can speak of it.
        self._activity(call, live_pb2.TOOL_PHASE_FINISHED, outcome=reply.outcome, message=reply.error, duration=took)
        await deliver(types.FunctionResponse(id=call.id, name=call.name, response=response, scheduling=scheduling))

    def _let_go_before(self, answer: int) -> None:
        for old in self._large:
            if old.turn != answer:
                self._executions.later(self._executions.shorten(old.key))
        self._large = [kept for kept in self._large if kept.turn == answer]

    def _activity(self, call: events.FunctionCall, phase: live_pb2.ToolPhase, **fields: Any) -> None:
        activity = live_pb2.ToolActivity(call_id=call.id, name=call.name, phase=phase, **fields)
        emit = self._emit_news if phase == live_pb2.TOOL_PHASE_PROGRESS else self._emit
        emit(live_pb2.ConverseResponse(tool_activity=activity))


def _terms(tool: tools_pb2.Tool | None) -> Terms:
    if tool is None:
        return Terms(_DEFAULT_TIMEOUT, idempotent=False, reports=False)
    timeout = tool.timeout.ToTimedelta().total_seconds() if tool.HasField("timeout") else _DEFAULT_TIMEOUT
    return Terms(timeout, tool.idempotent, tool.reports, tool.compensates)


def _note_outcome(span: Span, reply: fabric_pb2.ToolCallReply) -> None:
    # Not its words: what a function says may hold what the caller said.
    outcome = live_pb2.ToolOutcome.Name(reply.outcome).removeprefix("TOOL_OUTCOME_").lower()
    span.set_attribute(names.TOOL_OUTCOME, outcome)
    if reply.outcome != live_pb2.TOOL_OUTCOME_SUCCEEDED:
        span.set_status(StatusCode.ERROR, outcome)


def _failed(error: str) -> fabric_pb2.ToolCallReply:
    return fabric_pb2.ToolCallReply(outcome=live_pb2.TOOL_OUTCOME_FAILED, error=error)


def _response(reply: fabric_pb2.ToolCallReply) -> dict[str, Any]:
    """What the model gets: `output` or `error`, as the Live API spells them."""
    if reply.outcome == live_pb2.TOOL_OUTCOME_SUCCEEDED:
        try:
            return {"output": json.loads(reply.output_json or "{}")}
        except ValueError:
            return {"error": "the tool succeeded, but its result cannot be read"}
    return {"error": reply.error or "the tool failed"}
