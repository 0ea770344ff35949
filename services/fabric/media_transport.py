"""nats-py's connection with a way past the library for media.

nats-py spends 80 us on a message in and one out (20 ms audio, 25 calls): a stream reader, a parser of regular
expressions, a queue and a task for each subscription, a queue and a task for what is sent. Media needs none of that.
So the transport that nats-py is given takes media out of what arrives and puts media into what leaves; connecting,
signing in, TLS, subscriptions, requests, pings and reconnecting stay the library's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from urllib.parse import ParseResult

from nats.aio.transport import Transport

from services.fabric.media_split import MediaSplitter


class _Protocol(asyncio.StreamReaderProtocol):
    """The library's end of the socket, behind the splitter."""

    def __init__(self, reader: asyncio.StreamReader, owner: MediaTransport) -> None:
        super().__init__(reader)
        self._owner = owner
        self.paused = False
        """What was written waits for the server; nothing more should be."""

    def data_received(self, data: bytes) -> None:
        """Media goes its own way."""
        if rest := self._owner.splitter.feed(data):
            super().data_received(rest)

    def pause_writing(self) -> None:
        """The server does not take what is sent."""
        super().pause_writing()
        self.paused = True

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self.paused = False
        self._owner.on_resumed()


class MediaTransport(Transport):
    """TCP or TLS for `nats.aio.client.Client`, also across its reconnects, and for media beside it."""

    def __init__(self) -> None:
        self.splitter = MediaSplitter()
        self.on_resumed: Callable[[], None] = lambda: None
        """Called when the socket takes more again."""
        self._protocol: _Protocol | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._plain: asyncio.StreamWriter | None = None
        """The writer under TLS: it closes the socket when it is collected."""

    # Media

    @property
    def writable(self) -> bool:
        """Whether media may be written: there is a socket, and it takes what it is given."""
        protocol, writer = self._protocol, self._writer
        return protocol is not None and not protocol.paused and writer is not None and not writer.is_closing()

    def publish(self, publications: Iterable[tuple[str, bytes]]) -> None:
        """Publish messages, subject and payload, in one write: a write is a system call."""
        assert self._writer is not None
        commands = (b"PUB %b %d\r\n%b\r\n" % (to.encode(), len(payload), payload) for to, payload in publications)
        self._writer.write(b"".join(commands))

    # What nats-py asks of a transport

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """A new connection; one that is left of an attempt before is closed."""
        self.close()
        self.splitter.reset()
        assert uri.hostname is not None
        assert uri.port is not None
        protocol, reader = self._protocol_for(buffer_size)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(connect_timeout):
            transport, _ = await loop.create_connection(lambda: protocol, uri.hostname, uri.port)
        self._adopt(transport, protocol, reader)

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: int
    ) -> None:
        """Go on in TLS, after the server's INFO."""
        assert self._writer is not None
        protocol, reader = self._protocol_for(buffer_size)
        hostname = uri if isinstance(uri, str) else uri.hostname
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(connect_timeout):
            transport = await loop.start_tls(self._writer.transport, protocol, ssl_context, server_hostname=hostname)
        assert transport is not None
        self._plain = self._writer
        self._adopt(transport, protocol, reader)

    def _protocol_for(self, buffer_size: int) -> tuple[_Protocol, asyncio.StreamReader]:
        reader = asyncio.StreamReader(limit=buffer_size)
        return _Protocol(reader, self), reader

    def _adopt(self, transport: asyncio.Transport, protocol: _Protocol, reader: asyncio.StreamReader) -> None:
        self._protocol, self._reader = protocol, reader
        self._writer = asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())

    def write(self, payload: bytes) -> None:
        """Bytes of the library."""
        assert self._writer is not None
        self._writer.write(payload)

    def writelines(self, payload: list[bytes]) -> None:
        """The same."""
        assert self._writer is not None
        self._writer.writelines(payload)

    async def drain(self) -> None:
        """Wait until the socket takes more."""
        assert self._writer is not None
        await self._writer.drain()

    async def read(self, buffer_size: int) -> bytes:
        """What came, without media."""
        assert self._reader is not None
        return await self._reader.read(buffer_size)

    async def readline(self) -> bytes:
        """A line of it."""
        assert self._reader is not None
        return await self._reader.readline()

    def at_eof(self) -> bool:
        """Nothing more will come."""
        return self._reader is None or self._reader.at_eof()

    def close(self) -> None:
        """Close the socket, if there is one."""
        if self._writer is not None:
            self._writer.close()

    async def wait_closed(self) -> None:
        """Until it is."""
        if self._writer is not None:
            await self._writer.wait_closed()

    def __bool__(self) -> bool:
        # nats-py makes one of its own where this is false.
        return True
