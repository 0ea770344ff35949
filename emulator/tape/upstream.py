"""Dials the endpoint behind the recorder: what it answers is passed on as it came, refusals with their bodies."""

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path

from aiohttp import (
    ClientError,
    ClientHandlerType,
    ClientRequest,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ClientWebSocketResponse,
    ClientWSTimeout,
    DummyCookieJar,
    TCPConnector,
)
from yarl import URL

from emulator.tape.captured import Headers
from emulator.tape.errors import OptionError
from emulator.tape.sides import Side

# Of one connection only, or written anew by whoever sends the message (RFC 9110, 7.6.1).
_HOP = frozenset(
    {
        "connection",
        "content-length",
        "date",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_HANDSHAKE = "sec-websocket-"
_NOTHING_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


@dataclass(frozen=True)
class Reply:
    """An HTTP answer, whole."""

    status: int
    reason: str
    headers: Headers
    body: bytes


@dataclass(frozen=True)
class Opened:
    """An upgrade that was granted."""

    socket: ClientWebSocketResponse[bool]
    response: ClientResponse
    headers: Headers

    def side(self) -> Side:
        """As one end of a relay."""
        connection = self.response.connection
        return Side(self.socket, connection.transport if connection else None, self.response.close)


class UnreachableError(Exception):
    """No answer; the text says why."""


class _RefusedError(Exception):
    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


class Upstream:
    """One endpoint, ``https://HOST[:PORT]``. Connections to it are as many as clients ask for."""

    def __init__(
        self, address: str, ca_file: Path | None, *, max_bytes: int, connect_timeout: float, close_timeout: float
    ) -> None:
        self.address = _checked(address)
        self._ssl = _context(ca_file)
        self._max_bytes = max_bytes
        self._connect_timeout = connect_timeout
        self._close_timeout = close_timeout
        self._connector: TCPConnector | None = None

    async def open(self) -> None:
        """To be called on the loop that dials."""
        self._connector = TCPConnector(ssl=self._ssl, limit=0)

    async def close(self) -> None:
        """Give up what is still connected."""
        if self._connector is not None:
            await self._connector.close()

    async def upgrade(self, path: str, headers: Headers, protocols: list[str], *, deflate: bool) -> Opened | Reply:
        """Ask for a WebSocket. Raises :class:`UnreachableError`."""
        answers: list[ClientResponse] = []

        async def gate(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
            # Here, and not after ws_connect, because that reads no body and follows redirects.
            response = await handler(request)
            if response.status != 101:
                raise _RefusedError(await self._reply(response))
            answers.append(response)
            return response

        try:
            async with asyncio.timeout(self._connect_timeout), self._session(gate) as session:
                socket = await session.ws_connect(
                    self._url(path),
                    headers=[pair for pair in _end_to_end(headers) if not pair[0].lower().startswith(_HANDSHAKE)],
                    protocols=protocols,
                    timeout=ClientWSTimeout(ws_close=self._close_timeout),
                    autoclose=False,
                    autoping=False,
                    compress=15 if deflate else 0,
                    max_msg_size=self._max_bytes,
                    decode_text=False,
                )
        except _RefusedError as refused:
            return refused.reply
        except (ClientError, OSError, TimeoutError, ValueError) as error:
            raise UnreachableError(_why(error)) from error
        return Opened(socket, answers[0], _raw_headers(answers[0]))

    async def request(self, method: str, path: str, headers: Headers, body: bytes) -> Reply:
        """A plain HTTP request. Raises :class:`UnreachableError`."""
        try:
            async with asyncio.timeout(self._connect_timeout), self._session() as session:
                response = await session.request(
                    method, self._url(path), headers=_end_to_end(headers), data=body or None, allow_redirects=False
                )
                return await self._reply(response)
        except (ClientError, OSError, TimeoutError, ValueError) as error:
            raise UnreachableError(_why(error)) from error

    def _session(self, *middlewares: object) -> ClientSession:
        return ClientSession(
            connector=self._connector,
            connector_owner=False,
            cookie_jar=DummyCookieJar(),
            skip_auto_headers=_NOTHING_ADDED,
            auto_decompress=False,
            timeout=ClientTimeout(total=None),
            middlewares=middlewares,  # type: ignore[arg-type]
        )

    def _url(self, path: str) -> URL:
        return URL(self.address + path, encoded=True)

    async def _reply(self, response: ClientResponse) -> Reply:
        body = bytearray()
        try:
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > self._max_bytes:
                    raise UnreachableError(f"its answer has more than {self._max_bytes} bytes")
        finally:
            response.close()
        return Reply(response.status, response.reason or "", _raw_headers(response), bytes(body))


def passed_on(headers: Headers) -> list[tuple[str, str]]:
    """The headers of an answer that are for the client."""
    return [pair for pair in _end_to_end(headers) if not pair[0].lower().startswith(_HANDSHAKE)]


def _end_to_end(headers: Headers) -> list[tuple[str, str]]:
    named = {name.strip().lower() for key, value in headers if key.lower() == "connection" for name in value.split(",")}
    kept = [(name, value) for name, value in headers if name.lower() not in _HOP | named]
    # A recording holds text: what may come compressed is asked for as it is.
    return [(name, "identity" if name.lower() == "accept-encoding" else value) for name, value in kept]


def _raw_headers(response: ClientResponse) -> Headers:
    return decoded(response.raw_headers)


def decoded(raw: tuple[tuple[bytes, bytes], ...]) -> Headers:
    """Headers as they were spelled."""
    return tuple((name.decode("latin-1"), value.decode("utf-8", "surrogateescape")) for name, value in raw)


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__


def _checked(address: str) -> str:
    try:
        url = URL(address)
        bare = url.scheme == "https" and url.host and url.path in ("", "/") and not url.query_string and not url.user
    except ValueError:
        bare = False
    if not bare:
        raise OptionError(f"--upstream: {address!r} is not of the form https://HOST[:PORT]")
    return str(url.origin())


def _context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise OptionError(f"--upstream-ca: {ca_file} holds no certificate that can be read: {error}") from error
