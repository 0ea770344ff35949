"""What comes from one socket: client messages as events; pings go to whoever answers them."""

import asyncio

from aiohttp import WSMessage, WSMsgType, web

from emulator.api.protocol import Decoder, Event
from emulator.endpoint.wire import WireControl


class Inbox:
    """Reads one socket, for as long as it is to be read."""

    def __init__(self, socket: web.WebSocketResponse, wire: WireControl, decoder: Decoder) -> None:
        self._socket = socket
        self._wire = wire
        self._decoder = decoder
        self._unread: WSMessage | None = None

    async def first(self, within: float) -> Event | None:
        """The first event. Raises TimeoutError after ``within`` seconds, unless the emulator itself does not read."""
        while True:
            try:
                async with asyncio.timeout(within):
                    return await self.next()
            except TimeoutError:
                if self._wire.readable.is_set():
                    raise

    async def next(self) -> Event | None:
        """The next event; None when the connection ends. Raises :class:`emulator.errors.Refusal` for a bad frame."""
        while True:
            message = await self._message()
            match message.type:
                case WSMsgType.TEXT | WSMsgType.BINARY:
                    return self._decoder.decode(message.data)
                case WSMsgType.PING:
                    self._wire.ping(message.data)
                case WSMsgType.PONG:
                    pass
                case _:
                    return None

    async def _message(self) -> WSMessage:
        """What comes next on a socket that is being read; a message that came just before it was not waits."""
        readable = self._wire.readable
        if self._unread is None:
            if not readable.is_set():
                await readable.wait()
            self._unread = await self._socket.receive()
        if not readable.is_set():
            await readable.wait()
        message, self._unread = self._unread, None
        return message
