"""ToolService of the real process."""

import hashlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format, struct_pb2
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from parley._status import FirstStatus
from parley.v1 import live_pb2, tools_pb2, tools_pb2_grpc
from tests.support.eventually import eventually
from tests.support.nats import NatsServer, running_nats_server
from tests.tools.conftest import ToolsProcess, tools_process


@pytest.fixture
async def channel(service: ToolsProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(service.address) as channel:
        yield channel


async def call(
    channel: grpc.aio.Channel, tool: str, arguments: Any = None, **values: Any
) -> tools_pb2.CallToolResponse:
    struct = struct_pb2.Struct()
    struct.update(arguments or {})
    timeout, metadata = values.pop("timeout", None), values.pop("metadata", None)
    fields: dict[str, Any] = {"name": tool, "arguments": struct, "caller": "test", "idempotency_key": "k"} | values
    request = tools_pb2.CallToolRequest(**fields)
    stub: Any = tools_pb2_grpc.ToolServiceStub(channel)
    response: tools_pb2.CallToolResponse = await stub.CallTool(request, timeout=timeout, metadata=metadata)
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


async def test_more_arguments_than_can_be_read_in_a_moment_are_refused(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, "whoami", {"a": [0] * 30_000})
    assert details(caught.value) == ("FIELD_INVALID", {"arguments": "at most 262144 bytes"})


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


# With keys

SOURCES = [
    {"name": "functions", "kind": "python", "module": "tests.tools.functions", "include": ["whoami"]},
    {"name": "weather", "kind": "python", "module": "services.tools.examples.weather", "tenants": ["acme"]},
]
KEYS = {"acme": False, "umbrella": False, "operators": True}
"""Tenants that have a key, each the one of its name, and whether it is an operator's."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service that wants keys."""
    folder = tmp_path_factory.mktemp("guarded")
    keys = [
        {"tenant": name, "principal": "bot", "sha256": hashlib.sha256(name.encode()).hexdigest(), "operator": operator}
        for name, operator in KEYS.items()
    ]
    (folder / "keys.yaml").write_text(json.dumps({"keys": keys}))
    (folder / "sources.yaml").write_text(json.dumps({"sources": SOURCES}))
    settings = {"api_keys_file": str(folder / "keys.yaml"), "sources": str(folder / "sources.yaml")}
    with (
        running_nats_server() as server,
        tools_process(server.url, folder, modules="", listen="0.0.0.0:0", **settings) as tools,
    ):
        yield f"127.0.0.1:{tools.address.rpartition(':')[2]}"


@pytest.fixture
async def door(guarded: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(guarded) as channel:
        yield channel


def key(of: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {of}"),)


@pytest.mark.parametrize("metadata", [(), key(""), key("acme2"), (("x-parley-api-key", "nobody"),)])
async def test_without_a_known_key_nothing_is_told_and_nothing_run(
    door: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...]
) -> None:
    stub: Any = tools_pb2_grpc.ToolServiceStub(door)
    for asked in (
        lambda: call(door, "whoami", metadata=metadata),
        lambda: stub.ListTools(tools_pb2.ListToolsRequest(), metadata=metadata),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asked()
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert details(caught.value)[0] == "CREDENTIAL_INVALID"


@pytest.mark.parametrize(
    ("of", "tenant", "acts_for"),
    [("acme", "", "acme"), ("acme", "acme", "acme"), ("operators", "umbrella", "umbrella"), ("operators", "", "")],
)
async def test_a_key_calls_for_its_own_tenant_and_an_operators_for_any(
    door: grpc.aio.Channel, of: str, tenant: str, acts_for: str
) -> None:
    response = await call(door, "whoami", tenant=tenant, metadata=key(of))
    assert json_format.MessageToDict(response.output)["tenant"] == acts_for


async def test_a_key_calls_for_no_other_tenant(door: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(door, "get_weather", {"city": "paris"}, tenant="acme", metadata=key("umbrella"))
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert details(caught.value) == (
        "NOT_PERMITTED",
        {"tenant": "this key calls for the tenant 'umbrella' alone; an operator's may name another"},
    )


@pytest.mark.parametrize(
    ("of", "names", "tenants"),
    [
        ("acme", ["get_weather", "whoami"], []),
        ("umbrella", ["whoami"], []),
        ("operators", ["get_weather", "whoami"], ["acme"]),
    ],
)
async def test_a_key_lists_what_exists_for_its_tenant(
    door: grpc.aio.Channel, of: str, names: list[str], tenants: list[str]
) -> None:
    stub: Any = tools_pb2_grpc.ToolServiceStub(door)
    listed = (await stub.ListTools(tools_pb2.ListToolsRequest(), metadata=key(of))).tools
    assert [tool.declaration.name for tool in listed] == names
    assert [tenant for tool in listed for tenant in tool.tenants] == tenants


async def test_health_needs_no_key_and_nobody_is_told_what_there_is(door: grpc.aio.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(door)
    response = await health.Check(health_pb2.HealthCheckRequest(service="parley.v1.ToolService"))
    assert response.status == health_pb2.HealthCheckResponse.SERVING
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(door)
    call = reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    status = FirstStatus(call)
    with pytest.raises(grpc.aio.AioRpcError):
        async for told in call:
            raise AssertionError(told)
    settled = await status.settled()
    assert settled is not None and settled.code == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("content", [None, "keys: [{}]"])
def test_keys_that_cannot_be_read_end_the_process(nats: NatsServer, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "keys.yaml"
    if content is not None:
        path.write_text(content)
    with tools_process(nats.url, tmp_path, ready=False, api_keys_file=str(path)) as tools:
        assert tools.wait(60) == 78
        assert str(path) in tools.log.read_text()


def test_the_command_shows_its_key(guarded: str) -> None:
    command = [sys.executable, "-m", "parley.cli", "tools", "call", "whoami", "--target", guarded]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "send a known API key" in refused.stderr
    told = subprocess.run([*command, "--api-key", "acme"], capture_output=True, text=True, check=True)
    assert json.loads(told.stdout)["tenant"] == "acme"
