"""Looking at sessions, moving and ending them. A tenant sees only its own."""

from __future__ import annotations

import asyncio
import contextlib

from parley.v1 import errors_pb2, fabric_pb2, live_pb2, sessions_pb2, sessions_pb2_grpc
from services.fabric import subjects
from services.fabric.auth import Authenticator, Identity
from services.fabric.bus import Bus, NoResponderError
from services.fabric.errors import ServiceError, invalid_field, not_implemented
from services.fabric.records import FencedError, SessionRecords, handed_over
from services.gateway.burial import bury
from services.gateway.calls import AnyContext, CallerGoneError, answer
from services.gateway.filter_syntax import parse
from services.gateway.fleet_service import unknown_worker
from services.gateway.lifecycle import Lifecycle, shown
from services.gateway.placement import WorkerTable
from services.gateway.session_config import SESSION_ID
from services.gateway.session_pages import fill_page, session_of_token, token_after
from services.gateway.settings import GatewaySettings
from services.gateway.watches import Watches

_DEFAULT_PAGE = 100
_MAX_PAGE = 1000
_CONTROL_TIMEOUT = 5.0
_MOVE_LIMIT = 20.0
"""Seconds that a move may take; its worker forces it after 10."""
_MOVE_POLL = 0.1
_ENDED = sessions_pb2.SESSION_STATE_ENDED


