"""Looking at sessions and ending them. A tenant sees only its own."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator

from google.protobuf.timestamp_pb2 import Timestamp

from parley.v1 import errors_pb2, fabric_pb2, live_pb2, sessions_pb2, sessions_pb2_grpc
from services.fabric import subjects
from services.fabric.bus import Bus, NoResponderError
from services.fabric.errors import ServiceError, invalid_field, not_implemented
from services.fabric.records import FencedError, SessionRecords
from services.gateway.auth import Authenticator, Identity
from services.gateway.calls import AnyContext, answer
from services.gateway.session_config import SESSION_ID
from services.gateway.settings import GatewaySettings

_DEFAULT_PAGE = 100
_MAX_PAGE = 1000
_READS_AT_ONCE = 32
_CONTROL_TIMEOUT = 5.0
_ENDED = sessions_pb2.SESSION_STATE_ENDED
_TOKEN_VERSION = b"1:"


class SessionService(sessions_pb2_grpc.SessionServiceServicer):
    """`parley.v1.SessionService`."""

    def __init__(
        self, settings: GatewaySettings, authenticator: Authenticator, bus: Bus, session_records: SessionRecords
    ) -> None:
        self._settings = settings
        self._authenticator = authenticator
        self._bus = bus
        self._records = session_records

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

    async def WatchSession(  # noqa: N802, D102
        self, request: sessions_pb2.WatchSessionRequest, context: AnyContext
    ) -> AsyncIterator[sessions_pb2.WatchSessionResponse]:
        async def refuse(_caller: Identity) -> sessions_pb2.WatchSessionResponse:
            raise not_implemented("WatchSession")

        yield await answer(context, self._authenticator, refuse)

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
        shown = sessions_pb2.Session()
        shown.CopyFrom(session)
        shown.gateway = attachment.gateway if attachment else ""
        if attachment is not None:
            shown.attach_generation = attachment.attach_generation
        shown.state = sessions_pb2.SESSION_STATE_ATTACHED if shown.gateway else sessions_pb2.SESSION_STATE_DETACHED
        return shown

    async def _list(
        self, caller: Identity, request: sessions_pb2.ListSessionsRequest
    ) -> sessions_pb2.ListSessionsResponse:
        if request.filter:
            raise not_implemented("ListSessionsRequest.filter")
        if not 0 <= request.page_size <= _MAX_PAGE:
            raise invalid_field("page_size", f"1 to {_MAX_PAGE}, or 0 for {_DEFAULT_PAGE}")
        before = session_of_token(request.page_token) if request.page_token else None
        await self._bus.wait_connected(self._settings.fabric_wait.total_seconds())
        newest_first = [
            record.session
            for record in reversed(await self._records.list_own())
            if record.session.tenant == caller.tenant and (before is None or record.session.session_id < before)
        ]
        page = newest_first[: request.page_size or _DEFAULT_PAGE]
        limit = asyncio.Semaphore(_READS_AT_ONCE)

        async def shown(session: sessions_pb2.Session) -> sessions_pb2.Session:
            async with limit:
                return await self._with_attachment(session)

        response = sessions_pb2.ListSessionsResponse(sessions=await asyncio.gather(*map(shown, page)))
        if len(newest_first) > len(page):
            response.next_page_token = token_after(page[-1].session_id)
        return response

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
        """End a session whose worker is gone: the record that it has ended, and nothing else, stays for a while."""
        session = own.session.session_id
        tombstone = fabric_pb2.OwnRecord()
        tombstone.CopyFrom(own)
        tombstone.session.state = _ENDED
        tombstone.session.end_reason = live_pb2.END_REASON_OPERATOR
        tombstone.session.end_time.CopyFrom(_now())
        try:
            await self._records.end_own(session, revision, tombstone, self._settings.ended_retention)
        except FencedError:
            current = await self._records.read_own(session)
            if current is None or current[0].session.state == _ENDED:
                return
            raise ServiceError(
                errors_pb2.ERROR_REASON_WORKER_LOST, "the session is changing hands; try again"
            ) from None
        await self._records.forget_work(session)
        if own.request_key:
            await self._records.forget_request(own.request_key)


def _now() -> Timestamp:
    now = Timestamp()
    now.GetCurrentTime()
    return now


def token_after(session: str) -> str:
    """A page token: the next page begins after this session."""
    return base64.urlsafe_b64encode(_TOKEN_VERSION + session.encode()).decode().rstrip("=")


def session_of_token(token: str) -> str:
    """Undo `token_after`; ServiceError FIELD_INVALID for what it never made."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        session = raw.removeprefix(_TOKEN_VERSION).decode("ascii")
    except (binascii.Error, ValueError):
        session = ""
    if not SESSION_ID.fullmatch(session) or token_after(session) != token:
        raise invalid_field("page_token", "must be `next_page_token` of an earlier answer, or empty")
    return session
