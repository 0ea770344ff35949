"""Requests to an HTTP service: bounded, never led elsewhere, and every answer a value or a short error."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from services.fabric import telemetry
from services.tools.context import OutcomeUnknownError, ToolContext, ToolError, ToolUnavailableError
from services.tools.results import truncated
from services.tools.sources.openapi_operations import Operation, Request

_NOT_RUN: Final = frozenset({408, 413, 429, 503})
"""The service says that it did nothing."""
_MAY_HAVE_RUN: Final = frozenset({502, 504})
"""Somebody before the service says so, who cannot know."""
_MAX_REDIRECTS: Final = 3
_MAX_ERROR_BYTES: Final = 16 * 1024
_MESSAGE_FIELDS: Final = ("detail", "message", "error_description", "error", "title", "reason", "errors")
_SENT_AGAIN: Final = frozenset({307, 308})
"""Redirections of a request that was not looked at; the others may answer one that was carried out."""
_ERROR: Final = 400
_FAULT: Final = 500
_NOT_THERE: Final = 501
"""The service does not know how to do that."""


class HttpService:
    """One service, with the credentials that it wants."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base: URL,
        *,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        redirects: Literal["refuse", "same_origin"],
        max_bytes: int,
        hide: Callable[[str], str],
    ) -> None:
        """`headers` and `query` go with every request; they hold secrets, which `hide` takes out of a text."""
        self._session = session
        self._base = base
        self._headers = headers
        self._query = query
        self._redirects = redirects
        self._max_bytes = max_bytes
        self._hide = hide

    async def call(self, operation: Operation, values: Mapping[str, Any], context: ToolContext) -> Any:
        """Call an operation. ToolUnavailableError, ToolError."""
        request = operation.request(values)
        url = self._url(request)
        method = operation.method.upper()
        headers = CIMultiDict({"Accept": "application/json"} | request.headers)
        headers.update(self._headers)  # last: no argument may take their place
        for name, value in telemetry.headers().items():
            headers.setdefault(name, value)
        if not operation.idempotent:
            headers.setdefault("Idempotency-Key", context.idempotency_key or context.execution_id)
        body = json.dumps(request.body, ensure_ascii=False).encode() if request.has_body else None
        if body is not None:
            headers["Content-Type"] = "application/json"
        for _ in range(1 + _MAX_REDIRECTS):
            try:
                async with self._session.request(
                    method, url, headers=headers, data=body, allow_redirects=False
                ) as response:
                    target = self._redirected(url, method, response)
                    if target is None:
                        return await self._answer(response)
                    url = target
            except _UnusableError as error:
                if operation.idempotent:
                    raise ToolError(str(error)) from None
                raise OutcomeUnknownError(f"{error}; whether it had its effect is unknown") from None
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                raise ToolUnavailableError(
                    f"not run: {self._base.host} cannot be reached", may_have_run=False
                ) from None
            except (aiohttp.ClientError, OSError, ValueError) as error:
                # Not its text: it may hold the address, and that a key.
                raise ToolUnavailableError(
                    f"{self._base.host} did not answer ({type(error).__name__})", may_have_run=True
                ) from None
        raise ToolError(f"{self._base.host} redirected more than {_MAX_REDIRECTS} times")

    def _url(self, request: Request) -> URL:
        base = str(self._base).rstrip("/")
        url = URL(base + request.path, encoded=True)
        return url.update_query([*request.query, *self._query.items()]) if request.query or self._query else url

    def _redirected(self, url: URL, method: str, response: aiohttp.ClientResponse) -> URL | None:
        """Where to go on; None when this is the answer. ToolError, _UnusableError when it leads where we do not go."""
        if not 300 <= response.status < 400 or response.status == 304:
            return None
        where = response.headers.get("Location", "")
        try:
            target = url.join(URL(where))
        except ValueError:
            target = url
        refused = ToolError if response.status in _SENT_AGAIN else _UnusableError
        if self._redirects == "refuse" or not where:
            raise refused(f"{self._base.host} redirected the request (HTTP {response.status}), which is not followed")
        if target.origin() != url.origin() or (response.status not in _SENT_AGAIN and method not in ("GET", "HEAD")):
            raise refused(
                f"{self._base.host} redirected the request (HTTP {response.status}) to where it is not followed"
            )
        # With the query as it was left: credentials in it are asked for again by the same service.
        return target.update_query(self._query) if self._query else target

    async def _answer(self, response: aiohttp.ClientResponse) -> Any:
        kind = response.content_type.lower()
        is_json = kind == "application/json" or kind.endswith("+json")
        if response.status >= _ERROR:
            raise await self._refusal(response, is_json=is_json)
        if response.status in (204, 205) or response.method == "HEAD":
            return {"status": response.status}
        data = await self._read(response)
        if not data.strip():
            return {"status": response.status}
        if kind == "text/html":
            raise _UnusableError(f"{self._base.host} answered with a web page instead of JSON (HTTP {response.status})")
        if is_json:
            try:
                return json.loads(data)
            except (ValueError, RecursionError):
                raise _UnusableError(f"{self._base.host} says that it answers in JSON, but does not") from None
        if kind.startswith("text/"):
            return {"text": truncated(self._hide(data.decode(errors="replace")), self._max_bytes // 2)}
        raise _UnusableError(f"{self._base.host} answered with {kind or 'nothing that can be told'}, not with JSON")

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        data = bytearray()
        async for chunk in response.content.iter_chunked(64 * 1024):
            data += chunk
            if len(data) > self._max_bytes:
                response.close()
                raise _UnusableError(f"the answer has more than {self._max_bytes} bytes; ask for less")
        return bytes(data)

    async def _refusal(self, response: aiohttp.ClientResponse, *, is_json: bool) -> Exception:
        status = response.status
        if status in _NOT_RUN:
            return ToolUnavailableError(f"not run: {self._base.host} is overloaded (HTTP {status})", may_have_run=False)
        if status in _MAY_HAVE_RUN:
            return ToolUnavailableError(f"{self._base.host} did not answer (HTTP {status})", may_have_run=True)
        data = await response.content.read(_MAX_ERROR_BYTES)
        if is_json:
            try:
                message = _message(json.loads(data))
            except (ValueError, RecursionError):
                message = ""
        else:
            message = data.decode(errors="replace") if response.content_type == "text/plain" else ""
        message = " ".join(self._hide(message).split())[:400]
        what = f"HTTP {status} {self._hide(response.reason or '')[:100]}".strip()
        # An error of the caller's is found before anything is done; one of the service's may come in the middle of it.
        kind = _UnusableError if status >= _FAULT and status != _NOT_THERE else ToolError
        return kind(f"{message} ({what})" if message else f"{self._base.host} refused the request ({what})")


class _UnusableError(Exception):
    """The service answered, with what says nothing of what it did. The message is for the model."""


def _message(body: Any) -> str:
    """What an error's body says to people, wherever it says it."""
    for _ in range(4):
        if isinstance(body, str):
            return body
        if isinstance(body, list):
            return "; ".join(filter(None, (_message(item) for item in body[:3])))
        if not isinstance(body, dict):
            return ""
        found = next((body[name] for name in _MESSAGE_FIELDS if body.get(name)), None)
        location = body.get("loc") or body.get("field")
        if isinstance(found, str) and location:
            where = ".".join(map(str, location)) if isinstance(location, list) else str(location)
            return f"{where}: {found}"
        if found is None and isinstance(body.get("msg"), str):
            where = ".".join(map(str, location)) if isinstance(location, list) else str(location or "")
            return f"{where}: {body['msg']}" if where else str(body["msg"])
        body = found
    return ""
