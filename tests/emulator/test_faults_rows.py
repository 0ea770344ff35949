"""Every failure that was seen in the field and that the service makes, produced here, and known by its symptom.

The ids are the rows of the dossier's table of field failures. Rows that a client makes by itself (it does not read, it
opens a second greeting) are not here; those that a message of the client's brings about are produced by that message.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.emulator.behaviour import behaviour, patched
from tests.emulator.conftest import Here
from tests.emulator.patience import LIMIT, in_time
from tests.emulator.raw import HELLO, PATH, SETUP, Socket, gone, headers

pytestmark = pytest.mark.asyncio(loop_scope="module")

names = (f"row-{number}" for number in itertools.count())
OFF = [
    patched("emulator.faults.effects.Effects.of", lambda *_: []),
    patched("emulator.faults.plan.FaultPlan.at_upgrade", lambda *_: []),
]
CALLING = {
    "setup": {
        **SETUP["setup"],
        "tools": [{"functionDeclarations": [{"name": "get_weather", "behavior": "BLOCKING"}]}],
    }
}
RESUMABLE = {"setup": {**SETUP["setup"], "sessionResumption": {}}}
WEATHER = {"realtimeInput": {"text": "what is the weather in paris"}}
STOP = {"realtimeInput": {"text": "stop"}}


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nothing_left(here: Here) -> AsyncIterator[None]:
    yield
    await gone(here, LIMIT)


async def closed_after(here: Here, faults: str, *frames: Any) -> tuple[int | None, str]:
    """The close that a connection with ``faults`` ends with after ``frames``."""
    async with Socket(here, faults) as client:
        await client.send(*frames)
        return await client.closed()


async def silent_after(client: Socket) -> None:
    """Nothing comes any more, but a pong: the socket is open."""
    await client.send(HELLO)
    await client.socket.ping()
    assert (await client.frame()).type is aiohttp.WSMsgType.PONG
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            raise AssertionError(await client.socket.receive())


async def deadline(here: Here) -> None:
    assert await closed_after(here, "close preset=deadline after=50ms", SETUP) == (
        1011,
        "Deadline expired before operation could complete.",
    )


async def go_away_text(here: Here) -> None:
    code, reason = await closed_after(here, "go_away time_left=50ms then=close", SETUP)
    assert code == 1008
    assert reason.endswith("after receiving a GoAway signal once the session durat")


async def go_away_then_silence(here: Here) -> None:
    async with Socket(here, "go_away time_left=50s then=silence") as client:
        await client.send(SETUP)
        await client.until("goAway")
        await silent_after(client)


async def go_away_without_time_left(here: Here) -> None:
    async with Socket(here, "go_away") as client:
        await client.send(SETUP)
        assert [await client.next(), await client.next()] == [{"setupComplete": {}}, {"goAway": {}}]


async def dead_handle(here: Here) -> None:
    name = next(names)
    async with Socket(here, conversation=name) as client:
        await client.send(RESUMABLE, STOP)
        updates = await client.until("newHandle")
        handle = json.loads(updates[-1].data)["sessionResumptionUpdate"]["newHandle"]
    await gone(here)
    async with Socket(here, "lose_handles on=connect", name) as client:
        await client.send({"setup": {**SETUP["setup"], "sessionResumption": {"handle": handle}}})
        assert await client.closed() == (1008, "BidiGenerateContent session not found")


async def old_socket_open(here: Here) -> None:
    # Frozen, the old connection is open for the service for as long as its client is there.
    async with Socket(here, "half_open on=handle") as old:
        await old.send(RESUMABLE, STOP)
        updates = await old.until("newHandle")
        handle = json.loads(updates[-1].data)["sessionResumptionUpdate"]["newHandle"]
        again = {"setup": {**SETUP["setup"], "sessionResumption": {"handle": handle}}}
        assert await closed_after(here, "", again) == (1011, "Internal error encountered.")
        await old.socket.ping()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                raise AssertionError(await old.socket.receive())


async def slow_pongs(here: Here) -> None:
    async with Socket(here, "pongs delay=250ms") as client:
        await client.send(SETUP)
        await client.next()
        await client.socket.ping()
        await client.send(STOP)
        assert "turnComplete" in (await client.next())["serverContent"]
        assert (await client.frame()).type is aiohttp.WSMsgType.PONG


async def lost_call(here: Here) -> None:
    async with Socket(here, "reset on=tool_call") as client:
        await client.send(CALLING, WEATHER)
        frames = await client.until("toolCall")
        assert frames
        assert await client.closed() == (1006, "")


async def aborted_during_a_call(here: Here) -> None:
    expected = (1008, "The operation was aborted.")
    assert await closed_after(here, "close preset=aborted on=tool_call", CALLING, WEATHER) == expected


async def not_enabled_during_a_call(here: Here) -> None:
    expected = (1008, "Operation is not implemented, or supported, or enabled.")
    assert await closed_after(here, "close preset=not_enabled on=tool_call", CALLING, WEATHER) == expected


async def model_that_waits_for_an_answer_it_does_not_hear(here: Here) -> None:
    async with Socket(here, "ignore_responses") as client:
        await client.send(CALLING, WEATHER)
        call = json.loads((await client.until("toolCall"))[-1].data)["toolCall"]["functionCalls"][0]
        response = {"id": call["id"], "name": call["name"], "response": {"condition": "sunny"}}
        await client.send({"toolResponse": {"functionResponses": [response]}})
        await client.socket.ping()
        assert (await client.frame()).type is aiohttp.WSMsgType.PONG
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                raise AssertionError(await client.socket.receive())


async def cancelled_call(here: Here) -> None:
    async with Socket(here, "cancel_calls after=20ms") as client:
        await client.send(CALLING, WEATHER)
        call = json.loads((await client.until("toolCall"))[-1].data)["toolCall"]["functionCalls"][0]
        cancelled = json.loads((await client.until("toolCallCancellation"))[-1].data)
        assert cancelled["toolCallCancellation"] == {"ids": [call["id"]]}


def close_of(code: int, preset: str, reason: str) -> Callable[[Here], Awaitable[None]]:
    async def check(here: Here) -> None:
        found = await closed_after(here, f"close preset={preset}", SETUP)
        assert (found[0], found[1][: len(reason)]) == (code, reason)

    return check


async def refused_upgrade(here: Here) -> None:
    async with aiohttp.ClientSession() as http:
        asked = headers("refuse_upgrade status=429 retry_after=7s")
        async with http.get(here.address + PATH, ssl=here.ssl_context, headers=asked) as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "7")
            assert (await response.json())["error"]["status"] == "RESOURCE_EXHAUSTED"


async def lost_at_a_constant_age(here: Here) -> None:
    for how in ("rst", "fin"):
        assert await closed_after(here, f"reset after=50ms how={how}", SETUP) == (1006, "")


async def usage_only(here: Here) -> None:
    async with Socket(here, "frame what=usage_only") as client:
        await client.send(SETUP)
        await client.next()
        message = await client.next()
        assert message["serverContent"] == {}
        assert "usageMetadata" in message


async def nothing_the_sdk_knows(here: Here) -> None:
    async with Socket(here, "frame what=unknown_top") as client:
        await client.send(SETUP)
        await client.next()
        assert not set(await client.next()) & {"serverContent", "toolCall", "setupComplete", "goAway"}


ROWS: dict[str, tuple[Callable[[Here], Awaitable[None]], ...]] = {
    "2.4.1": (deadline,),
    "2.4.2": (go_away_text,),
    "2.4.3": (go_away_then_silence,),
    "2.4.4": (go_away_without_time_left,),
    "2.4.5": (
        dead_handle,
        close_of(1007, "invalid_handle", "Invalid session handle"),
        close_of(1008, "entity_not_found", "Requested entity was not found."),
    ),
    "2.4.6": (old_socket_open,),
    "2.4.7": (slow_pongs,),
    "2.4.12": (lost_call,),
    "2.4.13": (aborted_during_a_call, not_enabled_during_a_call),
    "2.4.14": (model_that_waits_for_an_answer_it_does_not_hear,),
    "2.4.15": (cancelled_call,),
    "2.4.16": (close_of(1007, "invalid_argument", "Request contains an invalid argument."),),
    "2.4.17": (
        close_of(1007, "thinking_not_supported", "Thinking level is not supported"),
        close_of(1007, "thinking_missing", "Thinking level must be specified"),
        close_of(1007, "blocking_not_supported", "BLOCKING function calls are not supported"),
        close_of(1007, "scheduling_not_supported", "Function response scheduling is not supported"),
    ),
    "2.4.18": (close_of(1008, "model_not_found", "models/unknown is not found for API version v1beta, or is not"),),
    "2.4.19": (
        refused_upgrade,
        close_of(1011, "quota", "You exceeded your current quota"),
        close_of(1011, "resource_exhausted", "RESOURCE_EXHAUSTED: "),
        close_of(1011, "concurrency", "generic::resource_exhausted: RESOURCE_EXHAUSTED: Maximum concurrent"),
    ),
    "2.4.20": (
        close_of(1011, "unavailable", "The service is currently unavailable."),
        close_of(1011, "internal", "Internal error encountered."),
        close_of(1011, "overloaded", "The model is overloaded."),
    ),
    "2.4.21": (close_of(1007, "no_turn", "No turn to complete"),),
    "2.4.22": (lost_at_a_constant_age,),
    "2.4.23": (usage_only,),
    "2.4.27": (
        close_of(1008, "token_expired", "The auth token has expired."),
        close_of(1008, "no_key", "Method doesn't allow unregistered callers"),
    ),
    "2.4.28": (nothing_the_sdk_knows,),
}


@behaviour(*ROWS, off=OFF)
@pytest.mark.parametrize("row", ROWS)
async def test_what_was_seen_in_the_field_can_be_had(here: Here, row: str) -> None:
    async with in_time(in_vain=3):
        for check in ROWS[row]:
            await check(here)


async def test_every_row_that_the_service_makes_is_there() -> None:
    # 8 to 11 are the client's own; 24 to 26 are in the tests of tools and of the setup.
    made = {*range(1, 8), *range(12, 24), 27, 28}
    assert {int(row.removeprefix("2.4.").rstrip("b")) for row in ROWS} == made
