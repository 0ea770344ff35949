"""The head of a connection's first request, made fit for a strict reader."""

import asyncio
from collections.abc import Callable
from typing import cast

# Bytes; aiohttp itself takes no longer lines than 8 KiB.
_LONGEST = 64 * 1024
# What aiohttp refuses to have twice and clients send twice: with websockets 13 and 14 the SDK and the library each name
# themselves. The service takes it.
_REPEATED = (b"user-agent", b"content-type")


class FirstHead(asyncio.Protocol):
    """Stands before aiohttp's protocol until the first request's head is there; of repeated lines the first stays."""

    def __init__(self, make: Callable[[], asyncio.Protocol]) -> None:
        self._behind = make()
        self._head = b""
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Both know of it."""
        self._transport = transport
        self._behind.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Once the head is whole, the other protocol takes over."""
        self._head += data
        if b"\r\n\r\n" not in self._head and len(self._head) <= _LONGEST:
            return
        # uvloop's is none of asyncio's classes.
        cast(asyncio.Transport, self._transport).set_protocol(self._behind)
        self._behind.data_received(_once(self._head))

    def eof_received(self) -> bool | None:
        """Nothing more comes."""
        if self._head:
            self._behind.data_received(self._head)
        return self._behind.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Before there was a request."""
        self._behind.connection_lost(exc)

    def pause_writing(self) -> None:
        """For whoever writes."""
        self._behind.pause_writing()

    def resume_writing(self) -> None:
        """For whoever writes."""
        self._behind.resume_writing()


def _once(head: bytes) -> bytes:
    lines, end, rest = head.partition(b"\r\n\r\n")
    seen: set[bytes] = set()
    kept = []
    for line in lines.split(b"\r\n"):
        name = line.partition(b":")[0].strip().lower()
        if name in _REPEATED:
            if name in seen:
                continue
            seen.add(name)
        kept.append(line)
    return b"\r\n".join(kept) + end + rest
