"""What a session is set up with: its settings as they are now, and what context updates make of them."""

from __future__ import annotations

from collections.abc import Sequence

from google.genai import types
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from parley.v1 import errors_pb2, fabric_pb2, live_pb2, tools_pb2
from services.fabric.capabilities import Backend, ModelCapabilities, capabilities_of
from services.fabric.catalog import Catalog, exists_for
from services.fabric.errors import ServiceError, invalid_field
from services.fabric.records import MAX_SETTINGS
from services.session_worker import live_config

_CATALOG_WAIT = 10.0
"""Seconds that an update waits for the message bus before its stream is told to try again."""


class SessionContext:
    """The effective settings of one session. The caller's tools are part of them; those of the catalog beside them."""

    def __init__(self, spec: fabric_pb2.OpenSession, catalog: Catalog, backend: Backend) -> None:
        self._spec = spec
        self._catalog = catalog
        self._backend = backend
        self.model = capabilities_of(spec.config.model, backend) or ModelCapabilities()

    @property
    def config(self) -> live_pb2.SessionConfig:
        """As it is now."""
        return self._spec.config

    def tool(self, name: str) -> tools_pb2.Tool | None:
        """A tool of the catalog that the model may call."""
        return next((tool for tool in self._spec.tools if tool.declaration.name == name), None)

    def live_config(self, handle: str, headers: dict[str, str], *, seeded: bool) -> types.LiveConnectConfig:
        """The set-up of a link; an empty handle begins anew, `seeded` with a history."""
        return live_config.live_config(
            self.config, list(self._spec.tools), handle, headers, self._backend, seeded=seeded
        )

    async def update(self, update: live_pb2.ContextUpdate) -> tuple[str | None, list[types.Tool | object] | None]:
        """Change the settings; return instructions and tools for the link, None for what stays. ServiceError when the
        update cannot be taken: then nothing has changed."""
        if not self.model.context_update:
            raise invalid_field("context_update", f"{self.config.model} takes none")
        tools = await self._tools(update.tools.names) if update.HasField("tools") else None
        if self.config.ByteSize() + sum(tool.ByteSize() for tool in tools or ()) > MAX_SETTINGS:
            raise invalid_field("context_update.tools.names", "their declarations do not fit beside the other settings")
        if update.HasField("instructions"):
            self.config.instructions = update.instructions
        if tools is not None:
            del self.config.tools[:]
            self.config.tools.extend(update.tools.names)
            del self._spec.tools[:]
            self._spec.tools.extend(tools)
        return (
            update.instructions if update.HasField("instructions") else None,
            None if tools is None else live_config.live_tools(self.config, tools, self._backend),
        )

    async def _tools(self, names: Sequence[str]) -> list[tools_pb2.Tool]:
        # All of them together have the one limit: nothing of the caller's goes to the link meanwhile.
        patiently = AsyncRetrying(
            retry=retry_if_exception(_is_away),
            wait=wait_random_exponential(multiplier=0.1, max=1),
            stop=stop_after_delay(_CATALOG_WAIT),
            reraise=True,
        )
        return await patiently(self._found, names)

    async def _found(self, names: Sequence[str]) -> list[tools_pb2.Tool]:
        mine = {function.name for function in self.config.caller_tools}
        found: list[tools_pb2.Tool] = []
        for index, name in enumerate(names):
            path = f"context_update.tools.names[{index}]"
            if name in mine:
                raise invalid_field(path, f"{name} is one of the caller's own tools")
            tool = await self._catalog.get(name)
            if tool is None or not exists_for(tool, self._spec.tenant):
                raise invalid_field(path, "no such tool in the catalog", errors_pb2.ERROR_REASON_TOOL_UNKNOWN)
            found.append(tool)
        return found


def _is_away(error: BaseException) -> bool:
    return isinstance(error, ServiceError) and error.reason == errors_pb2.ERROR_REASON_FABRIC_UNAVAILABLE
