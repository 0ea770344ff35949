"""Gives a session whose worker is gone to another one, for the stream that had it or for a caller that comes back.

The gateway asks, the worker that it asks decides: who may is said there (`session_worker/takeover.py`). Several may ask
at once, and an answer may be lost; so each try begins with a look at who owns the session now.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Final

import structlog
from opentelemetry import trace
from opentelemetry.context import Context

from parley.v1 import errors_pb2, fabric_pb2, sessions_pb2
from services.fabric import names, subjects, telemetry
from services.fabric.bus import Bus, NoResponderError
from services.fabric.errors import ServiceError
from services.fabric.records import SessionRecords, handed_over, stream_gateway
from services.gateway.placement import WorkerTable
from services.gateway.settings import GatewaySettings
from services.gateway.stream import Stream

log = structlog.get_logger()

PROBE_PAUSE: Final = 0.3
"""Two "no responders" this far apart are proof of death (ARCHITECTURE.md, A worker that dies)."""
PROBE_TIMEOUT: Final = 2.0
_AT_ONCE: Final = 64
"""Sessions that a gateway asks for at once; each worker has a limit of its own."""
_TAKE_OVER_TIMEOUT: Final = 8.0
"""Seconds that a worker may take to read what there is of a session: more than the reads may take together."""
_LIVES: Final = frozenset({fabric_pb2.PROOF_OF_DEATH_NOT_HELD, fabric_pb2.PROOF_OF_DEATH_RELEASED})
"""Proofs of an owner that lives, and may take the session again."""
_SHORTEST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0


@dataclass(frozen=True, slots=True)
class Owner:
    """An owner and how it is known to be gone."""

    worker: str
    epoch: int
    proof: fabric_pb2.ProofOfDeath


class Recovery:
    """Asks workers to take sessions over."""

    def __init__(
        self,
        settings: GatewaySettings,
        me: str,
        *,
        bus: Bus,
        records: SessionRecords,
        table: WorkerTable,
        now: Callable[[], float],
    ) -> None:
        self._me = me
        self._bus = bus
        self._records = records
        self._table = table
        self._now = now
        self._window = settings.recovery_window.total_seconds()
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self.recovered = 0
        self.given_up = 0

    def recover(self, stream: Stream, proof: fabric_pb2.ProofOfDeath | None) -> Coroutine[Any, Any, None]:
        """From now on nothing of the old owner counts. What is to be run then finds the stream another worker; it ends
        with an error when there is none within the recovery window. `proof`: None where `own` has it."""
        gone = None if proof is None else Owner(stream.worker, stream.epoch, proof)
        command = stream.lose_worker()
        command.gateway = self._me
        return self._recover(stream, command, gone)

    async def _recover(self, stream: Stream, command: fabric_pb2.TakeOver, gone: Owner | None) -> None:
        before = stream.worker
        try:
            worker, attached = await self.place(command, gone, parent=stream.trace, wanted=lambda: not stream.closed)
        except ServiceError as error:
            self.given_up += 1
            log.warning("session not recovered", session=stream.session, error=str(error))
            stream.finish(error)
            return
        self.recovered += 1
        log.info("session recovered", session=stream.session, before=before, worker=worker)
        stream.reattach(worker, attached)

    async def place(
        self,
        command: fabric_pb2.TakeOver,
        gone: Owner | None,
        *,
        parent: Context,
        stream: Context | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> tuple[str, fabric_pb2.Attached]:
        """Another worker for the session of `command`, of which the owner is still to be named; `gone`: one that is
        known to be. ServiceError when there is none within the recovery window, or may not be.

        `parent`: context that this happens in; `stream`: of the stream's open, where it is another one than before.
        """
        headers = functools.partial(telemetry.headers, session=stream)
        with self._span(command, parent) as span:
            try:
                worker, attached = await self._place(command, gone, headers, wanted)
            except ServiceError as error:
                span.set_attribute(names.ERROR_REASON, error.reason_name)
                raise
            span.set_attributes({names.WORKER: worker, names.EPOCH: attached.epoch})
            return worker, attached

    @contextlib.contextmanager
    def _span(self, command: fabric_pb2.TakeOver, parent: Context) -> Iterator[trace.Span]:
        """From when the worker before was heard last."""
        start = time.time_ns() - command.silence.ToNanoseconds()
        attributes = {names.SESSION_ID: command.session_id, names.GATEWAY: self._me}
        span = telemetry.tracer().start_span(
            names.SPAN_TAKE_OVER, parent, trace.SpanKind.CLIENT, attributes=attributes, start_time=start
        )
        with trace.use_span(span, end_on_exit=True, record_exception=False):
            yield span

    async def _place(
        self,
        command: fabric_pb2.TakeOver,
        gone: Owner | None,
        headers: Callable[[], dict[str, str]],
        wanted: Callable[[], bool],
    ) -> tuple[str, fabric_pb2.Attached]:
        deadline = self._now() + self._window
        refusal: ServiceError | None = None
        tried: set[str] = set()
        async with self._turn:
            while self._now() < deadline and wanted():
                asked = len(tried)
                try:
                    return await self._try(command, gone, tried, headers())
                except NoResponderError:
                    pass
                except ServiceError as error:
                    if error.delay() is None or error.reason == errors_pb2.ERROR_REASON_SUPERSEDED:
                        raise
                    refusal = error
                    if error.reason == errors_pb2.ERROR_REASON_NO_CAPACITY and asked < len(tried) < len(self._table):
                        continue  # that one has no room; where nobody is left to ask, nobody may have
                tried.clear()
                await asyncio.sleep(_pause(refusal))
        why = "" if refusal is None else f": {refusal.message}"
        raise ServiceError(
            errors_pb2.ERROR_REASON_WORKER_LOST, f"the session's worker is gone, and no other took it over{why}"
        )

    async def _try(
        self, command: fabric_pb2.TakeOver, gone: Owner | None, tried: set[str], headers: dict[str, str]
    ) -> tuple[str, fabric_pb2.Attached]:
        found = await self._records.read_own(command.session_id)
        if found is None:
            raise ServiceError(errors_pb2.ERROR_REASON_SESSION_UNKNOWN, f"there is no session {command.session_id}")
        own = found[0].session
        if own.state == sessions_pb2.SESSION_STATE_ENDED:
            raise ServiceError(errors_pb2.ERROR_REASON_SESSION_ENDED, f"session {command.session_id} has ended")
        proof = await self._proof(found[0], gone)
        if proof is None:
            return own.worker, await self._attach(own.worker, command, headers)
        command.tenant, command.principal = own.tenant, own.principal
        command.from_worker, command.from_epoch, command.proof = own.worker, own.epoch, proof
        worker = found[0].handover.to_worker if handed_over(found[0]) else ""
        if not worker or worker in tried or worker not in self._table:
            worker = self._table.choose(tried if proof in _LIVES else tried | {own.worker})
        tried.add(worker)
        trace.get_current_span().set_attributes(
            {
                names.TENANT: own.tenant,
                names.PROFILE: own.profile,
                names.WORKER_BEFORE: own.worker,
                names.PROOF: fabric_pb2.ProofOfDeath.Name(proof).removeprefix("PROOF_OF_DEATH_"),
                names.PLACE_ATTEMPTS: len(tried),
            }
        )
        return worker, await self._ask(worker, fabric_pb2.ControlRequest(schema_version=1, take_over=command), headers)

    async def _proof(self, record: fabric_pb2.OwnRecord, gone: Owner | None) -> fabric_pb2.ProofOfDeath | None:
        """That the owner of now has not got the session; None when it has."""
        if handed_over(record):
            return fabric_pb2.PROOF_OF_DEATH_RELEASED
        own = record.session
        if gone is not None and (own.worker, own.epoch) == (gone.worker, gone.epoch):
            return gone.proof
        return await self.prove_gone(own.worker, own.session_id)

    async def _attach(self, worker: str, command: fabric_pb2.TakeOver, headers: dict[str, str]) -> fabric_pb2.Attached:
        """Somebody has taken the session over by now: it is this stream's unless another has it."""
        if command.attach_generation:
            record = await self._records.read_attachment(command.session_id)
            newer = record is not None and record.attach_generation > command.attach_generation
            if record is not None and newer and stream_gateway(record) != self._me:
                raise ServiceError(errors_pb2.ERROR_REASON_SUPERSEDED, "another stream took this session over")
        attach = fabric_pb2.AttachSession(
            session_id=command.session_id,
            gateway=command.gateway,
            tenant=command.tenant,
            principal=command.principal,
            presented_token_sha256=command.presented_token_sha256,
            new_token_sha256=command.new_token_sha256,
            last_received_seq=command.downlink_acked_seq,
            passed_on_seq=command.floor,
        )
        return await self._ask(worker, fabric_pb2.ControlRequest(schema_version=1, attach=attach), headers)

    async def _ask(
        self, worker: str, request: fabric_pb2.ControlRequest, headers: dict[str, str]
    ) -> fabric_pb2.Attached:
        try:
            reply = await self._bus.request(
                subjects.control(worker), request, fabric_pb2.ControlReply, _TAKE_OVER_TIMEOUT, headers or None
            )
        except NoResponderError:
            self._table.gone(worker)
            raise
        if reply.WhichOneof("result") == "attached":
            return reply.attached
        if reply.WhichOneof("result") == "failure":
            raise ServiceError.from_failure(reply.failure)
        raise ServiceError(errors_pb2.ERROR_REASON_INTERNAL, "the worker's answer has no result")

    async def prove_gone(self, worker: str, session: str) -> fabric_pb2.ProofOfDeath | None:
        """Ask a worker for a session, or whether it is there; None when it has it or is. ServiceError when it does not
        answer, which proves nothing: it hangs, or NATS does."""
        ping = fabric_pb2.ControlRequest(schema_version=1, ping=fabric_pb2.Ping(session_id=session))
        for attempt in (1, 2):
            try:
                reply = await self._bus.request(subjects.control(worker), ping, fabric_pb2.ControlReply, PROBE_TIMEOUT)
            except NoResponderError:
                if attempt == 1:
                    await asyncio.sleep(PROBE_PAUSE)
                continue
            except ServiceError:
                if not self._table.is_silent(worker, self._now()):
                    raise
                await self._bus.barrier()  # our own way to NATS is fine
                return fabric_pb2.PROOF_OF_DEATH_SILENT
            lost = reply.failure.reason == errors_pb2.ERROR_REASON_SESSION_UNKNOWN
            return fabric_pb2.PROOF_OF_DEATH_NOT_HELD if lost else None
        self._table.gone(worker)
        return fabric_pb2.PROOF_OF_DEATH_DEAD


def _pause(refusal: ServiceError | None) -> float:
    asked = refusal.delay() if refusal is not None else None
    seconds = _SHORTEST_PAUSE if asked is None else min(asked.total_seconds(), _LONGEST_PAUSE)
    return seconds * random.uniform(0.5, 1.0)
