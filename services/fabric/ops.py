"""The HTTP port for probes and for whoever looks at a running process."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from services.fabric.meters import CONTENT_TYPE
from services.fabric.process import resident_bytes

Counts = Mapping[str, int | float | str | bool]


class OpsServer:
    """`/livez` (the loop runs), `/readyz` (send work here), `/metrics` (for Prometheus), `/debug/vars` (counts, for
    people and leak tests), `/debug/tasks` (what every task waits for)."""

    def __init__(
        self,
        listen: str,
        ready: Callable[[], bool],
        counts: Callable[[], Counts],
        exposition: Callable[[], Awaitable[bytes]],
    ) -> None:
        """`exposition`: of the process's metrics."""
        host, _, port = listen.rpartition(":")
        self._host = host.removeprefix("[").removesuffix("]")  # of an IPv6 address
        self._port = int(port)
        self._ready = ready
        self._counts = counts
        self._exposition = exposition
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen; return the base URL."""
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/debug/vars", self._vars)
        app.router.add_get("/debug/tasks", self._tasks)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def stop(self) -> None:
        """Close the port."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ready\n") if self._ready() else web.Response(status=503, text="not ready\n")

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=await self._exposition(), headers={"Content-Type": CONTENT_TYPE})

    async def _tasks(self, _request: web.Request) -> web.Response:
        text = io.StringIO()
        for task in asyncio.all_tasks():
            task.print_stack(limit=8, file=text)
        return web.Response(text=text.getvalue())

    async def _vars(self, request: web.Request) -> web.Response:
        # The task that serves this request, and its connection's, come and go with the reader: not counted.
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        body: dict[str, object] = {"tasks": len(tasks), "resident_bytes": resident_bytes(), **self._counts()}
        if "names" in request.query:
            body["task_names"] = sorted(task.get_name() for task in tasks)
        return web.json_response(body)
