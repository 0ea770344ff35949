"""Profile and tenant say which tools exist; anything else is refused, whatever the model asks."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf import json_format

import parley
from parley import errors
from parley.cli._child import Child
from parley.cli.stack import Stack, StackConfig
from parley.v1 import live_pb2, tools_pb2, tools_pb2_grpc
from tests.e2e.test_caller_tools import said
from tests.support import bold_model
from tests.support.counts import get_json, heard

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

QUESTION = "where is my order 4711"
SOURCES = [
    {"name": "orders", "kind": "python", "module": "services.tools.examples.orders", "tenants": ["acme"]},
    {"name": "weather", "kind": "python", "module": "services.tools.examples.weather"},
]
ORDER = tools_pb2.Tool(declaration=live_pb2.FunctionDeclaration(name="lookup_order", description="Finds an order."))
ORDER.declaration.parameters.update(
    {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]}
)


class BoldStack(Stack):
    """Its models call `lookup_order`, which no tenant but acme has; the callers are of the tenant dev."""

    carried = ""

    async def _spawn_service(self, kind: str, env: Mapping[str, str]) -> Child:
        if kind != "worker":
            return await super()._spawn_service(kind, env)
        told = {bold_model.VARIABLE: json_format.MessageToJson(ORDER), bold_model.CARRIED: self.carried}
        child = await self._spawn("worker", [sys.executable, "-m", bold_model.__name__], {**env, **told})
        await child.wait_ready(self.config.ready_timeout)
        return child


def written(folder: Path) -> Path:
    path = folder / "sources.yaml"
    path.write_text(json.dumps({"sources": SOURCES}))
    return path


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["", "carried"])
async def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[BoldStack]:
    path = written(tmp_path_factory.mktemp("sources"))
    env = {"PARLEY_TOOLS_MODULES": "", "PARLEY_TOOLS_SOURCES": str(path)}
    bold = BoldStack(StackConfig(env=env))
    bold.carried = request.param
    async with bold as running:
        yield running


def config(*tools: str) -> live_pb2.SessionConfig:
    return live_pb2.SessionConfig(model="gemini-3.8-live", tools=tools, output_transcription=True)


async def counts(stack: Stack) -> Mapping[str, Any]:
    found: Mapping[str, Any] = await get_json(f"{stack.tools[0].ready['ops']}/debug/vars")
    return found


async def test_call_of_a_tool_that_the_session_does_not_have_is_refused_and_the_conversation_goes_on(
    stack: BoldStack,
) -> None:
    before = await counts(stack)
    async with parley.connect(str(stack.gateways[0].ready["address"]), config=config("get_weather")) as session:
        await session.send_text(QUESTION)
        assert await said(session) == "sorry i could not find that"
        await session.send_text("what is the weather in paris")
        assert "in paris" in await said(session)
    [refused, answered] = (await heard(stack, session.id))["tool_responses"]
    expected = (
        "not run: the tool 'lookup_order' is not for this tenant"
        if stack.carried
        else "there is no tool named 'lookup_order' in this conversation"
    )
    assert refused["response"] == {"error": expected}
    assert answered["name"] == "get_weather"
    after = await counts(stack)
    assert after["succeeded"] == before["succeeded"] + 1
    assert after["refused_not_permitted"] == before["refused_not_permitted"] + bool(stack.carried)


async def test_tool_of_another_tenant_is_not_there_for_those_who_ask_for_it(stack: BoldStack) -> None:
    address = str(stack.gateways[0].ready["address"])
    with pytest.raises(errors.ParleyError) as refused:
        async with parley.connect(address, config=config("get_weather", "lookup_order")):
            pass
    assert refused.value.reason == "TOOL_UNKNOWN"
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = tools_pb2_grpc.ToolServiceStub(channel)
        listed = await stub.ListTools(tools_pb2.ListToolsRequest())
        assert [tool.declaration.name for tool in listed.tools] == ["get_weather"]


async def test_call_on_the_internal_port_is_on_behalf_of_a_tenant(stack: BoldStack) -> None:
    async with grpc.aio.insecure_channel(str(stack.tools[0].ready["address"])) as channel:
        stub: Any = tools_pb2_grpc.ToolServiceStub(channel)
        request = tools_pb2.CallToolRequest(name="lookup_order", caller="test", idempotency_key="k")
        request.arguments.update({"order_id": "4711"})
        for tenant in ("", "dev"):
            request.tenant = tenant
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.CallTool(request)
            assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
        request.tenant = "acme"
        response = await stub.CallTool(request)
        assert response.outcome == live_pb2.TOOL_OUTCOME_SUCCEEDED
