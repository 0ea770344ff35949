"""One process among several: what belongs to it, and how it passes on what belongs to another."""

import asyncio
import hmac
import ssl
from dataclasses import dataclass

import structlog
from aiohttp import web

from emulator.endpoint import handshake
from emulator.processes import ownership
from emulator.processes.pipe import End, Pipe, Tap
from emulator.processes.shared import Shared, SharedHits, SharedQuota, SharedTokens
from emulator.processes.terms import Terms

log = structlog.get_logger(__name__)

HOST = "127.0.0.1"
"""Where processes hear each other. TCP, because a Unix socket cannot tell a reset from an orderly end."""

_PASSED_ON = b"x-emulator-passed-on"
_HEAD_END = b"\r\n\r\n"
_HEAD_LIMIT = 64 * 1024
_ROOM = 1024 * 1024
"""Bytes that a client may have sent beside its setup before that is passed on."""
_DIAL_SECONDS = 10.0


class UnreachableError(Exception):
    """The owner takes no connection."""


@dataclass(frozen=True)
class Passed:
    """What the process that accepted a connection tells the owner. Without a conversation the upgrade is all new."""

    conversation: str | None = None
    dial: int | None = None
    """How often the conversation had been dialled there."""
    frames: int = 0
    """That faults have sent the client there."""


class Crew:
    """Process ``terms.number``; ``peers`` are the ports where all of them hear each other, itself included."""

    def __init__(self, terms: Terms, *, max_frame_bytes: int, patience: float) -> None:
        self.terms = terms
        self.peers: tuple[int, ...] = ()
        self.passed_on = 0
        """Connections that belong to another process."""
        self._room = max_frame_bytes + _ROOM
        self._patience = patience
        """Seconds that a side has to take what is left for it when the other has gone."""
        self._pipes: set[Pipe] = set()
        self._shared = Shared(terms.database)

    def close(self) -> None:
        """Nothing is asked any more."""
        self._shared.close()

    async def wait_ended(self) -> None:
        """Until all that was passed on is over: where it is served it is closed in order."""
        try:
            async with asyncio.timeout(3 * self._patience):
                while self._pipes:
                    await next(iter(self._pipes)).wait_ended()
                    await asyncio.sleep(0)
        except TimeoutError:
            for pipe in self._pipes:
                pipe.abort()

    @property
    def handle_prefix(self) -> str:
        """What this process's handles begin with."""
        return ownership.prefix(self.terms.number)

    def new_conversation(self) -> str:
        """The id of one that belongs to this process."""
        return ownership.made_up(self.terms.number, self.terms.count)

    def check_handle(self, handle: str) -> None:
        """Raise :class:`emulator.processes.ownership.Elsewhere` for a handle that another process issued."""
        ownership.check_handle(handle, self.terms.number, self.terms.count)

    def owner(self, request: web.Request, path: str) -> int | None:
        """The process that an upgrade request belongs to; None for this one."""
        wished = handshake.wishes(request.headers, request.query, path).get(handshake.CONVERSATION)
        if wished is None or not web.WebSocketResponse().can_prepare(request).ok:
            return None
        owner = ownership.owner(wished, self.terms.count)
        return None if owner == self.terms.number else owner

    def tokens(self, limit: int) -> SharedTokens:
        """Of all processes."""
        return SharedTokens(limit=limit, shared=self._shared)

    def quota(self) -> SharedQuota:
        """Of all processes."""
        return SharedQuota(self._shared)

    def hits(self, order: str, count: int) -> SharedHits:
        """Of all processes."""
        return SharedHits(order, count, self._shared)

    def tls(self) -> ssl.SSLContext:
        """As all processes show themselves."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.terms.certificate)
        return context

    def passed(self, request: web.Request) -> Passed:
        """What is said of a request that another process passed on. Raises an HTTP error for any other request."""
        secret, *said = request.headers.get(_PASSED_ON.decode(), "").split(" ")
        if not hmac.compare_digest(secret.encode(), self.terms.secret.encode()):
            raise web.HTTPForbidden(text="only the emulator's own processes speak here")
        return Passed(said[0], *map(int, said[1:])) if said else Passed()

    def tap(self, request: web.Request) -> Tap:
        """Keeps what a client sends, from the end of its upgrade request on, until it is known whose it is."""
        if request.transport is None:
            raise ConnectionResetError("the client has gone")
        # What came with the request's last bytes is not to be had in another way.
        return Tap(request.transport, request.protocol, request.protocol._message_tail, self._room)

    async def pass_on(self, request: web.Request, tap: Tap, owner: int, passed: Passed, *, upgraded: bool) -> None:
        """Connect a client with the owner until either goes; ``upgraded``: it had its answer already.

        Raises :class:`UnreachableError` as long as the client can be told.
        """
        end = await self._dial(owner)
        try:
            self._write_head(end, request, passed)
            if upgraded:
                await _skip_head(end)
            if tap.overflowed:
                raise UnreachableError(f"more than {self._room} bytes came before the setup was accepted")
            if tap.transport is None or tap.transport.is_closing() or end.transport is None:
                raise ConnectionResetError("one side has gone")
        except BaseException:
            if end.transport is not None:
                end.transport.abort()
            raise
        self.passed_on += 1
        client = End(0)
        client.adopt(tap.transport)
        # For aiohttp it is over; the socket, which it would close, lives on.
        request.protocol.transport = None
        request.protocol.connection_lost(None)
        pipe = Pipe(client, end, limit=self._patience)
        pipe.write(client, end.taken)
        pipe.write(end, tap.taken)
        end.taken.clear()
        tap.taken.clear()
        self._pipes.add(pipe)
        try:
            await pipe.wait_ended()
        finally:
            self._pipes.discard(pipe)

    async def _dial(self, owner: int) -> End:
        try:
            async with asyncio.timeout(_DIAL_SECONDS):
                loop = asyncio.get_running_loop()
                return (await loop.create_connection(lambda: End(_HEAD_LIMIT), HOST, self.peers[owner]))[1]
        except (OSError, TimeoutError) as error:
            log.warning("no connection to another process", owner=owner, error=str(error))
            raise UnreachableError(str(error)) from error

    def _write_head(self, end: End, request: web.Request, passed: Passed) -> None:
        said = [self.terms.secret]
        if passed.conversation is not None:
            said += [passed.conversation, str(passed.dial), str(passed.frames)]
        kept = [(name, value) for name, value in request.raw_headers if name.lower() != _PASSED_ON]
        head = [f"{request.method} {request.raw_path} HTTP/1.1".encode("utf-8", "surrogateescape")]
        head += [name + b": " + value for name, value in [*kept, (_PASSED_ON, " ".join(said).encode())]]
        assert end.transport is not None
        end.transport.write(b"\r\n".join(head) + _HEAD_END)


async def _skip_head(end: End) -> None:
    """The owner grants the upgrade as the client was granted it."""
    try:
        async with asyncio.timeout(_DIAL_SECONDS):
            while (at := end.taken.find(_HEAD_END)) < 0 and end.transport is not None:
                end.arrived.clear()
                await end.arrived.wait()
    except TimeoutError:
        at = -1
    if at < 0 or not end.taken.startswith(b"HTTP/1.1 101"):
        raise UnreachableError("the process that issued the handle grants no upgrade")
    del end.taken[: at + len(_HEAD_END)]
