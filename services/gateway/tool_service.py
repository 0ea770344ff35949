"""The tools of the catalog. Running one outside a session is for the tools service's own port."""

from __future__ import annotations

from parley.v1 import errors_pb2, tools_pb2, tools_pb2_grpc
from services.fabric.auth import Authenticator, Identity
from services.fabric.bus import Bus
from services.fabric.catalog import Catalog, exists_for
from services.fabric.errors import ServiceError
from services.gateway.calls import AnyContext, answer
from services.gateway.settings import GatewaySettings


class ToolService(tools_pb2_grpc.ToolServiceServicer):
    """`parley.v1.ToolService` as far as a gateway serves it."""

    def __init__(self, settings: GatewaySettings, authenticator: Authenticator, bus: Bus, catalog: Catalog) -> None:
        self._settings = settings
        self._authenticator = authenticator
        self._bus = bus
        self._catalog = catalog

    async def ListTools(  # noqa: N802, D102
        self, request: tools_pb2.ListToolsRequest, context: AnyContext
    ) -> tools_pb2.ListToolsResponse:
        async def listed(caller: Identity) -> tools_pb2.ListToolsResponse:
            await self._bus.wait_connected(self._settings.fabric_wait.total_seconds())
            tools = [tool for tool in await self._catalog.all() if exists_for(tool, caller.tenant)]
            for tool in tools:
                del tool.tenants[:]  # who else has it is nothing to the caller
            return tools_pb2.ListToolsResponse(tools=tools)

        return await answer(context, self._authenticator, listed)

    async def CallTool(  # noqa: N802, D102
        self, request: tools_pb2.CallToolRequest, context: AnyContext
    ) -> tools_pb2.CallToolResponse:
        async def refuse(_caller: Identity) -> tools_pb2.CallToolResponse:
            raise ServiceError(
                errors_pb2.ERROR_REASON_NOT_IMPLEMENTED,
                "a gateway does not serve CallTool: call the tools service on its internal address",
            )

        return await answer(context, self._authenticator, refuse)
