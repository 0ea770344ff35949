"""Calls of sessions: claimed before the function runs, settled when it has ended.

So a request that comes late, twice, or from a worker that no longer owns its session runs nothing.
"""

from __future__ import annotations

import re
from typing import Final

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from parley.v1 import fabric_pb2
from services.fabric import claims, ids
from services.fabric.claims import Claim, Claims
from services.fabric.errors import ServiceError
from services.fabric.records import FencedError
from services.tools.execute import Execution, Executor

log = structlog.get_logger()

_SETTLE_WAIT: Final = 30.0
"""Seconds that an outcome is kept for a JetStream that does not take it."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


def wants_claim(request: fabric_pb2.ToolCallRequest) -> bool:
    """Calls of sessions do. Workers of an older release do not fence theirs: they are run as they always were."""
    return bool(request.session_id and request.own_revision)


def problem(request: fabric_pb2.ToolCallRequest) -> str | None:
    """What keeps a request from being looked at, or from having the claim that it wants."""
    # Both stand in subjects.
    wanted = ("session_id", "idempotency_key") if wants_claim(request) else ()
    for name in (*wanted, *(("execution_id",) if request.execution_id else ())):
        if not _TOKEN.fullmatch(getattr(request, name)):
            return f"{name} must be 1 to 128 letters, digits, _ or -"
    try:
        request.timeout.ToTimedelta()
    except (ValueError, OverflowError):
        return "timeout must be a duration"
    if not wants_claim(request):
        return None
    if len(request.arguments_json.encode()) > claims.MAX_ARGUMENTS:
        return f"arguments_json must not have more than {claims.MAX_ARGUMENTS} bytes"
    return None


class ClaimedCalls:
    """Claims of the calls that one process runs."""

    def __init__(self, records: Claims, executor: Executor) -> None:
        self._records = records
        self._executor = executor
        self.again = 0
        """Requests for calls that had a claim already."""
        self.unclaimed = 0
        """Requests that ran nothing because their claim could not be written."""
        self.unsettled = 0
        """Outcomes that could not be stored."""

    async def claim(
        self, request: fabric_pb2.ToolCallRequest, execution: Execution, executor: str, traceparent: str = ""
    ) -> Claim | fabric_pb2.ToolCallReply:
        """The claim, when the call is to be run here under it; else the answer to the request. Raises nothing.

        `traceparent`: of the span of whoever asks."""
        mine = self._record(request, execution, executor)
        mine.traceparent = traceparent
        try:
            if request.replaces_revision:
                found = await self._replace(request, mine)
            else:
                found = await self._records.create(
                    request.session_id, request.idempotency_key, request.own_revision, mine
                )
        except FencedError:
            self.unclaimed += 1
            reply = claims.not_run("the session has another owner")
            reply.status = fabric_pb2.CALL_STATUS_FENCED
            return reply
        except ServiceError as error:
            self.unclaimed += 1
            log.warning("tool call not claimed", tool=request.name, session=request.session_id, error=str(error))
            return claims.not_run("the call could not be recorded; try again in a few seconds")
        if not found.settled and found.record.attempt == mine.attempt:
            return found
        self.again += 1
        return claims.answer(found)

    async def _replace(self, request: fabric_pb2.ToolCallRequest, mine: fabric_pb2.ClaimRecord) -> Claim:
        """Take the place of an executor that is gone. Only one write can be fenced by one record, and here that is the
        claim; so `own` is looked at before. Between the two the session may change hands: what runs then was asked for
        by its owner at that time."""
        own = await self._records.read_own(request.session_id)
        if own is None or own[1] != request.own_revision:
            raise FencedError(request.session_id)
        gone = Claim(request.idempotency_key, fabric_pb2.ClaimRecord(), request.replaces_revision)
        return await self._records.replace(request.session_id, gone, mine)

    def _record(
        self, request: fabric_pb2.ToolCallRequest, execution: Execution, executor: str
    ) -> fabric_pb2.ClaimRecord:
        record = fabric_pb2.ClaimRecord(
            schema_version=1,
            epoch=request.epoch,
            state=fabric_pb2.CLAIM_STATE_RUNNING,
            turn=request.turn,
            number=request.call_number,
            tool=execution.tool.name,
            arguments_json=request.arguments_json,
            call_id=request.call_id,
            idempotent=execution.tool.idempotent,
            execution_id=execution.call.execution_id,
            executor=executor,
            attempt=ids.sortable_id(),
        )
        record.timeout.FromTimedelta(self._executor.limit(execution))
        return record

    async def settle(
        self,
        session: str,
        claim: Claim,
        reply: fabric_pb2.ToolCallReply,
        compensation: fabric_pb2.Compensation | None = None,
    ) -> tuple[fabric_pb2.ToolCallReply, Claim | None]:
        """Store how a call ended; return the answer to it, which is another one when it was settled meanwhile, and the
        claim, when it gives us the right to undo the call."""
        try:
            stands: Claim = await _patiently()(self._records.settle, session, claim, reply, compensation)
        except FencedError:
            return reply, None  # the session is over, and its claims are gone
        except ServiceError as error:
            self.unsettled += 1
            log.error("outcome of a tool call not stored", session=session, claim=claim.key, error=str(error))  # noqa: TRY400 - it says what there is to say
            return reply, None
        mine = compensation is not None and stands.record.compensation == compensation
        return claims.answer(stands), stands if mine else None

    async def set_out_to_undo(
        self, request: fabric_pb2.ToolCallRequest, executor: str
    ) -> Claim | fabric_pb2.ToolCallReply:
        """The claim, when it gives us the right to undo the call; else the answer to the request. Raises nothing."""
        session = request.session_id
        try:
            own = await self._records.read_own(session)
            if own is None or own[1] != request.own_revision:
                raise FencedError(session)
            found = await self._records.read(session, request.idempotency_key)
            if found is None:
                return claims.not_run("there is no such call")
            if not claims.can_be_undone(found):
                return claims.answer(found)
            right = running(executor)
            stands: Claim = await _patiently()(self._records.compensate, session, found, right)
        except FencedError:
            reply = claims.not_run("the session has another owner")
            reply.status = fabric_pb2.CALL_STATUS_FENCED
            return reply
        except ServiceError:
            return claims.not_run("the call could not be recorded; try again in a few seconds")
        return stands if stands.record.compensation == right else claims.answer(stands)

    async def undone(
        self, session: str, claim: Claim, compensation: fabric_pb2.Compensation
    ) -> fabric_pb2.ToolCallReply:
        """Store what became of undoing a call; return the answer to the call."""
        compensation.executor = claim.record.compensation.executor
        compensation.attempt = claim.record.compensation.attempt
        try:
            while True:
                stands: Claim = await _patiently()(self._records.compensate, session, claim, compensation)
                written = stands.record.compensation
                if written == compensation or written.attempt != compensation.attempt:
                    return claims.answer(stands)
                claim = stands  # it lost weight meanwhile, as claims do when their turn is over
        except FencedError:
            log.info("session of a compensated call is over", session=session)
        except ServiceError as error:
            self.unsettled += 1
            log.error("end of a compensation not stored", session=session, claim=claim.key, error=str(error))  # noqa: TRY400
        return claims.answer(claim)


def running(executor: str) -> fabric_pb2.Compensation:
    """Somebody sets out to undo a call."""
    return fabric_pb2.Compensation(
        state=fabric_pb2.COMPENSATION_STATE_RUNNING, executor=executor, attempt=ids.sortable_id()
    )


def _patiently() -> AsyncRetrying:
    return AsyncRetrying(
        retry=retry_if_exception_type(ServiceError),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        stop=stop_after_delay(_SETTLE_WAIT),
        reraise=True,
    )
