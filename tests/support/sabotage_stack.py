"""A stack whose workers lack something."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from parley.cli._child import Child
from parley.cli.stack import Stack, StackConfig

VARIABLE = "PARLEY_TEST_SABOTAGE"
"""What is taken away from a worker."""
STORIES = "PARLEY_TEST_SABOTAGED_STORIES"
"""What is taken away from every worker of tests/faults: see its conftest."""


class Sabotaged(Stack):
    """Its workers lack what a sabotage takes away."""

    def __init__(self, config: StackConfig, sabotage: str) -> None:
        super().__init__(config)
        self._sabotage = sabotage

    async def _spawn_service(self, kind: str, env: Mapping[str, str]) -> Child:
        if kind != "worker":
            return await super()._spawn_service(kind, env)
        return await spawn(self, env, self._sabotage)


async def spawn(stack: Stack, env: Mapping[str, str], sabotage: str) -> Child:
    """A worker that lacks something."""
    command = [sys.executable, "-m", "tests.support.sabotage"]
    child = await stack._spawn("worker", command, {**env, VARIABLE: sabotage})
    await child.wait_ready(stack.config.ready_timeout)
    return child
