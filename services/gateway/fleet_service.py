"""The workers, as they announce themselves to this gateway, and whether they drain."""

from __future__ import annotations

from collections.abc import Callable

from parley.v1 import errors_pb2, fabric_pb2, fleet_pb2, fleet_pb2_grpc
from services.fabric import subjects
from services.fabric.auth import Authenticator, Identity
from services.fabric.bus import Bus, NoResponderError
from services.fabric.errors import ServiceError, invalid_field
from services.gateway.calls import AnyContext, answer
from services.gateway.placement import WorkerTable

_TIMEOUT = 5.0


class FleetService(fleet_pb2_grpc.FleetServiceServicer):
    """`parley.v1.FleetService`."""

    def __init__(self, authenticator: Authenticator, bus: Bus, table: WorkerTable, now: Callable[[], float]) -> None:
        self._authenticator = authenticator
        self._bus = bus
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
        async def drain(caller: Identity) -> fleet_pb2.DrainWorkerResponse:
            _check_operator(caller)
            return fleet_pb2.DrainWorkerResponse(worker=await self._set_draining(request.worker, draining=True))

        return await answer(context, self._authenticator, drain)

    async def UndrainWorker(  # noqa: N802, D102
        self, request: fleet_pb2.UndrainWorkerRequest, context: AnyContext
    ) -> fleet_pb2.UndrainWorkerResponse:
        async def undrain(caller: Identity) -> fleet_pb2.UndrainWorkerResponse:
            _check_operator(caller)
            return fleet_pb2.UndrainWorkerResponse(worker=await self._set_draining(request.worker, draining=False))

        return await answer(context, self._authenticator, undrain)

    async def _set_draining(self, worker: str, *, draining: bool) -> fleet_pb2.Worker:
        """The worker as it is then. ServiceError."""
        if worker not in self._table:
            raise unknown_worker(worker)
        command = fabric_pb2.SetDraining(draining=draining)
        request = fabric_pb2.ControlRequest(schema_version=1, set_draining=command)
        try:
            reply = await self._bus.request(subjects.control(worker), request, fabric_pb2.ControlReply, _TIMEOUT)
        except NoResponderError:
            self._table.gone(worker)
            raise unknown_worker(worker) from None
        if reply.HasField("failure"):
            raise ServiceError.from_failure(reply.failure)
        return reply.pong


def _check_operator(caller: Identity) -> None:
    if not caller.operator:
        raise ServiceError(
            errors_pb2.ERROR_REASON_NOT_PERMITTED, "workers serve every tenant: only an operator's key may drain them"
        )


def unknown_worker(worker: str) -> ServiceError:
    """Nobody of that name is heard."""
    if not worker:
        return invalid_field("worker", "required")
    return invalid_field("worker", f"no worker {worker[:64]!r} is heard; see ListWorkers")
