"""The REST side of the Live origin: ephemeral tokens are made here; errors have Google's form."""

import re
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from aiohttp import web

from emulator import texts
from emulator.api import jsontext, schema
from emulator.endpoint import handshake
from emulator.endpoint.body import read_body
from emulator.errors import Refusal
from emulator.session import tokens
from emulator.switches import Switches

SERVICE = "generativelanguage.googleapis.com"
WRONG_BEARER = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential."
)
FULL = "Resource has been exhausted (e.g. check quota)."

_AUTH_TOKENS = re.compile(r"(?:^|/)(v1|v1beta|v1alpha)/auth_tokens/?$")
_STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
_STATUS |= {
    408: "DEADLINE_EXCEEDED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class ApiError(Exception):
    """An answer other than 200."""

    def __init__(self, code: int, message: str, *details: dict[str, Any]) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        body: dict[str, Any] = {"code": code, "message": message, "status": _STATUS.get(code, "UNKNOWN")}
        if details:
            body["details"] = list(details)
        self.body = {"error": body}

    def response(self) -> web.Response:
        """As HTTP."""
        return web.json_response(self.body, status=self.code)


def auth_tokens(path: str) -> str | None:
    """The API version where ``path`` (without query) names the collection of tokens, with any prefix; else None."""
    found = _AUTH_TOKENS.search(handshake.normalised(path))
    return found.group(1) if found else None


def not_found(path: str) -> ApiError:
    """Nothing is served at ``path``."""
    return ApiError(
        HTTPStatus.NOT_FOUND,
        f"Method not found: {path[:200]}. There are the WebSockets BidiGenerateContent and "
        "BidiGenerateContentConstrained, and POST auth_tokens.",
    )


class AuthTokens:
    """``POST /{version}/auth_tokens``."""

    def __init__(
        self, store: tokens.TokenStore, *, keys: Collection[str], clock: Callable[[], float], patience: float
    ) -> None:
        """``patience``: seconds that a client has to send its request."""
        self._patience = patience
        self._store = store
        self._keys = keys
        self._clock = clock

    async def answer(self, request: web.Request, api_version: str, switches: Switches) -> web.Response:
        """The new token's name, or why there is none."""
        try:
            if request.method != "POST" or api_version not in switches.api_versions:
                raise not_found(request.path)
            key = self._authorise(handshake.credential(request.headers, request.query))
            body = await _body(request, self._patience)
            return web.json_response({"name": self._create(body, api_version, switches, key)})
        except ApiError as error:
            return error.response()

    def _authorise(self, given: handshake.Credential | None) -> str:
        """The key."""
        if given is None:
            raise ApiError(HTTPStatus.FORBIDDEN, texts.NO_KEY.text)
        if not given.ephemeral and (not self._keys or given.value in self._keys):
            return given.value
        if given.form != "api key":
            raise ApiError(HTTPStatus.UNAUTHORIZED, WRONG_BEARER)
        raise ApiError(
            HTTPStatus.BAD_REQUEST,
            texts.WRONG_KEY.text,
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "API_KEY_INVALID",
                "domain": "googleapis.com",
                "metadata": {"service": SERVICE},
            },
            {
                "@type": "type.googleapis.com/google.rpc.LocalizedMessage",
                "locale": "en-US",
                "message": texts.WRONG_KEY.text,
            },
        )

    def _create(self, body: Any, api_version: str, switches: Switches, key: str) -> str:
        setup = schema.message("developer", api_version)["setup"]
        now = self._clock()
        try:
            grant = tokens.read(body, setup, now=now, wall=datetime.now(UTC), scale=switches.time_scale)
            return self._store.issue(grant, now, key=key).name
        except Refusal as refusal:
            raise _bad(refusal.text) from None
        except tokens.TokensFullError:
            raise ApiError(HTTPStatus.TOO_MANY_REQUESTS, FULL) from None


async def _body(request: web.Request, within: float) -> dict[str, Any]:
    """What was sent; nothing at all counts as an empty object, as the Python SDK sends it."""
    try:
        raw = await read_body(request, within)
    except web.HTTPRequestEntityTooLarge:
        raise _bad(f"Request payload size exceeds the limit: {request.client_max_size} bytes.") from None
    except web.HTTPRequestTimeout:
        raise ApiError(HTTPStatus.REQUEST_TIMEOUT, texts.DEADLINE.text) from None
    except web.HTTPBadRequest as error:
        raise _bad(error.text or "") from None
    try:
        return jsontext.load(raw) if raw.strip() else {}
    except Refusal as refusal:
        raise _bad(refusal.text) from None


def _bad(message: str) -> ApiError:
    violations = {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [{"description": message}],
    }
    return ApiError(HTTPStatus.BAD_REQUEST, message, violations)
