"""What a model calls a function with goes on in protobuf: through every message that holds it, or not at all."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import struct_pb2

from parley.v1 import fabric_pb2, live_pb2, tools_pb2
from services.session_worker import responses
from services.session_worker.call_arguments import MAX_DEPTH, problem_of

NUMBER = "a number in the arguments is too large, or none at all"
DEEP = f"the arguments are nested more than {MAX_DEPTH} deep; flatten them"


def nested(depth: int, *, lists: bool = False) -> dict[str, Any]:
    value: Any = {}
    for _ in range(depth - 2):
        value = [value] if lists else {"a": value}
    return {"a": value}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, ""),
        ({"a": [1, 2.5, None, True, "x", {"b": [-(2**63), 1e308]}]}, ""),
        ({"a": 10**400}, NUMBER),
        ({"a": [{"b": float("nan")}]}, NUMBER),
        ({"a": {"b": float("-inf")}}, NUMBER),
        (nested(MAX_DEPTH), ""),
        (nested(MAX_DEPTH, lists=True), ""),
        (nested(MAX_DEPTH + 1), DEEP),
        (nested(MAX_DEPTH + 1, lists=True), DEEP),
        (nested(5000), DEEP),
    ],
)
def test_what_cannot_be_handed_on_is_told(arguments: dict[str, Any], problem: str) -> None:
    assert problem_of(arguments) == problem


@pytest.mark.parametrize("lists", [False, True])
def test_the_deepest_arguments_arrive_in_every_message(lists: bool) -> None:
    struct = responses.struct(nested(MAX_DEPTH, lists=lists))
    messages = [
        live_pb2.ConverseResponse(tool_activity=live_pb2.ToolActivity(arguments=struct)),
        live_pb2.ConverseResponse(tool_activity=live_pb2.ToolActivity(output=struct)),
        live_pb2.ConverseResponse(tool_call=live_pb2.ToolCall(arguments=struct)),
        live_pb2.ConverseRequest(tool_result=live_pb2.ToolResult(output=struct)),
        tools_pb2.CallToolRequest(arguments=struct),
        tools_pb2.CallToolResponse(output=struct),
        fabric_pb2.CatalogRecord(tool=catalog_tool(struct)),
        tools_pb2.ListToolsResponse(tools=[catalog_tool(struct)]),
        fabric_pb2.ControlRequest(open=fabric_pb2.OpenSession(tools=[catalog_tool(struct)])),
    ]
    for message in messages:
        assert type(message).FromString(message.SerializeToString()) == message


def catalog_tool(parameters: struct_pb2.Struct) -> tools_pb2.Tool:
    return tools_pb2.Tool(declaration=live_pb2.FunctionDeclaration(name="a", parameters=parameters))
