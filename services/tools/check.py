"""`parley tools check`: what a tools service with these settings would serve, and what it could not."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from services.tools.registry import Registry
from services.tools.settings import ToolsSettings
from services.tools.sources.build import sources_of
from services.tools.sources.keeper import SourceKeeper
from services.tools.tool import Tool

_STOP: Final = 10.0


@dataclass(frozen=True)
class Checked:
    """What there is to say about the sources."""

    tools: list[Tool]
    problems: list[str]
    remarks: list[str]


async def check(settings: ToolsSettings, timeout: float) -> Checked:
    """Start every source, wait up to `timeout` seconds for its first offer, and stop it. ConfigurationError."""
    registry = Registry()
    sources = sources_of(settings)
    keeper = SourceKeeper(sources, registry)
    running = asyncio.create_task(keeper.run(), name="sources")
    try:
        await keeper.tried(timeout)
        for source in sources:
            if not keeper.has_tried(source.name):
                registry.went_down(source.name, f"no answer within {timeout:g} s")
        return Checked(registry.all(), registry.problems, registry.remarks)
    finally:
        running.cancel()
        await asyncio.wait({running}, timeout=_STOP)
