"""One NATS connection a process, and how to ask over it.

nats-py is not free of waiting: `publish()` blocks while the server is frozen. So media leaves through `Writer` (one
task a process), and nothing else on a media path awaits this connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import nats
import nats.errors
import structlog
from google.protobuf.message import DecodeError, Message
from nats.aio.client import Client
from nats.js import JetStreamContext

from parley.v1 import errors_pb2
from services.fabric.errors import ServiceError
from services.fabric.settings import ServiceSettings

log = structlog.get_logger()
M = TypeVar("M", bound=Message)

JETSTREAM_TIMEOUT = 5.0
"""Seconds that a JetStream request may take."""
_PENDING_BYTES = 2 * 1024 * 1024
"""Bytes that nats-py may hold for a server that does not read. More only makes data stale."""


async def settle(client: Client, timeout: float = 5.0) -> None:
    """Return when the server has taken everything that `client` sent so far.

    One `flush()` of nats-py does not tell: its PING overtakes what is still in the client's own buffer, subscriptions
    included. When the first answer is here the buffer has been written, so the second one does.
    """
    await client.flush(timeout=timeout)  # type: ignore[arg-type]  # seconds; only its annotation says int
    await client.flush(timeout=timeout)  # type: ignore[arg-type]


class NoResponderError(Exception):
    """Nobody listens on the subject: the process asked for is gone."""


class Bus:
    """The connection. `start` returns at once and keeps trying; `connected` tells."""

    def __init__(self, settings: ServiceSettings, kind: str, instance: str) -> None:
        self._settings = settings
        self._kind = kind
        self._instance = instance
        self.client = Client()
        self.js: JetStreamContext = self.client.jetstream(timeout=JETSTREAM_TIMEOUT)
        self.connected = asyncio.Event()
        self.errors = 0
        self._connecting: asyncio.Task[None] | None = None
        self.on_reconnect: Callable[[], Awaitable[None]] | None = None

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
        self.connected.clear()

    async def _on_reconnected(self) -> None:
        log.info("nats reconnected")
        self.connected.set()
        if self.on_reconnect is not None:
            await self.on_reconnect()


class Sender(Protocol):
    """Something with messages to publish: a session in the worker, a stream in the gateway."""

    def next_publication(self) -> tuple[str, bytes] | None:
        """Subject and payload of what is to be sent next; None when nothing is."""


class Writer:
    """The one task of a process that publishes media. Senders keep their own bounded outboxes."""

    def __init__(self, bus: Bus, may_publish: Callable[[], bool] = lambda: True) -> None:
        """`may_publish`: asked before each publication; what is held back then waits until its sender wakes again."""
        self._bus = bus
        self._may_publish = may_publish
        self._ready: dict[Sender, None] = {}
        self._round: dict[Sender, None] = {}
        """Whose turn it is in this round."""
        self._wake = asyncio.Event()
        self.failed = 0
        """Publishes that NATS did not take; the receiver's hole detection brings them back from the ring."""

    def wake(self, sender: Sender) -> None:
        """`sender` has something to publish. Cheap, and safe to call for each message."""
        self._ready[sender] = None
        self._wake.set()

    def forget(self, sender: Sender) -> None:
        """`sender` is gone: it is not asked again."""
        self._ready.pop(sender, None)
        self._round.pop(sender, None)

    async def run(self) -> None:
        """Publish for ever: one publication a sender in turn, so that nobody waits for a long queue of another."""
        publish = self._bus.client.publish
        while True:
            await self._wake.wait()
            await self._bus.connected.wait()
            self._wake.clear()
            self._round, self._ready = self._ready, {}
            for sender in list(self._round):
                taken = sender in self._round and self._may_publish()
                publication = sender.next_publication() if taken else None
                if publication is None:
                    continue
                try:
                    await publish(*publication)
                except nats.errors.Error:
                    self.failed += 1
                if sender in self._round:  # not forgotten meanwhile
                    self._ready.setdefault(sender, None)
            if self._ready:
                self._wake.set()
                await asyncio.sleep(0)
