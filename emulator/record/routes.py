"""The record over HTTP."""

import asyncio
from typing import Any

from aiohttp import web

from emulator.record import report
from emulator.record.archive import Archive
from emulator.record.conversation import ConversationRecord

LONGEST_WAIT = 60.0
"""Seconds that a request for events may wait."""
_MAX_WATCHERS = 100


def routes(archive: Archive, *, keep_audio: bool) -> list[web.RouteDef]:
    """What the control API says of conversations."""

    def find(request: web.Request) -> ConversationRecord:
        record = archive.get(request.match_info["id"])
        if record is None:
            raise web.HTTPNotFound(text="no such conversation; GET /conversations lists them")
        return record

    async def conversations(_: web.Request) -> web.Response:
        return web.json_response([record.summary() for record in archive.all()])

    async def clear(_: web.Request) -> web.Response:
        archive.clear()
        return web.Response(status=204)

    async def conversation(request: web.Request) -> web.Response:
        return web.json_response(find(request).view())

    async def forget(request: web.Request) -> web.Response:
        record = find(request)
        if record.open:
            raise web.HTTPConflict(text="the conversation is under way; close its connections first")
        archive.forget(record.id)
        return web.Response(status=204)

    async def lineage(request: web.Request) -> web.Response:
        return web.json_response(report.view(find(request)))

    async def link(request: web.Request) -> web.Response:
        record = find(request)
        number = int(_number(request.match_info["link"], "a link", 2**53))
        if (found := record.link(number)) is None:
            kept = f"{record.links_dropped} to {record.next_link_index() - 1}"
            raise web.HTTPNotFound(text=f"no such link; those that are kept are {kept}")
        return web.json_response(report.link_view(found))

    async def events(request: web.Request) -> web.Response:
        record = find(request)
        since = int(_number(request.query.get("since", "0"), "since", 2**53))
        wait = _number(request.query.get("wait", "0"), "wait", LONGEST_WAIT, whole=False)
        kinds = frozenset(filter(None, request.query.get("kind", "").split(",")))
        if wait and len(record.watchers) >= _MAX_WATCHERS:
            raise web.HTTPTooManyRequests(text=f"{_MAX_WATCHERS} requests wait for events of this conversation already")
        return web.json_response(await _events(record, since, kinds, wait))

    async def audio(request: web.Request) -> web.Response:
        if not keep_audio:
            raise web.HTTPNotFound(text="audio is not kept; set PARLEY_EMULATOR_KEEP_AUDIO")
        return web.Response(body=find(request).wav(), content_type="audio/wav")

    return [
        web.get("/conversations", conversations),
        web.delete("/conversations", clear),
        web.get("/conversations/{id}", conversation),
        web.delete("/conversations/{id}", forget),
        web.get("/conversations/{id}/lineage", lineage),
        web.get("/conversations/{id}/links/{link}", link),
        web.get("/conversations/{id}/events", events),
        web.get("/conversations/{id}/audio", audio),
    ]


async def _events(record: ConversationRecord, since: int, kinds: frozenset[str], wait: float) -> dict[str, Any]:
    """The events from ``since`` on, of those kinds or all; with ``wait`` there is at least one, or time is up."""
    changed = asyncio.Event()
    record.watchers.add(changed.set)
    try:
        async with asyncio.timeout(wait) as limit:
            while not (found := _since(record, since, kinds)) and wait:
                changed.clear()
                await changed.wait()
    except TimeoutError:
        assert limit.expired()
        found = _since(record, since, kinds)
    finally:
        record.watchers.discard(changed.set)
    return {
        "events": found,
        "next": max(since, record.settled_events()),
        "open": record.open,
        "dropped": record.events_dropped,
    }


def _since(record: ConversationRecord, since: int, kinds: frozenset[str]) -> list[dict[str, Any]]:
    settled = record.events[since : record.settled_events()]
    return [{"seq": since + at, **event} for at, event in enumerate(settled) if not kinds or event["kind"] in kinds]


def _number(text: str, name: str, largest: float, *, whole: bool = True) -> float:
    try:
        number = int(text) if whole else float(text)
    except ValueError:
        number = -1
    if not 0 <= number <= largest:
        raise web.HTTPBadRequest(text=f"{name} is a number from 0 to {largest:g}, not {text[:40]!r}")
    return number
