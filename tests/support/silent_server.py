"""A server that takes connections and never says a word."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class SilentServer:
    """Listens on a free port of the loopback."""

    def __init__(self) -> None:
        self.endpoint = ""
        """`http://127.0.0.1:PORT`."""
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        while await reader.read(65_536):
            pass

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.endpoint = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
