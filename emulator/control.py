"""The control API, plain HTTP: health, numbers, and the record of what was heard."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from emulator.record import Archive, ConversationRecord

_PAGE = os.sysconf("SC_PAGE_SIZE")


def application(archive: Archive, stats: Callable[[], dict[str, Any]], *, keep_audio: bool) -> web.Application:
    """The routes; ``stats`` adds the server's own numbers."""

    def find(request: web.Request) -> ConversationRecord:
        record = archive.get(request.match_info["id"])
        if record is None:
            raise web.HTTPNotFound(text="no such conversation")
        return record

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def numbers(_: web.Request) -> web.Response:
        common = {"tasks": len(asyncio.all_tasks()), "rss_bytes": resident_bytes(), "conversations": len(archive)}
        return web.json_response({**stats(), **common})

    async def conversations(_: web.Request) -> web.Response:
        return web.json_response([record.summary() for record in archive.all()])

    async def conversation(request: web.Request) -> web.Response:
        return web.json_response(find(request).view())

    async def audio(request: web.Request) -> web.Response:
        if not keep_audio:
            raise web.HTTPNotFound(text="audio is not kept; set PARLEY_EMULATOR_KEEP_AUDIO")
        return web.Response(body=find(request).wav(), content_type="audio/wav")

    async def clear(_: web.Request) -> web.Response:
        archive.clear()
        return web.Response(status=204)

    app = web.Application()
    app.router.add_get("/healthz", health)
    app.router.add_get("/stats", numbers)
    app.router.add_get("/conversations", conversations)
    app.router.add_delete("/conversations", clear)
    app.router.add_get("/conversations/{id}", conversation)
    app.router.add_get("/conversations/{id}/audio", audio)
    return app


def resident_bytes() -> int:
    """Resident memory of this process (Linux); 0 where it cannot be read."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0
