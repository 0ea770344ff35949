"""What comes from an MCP server before the SDK sees it: not faster than we can take, and without tools that are none.

To the SDK one malformed tool makes a malformed list; here it costs only itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self

import anyio
from mcp.client import Transport
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCResponse
from mcp_types.methods import validate_server_result
from mcp_types.version import LATEST_HANDSHAKE_VERSION
from pydantic import ValidationError

from services.tools.sources.pace import Pace

_RATE: Final = 500.0
"""Messages a second that a server may send for long: a flood waits in its pipe or socket, and nobody else notices."""
_BURST: Final = 1000.0
_MAX_LISTED: Final = 1000
"""Tools of one message that are looked at."""


class ToolSieve:
    """Takes malformed tools out of lists."""

    def __init__(self) -> None:
        self.version: Callable[[], str | None] = lambda: None
        """The protocol version that was agreed on."""
        self.malformed: dict[str, str] = {}
        """Names of the tools that were taken out of the lists since this was emptied, and why."""

    def __call__(self, result: dict[str, Any]) -> None:
        """Change a result in place if it is a list of tools."""
        tools = result.get("tools")
        if not isinstance(tools, list):
            return
        if self._problem(result, []) is not None:
            return  # it is no list of tools, or not an MCP server's: the SDK says so
        kept = []
        for number, tool in enumerate(tools[:_MAX_LISTED]):
            if (problem := self._problem(result, [tool])) is None:
                kept.append(tool)
            else:
                name = tool.get("name") if isinstance(tool, dict) else None
                self.malformed[name[:80] if isinstance(name, str) else f"#{number}"] = problem
        result["tools"] = kept

    def _problem(self, result: dict[str, Any], tools: list[Any]) -> str | None:
        try:
            validate_server_result("tools/list", self.version() or LATEST_HANDSHAKE_VERSION, {**result, "tools": tools})
        except ValidationError as error:
            return first_problem(error)
        except KeyError:
            return None
        return None


def first_problem(error: ValidationError) -> str:
    """What is wrong, in a few words."""
    problem = error.errors(include_input=False, include_url=False)[0]
    path = ".".join(str(step) for step in problem["loc"])
    return f"{path[:100]}: {problem['msg'][:200]}"


@asynccontextmanager
async def watched(transport: Transport, sieve: ToolSieve, on_end: Callable[[], None]) -> AsyncIterator[tuple[Any, Any]]:
    """The transport, with what comes paced and sieved. `on_end`: nothing more will come."""
    async with transport as (incoming, outgoing):
        yield _Watched(incoming, sieve, on_end), outgoing


class _Watched:
    def __init__(self, inner: Any, sieve: ToolSieve, on_end: Callable[[], None]) -> None:
        self._inner = inner
        self._sieve = sieve
        self._on_end = on_end
        self._pace = Pace(_RATE, _BURST)

    @property
    def last_context(self) -> Any:
        """The context of whoever waits for the last message, where the transport knows it."""
        return getattr(self._inner, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        item: SessionMessage | Exception = await self._inner.receive()
        if (pause := self._pace.wait(time.monotonic())) > 0:
            await asyncio.sleep(pause)
        if isinstance(item, SessionMessage) and isinstance(item.message, JSONRPCResponse):
            self._sieve(item.message.result)
        return item

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            self._on_end()
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
