"""An HTTP service to copy: rooms and their bookings, described by bookings.yaml. `python bookings.py PORT`.

It wants the API key of the environment variable BOOKINGS_KEY in the header X-Api-Key.
"""

from __future__ import annotations

import hmac
import os
import sys
from collections.abc import Awaitable, Callable

from aiohttp import web

_ROOMS = {"blue": 6, "green": 12}
_bookings: dict[str, str] = {}
"""Who has booked what, by `room day`."""


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def _authorized(request: web.Request, handler: Handler) -> web.StreamResponse:
    given = request.headers.get("X-Api-Key", "")
    if not hmac.compare_digest(given.encode(), os.environ["BOOKINGS_KEY"].encode()):
        return web.json_response({"message": "who are you?"}, status=401)
    return await handler(request)


async def _rooms(request: web.Request) -> web.Response:
    seats = int(request.query.get("min_seats", "0"))
    rooms = [{"room": name, "seats": number} for name, number in _ROOMS.items() if number >= seats]
    return web.json_response({"rooms": rooms})


async def _book(request: web.Request) -> web.Response:
    room, body = request.match_info["room"], await request.json()
    if room not in _ROOMS:
        return web.json_response({"message": f"there is no room {room}"}, status=404)
    key = f"{room} {body['day']}"
    if (there := _bookings.setdefault(key, body["name"])) != body["name"]:
        return web.json_response({"message": f"{there} has it on that day"}, status=409)
    return web.json_response({"room": room, "day": body["day"], "name": body["name"]}, status=201)


async def _cancel(request: web.Request) -> web.Response:
    _bookings.pop(f"{request.match_info['room']} {request.match_info['day']}", None)
    return web.Response(status=204)


def application() -> web.Application:
    """The service."""
    app = web.Application(middlewares=[_authorized])
    app.router.add_get("/rooms", _rooms)
    app.router.add_post("/rooms/{room}/bookings", _book)
    app.router.add_delete("/rooms/{room}/bookings/{day}", _cancel)
    return app


if __name__ == "__main__":
    web.run_app(application(), host="127.0.0.1", port=int(sys.argv[1]), print=lambda *_: None)
