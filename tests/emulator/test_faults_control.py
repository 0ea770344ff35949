"""Faults over the control port and the command line, on open connections and on those to come."""

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from typer.testing import CliRunner, Result

from emulator.cli import command
from emulator.faults import reference
from emulator.settings import EmulatorSettings
from tests.emulator.behaviour import behaviour, patched
from tests.emulator.conftest import Here, running
from tests.emulator.patience import LIMIT
from tests.emulator.raw import HELLO, SETUP, Socket, ask, fired, gone

pytestmark = pytest.mark.asyncio(loop_scope="module")

names = (f"control-{number}" for number in itertools.count())
DOCUMENT = Path(__file__).parents[2] / "docs" / "emulator-faults.md"
CALLING = {"setup": {**SETUP["setup"], "tools": [{"functionDeclarations": [{"name": "get_weather"}]}]}}
WEATHER = {"realtimeInput": {"text": "what is the weather in paris"}}
DELIVERY_OFF = patched("emulator.faults.orders.Orders._give", lambda *_: None)


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nothing_left(here: Here) -> AsyncIterator[None]:
    yield
    await ask(here, "DELETE", "/faults")
    await gone(here, LIMIT)


async def invoke(*arguments: str) -> Result:
    """The command line, beside the emulator."""
    return await asyncio.to_thread(CliRunner().invoke, command, list(arguments))


@behaviour("fault.lose_handles", off=patched("emulator.session.handles.HandleStore.forget", lambda *_, **__: None))
@pytest.mark.parametrize("which", ["newest", "all"])
async def test_lost_handles_are_those_that_were_named(here: Here, which: str) -> None:
    resumable = {"setup": {**SETUP["setup"], "sessionResumption": {}}}
    handles = []
    async with Socket(here, f"lose_handles which={which} on=handle nth=2", f"lost-{which}") as client:
        await client.send(resumable)
        for _ in range(2):
            await client.send(HELLO)
            update = json.loads((await client.until("newHandle"))[-1].data)
            handles.append(update["sessionResumptionUpdate"]["newHandle"])
    await gone(here)
    for number, handle in enumerate(handles):
        async with Socket(here) as client:
            await client.send({"setup": {**SETUP["setup"], "sessionResumption": {"handle": handle}}})
            if number == 0 and which == "newest":
                assert "setupComplete" in await client.next()
            else:
                assert (await client.closed())[0] == 1008


@behaviour("fault.live", off=DELIVERY_OFF)
async def test_a_fault_is_ordered_for_an_open_conversation(here: Here) -> None:
    name = next(names)
    async with Socket(here, conversation=name) as client:
        await client.send(SETUP)
        await client.next()
        status, (order,) = await ask(
            here, "POST", f"/conversations/{name}/faults", {"do": "go_away", "time_left": "9s"}
        )
        assert (status, order["fault"], order["left"]) == (201, {"do": "go_away", "time_left": "PT9S"}, 1)
        assert await client.next() == {"goAway": {"timeLeft": "9s"}}
        told = (await ask(here, "GET", f"/conversations/{name}/faults"))[1]
        assert [(one["fault"]["do"], one["link"]) for one in told["fired"]] == [("go_away", 1)]
    record = await here.get(f"/conversations/{name}")
    assert [event["fault"] for event in record["events"] if event["kind"] == "fault"] == [
        {"do": "go_away", "time_left": "PT9S"}
    ]


@behaviour("fault.live", off=DELIVERY_OFF)
async def test_faults_are_ordered_for_connections_to_come_and_only_so_many(here: Here) -> None:
    body = {"faults": ["close preset=quota on=connect"], "count": 2, "reach": "future"}
    assert (await ask(here, "POST", "/faults", body))[0] == 201
    for _ in range(2):
        async with Socket(here) as client:
            assert (await client.closed())[0] == 1011
    async with Socket(here) as client:
        await client.send(SETUP)
        assert await client.next() == {"setupComplete": {}}


@behaviour("fault.live", off=DELIVERY_OFF)
async def test_all_open_connections_are_hit_at_once(here: Here) -> None:
    async with Socket(here) as one, Socket(here) as other, Socket(here) as third:
        for client in (one, other, third):
            await client.send(SETUP)
            await client.next()
        await ask(here, "POST", "/faults", {"fault": {"do": "reset"}, "reach": "open"})
        for client in (one, other, third):
            assert await client.closed() == (1006, "")
    assert (await ask(here, "GET", "/faults"))[1]["pending"] == []


