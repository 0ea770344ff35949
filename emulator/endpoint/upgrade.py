"""The Live origin: upgrade requests become connections or are refused; REST goes to :mod:`emulator.endpoint.rest`."""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus

from aiohttp import web

from emulator import switches, texts
from emulator.api.protocol import Decoder
from emulator.endpoint import handshake, rest
from emulator.endpoint.admission import Admission, Request
from emulator.endpoint.connection import Connection
from emulator.endpoint.limits import Counters, Limits
from emulator.endpoint.quota import Quota
from emulator.errors import Refusal, reason_bytes
from emulator.faults.orders import Orders
from emulator.faults.routes import refused
from emulator.faults.specs import RefuseUpgrade
from emulator.faults.text import FaultError, parse
from emulator.hearing.ears import Ears
from emulator.processes.crew import Crew, Passed, UnreachableError
from emulator.processes.pipe import Tap
from emulator.processes.shared import SharedQuota
from emulator.record import Archive
from emulator.scenarios.scenario import Scenario
from emulator.session.handles import HandleStore
from emulator.session.tokens import TokenStore
from emulator.settings import EmulatorSettings
from emulator.switches import Switches

PATIENCE = 0.5
"""Seconds that a refused client has to send its setup before it is told."""

# How often a client whose upgrade is kept waiting is looked after.
_LOOK = 0.1


