"""A stack whose workers lack something."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace

from parley.cli._child import Child
from parley.cli.stack import Stack, StackConfig

VARIABLE = "PARLEY_TEST_SABOTAGE"
"""What is taken away."""


class Sabotaged(Stack):
    """Its workers run a module that takes something away, as the variable says, and then is a worker."""

    def __init__(self, config: StackConfig, module: str, sabotage: str) -> None:
        super().__init__(replace(config, env={**config.env, VARIABLE: sabotage}))
        self._module = module

    async def _spawn_service(self, kind: str, env: Mapping[str, str]) -> Child:
        if kind != "worker":
            return await super()._spawn_service(kind, env)
        child = await self._spawn(kind, [sys.executable, "-m", self._module], env)
        await child.wait_ready(self.config.ready_timeout)
        return child
