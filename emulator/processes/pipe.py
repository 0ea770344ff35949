"""Bytes between a client and the process that owns its conversation, exactly as they come.

Not frame by frame: half a frame that drips, a frame that is malformed and a connection that is reset must be for the
client what they are without anything in between.
"""

import asyncio
from collections.abc import Callable
from socket import SO_ERROR, SOL_SOCKET
from typing import TypeVar, cast

from emulator.endpoint.wire import HangUp, cut
from emulator.processes.ownership import Elsewhere

_Setup = TypeVar("_Setup")
_Admitted = TypeVar("_Admitted")


class End(asyncio.Protocol):
    """One side of a pipe. What it reads before it is joined waits in ``taken``, no more than ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self.taken = bytearray()
        self.arrived = asyncio.Event()
        """Something was read, or the side was lost, since it was cleared."""
        self.transport: asyncio.Transport | None = None
        """None once it is lost."""
        self._limit = limit
        self._pipe: Pipe | None = None

    def adopt(self, transport: asyncio.Transport) -> None:
        """Take a transport over from whoever had it."""
        self.transport = transport
        transport.set_protocol(self)
        # Who had it may have had enough for the moment.
        transport.resume_reading()

    def join(self, pipe: "Pipe") -> None:
        """From now on what it reads goes to the other side."""
        self._pipe = pipe

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It was dialled."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Something came."""
        if self._pipe is not None:
            self._pipe.read(self, data)
            return
        self.taken += data
        self.arrived.set()
        if len(self.taken) > self._limit and self.transport is not None:
            self.transport.abort()

    def pause_writing(self) -> None:
        """Its buffer is full."""
        if self._pipe is not None:
            self._pipe.full(self)

    def resume_writing(self) -> None:
        """There is room again."""
        if self._pipe is not None:
            self._pipe.drained(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self.transport = None
        self.arrived.set()
        if self._pipe is not None:
            self._pipe.lost(self, exc)


class Pipe:
    """Both directions. A side that cannot be written to keeps the other from being read, so nothing piles up."""

    def __init__(self, client: End, owner: End, *, limit: float) -> None:
        self._other = {client: owner, owner: client}
        self._limit = limit
        """Seconds that a side has to take what is left for it when the other has gone."""
        self._watched: dict[End, HangUp] = {}
        self._timers: list[asyncio.TimerHandle] = []
        self._ended = asyncio.Event()
        for end in (client, owner):
            end.join(self)

    async def wait_ended(self) -> None:
        """Until both sides are gone."""
        await self._ended.wait()

    def abort(self) -> None:
        """Give both sides up. With a reset, because a side that reads nothing learns of no other end."""
        for end in self._other:
            if end.transport is not None:
                cut(end.transport, reset=True)

    def write(self, end: End, data: bytes | bytearray) -> None:
        """Something for that side."""
        if end.transport is not None and data:
            end.transport.write(bytes(data))

    def read(self, end: End, data: bytes) -> None:
        """Something came from that side."""
        self.write(self._other[end], data)

    def full(self, end: End) -> None:
        """That side does not take any more."""
        source = self._other[end]
        if source.transport is None or source.transport.is_closing():
            return
        source.transport.pause_reading()
        # Its end is not seen while it is not read.
        self._watched[source] = HangUp(source.transport, lambda: self._hung_up(source))

    def drained(self, end: End) -> None:
        """It does again."""
        source = self._other[end]
        self._unwatch(source)
        if source.transport is not None and not source.transport.is_closing():
            source.transport.resume_reading()

    def lost(self, end: End, error: Exception | None) -> None:
        """That side is gone."""
        self._unwatch(end)
        other = self._other[end]
        if other.transport is None:
            for timer in self._timers:
                timer.cancel()
            self._ended.set()
        elif error is not None:
            cut(other.transport, reset=True)
        else:
            # What it said last is still to be delivered.
            other.transport.close()
            self._abort_later()

    def _hung_up(self, end: End) -> None:
        """A side that is not read has gone, with a reset or behind what it said last."""
        self._unwatch(end)
        assert end.transport is not None
        if end.transport.get_extra_info("socket").getsockopt(SOL_SOCKET, SO_ERROR):
            self.abort()
        else:
            self._abort_later()

    def _abort_later(self) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(self._limit, self.abort))

    def _unwatch(self, end: End) -> None:
        if (watched := self._watched.pop(end, None)) is not None:
            watched.close()


class Tap(asyncio.Protocol):
    """Stands before the protocol that serves a connection and keeps a copy of all it is given, for another process.

    ``seen``: what that protocol was given already and has not made use of.
    """

    def __init__(self, transport: asyncio.Transport, served_by: asyncio.Protocol, seen: bytes, limit: int) -> None:
        self.transport: asyncio.Transport | None = transport
        """None once it is lost."""
        self.taken = bytearray(seen)
        self.served_by = served_by
        self.overflowed = False
        """There was more than ``limit`` bytes: nothing is kept any more."""
        self._limit = limit
        transport.set_protocol(self)

    def until(self, admit: Callable[[_Setup], _Admitted]) -> Callable[[_Setup], _Admitted]:
        """The same check of a setup; with its end it is known who serves the connection."""

        def admitted(setup: _Setup) -> _Admitted:
            elsewhere = False
            try:
                return admit(setup)
            except Elsewhere:
                elsewhere = True
                raise
            finally:
                if not elsewhere:
                    self._release()

        return admitted

    def _release(self) -> None:
        self.taken.clear()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.set_protocol(self.served_by)

    def data_received(self, data: bytes) -> None:
        """Something came."""
        if len(self.taken) + len(data) > self._limit:
            self.overflowed = True
            self.taken.clear()
        if not self.overflowed:
            self.taken += data
        self.served_by.data_received(data)

    def eof_received(self) -> bool | None:
        """The client says no more."""
        return self.served_by.eof_received()

    def pause_writing(self) -> None:
        """Its buffer is full."""
        self.served_by.pause_writing()

    def resume_writing(self) -> None:
        """There is room again."""
        self.served_by.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self.transport = None
        self.served_by.connection_lost(exc)
