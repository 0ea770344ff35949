"""Frames on their way to one socket: a bounded queue, and the task that empties it at the pace that is wanted."""

import asyncio
import math
import struct
from collections import deque

from aiohttp import ClientError, WSMsgType, web

# How often a slow drip lets something through; the last few bytes of a kernel's buffer are none of its business.
_DRIP_INTERVAL = 0.05
_DRIP_BUFFER = 64 * 1024
# Frames sent without looking up: that the client has gone is only learnt in between.
_IN_A_ROW = 4
# Bytes that a transport may keep before what follows waits here: where its own protocol begins to hold up writers.
_TRANSPORT_BUFFER = 64 * 1024
_MEDIUM = struct.Struct(">BBH").pack
_LARGE = struct.Struct(">BBQ").pack


class Outbox:
    """What waits to be sent. Nothing else may write to the socket while it runs: a dripping frame is not whole.

    Mostly nothing waits: what one decision brought goes out in one write by ``flush``. The task that ``run`` is takes
    what is left, for a client that reads slowly or not at all, and the end.
    """

    def __init__(self, limit: int, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self._socket = socket
        self._transport = transport
        self.bytes_per_second = math.inf
        self.size = 0
        """Bytes that wait."""
        self.lost_frames = 0
        """Frames that did not fit while writing was held; their number, and below their bytes."""
        self.lost_bytes = 0
        self._limit = limit
        self._frames: deque[tuple[WSMsgType, bytes]] = deque()
        self._ready = asyncio.Event()
        self._writing = asyncio.Event()
        self._writing.set()
        self._before_hold = 0
        """Frames that were queued before writing was held: they still go out."""
        self._finishing = False
        self._sending = False
        """Whether the task is about to send, or sends, what was put before."""

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def messages(self) -> int:
        """Frames that wait, without pongs."""
        return sum(opcode is not WSMsgType.PONG for opcode, _ in self._frames)

    @property
    def held(self) -> bool:
        """Whether nothing is written."""
        return not self._writing.is_set()

    def put(self, opcode: WSMsgType, data: bytes) -> bool:
        """Queue a frame; False where it does not fit. One that is larger than all that may wait goes alone."""
        if self.size and self.size + len(data) > self._limit:
            if self.held:
                self.lost_frames += 1
                self.lost_bytes += len(data)
            return self.held
        self._frames.append((opcode, data))
        self.size += len(data)
        return True

    def flush(self) -> None:
        """Send what was put, at once if the socket takes it."""
        if not self._frames:
            return
        if not self._writes_at_once:
            self._ready.set()
            return
        assert self._transport is not None
        self._transport.write(b"".join(part for opcode, data in self._frames for part in (_header(opcode, data), data)))
        self._frames.clear()
        self.size = 0

    @property
    def _writes_at_once(self) -> bool:
        """Whether nothing is to be waited for: no task that sends, no fault, no compression, no slow client."""
        transport = self._transport
        return (
            not self._sending
            and not self._finishing
            and self._writing.is_set()
            and math.isinf(self.bytes_per_second)
            and not self._socket.compress
            and transport is not None
            and not transport.is_closing()
            and transport.get_write_buffer_size() < _TRANSPORT_BUFFER
        )

    def hold(self, held: bool) -> None:
        """Write nothing that comes from now on, or go on."""
        if not held:
            self._writing.set()
        elif not self.held:
            self._before_hold = len(self._frames)
            self._writing.clear()

    def finish(self) -> None:
        """``run`` ends once all is sent."""
        self._finishing = True
        self._ready.set()

    def discard(self) -> None:
        """Send nothing any more; ``run`` ends."""
        self._frames.clear()
        self._writing.set()
        self.finish()

    async def run(self) -> bool:
        """Send what is left, until ``finish``; False when the connection is lost, which the reader learns by itself."""
        in_a_row = 0
        # Something may wait already.
        self._sending = True
        while self._frames or not self._finishing:
            if not self._frames:
                self._sending = False
                self._ready.clear()
                await self._ready.wait()
                self._sending = True
                in_a_row = 0
                continue
            if self.held and not self._before_hold:
                await self._writing.wait()
                continue
            opcode, data = self._frames.popleft()
            self._before_hold = max(0, self._before_hold - 1)
            try:
                if math.isinf(self.bytes_per_second) or self._transport is None:
                    await self._socket.send_frame(data, opcode)
                else:
                    await self._drip(self._transport, _header(opcode, data) + data)
            except (ClientError, ConnectionError):
                return False
            self.size -= len(data)
            in_a_row = (in_a_row + 1) % _IN_A_ROW
            if in_a_row == 0:
                await asyncio.sleep(0)
        return True

    async def _drip(self, transport: asyncio.Transport, frame: bytes) -> None:
        sent, allowed = 0, 0.0
        try:
            while sent < len(frame):
                if transport.is_closing():
                    raise ConnectionResetError("the connection was lost")
                if math.isinf(self.bytes_per_second):
                    break
                each = self.bytes_per_second * _DRIP_INTERVAL
                allowed = min(allowed + each, each + 1)
                if allowed >= 1 and transport.get_write_buffer_size() < _DRIP_BUFFER:
                    size = int(allowed)
                    transport.write(frame[sent : sent + size])
                    sent, allowed = sent + size, allowed - size
                await asyncio.sleep(_DRIP_INTERVAL)
        finally:
            # A close frame may follow: it must not end up inside this one.
            if sent < len(frame) and not transport.is_closing():
                transport.write(frame[sent:])


def _header(opcode: WSMsgType, data: bytes) -> bytes:
    """Of a server's frame (RFC 6455, 5.2): final, not masked, not compressed."""
    if len(data) < 126:
        return bytes((0x80 | opcode, len(data)))
    if len(data) < 1 << 16:
        return _MEDIUM(0x80 | opcode, 126, len(data))
    return _LARGE(0x80 | opcode, 127, len(data))
