"""ToolService of the real process."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import json_format, struct_pb2
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from parley.v1 import live_pb2, tools_pb2, tools_pb2_grpc
from tests.support.eventually import eventually
from tests.tools.conftest import ToolsProcess


@pytest.fixture
async def channel(service: ToolsProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(service.address) as channel:
        yield channel


async def call(
    channel: grpc.aio.Channel, tool: str, arguments: Any = None, **values: Any
) -> tools_pb2.CallToolResponse:
    struct = struct_pb2.Struct()
    struct.update(arguments or {})
    timeout = values.pop("timeout", None)
    fields: dict[str, Any] = {"name": tool, "arguments": struct, "caller": "test", "idempotency_key": "k"} | values
    request = tools_pb2.CallToolRequest(**fields)
    stub: Any = tools_pb2_grpc.ToolServiceStub(channel)
    response: tools_pb2.CallToolResponse = await stub.CallTool(request, timeout=timeout)
    return response


def details(error: grpc.aio.AioRpcError) -> tuple[str, dict[str, str]]:
    status = rpc_status.from_call(error)
    assert status is not None
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
    return info.reason, {violation.field: violation.description for violation in bad.field_violations}


async def test_lists_the_tools_by_name(channel: grpc.aio.Channel) -> None:
    stub: Any = tools_pb2_grpc.ToolServiceStub(channel)
    tools = (await stub.ListTools(tools_pb2.ListToolsRequest())).tools
    names = [tool.declaration.name for tool in tools]
    assert names == sorted(names)
    assert {"lookup_order", "get_weather"} <= set(names)


async def test_runs_a_tool(channel: grpc.aio.Channel) -> None:
    response = await call(channel, "lookup_order", {"order_id": "4711"})
    assert response.outcome == live_pb2.TOOL_OUTCOME_SUCCEEDED
    assert json_format.MessageToDict(response.output)["arrives"] == "friday"
    told = json_format.MessageToDict((await call(channel, "whoami", idempotency_key="once")).output)
    assert (told["caller"], told["key"], told["session"]) == ("test", "once", "")


async def test_whole_numbers_of_a_struct_are_integers(channel: grpc.aio.Channel) -> None:
    response = await call(channel, "meet", {"count": 1})
    assert response.outcome == live_pb2.TOOL_OUTCOME_SUCCEEDED, response.error


async def test_tool_that_fails_is_a_response_not_an_error(channel: grpc.aio.Channel) -> None:
    response = await call(channel, "lookup_order", {"order_id": "9999"})
    assert (response.outcome, response.error) == (live_pb2.TOOL_OUTCOME_FAILED, "no order 9999")


@pytest.mark.parametrize(
    ("values", "code", "reason", "fields"),
    [
        ({"caller": ""}, grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID", {"caller"}),
        (
            {"idempotency_key": "", "caller": "x" * 300},
            grpc.StatusCode.INVALID_ARGUMENT,
            "FIELD_INVALID",
            {"idempotency_key", "caller"},
        ),
        ({"name": "nothing"}, grpc.StatusCode.NOT_FOUND, "TOOL_UNKNOWN", {"name"}),
        ({"arguments": {}}, grpc.StatusCode.INVALID_ARGUMENT, "ARGUMENTS_INVALID", {"arguments.order_id"}),
        (
            {"arguments": {"order_id": 3, "x": 1}},
            grpc.StatusCode.INVALID_ARGUMENT,
            "ARGUMENTS_INVALID",
            {"arguments.order_id", "arguments.x", "arguments"},
        ),
    ],
)
async def test_wrong_request_names_the_fields(
    channel: grpc.aio.Channel, values: dict[str, Any], code: grpc.StatusCode, reason: str, fields: set[str]
) -> None:
    arguments = values.pop("arguments", {"order_id": "4711"})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, "lookup_order", arguments, **values)
    assert caught.value.code() == code
    got_reason, violations = details(caught.value)
    assert got_reason == reason
    assert set(violations) == fields


async def test_not_a_number_in_a_struct_is_refused(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, "lookup_order", {"order_id": float("nan")})
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_deadline_of_the_caller_ends_the_function(channel: grpc.aio.Channel, service: ToolsProcess) -> None:
    before = service.counts()["calls"]
    # Both ends watch the same deadline: whoever is first says so.
    try:
        assert (await call(channel, "hang", timeout=0.1)).outcome == live_pb2.TOOL_OUTCOME_TIMED_OUT
    except grpc.aio.AioRpcError as error:
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: service.counts()["running"] == 0)
    await eventually(lambda: service.counts()["calls"] == before + 1)


async def test_caller_that_goes_away_cancels_the_function(channel: grpc.aio.Channel, service: ToolsProcess) -> None:
    stub: Any = tools_pb2_grpc.ToolServiceStub(channel)
    running = stub.CallTool(tools_pb2.CallToolRequest(name="hang", caller="test", idempotency_key="k"))
    await eventually(lambda: service.counts()["running"] == 1)
    running.cancel()
    await eventually(lambda: service.counts()["running"] == 0)


async def test_health_and_reflection(channel: grpc.aio.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    for name in ("", "parley.v1.ToolService"):
        response = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert response.status == health_pb2.HealthCheckResponse.SERVING
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    stream = reflection.ServerReflectionInfo()
    await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = {service.name for service in (await stream.read()).list_services_response.service}
    await stream.done_writing()
    assert "parley.v1.ToolService" in listed
