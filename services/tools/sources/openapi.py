"""HTTP services with an OpenAPI 3 document as sources."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import aiohttp
from yarl import URL

from services.tools.sources.file import OpenApiSettings
from services.tools.sources.guard import Guard
from services.tools.sources.openapi_document import MAX_BYTES, Document
from services.tools.sources.openapi_http import HttpService
from services.tools.sources.openapi_operations import Operation, OperationError, operations
from services.tools.sources.remote import Catalogue, Described, Send
from services.tools.sources.secrets import Secrets
from services.tools.sources.source import Source, SourceError, TakeOffer
from services.tools.threads import DaemonThreads

_FETCH: Final = 15.0
"""Seconds that fetching the document may take."""
_CONNECT: Final = 5.0
_SILENCE: Final = 120.0
"""Seconds without a byte; calls have deadlines of their own."""
_CONNECTIONS: Final = 64


class OpenApiSource(Source):
    """One service. Its document is read once; whether the service is there shows when it is called."""

    def __init__(self, settings: OpenApiSettings, folder: Path, *, max_result_bytes: int) -> None:
        """`folder`: what relative paths count from."""
        super().__init__(settings.name)
        self._settings = settings
        self._folder = folder
        self._max_result_bytes = max_result_bytes

    def reason(self) -> str:
        """Why the service cannot be called: the circuit breaker alone says that, call by call."""
        return ""

    async def run(self, offer: TakeOffer) -> None:
        """Read the document, offer its operations, and keep the connections until this is cancelled. SourceError."""
        secrets = Secrets(self._folder)
        headers = {name: secrets.resolve(value) for name, value in self._settings.headers.items()}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_SILENCE)
        connector = aiohttp.TCPConnector(limit=_CONNECTIONS)
        # No cookies: one conversation must not act under another one's login.
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=True
        ) as session:
            text, origin = await self._text(session, headers)
            # In a thread: YAML of some megabytes takes seconds.
            parsed = await DaemonThreads(1).run(lambda: _attempt(text))
            if isinstance(parsed, SourceError):
                raise parsed
            credentials = self._credentials(parsed, secrets)
            service = HttpService(
                session,
                self._base(parsed, origin),
                headers=headers | credentials.headers,
                query=credentials.query,
                redirects=self._settings.redirects,
                max_bytes=self._max_result_bytes,
                hide=secrets.hide,
            )
            guard = Guard(self.name, secrets, retries=self._settings.retries)
            catalogue = Catalogue(self._settings, guard, self)
            hidden = credentials.hidden | {("header", name.lower()) for name in headers}
            for operation in operations(parsed, hidden):
                if isinstance(operation, OperationError):
                    catalogue.problem(str(operation))
                else:
                    catalogue.add(_described(operation, service))
            offer(catalogue.offer())
            await asyncio.Event().wait()

    async def _text(self, session: aiohttp.ClientSession, headers: dict[str, str]) -> tuple[str, URL | None]:
        where = self._settings.document
        if not where.startswith(("http://", "https://")):
            path = self._folder / where
            try:
                with path.open("rb") as stream:
                    return _decoded(stream.read(MAX_BYTES + 1)), None
            except OSError as error:
                raise SourceError(f"the document {path} cannot be read: {error.strerror}") from None
        try:
            async with asyncio.timeout(_FETCH), session.get(where, headers=headers, allow_redirects=False) as response:
                if response.status != 200:
                    raise SourceError(f"the document cannot be fetched: HTTP {response.status}")
                data = bytearray()
                async for chunk in response.content.iter_chunked(64 * 1024):
                    data += chunk
                    if len(data) > MAX_BYTES:
                        break
                return _decoded(bytes(data)), URL(where)
        except TimeoutError:
            raise SourceError(f"the document cannot be fetched within {_FETCH:g} s") from None
        except (aiohttp.ClientError, ValueError) as error:
            raise SourceError(f"the document cannot be fetched: {type(error).__name__}") from None

    def _base(self, document: Document, origin: URL | None) -> URL:
        if self._settings.base_url is not None:
            return URL(self._settings.base_url)
        servers = document.root.get("servers")
        first = servers[0] if isinstance(servers, list) and servers else {}
        address = first.get("url", "") if isinstance(first, dict) else ""
        variables = first.get("variables") if isinstance(first, dict) else None
        for name, variable in variables.items() if isinstance(variables, dict) else ():
            default = variable.get("default", "") if isinstance(variable, dict) else ""
            address = str(address).replace("{" + str(name) + "}", str(default))
        try:
            url = URL(str(address))
            if origin is not None:
                url = origin.join(url)
        except ValueError:
            url = URL()
        if url.scheme not in ("http", "https") or not url.host or url.user or url.password:
            raise SourceError(f"the document's server {str(address)[:200]!r} is no http(s) address: set `base_url`")
        return url

    def _credentials(self, document: Document, secrets: Secrets) -> _Credentials:
        auth = self._settings.auth
        if auth is None:
            return _Credentials({}, {}, frozenset())
        if auth.bearer is not None:
            return _Credentials({"Authorization": f"Bearer {secrets.resolve(auth.bearer)}"}, {}, frozenset())
        assert auth.api_key is not None
        name, location = (auth.name, auth.location) if auth.location else _api_key_place(document)
        key = secrets.resolve(auth.api_key)
        hidden = frozenset({(str(location), name.lower())})
        match location:
            case "header":
                return _Credentials({name: key}, {}, hidden)
            case "query":
                return _Credentials({}, {name: key}, hidden)
            case _:
                return _Credentials({"Cookie": f"{name}={key}"}, {}, hidden)


class _Credentials:
    def __init__(self, headers: dict[str, str], query: dict[str, str], hidden: frozenset[tuple[str, str]]) -> None:
        self.headers = headers
        self.query = query
        self.hidden = hidden
        """Parameters that the model must not see: place, and name in lower case."""


def _described(operation: Operation, service: HttpService) -> Described:
    async def send(values: dict[str, Any], context: Any) -> Any:
        return await service.call(operation, values, context)

    sender: Send = send
    return Described(
        name=operation.name,
        description=operation.description,
        parameters=operation.parameters,
        idempotent=operation.idempotent,
        send=sender,
    )


def _attempt(text: str) -> Document | SourceError:
    try:
        return Document(text)
    except SourceError as error:
        return error
    except Exception as error:  # noqa: BLE001 - in a thread, whose jobs must not raise
        return SourceError(f"the document cannot be read: {type(error).__name__}")


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SourceError("the document is not UTF-8") from None


def _api_key_place(document: Document) -> tuple[str, str]:
    components = document.root.get("components")
    schemes = components.get("securitySchemes") if isinstance(components, dict) else None
    for scheme in schemes.values() if isinstance(schemes, dict) else ():
        if isinstance(scheme, dict) and scheme.get("type") == "apiKey":
            name, location = scheme.get("name"), scheme.get("in")
            if isinstance(name, str) and name and location in ("header", "query", "cookie"):
                return name, str(location)
    raise SourceError("the document does not say where the API key goes: set `name` and `in` of `auth`")
