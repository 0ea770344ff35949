"""How a stream gets its session: a new one on a worker, the one that a repeated open finds, or a resumed one."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from opentelemetry import context as current
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode

from parley.v1 import errors_pb2, fabric_pb2, live_pb2, sessions_pb2, tools_pb2
from services.fabric import ids, names, records, subjects, telemetry
from services.fabric.auth import Identity
from services.fabric.bus import Bus, NoResponderError
from services.fabric.catalog import Catalog, exists_for
from services.fabric.errors import ServiceError
from services.fabric.records import SessionRecords
from services.gateway.placement import WorkerTable
from services.gateway.recovery import Recovery
from services.gateway.session_config import SESSION_ID, check_size, unknown_tool
from services.gateway.session_timeline import GatewayTimeline
from services.gateway.settings import GatewaySettings
from services.gateway.stream import Stream
from services.gateway.streams import Streams
from services.gateway.uplink_check import UplinkValidator

log = structlog.get_logger()

MAX_WORKERS_TRIED = 3
_OWN_WAIT = 2.0
"""Seconds in which whoever claimed a request id first must have come to write `own`."""
_POLL = 0.05
_ENVELOPE_ROOM = 16 * 1024
"""Bytes of a NATS message that are not the caller's message."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session that a stream is attached to."""

    session_id: str
    worker: str
    resume_token: str
    attached: fabric_pb2.Attached
    existing: bool


