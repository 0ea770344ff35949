"""How a connection treats its socket: whether it reads and writes, answers pings, ends without a word."""

import asyncio
import math
import select
import struct
from collections.abc import Callable
from socket import SO_LINGER, SOL_SOCKET

import structlog

from emulator.actions import Wire
from emulator.endpoint.outbox import Outbox

log = structlog.get_logger(__name__)

# Pings that wait for a late pong; a client sends one every few seconds.
_MAX_PONGS = 64


class WireControl:
    """Performs :class:`emulator.actions.Wire`. What it started ends with ``close``."""

    def __init__(
        self,
        transport: asyncio.Transport | None,
        outbox: Outbox,
        *,
        pong: Callable[[bytes], None],
        frozen_limit: float,
    ) -> None:
        self.readable = asyncio.Event()
        """Set while the socket is read."""
        self.readable.set()
        self._transport = transport
        self._plain = transport is not None and transport.get_extra_info("sslcontext") is None
        self._outbox = outbox
        self._pong = pong
        self._frozen_limit = frozen_limit
        self._pong_delay = 0.0
        self._pongs: set[asyncio.TimerHandle] = set()
        self._thaw: asyncio.TimerHandle | None = None
        self._hang_up: HangUp | None = None

    def apply(self, wire: Wire) -> None:
        """From now on so."""
        if wire.pong_delay is not None:
            self._pong_delay = wire.pong_delay
        if wire.bytes_per_second is not None:
            self._outbox.bytes_per_second = wire.bytes_per_second
        if wire.writing is not None:
            self._outbox.hold(not wire.writing)
        if wire.reading is True:
            self._resume()
        elif wire.reading is False:
            self._pause()

    def ping(self, payload: bytes) -> None:
        """The client asks for a pong."""
        if self._pong_delay == 0:
            self._pong(payload)
        elif not math.isinf(self._pong_delay) and len(self._pongs) < _MAX_PONGS:

            def answer() -> None:
                self._pongs.discard(timer)
                self._pong(payload)

            timer = asyncio.get_running_loop().call_later(self._pong_delay, answer)
            self._pongs.add(timer)

    def abort(self, *, reset: bool = False) -> None:
        """End the TCP connection at once, unsent data lost; ``reset``: with RST instead of FIN."""
        if self._transport is not None:
            cut(self._transport, reset=reset)
        self.readable.set()

    def abort_unsent(self, after: float) -> None:
        """What is closed but not taken by the client must not be kept for ever. (TLS has a limit of its own.)"""
        if self._plain and self._transport is not None and self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(after, self.abort)

    def close(self) -> None:
        """Nothing of it is left; the socket is read again, for the client's close frame."""
        for timer in self._pongs:
            timer.cancel()
        self._pongs.clear()
        self._pong = _nobody
        self._resume()

    def _pause(self) -> None:
        if not self.readable.is_set() or self._open is None:
            return
        self.readable.clear()
        # Not only ignored: paused, so that the client's own buffers fill as on a dead link.
        self._open.pause_reading()
        self._thaw = asyncio.get_running_loop().call_later(self._frozen_limit, self._gone, "frozen for too long")
        # What is not read does not tell that the client has gone: its end of the socket has to be watched.
        self._hang_up = HangUp(self._open, lambda: self._gone("the client hung up"))

    def _resume(self) -> None:
        if self._thaw is not None:
            self._thaw.cancel()
            self._thaw = None
        if self._hang_up is not None:
            self._hang_up.close()
            self._hang_up = None
        if not self.readable.is_set():
            self.readable.set()
            if self._open is not None:
                self._open.resume_reading()

    @property
    def _open(self) -> asyncio.Transport | None:
        """The transport; None once it is closing, when it cannot be asked anything any more."""
        return self._transport if self._transport is not None and not self._transport.is_closing() else None

    def _gone(self, why: str) -> None:
        log.debug("connection that is not read is given up", why=why)
        self._resume()
        self.abort()


def _nobody(payload: bytes) -> None:
    """Whoever answered pings has ended, and must not be kept."""


def cut(transport: asyncio.Transport, *, reset: bool) -> None:
    """End a TCP connection at once, unsent data lost; ``reset``: with RST instead of FIN."""
    if reset and not transport.is_closing() and (socket := transport.get_extra_info("socket")) is not None:
        # No lingering: closing discards what is unsent and sends RST.
        socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class HangUp:
    """Tells when the peer of a socket that nobody reads has closed it. Linux only; elsewhere it never tells."""

    def __init__(self, transport: asyncio.Transport, tell: Callable[[], None]) -> None:
        self._epoll: select.epoll | None = None
        socket = transport.get_extra_info("socket")
        if socket is None or socket.fileno() < 0 or not hasattr(select, "epoll"):
            return
        self._epoll = select.epoll()
        # Waiting data alone is no event here, so that a socket with a full buffer wakes nobody up.
        self._epoll.register(socket.fileno(), select.EPOLLRDHUP)
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), tell)

    def close(self) -> None:
        """Watch no more."""
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None
