"""The control API of several processes as if they were one: each is asked by its Unix socket."""

import asyncio
import json
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import ClientError, ClientSession, ClientTimeout, UnixConnector, web

from emulator.control import resident_bytes, say_errors_in_json
from emulator.endpoint.body import read_body
from emulator.faults.routes import NUMBER_FROM
from emulator.processes import ownership
from emulator.processes.shared import ORDERS, Shared

_SECONDS = 90.0
"""Longer than a request for events may wait."""
_TIDY_EVERY = 100


class _Answer(NamedTuple):
    status: int
    content_type: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def response(self) -> web.Response:
        return web.Response(status=self.status, body=self.body, headers={"Content-Type": self.content_type})


class Merged:
    """``sockets``: those of the processes, by number."""

    def __init__(self, emulator: str, sockets: Sequence[Path], shared: Shared) -> None:
        self._emulator = emulator
        self._shared = shared
        self._sessions = [
            ClientSession(connector=UnixConnector(str(path), limit=0), timeout=ClientTimeout(total=_SECONDS))
            for path in sockets
        ]
        self._ordering = asyncio.Lock()
        self._next_number = 1
        self._untidied = 0

    async def close(self) -> None:
        """Ask nothing any more."""
        for session in self._sessions:
            await session.close()

    def application(self) -> web.Application:
        """The routes. What is not about all processes is asked of one: the conversation's owner, or any."""
        app = web.Application(middlewares=[say_errors_in_json])
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/stats", self._stats)
        app.router.add_get("/conversations", self._conversations)
        app.router.add_delete("/conversations", self._clear)
        app.router.add_post("/faults", self._order)
        app.router.add_get("/faults", self._faults)
        app.router.add_delete("/faults", self._cancel_all)
        app.router.add_delete("/faults/{fault}", self._cancel)
        app.router.add_post("/conversations/{id}/faults", self._order)
        app.router.add_route("*", "/conversations/{id}", self._of_one)
        app.router.add_route("*", "/conversations/{id}/{rest:.*}", self._of_one)
        app.router.add_route("*", "/{rest:.*}", self._of_any)
        return app

    async def _health(self, request: web.Request) -> web.Response:
        return (await self._ask_all(request))[0].response()

    async def _stats(self, request: web.Request) -> web.Response:
        each = [answer.json for answer in await self._ask_all(request)]
        total = _sum(each)
        # Tokens are common to all; and the parent counts too.
        total |= {"id": self._emulator, "tokens": each[0]["tokens"]}
        total["tasks"] += len(asyncio.all_tasks())
        total["rss_bytes"] += resident_bytes()
        return web.json_response({**total, "processes": each})

    async def _conversations(self, request: web.Request) -> web.Response:
        lines = [line for answer in await self._ask_all(request) for line in answer.json]
        return web.json_response(sorted(lines, key=lambda line: line["started"] or 0.0))

    async def _clear(self, request: web.Request) -> web.Response:
        return (await self._ask_all(request))[0].response()

    async def _of_one(self, request: web.Request) -> web.Response:
        return (await self._ask(self._owner(request), request, await read_body(request))).response()

    async def _of_any(self, request: web.Request) -> web.Response:
        return (await self._ask(0, request, await read_body(request))).response()

    async def _order(self, request: web.Request) -> web.Response:
        await read_body(request)  # before others are kept waiting
        # One after the other, so that an order has the same number everywhere.
        async with self._ordering:
            numbers = {NUMBER_FROM: str(self._next_number)}
            if "id" in request.match_info:
                answers = [await self._ask(self._owner(request), request, await read_body(request), numbers)]
            else:
                answers = await self._ask_all(request, numbers)
            refused = next((answer for answer in answers if answer.status != HTTPStatus.CREATED), None)
            if refused is not None:
                return refused.response()
            orders = _by_id([answer.json for answer in answers])
            self._next_number += len(orders)
            self._untidied += len(orders)
            if self._untidied >= _TIDY_EVERY:
                self._untidied = 0
                await self._tidy()
            return web.json_response(orders, status=HTTPStatus.CREATED)

    async def _tidy(self) -> None:
        """Forget the counts of orders that no process has any more."""
        told = await asyncio.gather(*(self._tell(number, "GET", "/faults") for number in range(len(self._sessions))))
        pending = {ORDERS + order["id"] for answer in told for order in answer.json["pending"]}
        self._shared.forget_counts(ORDERS, kept=pending)

    async def _faults(self, request: web.Request) -> web.Response:
        told = [answer.json for answer in await self._ask_all(request)]
        fired = sorted((one for each in told for one in each["fired"]), key=lambda one: one["at"])
        return web.json_response({"pending": _by_id([each["pending"] for each in told]), "fired": fired})

    async def _cancel_all(self, request: web.Request) -> web.Response:
        async with self._ordering:
            told = await asyncio.gather(
                *(self._tell(number, "GET", "/faults") for number in range(len(self._sessions)))
            )
            await self._ask_all(request)
        return web.json_response({"cancelled": len(_by_id([answer.json["pending"] for answer in told]))})

    async def _cancel(self, request: web.Request) -> web.Response:
        answers = await self._ask_all(request)
        return min(answers, key=lambda answer: answer.status).response()

    def _owner(self, request: web.Request) -> int:
        return ownership.owner(request.match_info["id"], len(self._sessions))

    async def _ask_all(self, request: web.Request, headers: dict[str, str] | None = None) -> list[_Answer]:
        body = await read_body(request)
        return await asyncio.gather(
            *(self._ask(number, request, body, headers) for number in range(len(self._sessions)))
        )

    async def _ask(
        self, number: int, request: web.Request, body: bytes, headers: dict[str, str] | None = None
    ) -> _Answer:
        return await self._tell(number, request.method, request.raw_path, body, headers)

    async def _tell(
        self, number: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> _Answer:
        """What process ``number`` answers. Raises 503 when it does not."""
        try:
            async with self._sessions[number].request(
                method, f"http://process{path}", data=body or None, headers=headers
            ) as response:
                return _Answer(response.status, response.headers.get("Content-Type", ""), await response.read())
        except (ClientError, OSError, TimeoutError) as error:
            reason = f"process {number} does not answer: {str(error) or type(error).__name__}"
            raise web.HTTPServiceUnavailable(text=reason) from error


def _sum(each: Sequence[Any]) -> Any:
    """Numbers added up, whatever they are in; of anything else the first."""
    first = each[0]
    if isinstance(first, dict):
        return {name: _sum([one[name] for one in each]) for name in first}
    return sum(each) if isinstance(first, (int, float)) and not isinstance(first, bool) else first


def _by_id(lists: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Orders of several processes, each order once."""
    found: dict[str, dict[str, Any]] = {}
    for order in (order for each in lists for order in each):
        known = found.get(order["id"])
        if known is None:
            found[order["id"]] = dict(order)
        else:
            known["open_connections"] += order["open_connections"]
    return list(found.values())
