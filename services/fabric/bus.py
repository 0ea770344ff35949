"""One NATS connection a process, and how to ask over it.

nats-py is not free of waiting: `publish()` blocks while the server is frozen. So media goes past it, in both
directions (`media_transport`): it leaves through `Writer`, and nothing on a media path awaits this connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import nats
import nats.errors
import structlog
from google.protobuf.message import DecodeError, Message
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from parley.v1 import errors_pb2
from services.fabric.errors import ServiceError
from services.fabric.hops import Hop
from services.fabric.media_split import Take
from services.fabric.media_transport import MediaTransport
from services.fabric.settings import ServiceSettings

log = structlog.get_logger()
M = TypeVar("M", bound=Message)

JETSTREAM_TIMEOUT = 5.0
"""Seconds that a JetStream request may take."""
_PENDING_BYTES = 2 * 1024 * 1024
"""Bytes that nats-py may hold for a server that does not read. More only makes data stale. Media is not among them."""
_MOST_IN_A_WRITE = 64 * 1024
"""Bytes of media after which others get their turn of the event loop, and NATS its chance to say: too much."""


async def settle(client: Client, timeout: float = 5.0) -> None:
    """Return when the server has taken everything that `client` sent so far. nats.errors.Error otherwise.

    One `flush()` of nats-py does not tell: its PING overtakes what is still in the client's own buffer, subscriptions
    included. When the first answer is here the buffer has been written, so the second one does. Without a connection it
    returns at once and has asked nobody.
    """
    for _ in range(2):
        await client.flush(timeout=timeout)  # type: ignore[arg-type]  # seconds; only its annotation says int
        if not client.is_connected:
            raise nats.errors.ConnectionReconnectingError


class NoResponderError(Exception):
    """Nobody listens on the subject: the process asked for is gone."""


class Bus:
    """The connection. `start` returns at once and keeps trying; `connected` tells."""

    def __init__(self, settings: ServiceSettings, kind: str, instance: str) -> None:
        self._settings = settings
        self._kind = kind
        self._instance = instance
        self.client = Client()
        self._transport = self.client._transport = MediaTransport()  # nats-py has no public place for one
        self.js: JetStreamContext = self.client.jetstream(timeout=JETSTREAM_TIMEOUT)
        self.connected = asyncio.Event()
        self.errors = 0
        self.reconnects = 0
        self._connecting: asyncio.Task[None] | None = None
        self.on_reconnect: Callable[[], Awaitable[None]] | None = None
        self.on_outage: Callable[[float], None] = lambda _since: None
        """Told after an outage when the connection was lost (monotonic seconds)."""
        self._lost_at: float | None = None
        self.on_writable: Callable[[], None] = lambda: None
        """Called when media may be published that could not be before."""
        self._transport.on_resumed = lambda: self.on_writable()  # noqa: PLW0108 - set later

    def start(self) -> None:
        """Begin to connect; tries for ever, once a second."""
        self._connecting = asyncio.create_task(self._connect(), name="bus connect")
        self._connecting.add_done_callback(self._connect_ended)

    def _connect_ended(self, task: asyncio.Task[None]) -> None:
        """It tries for ever, so an end with an error is one that trying does not mend: say it, loudly."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("cannot connect to nats", servers=self._settings.nats_url, error=repr(error))

    async def _connect(self) -> None:
        settings = self._settings
        await self.client.connect(
            servers=settings.nats_servers(),
            user=settings.nats_user or None,
            password=settings.nats_password.get_secret_value() or None,
            tls=ssl.create_default_context(cafile=settings.nats_ca_file) if settings.nats_ca_file else None,
            name=self._instance,
            inbox_prefix=f"_INBOX.{self._kind}.{self._instance}".encode(),
            connect_timeout=2,
            reconnect_time_wait=0.25,  # type: ignore[arg-type]  # seconds; only its annotation says int
            max_reconnect_attempts=-1,
            allow_reconnect=True,
            ping_interval=1,
            max_outstanding_pings=2,
            pending_size=_PENDING_BYTES,
            flusher_queue_size=1024,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
        )
        self.connected.set()
        self.on_writable()

    async def wait_connected(self, timeout: float) -> None:
        """Wait for the connection; ServiceError FABRIC_UNAVAILABLE when it does not come in `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self.connected.wait()
        except TimeoutError:
            raise ServiceError(
                errors_pb2.ERROR_REASON_FABRIC_UNAVAILABLE, "the message bus (NATS) cannot be reached"
            ) from None

    async def request(
        self, subject: str, message: Message, reply: type[M], timeout: float, headers: dict[str, str] | None = None
    ) -> M:
        """Ask and wait. NoResponderError when nobody listens; ServiceError FABRIC_UNAVAILABLE otherwise."""
        if not self.connected.is_set():
            raise ServiceError(errors_pb2.ERROR_REASON_FABRIC_UNAVAILABLE, "the message bus (NATS) cannot be reached")
        try:
            answer = await self.client.request(subject, message.SerializeToString(), timeout=timeout, headers=headers)
            return reply.FromString(answer.data)
        except nats.errors.NoRespondersError:
            raise NoResponderError(subject) from None
        except (TimeoutError, nats.errors.Error) as error:
            raise ServiceError(
                errors_pb2.ERROR_REASON_FABRIC_UNAVAILABLE,
                f"no answer on {subject} within {timeout:g} s ({type(error).__name__})",
            ) from error
        except DecodeError as error:
            raise ServiceError(errors_pb2.ERROR_REASON_INTERNAL, f"unreadable answer on {subject}") from error

    # Media

    async def subscribe_media(self, subject: str, take: Take) -> None:
        """Hand every message of `subject`, which ends with `*`, to `take` as soon as it is read.

        `take` must not wait. What it raises is logged and counted, and the next message comes all the same. Nothing
        queues here: while `take` runs nothing is read, and the server holds what comes.
        """

        def take_safely(subject: str, payload: bytes) -> None:
            try:
                take(subject, payload)
            except Exception as error:
                self.errors += 1
                log.exception("message not taken", subject=subject, error=repr(error))

        async def with_headers(message: Msg) -> None:
            take_safely(message.subject, message.data)

        self._transport.splitter.route(subject.removesuffix("*"), take_safely)
        # For the server and for reconnects; here arrives only what has headers.
        await self.client.subscribe(subject, cb=with_headers)

    @property
    def writable(self) -> bool:
        """Whether `publish_media` may be called."""
        return self.connected.is_set() and self._transport.writable

    def publish_media(self, publications: list[tuple[str, bytes]]) -> None:
        """Publish messages, subject and payload, without waiting. None may be larger than `client.max_payload`."""
        self._transport.publish(publications)

    async def barrier(self) -> None:
        """Return when the server has taken everything sent so far, subscriptions too. ServiceError otherwise."""
        try:
            await settle(self.client)
        except (nats.errors.Error, TimeoutError) as error:
            raise ServiceError(
                errors_pb2.ERROR_REASON_FABRIC_UNAVAILABLE, "the message bus (NATS) does not answer"
            ) from error

    async def close(self) -> None:
        """Flush what is pending and close."""
        if self._connecting is not None and not self._connecting.done():
            self._connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._connecting
        if self.client.is_connected:
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                await settle(self.client, timeout=1)
        if self.client.is_connected or self.client.is_reconnecting:
            # RuntimeError: uvloop's word for a transport that the server closed first.
            with contextlib.suppress(nats.errors.Error, TimeoutError, OSError, RuntimeError):
                await self.client.close()

    def subscriptions(self) -> int:
        """How many subscriptions this process holds."""
        return len(self.client._subs)  # nats-py has no public count

    async def _on_error(self, error: Exception) -> None:
        self.errors += 1
        if self.connected.is_set() or self.errors == 1:
            log.warning("nats error", error=str(error) or type(error).__name__)

    async def _on_disconnected(self) -> None:
        if self.connected.is_set():
            log.warning("nats disconnected")
            self._lost_at = time.monotonic()
        self.connected.clear()

    async def _on_reconnected(self) -> None:
        log.info("nats reconnected")
        self.reconnects += 1
        self.connected.set()
        self.on_writable()
        lost_at, self._lost_at = self._lost_at, None
        if lost_at is not None:
            self.on_outage(lost_at)
        if self.on_reconnect is not None:
            await self.on_reconnect()


class Sender(Protocol):
    """Something with messages to publish: a session in the worker, a stream in the gateway."""

    def next_publication(self) -> tuple[str, bytes] | None:
        """Subject and payload of what is to be sent next; None when nothing is."""


class Writer:
    """Publishes the media of a process, one publication a sender in turn, so that nobody waits for a long queue of
    another. Senders keep their own bounded outboxes; nothing waits here."""

    def __init__(self, bus: Bus, may_publish: Callable[[], bool] = lambda: True, hop: str = "") -> None:
        """`may_publish`: asked before each write; what is held back then waits until some sender wakes again.
        `hop`: the way to NATS, as metrics call it."""
        self._bus = bus
        self._hop = Hop(hop)
        self._may_publish = may_publish
        bus.on_writable = self._schedule
        self._ready: dict[Sender, None] = {}
        """Who has something to publish; the first one's turn is next."""
        self._scheduled = False
        self.failed = 0
        """Publications that NATS does not take for their size (the receiver's hole detection reports them), and senders
        that failed at being asked."""

    def wake(self, sender: Sender) -> None:
        """`sender` has something to publish. Cheap, and safe to call for each message: what is said in one turn of the
        event loop can leave as one."""
        self._hop.entered(sender)
        self._ready[sender] = None
        self._schedule()

    def forget(self, sender: Sender) -> None:
        """`sender` is gone: it is not asked again."""
        self._ready.pop(sender, None)
        self._hop.dropped(sender)

    def _schedule(self) -> None:
        if self._ready and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._publish)

    def _publish(self) -> None:
        """One write of what waits, in turn, up to its bound; when NATS takes no more, `on_writable` comes back."""
        self._scheduled = False
        ready, bus = self._ready, self._bus
        if not bus.writable or not self._may_publish():
            return
        publications: list[tuple[str, bytes]] = []
        size = 0
        while ready and size < _MOST_IN_A_WRITE:
            sender = next(iter(ready))
            del ready[sender]
            ready[sender] = None  # at the end of the line, unless it is forgotten while it is asked
            try:
                publication = sender.next_publication()
            except Exception:
                # One session's fault: the others' media goes on, and what has been taken from them leaves.
                log.exception("nothing to publish")
                self.failed += 1
                publication = None
            if publication is None:
                ready.pop(sender, None)
                self._hop.dropped(sender)
            elif len(publication[1]) > bus.client.max_payload:
                self.failed += 1
            else:
                publications.append(publication)
                size += len(publication[1])
                self._hop.left(sender)
        if publications:
            bus.publish_media(publications)
        self._schedule()
