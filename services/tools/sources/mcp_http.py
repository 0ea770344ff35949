"""HTTP below an MCP server that is reached over the network: bounded, and a request that fails is that request's alone.

In the SDK one request that cannot be sent ends the connection, and with it the calls of everybody else. So failures
become answers here: JSON-RPC errors with codes of ours, which `mcp_call` knows.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from functools import cache
from typing import Any, Final

import httpx2

from services.fabric import telemetry
from services.tools.sources.mcp_stdio import MAX_MESSAGE, TOO_LARGE

NOT_SENT: Final = -32050
"""Code of a request that the server did not get."""
NOT_ANSWERED: Final = -32051
"""Code of a request that the server may have got."""
_CONNECT: Final = 10.0
_SILENCE: Final = 120.0
"""Seconds without a byte after which a request is given up. Calls have shorter deadlines of their own, but a server of
an older protocol goes on with what nobody waits for any more."""
_GOODBYE: Final = 2.0
_NOT_RUN: Final = frozenset({408, 413, 429, 503})
_FAULT: Final = 500
"""From here on the server says that it failed, perhaps in the middle of it."""
_NOT_THERE: Final = 501


class _UnreadableError(httpx2.StreamError):
    """An answer that cannot be read to its end; of such an error the SDK makes one for the request alone."""


def http_client(headers: Mapping[str, str], on_trouble: Callable[[str], None]) -> httpx2.AsyncClient:
    """A client for one server. `on_trouble` is told, without secrets, why the server may not be there any more."""
    return httpx2.AsyncClient(
        transport=_Transport(on_trouble),
        # A few kilobytes that are compressed may be as many gigabytes.
        headers={"Accept-Encoding": "identity", **headers},
        timeout=httpx2.Timeout(_CONNECT, read=_SILENCE),
    )


@cache
def _trusted() -> ssl.SSLContext:
    # Once: to read what the machine trusts takes longer than all the rest of a connection.
    return httpx2.create_ssl_context()


class _Transport(httpx2.AsyncBaseTransport):
    def __init__(self, on_trouble: Callable[[str], None]) -> None:
        limits = httpx2.Limits(max_connections=64, max_keepalive_connections=8)
        self._inner = httpx2.AsyncHTTPTransport(verify=_trusted(), limits=limits)
        self._on_trouble = on_trouble

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        timeout: dict[str, Any] = dict(request.extensions.get("timeout") or {})
        if request.method == "GET":
            timeout["read"] = None  # a stream of notifications may be silent for long
        elif request.method == "DELETE":
            timeout = dict.fromkeys(("connect", "read", "write", "pool"), _GOODBYE)
        request.extensions["timeout"] = timeout
        if request.method == "POST":  # also for servers that look at HTTP only, and not at `_meta`
            for name, value in telemetry.headers().items():
                request.headers.setdefault(name, value)
        try:
            response = await self._inner.handle_async_request(request)
        except httpx2.TransportError as error:
            not_sent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
            what = "cannot be reached" if not_sent else "did not answer"
            self._on_trouble(f"{what} ({type(error).__name__})")
            if request.method != "POST":
                raise
            return _failure(request, NOT_SENT if not_sent else NOT_ANSWERED, f"the MCP server {what}")
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            await response.aclose()
            if request.method != "POST":
                raise httpx2.RemoteProtocolError("an answer in an encoding that was not asked for")
            return _failure(request, NOT_ANSWERED, "the MCP server answered in an encoding that was not asked for")
        if response.status_code >= 400 and request.method == "POST":
            return await self._refused(request, response)
        if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
            response.stream = _Bounded(response.stream)
        return response

    async def _refused(self, request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
        """The server answered with an HTTP error. Its own words are kept where they are JSON."""
        status = response.status_code
        session_gone = status == 404 and "mcp-session-id" in request.headers
        if status == 404 and not session_gone:
            response.stream = _Bounded(response.stream)
            return response  # the SDK finds out by it what the server speaks
        if not session_gone and response.headers.get("content-type", "").lower().startswith("application/json"):
            response.stream = _Bounded(response.stream)
            return response
        await response.aclose()
        if session_gone or status in _NOT_RUN or status in (401, 403, 502, 504):
            self._on_trouble("knows our session no more" if session_gone else f"answers HTTP {status}")
        if session_gone or status in _NOT_RUN:
            return _failure(request, NOT_SENT, f"the MCP server did not take the call (HTTP {status})")
        if status >= _FAULT and status != _NOT_THERE:
            return _failure(request, NOT_ANSWERED, f"the MCP server did not answer (HTTP {status})")
        return _failure(request, -32603, f"the MCP server refused the request (HTTP {status})")

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for chunk in self._stream:
                size += len(chunk)
                if size > MAX_MESSAGE:
                    raise _UnreadableError(TOO_LARGE)
                yield chunk
        except httpx2.TransportError as error:
            raise _UnreadableError(f"it was cut off ({type(error).__name__})") from error

    async def aclose(self) -> None:
        await self._stream.aclose()


def _failure(request: httpx2.Request, code: int, message: str) -> httpx2.Response:
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
    return httpx2.Response(
        502, request=request, headers={"content-type": "application/json"}, content=json.dumps(body).encode()
    )
