"""The stories of tests/faults fail where a promise is taken away: without that they would prove nothing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping

import pytest

from parley.cli._child import Child
from parley.cli.stack import Stack, StackConfig
from tests.faults.call import Call
from tests.faults.test_links import a_link_that_ends_while_the_caller_speaks, a_typed_question_and_a_link_that_ends
from tests.support.sabotage_links import SABOTAGES, VARIABLE


class Sabotaged(Stack):
    """A stack whose workers lack something."""

    def __init__(self, sabotage: str) -> None:
        super().__init__(StackConfig(env={VARIABLE: sabotage}))

    async def _spawn_service(self, kind: str, env: Mapping[str, str]) -> Child:
        if kind != "worker":
            return await super()._spawn_service(kind, env)
        child = await self._spawn(kind, [sys.executable, "-m", "tests.support.sabotage_links"], env)
        await child.wait_ready(self.config.ready_timeout)
        return child


async def speaks(stack: Stack) -> None:
    await a_link_that_ends_while_the_caller_speaks(stack, "reset")


async def was_answered(stack: Stack) -> None:
    await a_typed_question_and_a_link_that_ends(stack, "turn_complete")


SEEN_BY: dict[str, Callable[[Stack], Awaitable[None]]] = {
    "no_replay": speaks,
    "double_replay": speaks,
    "no_words": was_answered,
}


@pytest.fixture(scope="module")
def told() -> dict[str, BaseException | None]:
    """What went wrong with each sabotage, all at once."""

    async def tell(sabotage: str) -> None:
        async with Sabotaged(sabotage) as stack:
            stack.failed = False
            await SEEN_BY[sabotage](stack)

    async def all_of_them() -> list[BaseException | None]:
        # What must fail mostly fails by never coming.
        Call.LIMIT = 15.0
        return await asyncio.gather(*map(tell, SEEN_BY), return_exceptions=True)

    limit = Call.LIMIT
    try:
        return dict(zip(SEEN_BY, asyncio.run(all_of_them()), strict=True))
    finally:
        Call.LIMIT = limit


def test_every_sabotage_has_its_story() -> None:
    assert set(SEEN_BY) == set(SABOTAGES)


@pytest.mark.parametrize("sabotage", SEEN_BY)
def test_a_story_fails(told: dict[str, BaseException | None], sabotage: str) -> None:
    assert isinstance(told[sabotage], AssertionError), told[sabotage]
