"""Faults over HTTP: ordering, listing and cancelling them at the control port, and the refusal of an upgrade."""

import json
import math
import re
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emulator import texts
from emulator.endpoint import rest
from emulator.endpoint.body import read_body
from emulator.endpoint.handshake import valid_conversation_id
from emulator.faults.orders import Orders, Reach, TooManyOrdersError
from emulator.faults.specs import AnyFault, RefuseUpgrade
from emulator.faults.text import MAX_FAULTS, FaultError, parse_all, read

NUMBER_FROM = "x-emulator-number-from"
"""Header of ``POST /faults``: the least number that the next order may have. So several processes agree on them."""

_NUMBER = re.compile(r"[0-9]{1,12}")
_MESSAGES = {
    401: rest.WRONG_BEARER,
    403: "The caller does not have permission",
    404: texts.ENTITY_NOT_FOUND.text,
    429: rest.FULL,
    500: "An internal error has occurred. Please retry or report in "
    "https://developers.generativeai.google/guide/troubleshooting",
    504: texts.DEADLINE.text,
}
"""What the service says beside a status."""


class _Body(BaseModel):
    """What may stand beside the fault's own parameters. ``POST /faults`` takes all of it."""

    model_config = ConfigDict(extra="forbid")

    fault: Any = None
    faults: list[Any] = Field([], max_length=MAX_FAULTS)
    scenario: str | None = None
    reach: Reach = "all"
    count: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


def routes(orders: Orders) -> list[web.RouteDef]:
    """What the control API adds for faults."""

    async def order(request: web.Request) -> web.Response:
        conversation = request.match_info.get("id")
        if conversation is not None and not valid_conversation_id(conversation):
            raise web.HTTPBadRequest(text="a conversation id has 1 to 128 letters, digits, dots, colons, - or _")
        body, faults = await _read(request)
        # One conversation means one connection of it, unless more is asked for.
        count = body.count or (1 if conversation is not None else None)
        if _NUMBER.fullmatch(number := request.headers.get(NUMBER_FROM, "")):
            orders.number_from(int(number))
        try:
            placed = [
                orders.place(fault, conversation=conversation, scenario=body.scenario, reach=body.reach, count=count)
                for fault in faults
            ]
        except TooManyOrdersError as error:
            raise web.HTTPTooManyRequests(text=str(error)) from error
        return web.json_response([one.view() for one in placed], status=201)

    async def show(request: web.Request) -> web.Response:
        conversation = request.match_info.get("id")
        return web.json_response({"pending": orders.pending(conversation), "fired": orders.fired(conversation)})

    async def cancel(request: web.Request) -> web.Response:
        conversation = request.match_info.get("id")
        return web.json_response({"cancelled": orders.cancel_all(conversation)})

    async def cancel_one(request: web.Request) -> web.Response:
        if not orders.cancel(request.match_info["fault"]):
            raise web.HTTPNotFound(text="no such fault is pending; GET /faults lists them")
        return web.json_response({"cancelled": 1})

    return [
        web.post("/faults", order),
        web.get("/faults", show),
        web.delete("/faults", cancel),
        web.delete("/faults/{fault}", cancel_one),
        web.post("/conversations/{id}/faults", order),
        web.get("/conversations/{id}/faults", show),
        web.delete("/conversations/{id}/faults", cancel),
    ]


async def _read(request: web.Request) -> tuple[_Body, list[AnyFault]]:
    """The faults of a request: one, a list, or either of them with ``reach``, ``count`` and ``scenario`` beside it."""
    try:
        given = json.loads(await read_body(request) or b"null")
    except (ValueError, RecursionError) as error:
        raise web.HTTPBadRequest(text=f"not JSON: {error}") from error
    try:
        if isinstance(given, list):
            return _Body(), _some(given)
        if isinstance(given, dict) and "do" not in given:
            body = _Body.model_validate(given)
            return body, _some([*([] if body.fault is None else [body.fault]), *body.faults])
        return _Body(), [read(given)]
    except FaultError as error:
        raise web.HTTPBadRequest(text=str(error)) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise web.HTTPBadRequest(text=f"{where}: {first['msg']}") from error


def _some(given: list[Any]) -> list[AnyFault]:
    if not given:
        raise FaultError('no fault; say {"fault": {"do": …}} or {"faults": […]}')
    return parse_all(given)


def refused(fault: RefuseUpgrade) -> web.Response:
    """The answer to an upgrade request that is refused."""
    headers = {} if fault.retry_after is None else {"Retry-After": str(math.ceil(fault.retry_after.total_seconds()))}
    if fault.body is not None:
        return web.Response(status=fault.status, text=fault.body, headers=headers)
    response = rest.ApiError(fault.status, _MESSAGES.get(fault.status, texts.UNAVAILABLE.text)).response()
    response.headers.update(headers)
    return response