class Origin:
    """Answers every request at the Live endpoint."""

    def __init__(
        self,
        settings: EmulatorSettings,
        *,
        scenarios: Mapping[str, Scenario],
        default: Scenario,
        keys: Collection[str],
        tokens: TokenStore,
        admission: Admission,
        orders: Orders,
        handles: HandleStore,
        ears: Ears,
        archive: Archive,
        clock: Callable[[], float],
        quota: Quota | SharedQuota,
        crew: Crew | None = None,
    ) -> None:
        self.connections: set[Connection] = set()
        self.counters = Counters()
        self._settings = settings
        self._scenarios = scenarios
        self._default = default
        self._switches = Switches(**{name: getattr(settings, name) for name in Switches.model_fields})
        self._keys = keys
        self._tokens = tokens
        self._auth_tokens = rest.AuthTokens(
            tokens, keys=keys, clock=clock, patience=settings.upgrade_timeout.total_seconds()
        )
        self._quota = quota
        self._crew = crew
        """Other processes that serve with this one."""
        self._admission = admission
        self._orders = orders
        self._handles = handles
        self._ears = ears
        self._archive = archive
        self._clock = clock
        self._limits = Limits(
            setup_timeout=settings.setup_timeout.total_seconds(),
            close_timeout=settings.close_timeout.total_seconds(),
            outbox_bytes=settings.outbox_bytes,
            frozen_limit=settings.frozen_limit.total_seconds(),
        )
        self._upgrades = 0
        """Upgrade requests that are being answered, open connections included."""

    async def answer_passed(self, request: web.Request) -> web.StreamResponse:
        """One request that another process passes on."""
        assert self._crew is not None
        try:
            response = await self.answer(request, self._crew.passed(request))
        except web.HTTPException as error:
            error.force_close()
            raise
        # What the client sends next is not for this process alone.
        response.force_close()
        return response

    async def answer(self, request: web.Request, passed: Passed | None = None) -> web.StreamResponse:
        """One request, to its end; ``passed``: what another process says that accepted it."""
        path = request.raw_path.partition("?")[0]
        api_version, endpoint = rest.auth_tokens(path), handshake.endpoint(path)
        if endpoint is None and api_version is None:
            return rest.not_found(path).response()
        if self._full:
            self.counters.turned_away += 1
            return rest.ApiError(HTTPStatus.SERVICE_UNAVAILABLE, texts.UNAVAILABLE.text).response()
        if endpoint is None or api_version is not None:
            return await self._create_token(request, api_version or "", self._wished(request, path)[1])
        if passed is None and self._crew is not None and (owner := self._crew.owner(request, path)) is not None:
            return await self._pass_on(self._crew, request, owner)
        given = handshake.credential(request.headers, request.query)
        refusal = handshake.authorise(given, self._keys, tokens=self._tokens, constrained=endpoint.constrained)
        asked = self._asked(request, path, endpoint, given, passed)
        # Where it was dialled it was counted, and kept waiting, already.
        again = passed is not None and passed.conversation is not None
        self._upgrades += 1
        try:
            with contextlib.nullcontext(True) if again else self._quota_of(asked) as allowed:
                return await self._upgrade(request, asked, refusal, allowed=allowed, again=again)
        finally:
            self._upgrades -= 1
            self._orders.gone(asked.faults)

    async def _create_token(self, request: web.Request, api_version: str, switches: Switches) -> web.Response:
        self._upgrades += 1
        try:
            return await self._auth_tokens.answer(request, api_version, switches)
        finally:
            self._upgrades -= 1

    def _quota_of(self, asked: Request) -> contextlib.AbstractContextManager[bool]:
        backend = asked.endpoint.backend
        limit = self._settings.vertex_quota if backend == "vertex" else self._settings.quota
        return self._quota.connection(f"{backend} {asked.project}", limit)

    @property
    def _full(self) -> bool:
        return self._upgrades >= self._settings.max_connections

    async def _upgrade(
        self, request: web.Request, asked: Request, refusal: Refusal | None, *, allowed: bool, again: bool
    ) -> web.StreamResponse:
        for fault in asked.faults.at_upgrade(self._clock()):
            if again:
                continue
            if isinstance(fault, RefuseUpgrade):
                return refused(fault)
            await _wait(request, fault.by.total_seconds())
        if refusal is not None and asked.switches.wrong_key == "http":
            return rest.ApiError(HTTPStatus.UNAUTHORIZED, refusal.text).response()
        if refusal is None and not allowed:
            if asked.switches.over_quota == "http":
                return rest.ApiError(HTTPStatus.TOO_MANY_REQUESTS, rest.FULL).response()
            refusal = texts.QUOTA.refusal()
        # Pings and closes are answered by the connection itself: faults may have it otherwise.
        socket = web.WebSocketResponse(
            autoping=False,
            autoclose=False,
            compress=asked.switches.deflate,
            timeout=self._settings.close_timeout.total_seconds(),
            max_msg_size=self._settings.max_frame_bytes,
        )
        try:
            wanted = socket.can_prepare(request).ok
        except ValueError:
            raise web.HTTPBadRequest(text="Sec-WebSocket-Key is not base64 of 16 bytes") from None
        if not wanted:
            raise web.HTTPUpgradeRequired(text="a WebSocket is wanted here")
        tap = self._crew.tap(request) if self._crew is not None else None
        await socket.prepare(request)
        if refusal is None:
            return await self._serve(socket, request, asked, tap)
        self.counters.refused += 1
        # Over a real network the setup is under way before the close arrives; a client whose first send already
        # fails reports something else than the refusal.
        with contextlib.suppress(TimeoutError):
            await socket.receive(timeout=PATIENCE)
        await socket.close(code=refusal.code, message=reason_bytes(refusal.text))
        return socket

    async def _serve(
        self, socket: web.WebSocketResponse, request: web.Request, asked: Request, tap: Tap | None
    ) -> web.StreamResponse:
        admit = self._admission.of(asked)
        connection = Connection(
            socket=socket,
            transport=request.transport,
            decoder=Decoder(asked.endpoint.backend, asked.endpoint.api_version, strict=asked.switches.strict),
            admit=admit if tap is None else tap.until(admit),
            faults=asked.faults,
            text_frames=asked.switches.frames == "text",
            handles=self._handles,
            ears=self._ears,
            clock=self._clock,
            limits=self._limits,
            counters=self.counters,
        )
        self.connections.add(connection)
        try:
            await connection.serve()
        finally:
            self.connections.discard(connection)
            self._archive.trim()
        if self._crew is None or tap is None or connection.elsewhere is None:
            return socket
        passed = Passed(asked.conversation, asked.faults.dial, asked.faults.frames - connection.unsent)
        self._orders.withdraw(asked.faults)
        try:
            await self._crew.pass_on(request, tap, connection.elsewhere, passed, upgraded=True)
        except UnreachableError:
            await socket.close(code=1011, message=reason_bytes(texts.STILL_OPEN.text))
            return socket
        return web.Response()  # to nobody: the client has gone with its owner

    async def _pass_on(self, crew: Crew, request: web.Request, owner: int) -> web.StreamResponse:
        self._upgrades += 1
        try:
            await crew.pass_on(request, crew.tap(request), owner, Passed(), upgraded=False)
        except UnreachableError:
            return rest.ApiError(HTTPStatus.SERVICE_UNAVAILABLE, texts.UNAVAILABLE.text).response()
        finally:
            self._upgrades -= 1
        return web.Response()  # to nobody: the client has gone with its owner

    def _asked(
        self,
        request: web.Request,
        path: str,
        endpoint: handshake.Endpoint,
        given: handshake.Credential | None,
        passed: Passed | None,
    ) -> Request:
        """What the upgrade request says. Raises an HTTP error."""
        chosen, switched = self._wished(request, path)
        wishes = handshake.wishes(request.headers, request.query, path)
        passed = passed or Passed()
        conversation = wishes.get(handshake.CONVERSATION) or passed.conversation or self._new_conversation()
        if not handshake.valid_conversation_id(conversation):
            raise web.HTTPBadRequest(text="a conversation id has 1 to 128 letters, digits, dots, colons, - or _")
        try:
            faults = [*chosen.faults, *parse(wishes.get(handshake.FAULTS, ""))]
        except FaultError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        plan = self._orders.dialled(conversation, chosen.name, faults, number=passed.dial)
        plan.goes_on(passed.frames)
        key = given.value if given else ""
        if endpoint.constrained:
            return Request(endpoint, path, chosen, switched, conversation, plan, key, self._tokens.project(key))
        return Request(endpoint, path, chosen, switched, conversation, plan, project=key)

    def _new_conversation(self) -> str:
        return self._crew.new_conversation() if self._crew is not None else f"conv_{secrets.token_hex(8)}"

    def _wished(self, request: web.Request, path: str) -> tuple[Scenario, Switches]:
        """The scenario and the switches that a request wants. Raises an HTTP error."""
        wishes = handshake.wishes(request.headers, request.query, path)
        chosen = self._scenarios.get(wishes.get(handshake.SCENARIO, self._default.name))
        if chosen is None:
            raise web.HTTPBadRequest(text=f"unknown scenario; there are: {', '.join(sorted(self._scenarios))}")
        try:
            switched = self._switches.changed(chosen.file.switches)
            return chosen, switched.changed(switches.parse(wishes.get(handshake.SWITCHES, "")))
        except switches.SwitchError as error:
            raise web.HTTPBadRequest(text=str(error)) from error


async def _wait(request: web.Request, seconds: float) -> None:
    """Keep a client waiting, for as long as it waits."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while (left := until - loop.time()) > 0:
        await asyncio.sleep(min(left, _LOOK))
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError("the client did not wait for its upgrade")
