"""Under `make test-sabotage` the same stories are told of workers that lack something."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest

from parley.cli._child import Child
from parley.cli.stack import Stack
from tests.faults.call import Call
from tests.support import sabotage_stack


@pytest.fixture(scope="session", autouse=True)
def sabotaged_workers() -> None:
    """Every stack has them, where the variable says what is lacking."""
    sabotage = os.environ.get(sabotage_stack.STORIES, "")
    if not sabotage:
        return
    Call.LIMIT = 30.0
    spawn_service = Stack._spawn_service

    async def spawn(stack: Stack, kind: str, env: Mapping[str, str]) -> Child:
        if kind == "worker":
            return await sabotage_stack.spawn(stack, env, sabotage)
        return await spawn_service(stack, kind, env)

    Stack._spawn_service = spawn  # type: ignore[method-assign]