@behaviour("fault.cancel", off=patched("emulator.faults.orders.Orders.cancel", lambda *_: True))
async def test_a_pending_fault_is_cancelled_and_what_lasts_ends(here: Here) -> None:
    name = next(names)
    async with Socket(here, conversation=name) as client:
        await client.send(SETUP)
        await client.next()
        _, (lasting,) = await ask(here, "POST", f"/conversations/{name}/faults", {"do": "half_open"})
        _, (waiting,) = await ask(here, "POST", f"/conversations/{name}/faults", {"do": "reset", "on": "turn_complete"})
        told = (await ask(here, "GET", f"/conversations/{name}/faults"))[1]
        assert [one["id"] for one in told["pending"]] == [lasting["id"], waiting["id"]]
        for order in (lasting, waiting):
            assert await ask(here, "DELETE", f"/faults/{order['id']}") == (200, {"cancelled": 1})
        await client.send(HELLO)
        await client.until("turnComplete")
        await client.socket.ping()
        assert (await client.frame()).type is aiohttp.WSMsgType.PONG
    assert (await ask(here, "DELETE", f"/faults/{waiting['id']}"))[0] == 404


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/faults", "", "a fault is a mapping with `do`, or text; not NoneType"),
        ("/faults", "{", "not JSON: "),
        ("/faults", "[" * 100_000, "not JSON: "),
        ("/faults", "[]", "no fault; "),
        ("/faults", "{}", "no fault; "),
        ("/faults", "7", "a fault is a mapping with `do`, or text; not int"),
        ("/faults", {"do": "explode"}, "unknown fault 'explode'; there are: "),
        ("/faults", {"fault": {"do": "reset"}, "reach": "far"}, "reach: Input should be 'open', 'future' or 'all'"),
        ("/faults", {"fault": {"do": "reset"}, "count": 0}, "count: "),
        ("/faults", {"fault": {"do": "reset"}, "colour": "red"}, "colour: Extra inputs are not permitted"),
        ("/faults", ["reset after=x"], "reset: after: "),
        ("/conversations/a b/faults", {"do": "reset"}, "a conversation id has "),
    ],
)
async def test_what_is_wrong_with_an_order_is_said(here: Here, path: str, body: Any, reason: str) -> None:
    status, text = await ask(here, "POST", path, body)
    assert (status, text[: len(reason)]) == (400, reason)


async def test_orders_are_bounded(here: Here) -> None:
    for _ in range(10):
        assert (await ask(here, "POST", "/faults", {"faults": ["reset link=9"] * 100}))[0] == 201
    status, text = await ask(here, "POST", "/faults", {"do": "reset"})
    assert (status, text) == (429, "1000 faults are pending; cancel some with DELETE /faults")


@pytest.mark.parametrize("given", ["explode", "reset after=x", "[1]"])
async def test_a_bad_header_is_refused_at_the_upgrade(here: Here, given: str) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with Socket(here, given):
            pass
    assert caught.value.status == 400


async def test_a_scenario_says_what_goes_wrong(tmp_path: Path) -> None:
    path = tmp_path / "gone.yaml"
    path.write_text(
        "name: gone\nrules: [{name: a, hear: [hello]}]\n"
        "faults:\n  - go_away time_left=5s\n  - do: reset\n    on: turn_complete\n"
    )
    async with running(EmulatorSettings(scenario=str(path))) as here, Socket(here) as client:
        await client.send(SETUP, HELLO)
        assert await client.next() == {"setupComplete": {}}
        assert await client.next() == {"goAway": {"timeLeft": "5s"}}
        assert await client.closed() == (1006, "")


@behaviour("fault.cli", off=patched("emulator.faults.cli._ask", lambda *_, **__: []))
async def test_the_command_line_orders_a_fault(here: Here) -> None:
    name = next(names)
    async with Socket(here, conversation=name) as client:
        await client.send(SETUP)
        await client.next()
        ordered = ("go_away", "--time-left", "10s", "--then=reset", "--wait", "50ms")
        result = await invoke("fault", "--control", here.control, name, *ordered)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["conversation"] == name
        assert await client.next() == {"goAway": {"timeLeft": "10s"}}
        assert await client.closed() == (1006, "")
    assert await fired(here, name) == ["go_away"]
    listed = await invoke("faults", "--control", here.control, "--conversation", name)
    assert json.loads(listed.stdout)["fired"]["fault"]["do"] == "go_away"


