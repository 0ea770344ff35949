"""ToolService on the internal port: list the tools, run one outside a session.

Gateways and workers do not come here: it is for operators, and for services that want a tool without a conversation.
They show API keys of the gateway's kind; where there are none, the port is for this machine alone (see the settings).
"""

from __future__ import annotations

import json
import math
from datetime import timedelta
from typing import Any, Final, NoReturn

import grpc
from google.protobuf import json_format
from google.rpc import code_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from parley.v1 import errors_pb2, tools_pb2, tools_pb2_grpc
from services.fabric import ids, names, telemetry
from services.fabric.auth import Authenticator, Identity
from services.fabric.errors import ServiceError
from services.tools.calls import CallCounts, call_span, run_counted
from services.tools.execute import Call, Execution, Executor, Refusal, Result
from services.tools.registry import Registry

SERVICE: Final = tools_pb2.DESCRIPTOR.services_by_name["ToolService"].full_name
_MAX_LABEL: Final = 256
_MAX_ARGUMENTS: Final = 256 * 1024
"""Bytes of arguments as protobuf: to make JSON of more takes long, and nothing else runs meanwhile."""
_LAST_WORDS: Final = 0.5
"""Seconds for responses on their way out when the port closes."""
_REASONS: Final[dict[Refusal, errors_pb2.ErrorReason]] = {
    Refusal.UNKNOWN_TOOL: errors_pb2.ERROR_REASON_TOOL_UNKNOWN,
    Refusal.WRONG_ARGUMENTS: errors_pb2.ERROR_REASON_ARGUMENTS_INVALID,
    Refusal.UNAVAILABLE: errors_pb2.ERROR_REASON_NO_CAPACITY,
    Refusal.NOT_PERMITTED: errors_pb2.ERROR_REASON_NOT_PERMITTED,
    Refusal.BUSY: errors_pb2.ERROR_REASON_NO_CAPACITY,
    Refusal.TOOL_BUSY: errors_pb2.ERROR_REASON_NO_CAPACITY,
    Refusal.TENANT_BUSY: errors_pb2.ERROR_REASON_TENANT_LIMIT,
    Refusal.DRAINING: errors_pb2.ERROR_REASON_NO_CAPACITY,
}

Context = grpc.aio.ServicerContext[Any, Any]


class ToolServicer(tools_pb2_grpc.ToolServiceServicer):
    """The same executions as over NATS."""

    def __init__(
        self,
        registry: Registry,
        executor: Executor,
        counts: CallCounts,
        *,
        authenticator: Authenticator,
        default_timeout: timedelta,
    ) -> None:
        self._authenticator = authenticator
        self._registry = registry
        self._executor = executor
        self._counts = counts
        self._default_timeout = default_timeout

    async def ListTools(  # noqa: N802 - gRPC's name
        self, request: tools_pb2.ListToolsRequest, context: Context
    ) -> tools_pb2.ListToolsResponse:
        """The tools of this process; of these, for callers of a tenant, those that exist for it."""
        caller = await self._identified(context)
        tools = [
            tool.declaration(self._default_timeout)
            for tool in self._registry.all()
            if caller.operator or tool.permits(caller.tenant)
        ]
        for tool in tools if not caller.operator else ():
            del tool.tenants[:]  # who else has it is nothing to the caller
        return tools_pb2.ListToolsResponse(tools=tools)

    async def CallTool(  # noqa: N802
        self, request: tools_pb2.CallToolRequest, context: Context
    ) -> tools_pb2.CallToolResponse:
        """Run one tool."""
        identity = await self._identified(context)
        missing = {
            name: f"is required, up to {_MAX_LABEL} characters"
            for name in ("name", "caller", "idempotency_key")
            if not 0 < len(getattr(request, name)) <= _MAX_LABEL
        }
        if len(request.tenant) > _MAX_LABEL:
            missing["tenant"] = f"at most {_MAX_LABEL} characters"
        if request.arguments.ByteSize() > _MAX_ARGUMENTS:
            missing["arguments"] = f"at most {_MAX_ARGUMENTS} bytes"
        if missing:
            message = "; ".join(f"{path}: {problem}" for path, problem in missing.items())
            await _abort(context, ServiceError(errors_pb2.ERROR_REASON_FIELD_INVALID, message, missing))
        try:
            arguments = json_format.MessageToJson(request.arguments, indent=None)
        except (json_format.SerializeToJsonError, ValueError) as error:  # NaN is a plain ValueError
            violation = {"arguments": f"not JSON ({error})"}
            await _abort(
                context, ServiceError(errors_pb2.ERROR_REASON_ARGUMENTS_INVALID, f"arguments: {error}", violation)
            )
        remaining = context.time_remaining()
        call = Call(
            name=request.name,
            arguments_json=arguments,
            execution_id=ids.sortable_id(),
            timeout=None if remaining is None or math.isinf(remaining) else timedelta(seconds=remaining),
            tenant=await _tenant(context, identity, request.tenant),
            caller=request.caller,
            idempotency_key=request.idempotency_key,
        )
        admitted = self._executor.admit(call)
        result = admitted if isinstance(admitted, Result) else await self._run(admitted, context)
        if result.refusal is not None:
            if result.refusal is not Refusal.UNKNOWN_TOOL and isinstance(admitted, Result):
                self._counts.count(call.name, result)
            await _abort_refused(context, result)
        response = tools_pb2.CallToolResponse(outcome=result.outcome, error=result.error)
        response.duration.FromTimedelta(result.duration)
        if result.output_json:
            response.output.update(json.loads(result.output_json))
        return response

    async def _identified(self, context: Context) -> Identity:
        metadata = [(str(key), value) for key, value in context.invocation_metadata() or ()]
        try:
            return self._authenticator.identify(metadata)
        except ServiceError as error:
            await _abort(context, error)

    async def _run(self, execution: Execution, context: Context) -> Result:
        # A caller that goes away cancels this coroutine, and `run` then ends the call.
        parent = telemetry.context_from_metadata(context.invocation_metadata() or ())
        with call_span(execution.call, parent, {names.RPC_SYSTEM: "grpc", names.RPC_METHOD: f"{SERVICE}/CallTool"}):
            return await run_counted(self._executor, execution, self._counts)


