"""Sources as the service runs them, without NATS: keeper, registry and executor, against real processes and sockets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from parley.v1 import live_pb2
from services.tools.execute import Call, Execution, Executor, Result
from services.tools.registry import Registry
from services.tools.settings import ToolsSettings
from services.tools.sources import file
from services.tools.sources.build import sources_of
from services.tools.sources.keeper import SourceKeeper
from tests.support.eventually import eventually

UNRULY = Path(__file__).with_name("unruly_mcp.py")
EXAMPLES = Path(file.__file__).parents[1] / "examples" / "sources"

SUCCEEDED = live_pb2.TOOL_OUTCOME_SUCCEEDED
FAILED = live_pb2.TOOL_OUTCOME_FAILED
TIMED_OUT = live_pb2.TOOL_OUTCOME_TIMED_OUT
UNKNOWN = live_pb2.TOOL_OUTCOME_UNKNOWN
MAX_RESULT = 100_000


class Running:
    """Sources that run."""

    def __init__(self, registry: Registry, keeper: SourceKeeper) -> None:
        self.registry = registry
        self.keeper = keeper
        self.executor = Executor(
            registry, max_concurrency=64, default_timeout=timedelta(seconds=20), max_result_bytes=MAX_RESULT
        )
        self._numbers = itertools.count()

    @property
    def names(self) -> list[str]:
        return [tool.name for tool in self.registry.all()]

    def admit(self, name: str, arguments: dict[str, Any] | None = None, **values: Any) -> Execution | Result:
        fields = {"execution_id": f"e{next(self._numbers)}", "idempotency_key": "the-key"} | values
        return self.executor.admit(Call(name=name, arguments_json=json.dumps(arguments or {}), **fields))

    async def call(self, name: str, arguments: dict[str, Any] | None = None, **values: Any) -> Result:
        admitted = self.admit(name, arguments, **values)
        return await self.executor.run(admitted) if isinstance(admitted, Execution) else admitted

    async def output(self, name: str, arguments: dict[str, Any] | None = None, **values: Any) -> Any:
        result = await self.call(name, arguments, **values)
        assert result.outcome == SUCCEEDED, result
        return json.loads(result.output_json)

    async def available(self, name: str) -> None:
        def there() -> bool:
            tool = self.registry.get(name)
            assert tool is not None, self.registry.problems
            assert not tool.unavailable()
            return True

        await eventually(there, timeout=60)


@contextlib.asynccontextmanager
async def running(folder: Path, sources: Sequence[dict[str, Any]], **keeper: Any) -> AsyncIterator[Running]:
    """Run the sources of a file with this content; nothing of them is left afterwards."""
    path = folder / "sources.yaml"
    path.write_text(json.dumps({"sources": sources}))  # JSON is YAML
    before = asyncio.all_tasks()
    registry = Registry()
    kept = SourceKeeper(
        sources_of(ToolsSettings(modules=[], sources=path, max_result_bytes=MAX_RESULT)), registry, **keeper
    )
    task = asyncio.create_task(kept.run())
    try:
        await kept.tried(30)
        yield Running(registry, kept)
    finally:
        task.cancel()
        _, stuck = await asyncio.wait({task}, timeout=30)
        for left in asyncio.all_tasks() - before if stuck else ():
            left.print_stack()
        assert not stuck, "the sources do not end"
        await eventually(lambda: asyncio.all_tasks() <= before)


@contextlib.asynccontextmanager
async def http_server(app: web.Application, port: int = 0) -> AsyncIterator[str]:
    """The address of an HTTP service in this process."""
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
