"""The stories of drains notice when a promise is broken: `make test-sabotage`, beside `make test`."""

from __future__ import annotations

import asyncio

import pytest

from parley.cli.stack import Stack, StackConfig
from tests.faults import test_drain as stories
from tests.faults.scene import tell
from tests.support.sabotage_stack import Sabotaged

MODULE = "tests.support.sabotage_drain"
SABOTAGES = ("no_quiet_moment", "open_link")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BaseException | None]:
    """What went wrong with each sabotage, at once."""

    def without(sabotage: str, config: StackConfig) -> Stack:
        stack = Sabotaged(config, MODULE, sabotage)
        stack.failed = False
        return stack

    async def no_quiet_moment() -> BaseException | None:
        def make(config: StackConfig) -> Stack:
            return without("no_quiet_moment", config)

        name = stories.the_model_speaks.__name__
        folder = tmp_path_factory.mktemp("no_quiet_moment")
        return (await tell(stories.drained.only(name), stories.terminate, folder, make))[name]

    async def open_link() -> BaseException | None:
        try:
            await stories.an_operator_moves_and_drains(lambda config: without("open_link", config))
        except AssertionError as problem:
            return problem
        return None

    async def both() -> list[BaseException | None]:
        return await asyncio.gather(no_quiet_moment(), open_link())

    return dict(zip(SABOTAGES, asyncio.run(both()), strict=True))


@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_a_story_fails(told: dict[str, BaseException | None], sabotage: str) -> None:
    assert isinstance(told[sabotage], AssertionError), told[sabotage]