async def _tenant(context: Context, caller: Identity, wished: str) -> str:
    """On whose behalf a call is made."""
    if caller.operator:
        return wished
    if wished not in ("", caller.tenant):
        problem = f"this key calls for the tenant {caller.tenant!r} alone; an operator's may name another"
        await _abort(context, ServiceError(errors_pb2.ERROR_REASON_NOT_PERMITTED, problem, {"tenant": problem}))
    return caller.tenant


async def _abort_refused(context: Context, result: Result) -> NoReturn:
    assert result.refusal is not None
    violations = {f"arguments.{path}" if path else "arguments": problem for path, problem in result.violations.items()}
    if result.refusal is Refusal.UNKNOWN_TOOL:
        violations = {"name": result.error}
    error = ServiceError(_REASONS[result.refusal], result.error, violations)
    # Here the tool is the resource asked for; in a session's settings it is a wrong field.
    await _abort(context, error, grpc.StatusCode.NOT_FOUND if result.refusal is Refusal.UNKNOWN_TOOL else None)


async def _abort(context: Context, error: ServiceError, code: grpc.StatusCode | None = None) -> NoReturn:
    status = error.to_status()
    if code is not None:
        status.code = code_pb2.Code.Value(code.name)
    await context.abort(code or error.code, error.message, (("grpc-status-details-bin", status.SerializeToString()),))


class GrpcPort:
    """The server: ToolService, health and, if asked for, reflection."""

    def __init__(self, listen: str, servicer: ToolServicer, *, reflects: bool) -> None:
        self._listen = listen
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._health = health.aio.HealthServicer()
        tools_pb2_grpc.add_ToolServiceServicer_to_server(servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if reflects:
            reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)

    async def start(self) -> str:
        """Listen; return HOST:PORT. OSError when the address cannot be had."""
        try:
            port = self._server.add_insecure_port(self._listen)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._listen}: {error}") from error
        await self._server.start()
        return f"{self._listen.rpartition(':')[0]}:{port}"

    async def serving(self, serving: bool) -> None:
        """What health says of the whole and of ToolService."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", SERVICE):
            await self._health.set(service, status)

    async def stop(self) -> None:
        """Close; call it when the executor is drained. Not with its grace: a health watch would use all of it up."""
        await self._server.stop(_LAST_WORDS)
