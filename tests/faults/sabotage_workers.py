"""The stories of dying workers notice when a promise is broken: `make test-sabotage`, a minute beside `make test`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

import tests
from tests.faults import test_workers as stories

FOLDER = Path(tests.__file__).parent / "support" / "sabotage"
BROKEN = {
    "no_replay": "the_caller_speaks",
    "restarted_seq": "the_model_speaks",
    "no_fence": "nobody_speaks_to_a_worker_that_froze",
    "early_ack": "the_caller_speaks",
}
"""What is taken away, and a story that must notice."""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BaseException | None]:
    """Each story in a stack whose workers are sabotaged, all at once."""

    async def one(sabotage: str, name: str) -> BaseException | None:
        everything = stories.frozen if name in stories.frozen.names else stories.killed
        strike = stories.freeze_worker if name in stories.frozen.names else stories.kill_worker_and_gateway
        env = {
            "PARLEY_TEST_SABOTAGE": sabotage,
            "PYTHONPATH": os.pathsep.join((str(FOLDER), str(FOLDER.parents[2]), os.environ.get("PYTHONPATH", ""))),
        }
        outcomes = await stories.tell(everything.only(name), strike, tmp_path_factory.mktemp(sabotage), env)
        return outcomes[name]

    async def all_of_them() -> dict[str, BaseException | None]:
        outcomes = await asyncio.gather(*(one(*each) for each in BROKEN.items()))
        return dict(zip(BROKEN, outcomes, strict=True))

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("sabotage", BROKEN)
def test_a_story_notices(told: dict[str, BaseException | None], sabotage: str) -> None:
    assert isinstance(told[sabotage], AssertionError), told[sabotage]
