"""One call of a tool, from the request to its outcome.

The reply on NATS is the quick way. When it does not come, the claim tells what became of the call: its reply may be
lost, its executor dead, or the request never have arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import nats.errors
import structlog

from parley.v1 import fabric_pb2
from services.fabric import claims, ids, subjects, telemetry
from services.fabric.bus import Bus, NoResponderError
from services.fabric.claims import Claim, Claims
from services.fabric.errors import ServiceError
from services.fabric.process import stop_tasks
from services.fabric.records import FencedError
from services.session_worker.claim_wait import MARGIN, ClaimWait, Presence, Seen, Step
from services.session_worker.tool_reports import Reports

log = structlog.get_logger()

_LOOK_EVERY: Final = 1.0
"""Seconds without a reply after which the records are asked, and between two looks."""
_FIRST_PAUSE: Final = 0.05
"""The same where no reply is to be expected; it doubles with each look."""
_PING: Final = 0.5
_CONNECT: Final = 2.0
"""Seconds that a call waits for a message bus that is away."""
_ASK_AGAIN: Final = (0.1, 1.0, 3.0, 10.0, 0.0)
"""Seconds between attempts to find somebody who undoes a call."""
Trouble = Callable[[str, str, str], None]
"""Told what went wrong with a call before its outcome: tool, cause (EXECUTOR_LOST, EXECUTOR_HANGS, NO_TOOLS_SERVICE)
and what is done about it."""


def no_trouble(_tool: str, _cause: str, _message: str) -> None:
    """Nobody wants to know."""


_FINAL: Final = frozenset({fabric_pb2.CALL_STATUS_ENDED, fabric_pb2.CALL_STATUS_UNSPECIFIED})
"""Unspecified: a tools service of an older release, which claims nothing."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What is known of the tool."""

    timeout: float
    """Seconds that it may take."""
    idempotent: bool
    reports: bool = True
    """It may say something before it ends."""
    compensates: bool = False
    """What it did can be undone."""