class SessionService(sessions_pb2_grpc.SessionServiceServicer):
    """`parley.v1.SessionService`."""

    def __init__(
        self,
        settings: GatewaySettings,
        authenticator: Authenticator,
        *,
        bus: Bus,
        session_records: SessionRecords,
        watches: Watches,
        table: WorkerTable,
    ) -> None:
        self._settings = settings
        self._authenticator = authenticator
        self._bus = bus
        self._records = session_records
        self._watches = watches
        self._table = table

    # RPCs (named by the generated base class)

    async def GetSession(  # noqa: N802, D102
        self, request: sessions_pb2.GetSessionRequest, context: AnyContext
    ) -> sessions_pb2.GetSessionResponse:
        return await answer(context, self._authenticator, lambda caller: self._get(caller, request))

    async def ListSessions(  # noqa: N802, D102
        self, request: sessions_pb2.ListSessionsRequest, context: AnyContext
    ) -> sessions_pb2.ListSessionsResponse:
        return await answer(context, self._authenticator, lambda caller: self._list(caller, request))

    async def EndSession(  # noqa: N802, D102
        self, request: sessions_pb2.EndSessionRequest, context: AnyContext
    ) -> sessions_pb2.EndSessionResponse:
        return await answer(context, self._authenticator, lambda caller: self._end(caller, request))

    async def WatchSession(  # type: ignore[override]  # noqa: N802, D102 - it writes instead of yielding
        self, request: sessions_pb2.WatchSessionRequest, context: AnyContext
    ) -> None:
        with contextlib.suppress(CallerGoneError):
            await answer(context, self._authenticator, lambda caller: self._watch(caller, request, context))

    async def MoveSession(  # noqa: N802, D102
        self, request: sessions_pb2.MoveSessionRequest, context: AnyContext
    ) -> sessions_pb2.MoveSessionResponse:
        return await answer(context, self._authenticator, lambda caller: self._move(caller, request))

    async def MintEphemeralToken(  # noqa: N802, D102
        self, request: sessions_pb2.MintEphemeralTokenRequest, context: AnyContext
    ) -> sessions_pb2.MintEphemeralTokenResponse:
        async def refuse(_caller: Identity) -> sessions_pb2.MintEphemeralTokenResponse:
            raise not_implemented("MintEphemeralToken")

        return await answer(context, self._authenticator, refuse)

    # What they do

    async def _own(self, caller: Identity, session: str) -> tuple[fabric_pb2.OwnRecord, int]:
        if not session:
            raise invalid_field("session_id", "required")
        await self._bus.wait_connected(self._settings.fabric_wait.total_seconds())
        found = await self._records.read_own(session) if SESSION_ID.fullmatch(session) else None
        if found is None or found[0].session.tenant != caller.tenant:
            raise ServiceError(errors_pb2.ERROR_REASON_SESSION_UNKNOWN, "no such session")
        return found

    async def _get(self, caller: Identity, request: sessions_pb2.GetSessionRequest) -> sessions_pb2.GetSessionResponse:
        own, _ = await self._own(caller, request.session_id)
        return sessions_pb2.GetSessionResponse(session=await self._with_attachment(own.session))

    async def _with_attachment(self, session: sessions_pb2.Session) -> sessions_pb2.Session:
        if session.state == _ENDED:
            return session
        attachment = await self._records.read_attachment(session.session_id)
        if attachment is not None:
            return shown(session, attachment)
        # Not attached yet, or over since its `own` was read: then it is not one that waits for its caller.
        found = await self._records.read_own(session.session_id)
        if found is None:
            return Lifecycle(fabric_pb2.OwnRecord(session=session), 0, None).gone().session
        return shown(found[0].session, None)

    async def _watch(self, caller: Identity, request: sessions_pb2.WatchSessionRequest, context: AnyContext) -> None:
        async with self._watches.admit(caller.tenant):
            own, revision = await self._own(caller, request.session_id)
            await self._watches.run(own, revision, context)

    async def _list(
        self, caller: Identity, request: sessions_pb2.ListSessionsRequest
    ) -> sessions_pb2.ListSessionsResponse:
        which = parse(request.filter)
        if not 0 <= request.page_size <= _MAX_PAGE:
            raise invalid_field("page_size", f"1 to {_MAX_PAGE}, or 0 for {_DEFAULT_PAGE}")
        before = session_of_token(request.page_token, request.filter) if request.page_token else None
        await self._bus.wait_connected(self._settings.fabric_wait.total_seconds())
        newest_first = (
            record.session
            for record in reversed(await self._records.list_own())
            if record.session.tenant == caller.tenant and (before is None or record.session.session_id < before)
        )
        size = request.page_size or _DEFAULT_PAGE
        page, last = await fill_page(newest_first, which, size, self._with_attachment)
        return sessions_pb2.ListSessionsResponse(
            sessions=page, next_page_token=token_after(last, request.filter) if last else ""
        )

    async def _end(self, caller: Identity, request: sessions_pb2.EndSessionRequest) -> sessions_pb2.EndSessionResponse:
        if len(request.reason) > 256:
            raise invalid_field("reason", "at most 256 characters")
        own, revision = await self._own(caller, request.session_id)
        if own.session.state == _ENDED:
            return sessions_pb2.EndSessionResponse()
        if handed_over(own) or not await self._end_at_worker(own.session, request.reason):
            await self._bury(own, revision)
        return sessions_pb2.EndSessionResponse()

    async def _move(
        self, caller: Identity, request: sessions_pb2.MoveSessionRequest
    ) -> sessions_pb2.MoveSessionResponse:
        own, _ = await self._own(caller, request.session_id)
        session = own.session
        if session.state == _ENDED:
            raise _has_ended(session.session_id)
        if not handed_over(own) and request.worker != session.worker:
            self._check_place(request.worker, session.worker)
            command = fabric_pb2.MoveAway(session_id=session.session_id, to_worker=request.worker)
            await self._tell_worker(session.worker, fabric_pb2.ControlRequest(schema_version=1, move=command))
            session = await self._moved(session)
        return sessions_pb2.MoveSessionResponse(session=await self._with_attachment(session))

    def _check_place(self, worker: str, now_at: str) -> None:
        """ServiceError when the session could not go there, or, where no worker is named, anywhere."""
        if not worker:
            self._table.check_other(now_at)
        elif worker not in self._table:
            raise unknown_worker(worker)
        elif not self._table.has_room(worker):
            raise ServiceError(errors_pb2.ERROR_REASON_NO_CAPACITY, f"worker {worker} is full or draining")

    async def _tell_worker(self, worker: str, request: fabric_pb2.ControlRequest) -> None:
        """ServiceError WORKER_LOST when it has not got the session."""
        try:
            reply = await self._bus.request(
                subjects.control(worker), request, fabric_pb2.ControlReply, _CONTROL_TIMEOUT
            )
        except NoResponderError:
            raise _changing_hands() from None
        if reply.failure.reason == errors_pb2.ERROR_REASON_SESSION_UNKNOWN:
            raise _changing_hands()
        if reply.HasField("failure"):
            raise ServiceError.from_failure(reply.failure)

    async def _moved(self, before: sessions_pb2.Session) -> sessions_pb2.Session:
        """The session as soon as it is elsewhere, or has been let go without a stream. ServiceError."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _MOVE_LIMIT
        while loop.time() < deadline:
            found = await self._records.read_own(before.session_id)
            if found is None or found[0].session.state == _ENDED:
                raise _has_ended(before.session_id)
            session = found[0].session
            if session.epoch != before.epoch:
                return session
            if handed_over(found[0]):
                attachment = await self._records.read_attachment(before.session_id)
                if attachment is not None and not attachment.gateway:
                    return session
            await asyncio.sleep(_MOVE_POLL)
        raise ServiceError(
            errors_pb2.ERROR_REASON_NO_CAPACITY, f"no other worker has taken session {before.session_id} over yet"
        )

    async def _end_at_worker(self, session: sessions_pb2.Session, reason: str) -> bool:
        """Whether the worker ended it; False when nobody holds it."""
        command = fabric_pb2.CloseSession(
            session_id=session.session_id, reason=live_pb2.END_REASON_OPERATOR, message=reason
        )
        request = fabric_pb2.ControlRequest(schema_version=1, end=command)
        try:
            reply = await self._bus.request(
                subjects.control(session.worker), request, fabric_pb2.ControlReply, _CONTROL_TIMEOUT
            )
        except NoResponderError:
            return False
        if reply.WhichOneof("result") != "failure":
            return True
        if reply.failure.reason in (errors_pb2.ERROR_REASON_SESSION_UNKNOWN, errors_pb2.ERROR_REASON_SESSION_ENDED):
            return False
        raise ServiceError.from_failure(reply.failure)

    async def _bury(self, own: fabric_pb2.OwnRecord, revision: int) -> None:
        """End a session whose worker is gone."""
        session, reason = own.session.session_id, live_pb2.END_REASON_OPERATOR
        retention = self._settings.ended_retention
        try:
            await bury(self._bus.js, self._records, own, revision, reason=reason, retention=retention)
        except FencedError:
            current = await self._records.read_own(session)
            if current is None or current[0].session.state == _ENDED:
                return
            raise _changing_hands() from None


def _has_ended(session: str) -> ServiceError:
    return ServiceError(errors_pb2.ERROR_REASON_SESSION_ENDED, f"session {session} has ended")


def _changing_hands() -> ServiceError:
    return ServiceError(errors_pb2.ERROR_REASON_WORKER_LOST, "the session is changing hands; try again")