@behaviour("fault.cli", off=patched("emulator.faults.cli._ask", lambda *_, **__: []))
async def test_the_command_line_reaches_all_and_cancels(here: Here) -> None:
    result = await invoke("fault", "--control", here.control, "--all", "--reach", "future", "close", "on=connect")
    assert result.exit_code == 0, result.output
    async with Socket(here) as client:
        assert await client.closed() == (1011, "Internal error encountered.")
    cancelled = await invoke("faults", "--control", here.control, "--cancel", "all")
    assert json.loads(cancelled.stdout) == {"cancelled": 1}
    async with Socket(here) as client:
        await client.send(SETUP)
        assert await client.next() == {"setupComplete": {}}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["c", "explode"], "unknown fault 'explode'"),
        (["c", "reset", "--after", "soon"], "reset: after: "),
        (["c", "reset", "--after"], "--after needs a value"),
        (["c", "reset", "now"], "'now' is no parameter"),
        (["c"], "say the conversation (or --all) and the fault"),
        ([], "Missing argument"),
    ],
)
async def test_a_wrong_command_line_is_a_usage_error(here: Here, arguments: list[str], said: str) -> None:
    result = await invoke("fault", "--control", here.control, *arguments)
    assert result.exit_code == 2
    # The frame around it breaks lines wherever it likes.
    flat = " ".join(result.output.replace("│", " ").split())
    assert said in flat
    if said.startswith("unknown"):
        assert "go_away" in flat and "empty_turns" in flat


async def test_the_command_line_says_that_nobody_answers(here: Here) -> None:
    result = await invoke("fault", "--control", "http://127.0.0.1:1", "c", "reset")
    assert result.exit_code == 69
    assert "no emulator answers at http://127.0.0.1:1" in result.output
    refused = await invoke("fault", "--control", here.control, "a b", "reset")
    assert (refused.exit_code, "a conversation id has" in refused.output) == (1, True)


async def test_the_command_line_lists_what_there_is(here: Here) -> None:
    helped = await invoke("fault", "--help")
    listed = await invoke("faults")
    for name in ("go_away", "half_open", "refuse_upgrade", "empty_turns"):
        assert name in helped.output
        assert name in listed.output
    assert "time_left" in helped.output


async def test_the_document_and_the_models_agree(here: Here) -> None:
    printed = await invoke("faults", "--markdown")
    assert printed.stdout.strip() == reference.markdown()
    assert reference.markdown() in DOCUMENT.read_text(), "put the output of `parley emulator faults --markdown` into it"


@behaviour("10.45", off=patched("emulator.chance.Chance.stream", lambda *_: random.Random()))
async def test_the_same_seed_and_conversation_bring_the_same_faults_ids_and_go_away() -> None:
    async def run(seed: int) -> tuple[list[bool], list[str], float]:
        """Which of some connections a fault struck; the ids of calls; when goAway came."""
        async with running(EmulatorSettings(seed=seed, generation_speed=50, playback_speed=50)) as here:
            assert here.emulator.ready()["seed"] == seed
            struck = []
            for number in range(12):
                faults = "close on=connect chance=0.5; close on=setup code=4000"
                async with Socket(here, faults, f"c{number}") as client:
                    await client.send(SETUP)
                    struck.append((await client.closed())[0] == 1011)
            limits = {"connection_limit": "10s", "go_away_lead": "9900ms", "go_away_jitter": "400ms"}
            async with Socket(here, conversation="c", **limits) as client:
                await client.send(CALLING)
                frames = await client.until("goAway")
                for _ in range(3):
                    await client.send(WEATHER)
                    frames += await client.until("turnComplete")
            record = await here.get("/conversations/c")
        told = [json.loads(frame.data).get("toolCall", {}) for frame in frames]
        ids = [call["id"] for one in told for call in one.get("functionCalls", ())]
        (warned,) = [event["seconds_left"] for event in record["events"] if event["kind"] == "go_away"]
        return struck, ids, warned

    struck, ids, warned = await run(5)
    assert len(set(struck)) == 2
    assert len(set(ids)) == 3
    assert await run(5) == (struck, ids, pytest.approx(warned, abs=0.1))
    other_struck, other_ids, _ = await run(6)
    assert other_struck != struck
    assert not set(other_ids) & set(ids)
