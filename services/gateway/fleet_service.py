"""The workers, as they announce themselves to this gateway."""

from __future__ import annotations

from collections.abc import Callable

from parley.v1 import fleet_pb2, fleet_pb2_grpc
from services.fabric.errors import not_implemented
from services.gateway.auth import Authenticator, Identity
from services.gateway.calls import AnyContext, answer
from services.gateway.placement import WorkerTable


class FleetService(fleet_pb2_grpc.FleetServiceServicer):
    """`parley.v1.FleetService`."""

    def __init__(self, authenticator: Authenticator, table: WorkerTable, now: Callable[[], float]) -> None:
        self._authenticator = authenticator
        self._table = table
        self._now = now

    async def ListWorkers(  # noqa: N802, D102
        self, request: fleet_pb2.ListWorkersRequest, context: AnyContext
    ) -> fleet_pb2.ListWorkersResponse:
        async def listed(_caller: Identity) -> fleet_pb2.ListWorkersResponse:
            return fleet_pb2.ListWorkersResponse(workers=self._table.workers(self._now()))

        return await answer(context, self._authenticator, listed)

    async def DrainWorker(  # noqa: N802, D102
        self, request: fleet_pb2.DrainWorkerRequest, context: AnyContext
    ) -> fleet_pb2.DrainWorkerResponse:
        async def refuse(_caller: Identity) -> fleet_pb2.DrainWorkerResponse:
            raise not_implemented("DrainWorker")

        return await answer(context, self._authenticator, refuse)

    async def UndrainWorker(  # noqa: N802, D102
        self, request: fleet_pb2.UndrainWorkerRequest, context: AnyContext
    ) -> fleet_pb2.UndrainWorkerResponse:
        async def refuse(_caller: Identity) -> fleet_pb2.UndrainWorkerResponse:
            raise not_implemented("UndrainWorker")

        return await answer(context, self._authenticator, refuse)
