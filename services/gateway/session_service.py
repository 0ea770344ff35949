"""Looking at sessions and ending them. A tenant sees only its own."""

from __future__ import annotations

import contextlib

from parley.v1 import errors_pb2, fabric_pb2, live_pb2, sessions_pb2, sessions_pb2_grpc
from services.fabric import subjects
from services.fabric.bus import Bus, NoResponderError
from services.fabric.errors import ServiceError, invalid_field, not_implemented
from services.fabric.records import FencedError, SessionRecords
from services.gateway.auth import Authenticator, Identity
from services.gateway.burial import bury
from services.gateway.calls import AnyContext, CallerGoneError, answer
from services.gateway.filter_syntax import parse
from services.gateway.lifecycle import Lifecycle, shown
from services.gateway.session_config import SESSION_ID
from services.gateway.session_pages import fill_page, session_of_token, token_after
from services.gateway.settings import GatewaySettings
from services.gateway.watches import Watches

_DEFAULT_PAGE = 100
_MAX_PAGE = 1000
_CONTROL_TIMEOUT = 5.0
_ENDED = sessions_pb2.SESSION_STATE_ENDED


class SessionService(sessions_pb2_grpc.SessionServiceServicer):
    """`parley.v1.SessionService`."""

    def __init__(
        self,
        settings: GatewaySettings,
        authenticator: Authenticator,
        bus: Bus,
        session_records: SessionRecords,
        watches: Watches,
    ) -> None:
        self._settings = settings
        self._authenticator = authenticator
        self._bus = bus
        self._records = session_records
        self._watches = watches

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
        async def refuse(_caller: Identity) -> sessions_pb2.MoveSessionResponse:
            raise not_implemented("MoveSession")

        return await answer(context, self._authenticator, refuse)

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
        if own.session.state != _ENDED and not await self._end_at_worker(own.session, request.reason):
            await self._bury(own, revision)
        return sessions_pb2.EndSessionResponse()

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
            raise ServiceError(
                errors_pb2.ERROR_REASON_WORKER_LOST, "the session is changing hands; try again"
            ) from None
