import enum
from collections.abc import Callable
from datetime import date, timedelta
from typing import Annotated, Any, Literal

import pytest
from google.protobuf import json_format
from pydantic import BaseModel, Field

from parley.v1 import live_pb2
from services.tools import ToolContext, tool
from services.tools.arguments import ArgumentsError
from services.tools.declare import DeclarationError, declare


def context(**values: Any) -> ToolContext:
    return ToolContext(
        **{
            "tool": "t",
            "execution_id": "e",
            "idempotency_key": "k",
            "session": "",
            "tenant": "",
            "caller": "",
            "labels": {},
        }
        | values
    )


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


def test_declaration_follows_from_hints_and_docstring() -> None:
    @tool(timeout=3, idempotent=True, behavior="non_blocking")
    def order_pizza(
        size: Size,
        toppings: Annotated[list[str], Field(description="What goes on it.", max_length=3)],
        context: ToolContext,
        note: str | None = None,
        title: Literal["mr", "ms"] = "ms",
    ) -> None:
        """Orders a pizza
        for delivery.

        Not for the model.
        """

    declared = declare(order_pizza)
    assert declared.name == "order_pizza"
    assert declared.description == "Orders a pizza for delivery."
    assert declared.timeout == timedelta(seconds=3)
    assert declared.idempotent
    assert not declared.is_async
    assert declared.parameters == {
        "type": "object",
        "properties": {
            "size": {"type": "string", "enum": ["small", "large"]},
            "toppings": {
                "type": "array",
                "items": {"type": "string"},
                "maxItems": 3,
                "description": "What goes on it.",
            },
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            "title": {"type": "string", "enum": ["mr", "ms"], "default": "ms"},
        },
        "required": ["size", "toppings"],
        "additionalProperties": False,
    }
    message = declared.declaration(timedelta(seconds=9))
    assert message.declaration.behavior == live_pb2.TOOL_BEHAVIOR_NON_BLOCKING
    assert message.timeout.ToTimedelta() == timedelta(seconds=3)
    assert message.idempotent
    assert json_format.MessageToDict(message.declaration.parameters) == declared.parameters


def test_tool_without_parameters_takes_an_empty_object() -> None:
    @tool
    async def ping() -> str:
        """Pings."""
        return "pong"

    declared = declare(ping)
    assert declared.is_async
    assert declared.parameters == {"type": "object", "properties": {}, "additionalProperties": False}
    assert declared.declaration(timedelta(seconds=9)).timeout.ToTimedelta() == timedelta(seconds=9)


def test_decorated_function_stays_a_function() -> None:
    @tool(name="plus")
    def add(left: int, right: int = 2) -> int:
        """Adds."""
        return left + right

    assert add(1) == 3
    assert declare(add).name == "plus"
    assert declare(add).bind('{"left": 40}', context())() == 42


def test_arguments_arrive_as_the_types_that_the_hints_say() -> None:
    class Item(BaseModel):
        name: str
        count: int = 1

    @tool
    def take(day: date, size: Size, items: list[Item], schema: float, model_config: bool) -> tuple[Any, ...]:
        """Takes."""
        return day, size, items, schema, model_config

    bound = declare(take).bind(
        '{"day": "2026-02-03", "size": "large", "items": [{"name": "a", "count": 3.0}], "schema": 2,'
        ' "model_config": true}',
        context(),
    )
    assert bound() == (date(2026, 2, 3), Size.LARGE, [Item(name="a", count=3)], 2.0, True)


def test_what_the_declaration_forbids_is_refused_also_where_the_hints_would_convert_it() -> None:
    @tool
    def tag(tags: set[str], code: Annotated[str, Field(pattern=r"^(?i:a)+$")] = "a") -> list[str]:
        """Tags."""
        return sorted(tags)

    declared = declare(tag)
    assert declared.bind('{"tags": ["a", "b"], "code": "A"}', context())() == ["a", "b"]
    with pytest.raises(ArgumentsError) as caught:
        declared.bind('{"tags": ["a", "a"]}', context())
    assert "tags" in caught.value.violations


def test_mutable_defaults_are_not_shared_between_calls() -> None:
    @tool
    def collect(items: list[str] = []) -> list[str]:  # noqa: B006
        """Collects."""
        items.append("x")
        return items

    declared = declare(collect)
    assert declared.bind("{}", context())() == ["x"]
    assert declared.bind("{}", context())() == ["x"]


def test_recursive_model_keeps_its_definitions() -> None:
    declared = declare(walk)
    assert declared.parameters["properties"]["root"]["type"] == "object"
    assert set(declared.parameters["$defs"]) == {"Node"}


class Node(BaseModel):
    children: "list[Node]" = []


@tool
def walk(root: Node) -> None:
    """Walks."""


def missing_hint(city) -> None:  # type: ignore[no-untyped-def]
    """Doc."""


def star(*cities: str) -> None:
    """Doc."""


def double_star(**cities: str) -> None:
    """Doc."""


def positional_only(city: str, /) -> None:
    """Doc."""


def no_docstring(city: str) -> None: ...


def unknown_hint(city: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821
    """Doc."""


def not_json(call: Callable[[], None]) -> None:
    """Doc."""


def two_contexts(one: ToolContext, two: ToolContext) -> None:
    """Doc."""


class NotAFunction:
    """Doc."""


def fine(city: str) -> None:
    """Doc."""


@pytest.mark.parametrize(
    ("function", "options", "problem"),
    [
        (missing_hint, {}, "parameter 'city' has no type hint"),
        (star, {}, "only named parameters"),
        (double_star, {}, "only named parameters"),
        (positional_only, {}, "only named parameters"),
        (no_docstring, {}, "no docstring"),
        (unknown_hint, {}, "'Nowhere' is not defined"),
        (not_json, {}, "no JSON Schema"),
        (two_contexts, {}, "more than one parameter of type ToolContext"),
        (NotAFunction, {}, "is not a function"),
        (fine, {"name": "9lives"}, "'9lives' is not allowed"),
        (fine, {"name": "a..b"}, "'a..b' is not allowed"),
        (fine, {"name": "end."}, "'end.' is not allowed"),
        (fine, {"name": "with space"}, "is not allowed"),
        (fine, {"name": "x" * 65}, "is not allowed"),
        (fine, {"name": ""}, "is not allowed"),
        (fine, {"timeout": 0}, "timeout=0 is not allowed"),
        (fine, {"timeout": float("nan")}, "timeout=nan is not allowed"),
        (fine, {"timeout": "5s"}, "timeout='5s' is not allowed"),
        (fine, {"max_concurrency": 0}, "max_concurrency=0 is not allowed"),
        (fine, {"max_concurrency": True}, "max_concurrency=True is not allowed"),
        (fine, {"max_concurrency": 1.5}, "max_concurrency=1.5 is not allowed"),
        (fine, {"behavior": "quick"}, "behavior='quick' is not allowed"),
        (fine, {"scheduling": "later"}, "scheduling='later' is not allowed"),
        (fine, {"scheduling": "silent", "behavior": "blocking"}, "scheduling is for functions that do not block"),
    ],
)
def test_bad_declaration_names_function_and_problem(function: Any, options: dict[str, Any], problem: str) -> None:
    marked = tool(**options)(function)
    with pytest.raises(DeclarationError) as caught:
        declare(marked)
    assert problem in str(caught.value)
    assert f"{function.__module__}.{function.__name__}" in str(caught.value)
