"""What a declaration allows is accepted, what it forbids is refused with the right place, whoever declares it.

Some dozens of declarations of each kind; TOOLS_SCHEMA_EXAMPLES for more (`make fuzz-tools`).
"""

from __future__ import annotations

import inspect
import json
import os
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.tools import ToolContext, tool
from services.tools.arguments import ArgumentsError
from services.tools.declare import FunctionTool, declare
from services.tools.registry import Offer
from services.tools.sources.file import OpenApiSettings
from services.tools.sources.guard import Guard
from services.tools.sources.openapi_document import Document
from services.tools.sources.openapi_operations import Operation, operations
from services.tools.sources.remote import Catalogue, Described
from services.tools.sources.secrets import Secrets
from services.tools.tool import Tool
from services.tools.violations import written
from tests.tools import schema_corpus as corpus
from tests.tools.schema_corpus import Member
from tests.tools.test_declare import context

EXAMPLES: Final = int(os.environ.get("TOOLS_SCHEMA_EXAMPLES", "0"))
"""0: the few that `make test` has time for, always the same."""
some = partial(
    settings,
    max_examples=EXAMPLES or 60,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
# A second each: where the machine is busy with other things, thousands take longer than any other test.
pytestmark = pytest.mark.timeout(max(400, EXAMPLES))


class There:
    def reason(self) -> str:
        return ""


async def nothing(_values: dict[str, Any], _context: ToolContext) -> Any:
    return None


def python_tool(members: dict[str, Member]) -> FunctionTool:
    """A function with these parameters."""

    def function(**values: Any) -> dict[str, Any]:
        """Takes arguments."""
        return values

    function.__annotations__ = {name: member.of.hint for name, member in members.items()}
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if member.required else None,
            )
            for name, member in members.items()
        ]
    )
    return declare(tool(function))


def remote_tool(described: Described) -> Tool:
    source = OpenApiSettings(name="far", kind="openapi", document="none")
    catalogue = Catalogue(source, Guard("far", Secrets(Path()), retries=0), There())
    catalogue.add(described)
    offer: Offer = catalogue.offer()
    assert offer.tools, offer.problems
    return offer.tools[0]


def mcp_tool(members: dict[str, Member]) -> Tool:
    """What an MCP server declares with these parameters."""
    schema = {**corpus.object_schema(members, "schema"), "$defs": {"Tree": corpus.TREE_SCHEMA}}
    return remote_tool(Described(name="t", description="T.", parameters=schema, idempotent=False, send=nothing))


def openapi_tool(members: dict[str, Member]) -> Tool:
    """An operation of an OpenAPI 3.0 document that takes these in its body."""
    tree = json.loads(json.dumps(corpus.TREE_SCHEMA).replace("#/$defs/", "#/components/schemas/"))
    responses = {"200": {"description": "."}}
    body = {"required": True, "content": {"application/json": {"schema": corpus.object_schema(members, "old")}}}
    document = {
        "openapi": "3.0.3",
        "info": {"title": "T", "version": "1"},
        "paths": {"/t": {"post": {"operationId": "t", "requestBody": body, "responses": responses}}},
        "components": {"schemas": {"Tree": tree}},
    }
    [operation] = operations(Document(json.dumps(document)), frozenset())
    assert isinstance(operation, Operation), operation
    return remote_tool(
        Described(
            name=operation.name, description="T.", parameters=operation.parameters, idempotent=False, send=nothing
        )
    )


MAKERS: Final = [python_tool, mcp_tool, openapi_tool]


def refusal(made: Tool, arguments: Any) -> dict[str, str] | None:
    try:
        made.bind(json.dumps(arguments), context())
    except ArgumentsError as error:
        assert len(str(error)) < 4000
        return error.violations
    return None


@pytest.mark.parametrize("make", MAKERS)
@given(st.data())
@some()
def test_what_a_declaration_allows_is_accepted_and_what_it_forbids_refused_at_its_place(
    make: Any, data: st.DataObject
) -> None:
    members = data.draw(corpus.parameters())
    made = make(members)
    validator = what_the_model_sees(made)
    for _ in range(3):
        arguments = data.draw(corpus.valid_arguments(members))
        assert refusal(made, arguments) is None, (made.parameters, arguments)
        assert validator.is_valid(arguments), (made.parameters, arguments)

        arguments, place = data.draw(corpus.object_faults(members))
        violations = refusal(made, arguments)
        assert violations is not None, (made.parameters, arguments, place)
        others = violations.keys() - {""}
        assert others == {written(place)}, (made.parameters, arguments, place, violations)  # one fault, one place
        assert not validator.is_valid(arguments), (made.parameters, arguments, place)


def what_the_model_sees(made: Tool) -> Any:
    """Another validator than any of ours, of what has been through the catalog."""
    declared = json_format.MessageToDict(made.declaration(timedelta(seconds=1)).declaration.parameters)
    jsonschema.Draft202012Validator.check_schema(declared)
    return jsonschema.Draft202012Validator(declared)