class Execution:
    """A claimed call. `run` ends with an outcome in every case but one: FencedError, the session is not ours."""

    def __init__(
        self,
        bus: Bus,
        records: Claims,
        request: fabric_pb2.ToolCallRequest,
        terms: Terms,
        *,
        own: Callable[[], int],
        again: bool,
        heard: Callable[[str, fabric_pb2.ToolReport], None] | None = None,
        trouble: Trouble = no_trouble,
    ) -> None:
        """`request` without execution id and fence; `own`: revision of our `own`; `again`: the call may have been
        claimed before, so the records are asked first; `heard`: is told what the execution says before it ends."""
        self._trouble = trouble
        self._bus = bus
        self._records = records
        self._request = request
        self.terms = terms
        self._own = own
        self._again = again
        self._asked: asyncio.Task[fabric_pb2.ToolCallReply | None] | None = None
        self._pause = _FIRST_PAUSE
        self._reports = Reports(bus, heard) if heard is not None and terms.reports else None
        self._runs = ""
        """The execution that is known to run; it may have been begun for another owner."""
        self.handed_over = False
        """The session goes on elsewhere: whoever has it then wants the outcome."""

    async def run(self) -> fabric_pb2.ToolCallReply:
        """The outcome. FencedError. When it is cancelled, the function is told that nobody wants its result."""
        try:
            await self._bus.wait_connected(_CONNECT)
        except ServiceError as error:
            if not self._again:
                return claims.not_run(error.message)
        try:
            return await self._outcome()
        except asyncio.CancelledError:
            if not self.handed_over:
                await self._cancel()
            raise
        finally:
            await self._stop_asking()
            if self._reports is not None:
                await self._reports.stop()

    async def take_back(self) -> None:
        """See to it that the call does not run if it does not yet, that it ends if it does, and that what it did is
        undone where that can be. Raises nothing."""
        try:
            claim = await self._abandon("the model took the call back")
            wait = ClaimWait(time.monotonic(), self.terms.timeout, idempotent=False)
            pause = _FIRST_PAUSE
            while not claim.settled:
                # Again and again: a message that says so may get lost.
                self._runs = claim.record.execution_id
                await self._cancel()
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LOOK_EVERY)
                seen = await self._look()
                if await self._take(wait, seen) is not None:
                    break
                claim = claim if seen is None or seen.claim is None else seen.claim
            if self.terms.compensates:
                await self._compensate()
        except (FencedError, ServiceError) as error:
            log.warning("tool call not taken back", session=self._request.session_id, error=str(error))

    async def _compensate(self) -> None:
        """Have what the call did undone, unless whoever ran it does that. ServiceError; FencedError."""
        request = fabric_pb2.ToolCallRequest()
        request.CopyFrom(self._request)
        request.compensates = True
        for pause in _ASK_AGAIN:
            claim = await self._records.read(request.session_id, request.idempotency_key)
            if claim is None or not claims.can_be_undone(claim):
                return
            request.own_revision = self._own()
            reply = await self._request_reply(request.SerializeToString())
            if reply is not None and reply.status == fabric_pb2.CALL_STATUS_FENCED:
                raise FencedError(request.session_id)
            await asyncio.sleep(pause)
        log.error("tool call not undone: nobody did it", session=request.session_id, tool=request.name)

    async def settled(self) -> None:
        """Wait until the claim is. Raises nothing."""
        request = self._request
        with contextlib.suppress(ServiceError):
            claim = await self._records.read(request.session_id, request.idempotency_key)
            while claim is not None and not claim.settled:
                await asyncio.sleep(_FIRST_PAUSE)
                claim = await self._records.read(request.session_id, request.idempotency_key)

    async def _cancel(self) -> None:
        """Tell the function that nobody wants its result."""
        if self._runs:
            with contextlib.suppress(nats.errors.Error):
                await self._bus.client.publish(subjects.tool_cancel(self._runs), b"")

    async def _outcome(self) -> fabric_pb2.ToolCallReply:
        wait = ClaimWait(time.monotonic(), self.terms.timeout, idempotent=self.terms.idempotent)
        if not self._again:
            await self._ask()
        while True:
            reply = await self._reply()
            if reply is not None and reply.status in _FINAL:
                return reply
            seen = await self._look()
            if seen is not None and seen.claim is None and not self._request.execution_id:
                await self._ask()  # it was never begun
                continue
            if reply is not None and reply.status == fabric_pb2.CALL_STATUS_NOT_BEGUN:
                unclaimed = not self._again if seen is None else seen.claim is None
                if unclaimed:
                    return reply
            outcome = await self._take(wait, seen)
            if outcome is not None:
                return outcome
            if self._asked is None:
                await asyncio.sleep(self._pause)
                self._pause = min(2 * self._pause, _LOOK_EVERY)

    async def _ask(self, replaces: int = 0) -> None:
        await self._stop_asking()
        request = self._request
        request.execution_id = self._runs = f"exe_{ids.sortable_id()}"
        request.own_revision = self._own()
        assert request.own_revision, "without a fence it would be run unclaimed"
        request.replaces_revision = replaces
        await self._follow(request.execution_id)
        self._asked = asyncio.create_task(self._request_reply(request.SerializeToString()), name="ask for a tool")

    async def _follow(self, execution_id: str) -> None:
        if self._reports is not None:
            await self._reports.follow(execution_id)

    async def _request_reply(self, payload: bytes) -> fabric_pb2.ToolCallReply | None:
        request = fabric_pb2.ToolCallRequest.FromString(payload)
        limit = request.timeout.ToTimedelta().total_seconds() + MARGIN
        try:
            return await self._bus.request(
                subjects.tool_call(request.name), request, fabric_pb2.ToolCallReply, limit, telemetry.headers()
            )
        except NoResponderError:
            self._trouble(request.name, "NO_TOOLS_SERVICE", "nobody serves it")
            return claims.not_run(f"the tool {request.name!r} is not available at the moment")
        except ServiceError as error:
            log.warning("tool call without reply", tool=request.name, session=request.session_id, error=str(error))
            return None

    async def _reply(self) -> fabric_pb2.ToolCallReply | None:
        """The reply, if it comes before it is time to look at the records. FencedError."""
        if self._asked is None:
            return None
        done, _ = await asyncio.wait({self._asked}, timeout=_LOOK_EVERY)
        if not done:
            return None
        reply, self._asked = self._asked.result(), None
        if reply is not None and reply.status == fabric_pb2.CALL_STATUS_FENCED:
            raise FencedError(self._request.session_id)
        return reply

    async def _stop_asking(self) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            await stop_tasks([asked])

    async def _look(self) -> Seen | None:
        try:
            claim = await self._records.read(self._request.session_id, self._request.idempotency_key)
        except ServiceError:
            return None
        if claim is None or claim.settled:
            return Seen(claim)
        self._runs = claim.record.execution_id
        await self._follow(self._runs)
        return Seen(claim, await self._presence(claim.record.executor))

    async def _presence(self, executor: str) -> Presence:
        try:
            await self._bus.client.request(subjects.tools_ping(executor), b"", timeout=_PING)
        except nats.errors.NoRespondersError:
            return Presence.GONE
        except (nats.errors.Error, TimeoutError):
            return Presence.UNKNOWN
        return Presence.THERE

    async def _take(self, wait: ClaimWait, seen: Seen | None) -> fabric_pb2.ToolCallReply | None:
        """Do what is to be done now; the outcome if that is the end. FencedError."""
        step = wait.next_step(seen, time.monotonic())
        self._say_trouble(step, seen)
        try:
            stands = await self._write(step, None if seen is None else seen.claim)
        except ServiceError as error:
            log.warning("claim not written", session=self._request.session_id, step=step.name, error=str(error))
            stands, step = None, wait.next_step(None, time.monotonic())
        if step is Step.GIVE_UP:
            return claims.unknown(self._request.name)
        return claims.answer(stands) if stands is not None and stands.settled else None

    def _say_trouble(self, step: Step, seen: Seen | None) -> None:
        if seen is None or seen.claim is None or step not in (Step.RUN_AGAIN, Step.WRITE_OFF):
            return
        cause = "EXECUTOR_LOST" if seen.executor is Presence.GONE else "EXECUTOR_HANGS"
        done = "runs again elsewhere" if step is Step.RUN_AGAIN else "its outcome is unknown"
        self._trouble(self._request.name, cause, f"{seen.claim.record.executor}: {done}")

    async def _write(self, step: Step, claim: Claim | None) -> Claim | None:
        match step:
            case Step.ABANDON:
                return await self._abandon("the tools service did not take the call in time")
            case Step.RUN_AGAIN if claim is not None:
                log.info("tool call runs again", session=self._request.session_id, tool=self._request.name)
                await self._ask(replaces=claim.revision)
            case Step.WRITE_OFF if claim is not None:
                session = self._request.session_id
                own = await self._records.read_own(session)
                if own is None or own[1] != self._own():
                    raise FencedError(session)
                return await self._records.settle(session, claim, claims.unknown(self._request.name))
            case _:
                pass
        return claim

    async def _abandon(self, why: str) -> Claim:
        request = self._request
        record = fabric_pb2.ClaimRecord(
            schema_version=1,
            epoch=request.epoch,
            state=fabric_pb2.CLAIM_STATE_ABANDONED,
            turn=request.turn,
            number=request.call_number,
            tool=request.name,
            call_id=request.call_id,
            idempotent=self.terms.idempotent,
            outcome=claims.not_run(why),
        )
        return await self._records.create(request.session_id, request.idempotency_key, self._own(), record)
