"""`parley session timeline` names the cause of what happened to a call, asked by the id of its trace only.

Three faults side by side here; `make test-timeline` has twenty, of every kind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.faults import causes
from tests.faults.call import UNLOGGED, calling
from tests.faults.causes import Fault, Place, asked, causes_of, new_trace, placed, timeline_of, unlike
from tests.support.eventually import eventually

SIDE_BY_SIDE: dict[str, dict[str, Any]] = {"goAway": {}, "reset": {"config": UNLOGGED}, "half-open": {}}
"""Kinds that touch no other call, and what is special about theirs."""
IN_ORDER: list[tuple[Callable[[Place, Any], Awaitable[None]], str]] = [
    (causes.FAULTS[kind].strike, causes.FAULTS[kind].cause)
    for kind in ("goAway", "reset", "worker killed", "tools killed", "gateway drained", "nats restarted")
]


@pytest.fixture(scope="module")
def said() -> dict[str, str | BaseException]:
    """What is wrong with what the command says of each."""

    async def all_at_once() -> list[str | BaseException]:
        async with AsyncExitStack() as exits:
            place = await placed(exits, workers=1, doors=1)
            strikes = (causes.strike(place, kind, **special) for kind, special in SIDE_BY_SIDE.items())
            return await asyncio.gather(*strikes, return_exceptions=True)

    return dict(zip(SIDE_BY_SIDE, asyncio.run(all_at_once()), strict=True))


@pytest.mark.parametrize("kind", SIDE_BY_SIDE)
def test_the_cause_is_named(said: dict[str, str | BaseException], kind: str) -> None:
    problem = said[kind]
    if isinstance(problem, BaseException):
        raise problem
    assert not problem


@pytest.mark.long
async def test_what_happened_to_one_call_is_told_in_order() -> None:
    async with AsyncExitStack() as exits:
        place = await placed(exits)
        trace, traceparent = new_trace()
        async with calling(place.stack, microphone=False, targets=place.gateways, traceparent=traceparent) as call:
            await call.session.send_text("hello")
            await call.answer(containing="help you")
            for strike, _ in IN_ORDER:
                await strike(place, call)
                await place.whole_again()
        target = str(place.gateway.ready["address"])
        wanted = [cause for _, cause in IN_ORDER]

        async def told() -> bool:
            named = causes_of(await timeline_of(trace, target))
            assert [cause for cause in named if cause in wanted] == wanted, named
            return True

        await eventually(told, 15)
        # People are told the same, and both by the id of the session, too.
        table = await asked(call.session.id, target)
        lines = [line for line in table.splitlines() if line.startswith("- ")]
        assert [line.split()[1].rstrip(":") for line in lines] == causes_of(await timeline_of(trace, target))
        followed = (await asked(call.session.id, target, "--follow")).splitlines()
        assert sum("ended" in line and "CALLER" in line for line in followed) == 1
        print(table)


def test_a_cause_that_is_missing_or_did_not_happen_is_noticed() -> None:
    async def nothing(_place: Place, _call: object) -> None:
        pass

    fault = Fault("DEAD", nothing, frozenset({"SUPERSEDED"}))
    assert not unlike(["SUPERSEDED", "DEAD"], fault)
    assert unlike([], fault) == "DEAD is not named, but []"
    assert unlike(["DEAD", "GO_AWAY"], fault) == "['GO_AWAY'] named beside DEAD"
    assert unlike(["NEWS"], Fault("NEWS", nothing)) == "NEWS is named, and nobody says what it means"


def test_chance_chooses_every_kind_and_the_seed_decides() -> None:
    assert set(causes.chosen(20, 1)) == set(causes.FAULTS)
    assert causes.chosen(20, 1) == causes.chosen(20, 1) != causes.chosen(20, 2)
    assert len(causes.chosen(5, 1)) == 5