class Opener:
    """Opens and attaches."""

    def __init__(
        self,
        settings: GatewaySettings,
        me: str,
        *,
        bus: Bus,
        session_records: SessionRecords,
        catalog: Catalog,
        profiles: Mapping[str, live_pb2.SessionConfig],
        table: WorkerTable,
        recovery: Recovery,
        streams: Streams,
        timeline: GatewayTimeline,
        fabric_ready: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._me = me
        self._bus = bus
        self._records = session_records
        self._catalog = catalog
        self._profiles = profiles
        self._table = table
        self._recovery = recovery
        self._streams = streams
        self._timeline = timeline
        self._fabric_ready = fabric_ready
        self._now = asyncio.get_running_loop().time

    async def open(self, stream: Stream, caller: Identity, opening: live_pb2.Open) -> Session:
        """Give the stream its session. ServiceError when that fails; then nothing is left of it.

        Runs to its end even if the caller leaves meanwhile: what is half open could not be found by a repeated open.
        """
        trace.get_current_span().set_attribute(names.GATEWAY, self._me)
        stream.tenant = caller.tenant
        stream.trace = current.get_current()
        try:
            if opening.HasField("resume"):
                await self._fabric()
                return await self._resume(stream, caller, opening.resume)
            config = self._config_of(opening)
            await self._fabric()
            tools = await self._tools_of(caller.tenant, opening, config)
            return await self._open(stream, caller, opening, config, tools)
        except BaseException:
            self._streams.remove(stream)
            raise

    # What is asked for

    def _config_of(self, opening: live_pb2.Open) -> live_pb2.SessionConfig:
        if opening.WhichOneof("source") == "config":
            return opening.config
        config = self._profiles.get(opening.profile)
        if config is None:
            raise ServiceError(
                errors_pb2.ERROR_REASON_PROFILE_UNKNOWN,
                f"no profile {opening.profile[:80]!r} on this gateway",
                {"open.profile": "unknown"},
            )
        return config

    async def _tools_of(
        self, tenant: str, opening: live_pb2.Open, config: live_pb2.SessionConfig
    ) -> list[tools_pb2.Tool]:
        path = "open.config.tools" if opening.WhichOneof("source") == "config" else "open.profile: tools"
        tools = []
        for index, name in enumerate(config.tools):
            tool = await self._catalog.get(name)
            if tool is None or not exists_for(tool, tenant):
                error = unknown_tool(f"{path}[{index}]")
                error.message = f"{error.message}: {name[:64]!r}"
                raise error
            tools.append(tool)
        check_size(config.ByteSize() + sum(tool.ByteSize() for tool in tools), path)
        return tools

    async def _fabric(self) -> None:
        try:
            async with asyncio.timeout(self._settings.fabric_wait.total_seconds()):
                await self._bus.connected.wait()
                await self._fabric_ready.wait()
        except TimeoutError:
            raise ServiceError(
                errors_pb2.ERROR_REASON_FABRIC_UNAVAILABLE, "the message bus (NATS) cannot be reached"
            ) from None

    # A new session

    async def _open(
        self,
        stream: Stream,
        caller: Identity,
        opening: live_pb2.Open,
        config: live_pb2.SessionConfig,
        tools: list[tools_pb2.Tool],
    ) -> Session:
        key = records.request_key(caller.tenant, caller.principal, opening.request_id)
        mine, began = ids.session_id(), self._now()
        session = await self._records.claim_request(key, mine)
        if session != mine and (found := await self._find(stream, caller, session)) is not None:
            return found
        token = ids.resume_token()
        command = fabric_pb2.OpenSession(
            session_id=session,
            tenant=caller.tenant,
            principal=caller.principal,
            profile=opening.profile,
            config=config,
            tools=tools,
            labels=opening.labels,
            request_key=key,
            gateway=self._me,
            resume_token_sha256=hashlib.sha256(token.encode()).digest(),
        )
        self._streams.add(session, stream)
        try:
            worker, attached, tries = await self._place(stream, command)
        except ServiceError as error:
            self._timeline.refused(session, caller.tenant, error, profile=opening.profile, since=began, now=self._now())
            if session == mine:
                await self._forget_request(key)
            raise
        self._hand_over(stream, worker, attached, config, existing=False)
        self._timeline.opened(
            stream, model=config.model, profile=opening.profile, tries=tries, since=began, now=self._now()
        )
        return Session(session, worker, token, attached, existing=False)

    async def _find(self, stream: Stream, caller: Identity, session: str) -> Session | None:
        """Attach to a session that another open with this request id claimed; None when that open came to nothing."""
        now = asyncio.get_running_loop().time
        claimed_until = now() + _OWN_WAIT
        opened_until = now() + self._settings.place_timeout.total_seconds()
        while True:
            found = await self._records.read_own(session)
            if found is None:
                if now() > claimed_until:
                    return None
            else:
                try:
                    return await self._attach(stream, caller, found[0], None)
                except ServiceError as error:
                    # Not held although it has an owner: the first open is still at it, unless it ever had a stream.
                    if error.reason != errors_pb2.ERROR_REASON_SESSION_UNKNOWN:
                        raise
                    if now() > opened_until or await self._records.read_attachment(session) is not None:
                        raise _worker_lost(found[0].session.worker) from None
            await asyncio.sleep(_POLL)

    async def _place(self, stream: Stream, command: fabric_pb2.OpenSession) -> tuple[str, fabric_pb2.Attached, int]:
        """A worker, its answer, and how many were asked. ServiceError."""
        tried: set[str] = set()
        refusal: ServiceError | None = None
        with telemetry.tracer().start_as_current_span(names.SPAN_PLACE, kind=SpanKind.CLIENT) as span:
            span.set_attributes({names.SESSION_ID: command.session_id, names.TENANT: command.tenant})
            while len(tried) < MAX_WORKERS_TRIED:
                try:
                    worker = await self._choose(tried)
                except ServiceError as error:
                    refusal = refusal or error
                    break
                tried.add(worker)
                span.set_attribute(names.WORKER, worker)
                span.set_attribute(names.PLACE_ATTEMPTS, len(tried))
                request = fabric_pb2.ControlRequest(schema_version=1, open=command)
                try:
                    return worker, await self._control(worker, request, stream.trace), len(tried)
                except NoResponderError:
                    self._table.gone(worker)
                except ServiceError as error:
                    refusal = error
                    if error.reason == errors_pb2.ERROR_REASON_NO_CAPACITY:
                        continue
                    if error.reason in (errors_pb2.ERROR_REASON_FABRIC_UNAVAILABLE, errors_pb2.ERROR_REASON_INTERNAL):
                        await self._end_at(worker, command.session_id)  # it may have been opened all the same
                    break
            final = refusal or ServiceError(errors_pb2.ERROR_REASON_NO_WORKER, "no session worker answers")
            span.set_attribute(names.ERROR_REASON, final.reason_name)
            span.set_status(Status(StatusCode.ERROR, final.message))
            raise final

    async def _choose(self, tried: set[str]) -> str:
        """A worker to try; the first open after a start waits a moment until one has announced itself."""
        deadline = asyncio.get_running_loop().time() + self._settings.worker_wait.total_seconds()
        while not len(self._table) and not tried and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_POLL)
        return self._table.choose(tried)

    async def _control(self, worker: str, request: fabric_pb2.ControlRequest, session: Context) -> fabric_pb2.Attached:
        headers = telemetry.headers(session=session)
        timeout = self._settings.place_timeout.total_seconds()
        reply = await self._bus.request(
            subjects.control(worker), request, fabric_pb2.ControlReply, timeout, headers or None
        )
        if reply.WhichOneof("result") == "attached":
            return reply.attached
        if reply.WhichOneof("result") == "failure":
            raise ServiceError.from_failure(reply.failure)
        raise ServiceError(errors_pb2.ERROR_REASON_INTERNAL, "the worker's answer has no result")

    async def _end_at(self, worker: str, session: str) -> None:
        end = fabric_pb2.CloseSession(
            session_id=session, reason=live_pb2.END_REASON_OPERATOR, message="its open was not answered in time"
        )
        request = fabric_pb2.ControlRequest(schema_version=1, end=end)
        # Not a request: nobody waits for the answer, and a worker that hangs reads it when it wakes up.
        self._streams.keep(
            asyncio.create_task(
                self._bus.client.publish(subjects.control(worker), request.SerializeToString()), name=f"end {session}"
            )
        )

    async def _forget_request(self, key: str) -> None:
        try:
            await self._records.forget_request(key)
        except ServiceError as error:  # it is forgotten by its age then
            log.warning("request id not forgotten", error=str(error))

    # A session that is there

    async def _resume(self, stream: Stream, caller: Identity, resume: live_pb2.Resume) -> Session:
        found = await self._records.read_own(resume.session_id) if SESSION_ID.fullmatch(resume.session_id) else None
        if found is None or found[0].session.tenant != caller.tenant:
            raise ServiceError(errors_pb2.ERROR_REASON_SESSION_UNKNOWN, "no such session")
        return await self._attach(stream, caller, found[0], resume)

    async def _attach(
        self, stream: Stream, caller: Identity, record: fabric_pb2.OwnRecord, resume: live_pb2.Resume | None
    ) -> Session:
        own = record.session
        session, worker = own.session_id, own.worker
        if own.state == sessions_pb2.SESSION_STATE_ENDED:
            raise ServiceError(errors_pb2.ERROR_REASON_SESSION_ENDED, f"session {session} has ended")
        command = fabric_pb2.AttachSession(
            session_id=session, gateway=self._me, tenant=caller.tenant, principal=caller.principal
        )
        if resume is None:
            # The first open's token is with a stream that may be gone: the caller gets one it can know.
            token = ids.resume_token()
            command.new_token_sha256 = hashlib.sha256(token.encode()).digest()
        else:
            token = resume.resume_token
            command.presented_token_sha256 = hashlib.sha256(token.encode()).digest()
            command.last_received_seq = resume.last_received_seq
        began = self._now()
        checkpoint = await self._records.read_checkpoint(session)
        self._streams.add(session, stream)
        with telemetry.tracer().start_as_current_span(names.SPAN_PLACE, kind=SpanKind.CLIENT) as span:
            span.set_attributes({names.SESSION_ID: session, names.TENANT: caller.tenant, names.WORKER: worker})
            request = fabric_pb2.ControlRequest(schema_version=1, attach=command)
            try:
                if records.handed_over(record):
                    worker, attached = await self._take_over(stream, command)
                else:
                    attached = await self._control(worker, request, stream.trace)
            except NoResponderError:
                worker, attached = await self._take_over(stream, command)
            except ServiceError as error:
                # Its owner says it has not got it; a repeated open waits until the first one is done.
                if error.reason != errors_pb2.ERROR_REASON_SESSION_UNKNOWN or resume is None:
                    raise
                worker, attached = await self._take_over(stream, command)
        self._hand_over(stream, worker, attached, checkpoint.config if checkpoint else None, existing=True)
        self._timeline.attached(stream, since=began, now=self._now())
        return Session(session, worker, token, attached, existing=True)

    async def _take_over(self, stream: Stream, attach: fabric_pb2.AttachSession) -> tuple[str, fabric_pb2.Attached]:
        """The session's worker is gone, or seems to be: another takes it over for the caller that comes back."""
        command = fabric_pb2.TakeOver(
            session_id=attach.session_id,
            gateway=self._me,
            tenant=attach.tenant,
            principal=attach.principal,
            presented_token_sha256=attach.presented_token_sha256,
            new_token_sha256=attach.new_token_sha256,
            floor=attach.last_received_seq,
            downlink_acked_seq=attach.last_received_seq,
        )
        return await self._recovery.place(command, None, parent=current.get_current(), stream=stream.trace)

    def _hand_over(
        self,
        stream: Stream,
        worker: str,
        attached: fabric_pb2.Attached,
        config: live_pb2.SessionConfig | None,
        *,
        existing: bool,
    ) -> None:
        validator = UplinkValidator(
            attached.next_uplink_seq,
            config,
            backend=self._settings.backend,
            existing=existing,
            max_message=self._bus.client.max_payload - _ENVELOPE_ROOM,
        )
        stream.attach(worker, attached, validator)
        self._streams.supersede(stream)


def _worker_lost(worker: str) -> ServiceError:
    return ServiceError(errors_pb2.ERROR_REASON_WORKER_LOST, f"the session's worker ({worker}) is gone")
