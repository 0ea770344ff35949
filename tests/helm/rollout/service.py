"""A Service: one address, behind it a TCP proxy to the ready pods that it has heard of."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Final

LATE: Final = 1.0
"""Seconds after which every node knows that a pod is ready, or is not any more."""
_CHUNK: Final = 64 * 1024


class Service:
    """New connections go to one of the endpoints, at random; those that are open stay where they are."""

    def __init__(self, endpoints: Callable[[], list[str]]) -> None:
        """`endpoints`: addresses of the pods that are ready now."""
        self._now = endpoints
        self.known: list[str] = []
        """Addresses that new connections go to."""
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._telling: asyncio.Task[None] | None = None
        self.address = ""

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"
        self._telling = asyncio.create_task(self._tell(), name="endpoints")

    async def stop(self) -> None:
        """Close every connection."""
        if self._server is not None:
            self._server.close()
        tasks = [*self._connections, *([self._telling] if self._telling else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self) -> None:
        """Each change arrives late."""
        loop = asyncio.get_running_loop()
        told = self.known
        while True:
            now = self._now()
            if now != told:
                told = now
                loop.call_later(LATE, self._hear, now)
            await asyncio.sleep(0.05)

    def _hear(self, endpoints: list[str]) -> None:
        self.known = endpoints

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connect(reader, writer), name="connection")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not self.known:
                return
            host, _, port = random.choice(self.known).rpartition(":")
            behind, ahead = await asyncio.open_connection(host, int(port))
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pass(reader, ahead))
                    group.create_task(_pass(behind, writer))
            finally:
                ahead.close()
        except* (OSError, ConnectionError):
            pass
        finally:
            writer.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction; its end is the other one's, too."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()
