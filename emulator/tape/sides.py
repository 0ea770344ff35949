"""The two ends of a relayed WebSocket, and frames that aiohttp leaves to itself."""

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import ClientWebSocketResponse, WSMsgType, web

from emulator.errors import reason_bytes
from emulator.tape.captured import NO_CODE

Socket = web.WebSocketResponse[bool] | ClientWebSocketResponse[bool]


@dataclass(frozen=True)
class Side:
    """A WebSocket that was opened with ``autoping=False``, ``autoclose=False`` and ``decode_text=False``."""

    socket: Socket
    transport: asyncio.Transport | None
    """None once it is lost."""
    release: Callable[[], None]
    """Gives the connection back to who made it; sends what is still buffered."""

    async def send(self, data: bytes, opcode: WSMsgType) -> None:
        """Send a frame; returns when there is room for the next."""
        await self.socket.send_frame(data, opcode)

    async def close_frame(self, code: int, reason: str) -> None:
        """Send a close frame as it was received, and nothing else: no answer is waited for."""
        await send_close(self.socket, code, reason)

    def hang_up(self, limit: float) -> None:
        """End TCP once what is buffered has been sent; after ``limit`` seconds without that."""
        self.release()
        hang_up(self.transport, limit)


async def send_close(socket: Socket, code: int, reason: str) -> None:
    """A close frame alone: aiohttp's own ``close`` throws away what the peer sends before it answers."""
    payload = b"" if code == NO_CODE else struct.pack("!H", code) + reason_bytes(reason)
    await socket.send_frame(payload, WSMsgType.CLOSE)


def hang_up(transport: asyncio.Transport | None, limit: float) -> None:
    """End TCP once what is buffered has been sent; after ``limit`` seconds without that."""
    if transport is not None:
        transport.close()
        asyncio.get_running_loop().call_later(limit, transport.abort)
