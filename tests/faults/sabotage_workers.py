"""The stories of dying workers notice when a promise is broken: `make test-sabotage`, a minute beside `make test`."""

from __future__ import annotations

import asyncio

import pytest

from parley.cli.stack import Stack, StackConfig
from tests.faults import test_workers as stories
from tests.faults.scene import tell as tell_scene
from tests.support.sabotage_stack import Sabotaged
from tests.support.sabotage_workers import SABOTAGES

SEEN_BY = {
    "no_replay": "the_caller_speaks",
    "restarted_seq": "the_model_speaks",
    "no_fence": "nobody_speaks_to_a_worker_that_froze",
    "early_ack": "the_caller_speaks",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BaseException | None]:
    """What went wrong with each sabotage, all at once."""

    async def tell(sabotage: str) -> BaseException | None:
        name = SEEN_BY[sabotage]
        among = stories.frozen if name in stories.frozen.names else stories.killed
        strike = stories.freeze_worker if among is stories.frozen else stories.kill_worker_and_gateway

        def stack(config: StackConfig) -> Stack:
            return Sabotaged(config, "tests.support.sabotage_workers", sabotage)

        return (await tell_scene(among.only(name), strike, tmp_path_factory.mktemp(sabotage), stack))[name]

    async def all_of_them() -> list[BaseException | None]:
        return await asyncio.gather(*map(tell, SEEN_BY))

    return dict(zip(SEEN_BY, asyncio.run(all_of_them()), strict=True))


def test_every_sabotage_has_its_story() -> None:
    assert set(SEEN_BY) == set(SABOTAGES)


@pytest.mark.parametrize("sabotage", SEEN_BY)
def test_a_story_fails(told: dict[str, BaseException | None], sabotage: str) -> None:
    assert isinstance(told[sabotage], AssertionError), told[sabotage]
