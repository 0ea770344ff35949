"""Whatever a source says of its tools: each is served or a problem of its own, and the catalog takes what is served."""

from __future__ import annotations

import contextlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.v1 import fabric_pb2
from services.tools import schema
from services.tools.arguments import ArgumentsError
from services.tools.context import ToolContext
from services.tools.registry import Offer
from services.tools.schema import MAX_DEPTH
from services.tools.sources import remote
from services.tools.sources.file import OpenApiSettings
from services.tools.sources.guard import Guard
from services.tools.sources.remote import Catalogue, Described
from services.tools.sources.secrets import Secrets


class There:
    def reason(self) -> str:
        return ""


async def send(_values: dict[str, Any], _context: ToolContext) -> None: ...


def offered(*parameters: dict[str, Any], description: str = "Does it.") -> Offer:
    """What becomes of tools with these parameters."""
    source = OpenApiSettings(name="shop", kind="openapi", document="x")
    catalogue = Catalogue(source, Guard("shop", Secrets(Path()), retries=0), There())
    for number, one in enumerate(parameters):
        described = Described(name=f"t{number}", description=description, parameters=one, idempotent=False, send=send)
        catalogue.add(described)
    return catalogue.offer()


def check(offer: Offer, tools: int) -> None:
    assert len(offer.tools) + len(offer.problems) == tools
    for tool in offer.tools:
        record = fabric_pb2.CatalogRecord(tool=tool.declaration(timedelta(seconds=5)))
        assert fabric_pb2.CatalogRecord.FromString(record.SerializeToString()) == record
        for arguments in ("{}", '{"a": 1}', '{"a": {"b": [1, "x"]}}'):
            context = ToolContext("t", "e", "k", "", "", "", {})
            with contextlib.suppress(ArgumentsError):
                tool.bind(arguments, context)


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        value = {"items": value}
    return {"type": "object", "properties": {"a": value}}


def argument(**keywords: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": keywords}}


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        (argument(maximum=10**400), "its schema holds what the catalog cannot (int too large"),
        (argument(enum=["\ud83d"]), "its schema is no JSON Schema: Failed to get UTF-8"),
        (argument(default=float("nan")), "its schema is"),
        ({"type": "object", "properties": True}, "its schema is no JSON Schema: "),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": 5}, "its schema is no JSON Schema: "),
        (nested(MAX_DEPTH), f"its schema is nested more than {MAX_DEPTH} deep"),
        (nested(3000), f"its schema is nested more than {MAX_DEPTH} deep"),
        ({"type": "object", "description": "x" * schema.MAX_BYTES}, ""),
        (argument(description="x" * schema.MAX_BYTES), f"its schema has more than {schema.MAX_BYTES} bytes"),
    ],
)
def test_tool_that_cannot_be_declared_costs_itself_alone(parameters: dict[str, Any], problem: str) -> None:
    offer = offered(parameters, {"type": "object"})
    check(offer, 2)
    assert offer.tools[-1].name == "t1"
    if problem:
        assert offer.problems[0].startswith(f"source shop, tool 't0': {problem}")


def test_description_that_is_no_text_is_mended() -> None:
    offer = offered({"type": "object"}, description="half \ud83d of it")
    check(offer, 1)
    assert offer.tools[0].description == "half ? of it"


def test_declarations_of_one_source_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_DECLARED", 10_000)
    offer = offered(*(argument(description="x" * 1000) for _ in range(20)))
    check(offer, 20)
    assert len(offer.tools) == 9
    assert "tool 't9': the tools of its source have more than 10000 bytes (use `include`)" in offer.problems[0]


WORDS = (
    "type properties items $ref $defs definitions required enum const anyOf oneOf allOf not if then else default "
    "additionalProperties description title minimum maximum pattern $schema format prefixItems patternProperties "
    "dependentSchemas $id $anchor $dynamicRef examples minItems propertyNames a b"
)
KEYWORDS = st.sampled_from(WORDS.split())
ODD = st.sampled_from(
    (None, True, 0, -1, 2**70, 10**400, 1e308, "", "a", "object", "#/$defs/a", "#", "http://x.example/s", "\ud83d", "(")
)
SCHEMAS = st.recursive(
    ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS, inner, max_size=4), max_leaves=15
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(KEYWORDS, SCHEMAS, max_size=4))
def test_whatever_stands_in_a_schema(parameters: dict[str, Any]) -> None:
    check(offered({**parameters, "type": "object"}), 1)
    check(offered(json.loads(json.dumps(parameters))), 1)
