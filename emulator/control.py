"""The control API, plain HTTP: health, numbers, the record of what was heard, faults."""

import asyncio
import os
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from emulator.faults.orders import Orders
from emulator.faults.routes import routes as fault_routes
from emulator.record import Archive
from emulator.record.routes import routes as record_routes

_PAGE = os.sysconf("SC_PAGE_SIZE")


def application(
    archive: Archive, orders: Orders, stats: Callable[[], dict[str, Any]], *, keep_audio: bool
) -> web.Application:
    """The routes; ``stats`` adds the server's own numbers."""

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def numbers(_: web.Request) -> web.Response:
        common = {"tasks": len(asyncio.all_tasks()), "rss_bytes": resident_bytes(), "conversations": len(archive)}
        return web.json_response({**stats(), **common})

    app = web.Application(middlewares=[say_errors_in_json])
    app.router.add_get("/healthz", health)
    app.router.add_get("/stats", numbers)
    app.add_routes(record_routes(archive, keep_audio=keep_audio))
    app.add_routes(fault_routes(orders))
    return app


@web.middleware
async def say_errors_in_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """``{"error": "what is wrong and what would be right"}``, also for paths and methods that there are not."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        headers = {name: value for name, value in error.headers.items() if name == "Allow"}
        text = error.text
        if text == f"{error.status}: {error.reason}":
            text = f"{error.reason}: {request.method} {request.path}"
        return web.json_response({"error": text}, status=error.status, headers=headers)


def resident_bytes() -> int:
    """Resident memory of this process (Linux); 0 where it cannot be read."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0
