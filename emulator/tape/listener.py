"""A TLS server with an authority of its own, and the life of a process that is one."""

import asyncio
import functools
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from aiohttp import web

from emulator.certificates import server_context
from emulator.endpoint.head import FirstHead


class Listener:
    """Serves applications, the first of them over TLS, until ``stop``."""

    def __init__(self, host: str, ca_file: Path | None) -> None:
        self._host = host
        self._given_ca_file = ca_file
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._runners: list[web.AppRunner] = []
        self._servers: list[asyncio.Server] = []

    async def serve(self, app: web.Application, port: int) -> dict[str, str]:
        """Serve ``app`` over TLS. Returns ``address`` and ``ca_file``; raises OSError."""
        ca_file = self._given_ca_file
        if ca_file is None:
            self._folder = tempfile.TemporaryDirectory(prefix="live-tape-")
            ca_file = Path(self._folder.name) / "ca.pem"
        bound = await self._listen(app, self._host, port, server_context(ca_file))
        return {"address": f"https://{_in_url(self._host)}:{bound}", "ca_file": str(ca_file)}

    async def serve_control(self, app: web.Application, host: str, port: int) -> str:
        """Serve ``app`` over plain HTTP. Returns its address; raises OSError."""
        return f"http://{_in_url(host)}:{await self._listen(app, host, port, None)}"

    async def stop(self) -> None:
        """Stop serving and remove what was made for it."""
        for server in self._servers:
            server.close()
        for runner in self._runners:
            await runner.cleanup()
        if self._folder is not None:
            self._folder.cleanup()

    async def _listen(self, app: web.Application, host: str, port: int, context: Any) -> int:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        assert runner.server is not None
        make = functools.partial(FirstHead, runner.server)
        server = await asyncio.get_running_loop().create_server(make, host, port, ssl=context, backlog=1024)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def until_stopped(ready: dict[str, Any]) -> None:
    """Say on stdout that we are ready, in one JSON line, and wait for SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    await stop.wait()
