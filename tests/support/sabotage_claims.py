"""Sabotage: what the claims of tool calls stand on is taken away, in the process that imports this."""

from __future__ import annotations

import os

from services.fabric.records import RecordStore

VARIABLE = "PARLEY_TEST_SABOTAGE"
"""`fence`: the server is not asked to look at the ownership. `create_only`: a claim may be written over another.
`compare_and_set`: it may be written over without a look at what stands there."""


def apply() -> None:
    """As the environment says."""
    lost = os.environ.get(VARIABLE, "")
    fenced = RecordStore._fenced

    async def weak(
        self: RecordStore, session: str, own: int, subject: str, payload: bytes, *, create_only: bool = False
    ) -> int:
        if lost == "create_only":
            return await fenced(self, session, own, subject, payload)
        return await self._publish(subject, payload, {} if create_only else {"Nats-Rollup": "sub"})

    async def blind(self: RecordStore, subject: str, _revision: int, payload: bytes) -> int:
        return await self._publish(subject, payload, {"Nats-Rollup": "sub"})

    if lost == "compare_and_set":
        RecordStore._replace = blind  # type: ignore[method-assign]
    elif lost:
        RecordStore._fenced = weak  # type: ignore[method-assign]


def main() -> None:
    """The tools service, sabotaged."""
    from services.tools.cli import command

    apply()
    command()
