"""Arguments of function calls satisfy what was declared, whatever that is: checked with the reference library."""

import re
from typing import Any

import jsonschema
import pytest
import referencing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from emulator.tools import patterns
from emulator.tools.arguments import fit
from emulator.tools.json_schema import plain
from tests.emulator.behaviour import behaviour, patched
from tests.emulator.caller import Caller


def valid(arguments: Any, schema: Any) -> bool:
    """As the reference library sees it, formats too."""
    validator = jsonschema.Draft202012Validator(
        {"type": "object", **schema}, registry=referencing.Registry(), format_checker=jsonschema.FormatChecker()
    )
    return bool(validator.is_valid(arguments))


def one(schema: Any, wish: Any = None, **heard: Any) -> Any:
    """A value for one required argument."""
    declared = {"properties": {"x": schema}, "required": ["x"]}
    return fit({} if wish is None else {"x": wish}, declared, heard)["x"]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        # The API's own way of writing.
        ({"type": "STRING"}, ""),
        ({"type": "INTEGER"}, 0),
        ({"type": "NUMBER"}, 0),
        ({"type": "BOOLEAN"}, False),
        ({"type": "ARRAY", "items": {"type": "STRING"}, "minItems": "2"}, ["", ""]),
        ({"type": "OBJECT", "properties": {"y": {"type": "INTEGER"}}, "required": ["y"]}, {"y": 0}),
        ({"type": "STRING", "format": "enum", "enum": ["EAST", "WEST"]}, "EAST"),
        ({"type": "STRING", "nullable": True, "min_length": "3"}, "xxx"),
        ({"any_of": [{"type": "INTEGER", "minimum": 5}, {"type": "STRING"}]}, 5),
        ({"type": "INTEGER", "format": "int32", "maximum": -2}, -2),
        ({"type": "STRING", "example": "an order"}, "an order"),
        # JSON Schema.
        ({"const": 7}, 7),
        ({"enum": [None, "a"]}, None),
        ({"type": ["null", "integer"]}, 0),
        ({"type": "string", "default": "celsius"}, "celsius"),
        ({"type": "integer", "exclusiveMinimum": 2, "multipleOf": 4}, 4),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
        ({"type": "number", "minimum": 0, "exclusiveMinimum": True}, 1),
        ({"type": "string", "minLength": 2, "maxLength": 2}, "xx"),
        ({"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$", "minLength": 6}, "AA-000"),
        ({"type": "string", "format": "date"}, "2026-01-01"),
        ({"type": "string", "format": "date-time"}, "2026-01-01T12:00:00Z"),
        ({"type": "string", "format": "uuid"}, "00000000-0000-4000-8000-000000000000"),
        ({"type": "string", "format": "email"}, "caller@example.com"),
        ({"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 3, "uniqueItems": True}, [1, 2, 3]),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2, "uniqueItems": True}, [False, True]),
        ({"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "minItems": 3}, ["", 0, ""]),
        ({"type": "array", "contains": {"const": 4}}, [4]),
        ({"allOf": [{"type": "integer"}, {"minimum": 3}, {"maximum": 3}]}, 3),
        ({"allOf": [{"properties": {"a": {"const": 1}}, "required": ["a"]}, {"required": ["b"]}]}, {"a": 1, "b": ""}),
        ({"oneOf": [{"type": "integer"}, {"type": "integer", "minimum": 0}]}, None),
        ({"not": {"const": ""}, "type": "string"}, "0"),
        ({"if": {"type": "string"}, "then": {"minLength": 3}, "else": {"const": 1}, "type": "string"}, "xxx"),
        ({"type": "object", "minProperties": 1, "additionalProperties": {"type": "integer"}}, {"a0": 0}),
        ({"type": "object", "additionalProperties": False, "properties": {"y": {}}, "minProperties": 1}, {"y": ""}),
        ({"type": "object", "required": ["a"], "dependentRequired": {"a": ["b"]}}, {"a": "", "b": ""}),
        ({}, ""),
        (True, ""),
    ],
)
def test_a_required_argument_gets_the_plainest_value_that_fits(schema: Any, value: Any) -> None:
    if schema == {"oneOf": [{"type": "integer"}, {"type": "integer", "minimum": 0}]}:
        # Nothing may satisfy both.
        assert one(schema) < 0
    else:
        assert one(schema) == value and type(one(schema)) is type(value)


@pytest.mark.parametrize(
    ("schema", "wish", "value"),
    [
        ({"type": "STRING", "enum": ["Paris", "London"]}, "london", "London"),
        ({"type": "STRING", "enum": ["NEW_YORK"]}, "new york", "NEW_YORK"),
        ({"type": "INTEGER"}, "4711", 4711),
        ({"type": "INTEGER"}, "two", 2),
        ({"type": "INTEGER"}, 2**60 + 1, 2**60 + 1),
        ({"type": "NUMBER"}, float("inf"), 0),
        ({"type": "NUMBER"}, "2.5", 2.5),
        ({"type": "INTEGER", "maximum": 10}, "99", 10),
        ({"type": "BOOLEAN"}, "yes", True),
        ({"type": "STRING"}, 4711, "4711"),
        ({"type": "STRING", "maxLength": 3}, "paris", "par"),
        ({"type": "STRING", "minLength": 7}, "paris", "parisxx"),
        ({"type": "ARRAY", "items": {"type": "STRING"}}, "paris", ["paris"]),
        ({"type": "ARRAY", "items": {"type": "INTEGER"}, "maxItems": 2}, ["1", "2", "3"], [1, 2]),
        ({"type": "STRING", "format": "date"}, "monday", "2026-01-01"),
        ({"type": "STRING", "format": "date"}, "2026-11-24", "2026-11-24"),
        ({"type": "STRING", "format": "date-time"}, "monday", "2026-01-01T12:00:00Z"),
        ({"type": "STRING", "pattern": "^[0-9]{4}$"}, "4711", "4711"),
        ({"type": "STRING", "pattern": "^[0-9]{4}$"}, "paris", "0000"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "paris", "paris"),
        ({"anyOf": [{"type": "string", "maxLength": 0}, {"type": "integer"}]}, 5, 5),
        ({"type": ["integer", "null"]}, "5", 5),
        (
            {"type": "object", "properties": {"city": {"type": "string"}}},
            {"city": "paris", "other": 1},
            {"city": "paris"},
        ),
        ({}, "paris", "paris"),
    ],
)
def test_what_is_wished_for_is_kept_as_far_as_it_fits(schema: Any, wish: Any, value: Any) -> None:
    found = one(schema, wish)
    assert found == value and type(found) is type(value)


def test_what_was_heard_fills_the_arguments_of_its_name_at_any_depth() -> None:
    place = {
        "type": "OBJECT",
        "properties": {"city": {"type": "STRING"}, "zip": {"type": "STRING"}},
        "required": ["city"],
    }
    schema = {
        "properties": {"place": place, "city": {"type": "STRING"}, "days": {"type": "INTEGER"}},
        "required": ["place"],
    }
    found = fit({"city": "berlin"}, schema, {"city": "paris", "pictures": 3})
    assert found == {"place": {"city": "paris"}, "city": "berlin"}


def test_optional_arguments_are_there_only_if_something_is_known_of_them() -> None:
    schema = {"properties": {"city": {"type": "STRING"}, "days": {"type": "INTEGER"}}}
    assert fit({}, schema, {}) == {}
    assert fit({"days": "monday", "unknown": 1}, schema, {}) == {"days": 0}
    assert fit({"anything": 1}, {}, {}) == {"anything": 1}


def test_references_are_followed_and_those_that_never_end_do_not_hang() -> None:
    node = {
        "type": "object",
        "properties": {"value": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
        "required": ["value", "next"],
    }
    found = fit({}, {"properties": {"x": {"$ref": "#/$defs/Node"}}, "required": ["x"], "$defs": {"Node": node}}, {})
    assert found == {"x": {"value": 0, "next": None}}
    pet = {"type": "OBJECT", "properties": {"name": {"type": "STRING"}}, "required": ["name"]}
    assert fit({}, {"properties": {"x": {"ref": "#/defs/Pet"}}, "required": ["x"], "defs": {"Pet": pet}}, {}) == {
        "x": {"name": ""}
    }
    endless = {"properties": {"x": {"$ref": "#/$defs/A"}}, "required": ["x"], "$defs": {"A": {"$ref": "#/$defs/A"}}}
    assert fit({"y": 1}, endless, {}) == {"y": 1}


class Address(BaseModel):
    street: str = Field(min_length=1)
    zip: str = Field(pattern=r"^\d{5}(-\d{4})?$")


class Order(BaseModel):
    """What a Python tool declares."""

    kind: str | None
    address: Address
    lines: list[tuple[str, int]] = Field(min_length=1)
    tags: set[str] = Field(min_length=2)
    notes: dict[str, Address] = Field(min_length=1)


def test_what_pydantic_declares_is_satisfied() -> None:
    arguments = fit({}, Order.model_json_schema(), {})
    Order.model_validate_json(Order.model_validate(arguments).model_dump_json())


names = st.sampled_from(["a", "b", "city"])
whole = st.integers(-50, 50)
few = st.integers(0, 9)
leaves = st.one_of(
    st.builds(
        lambda low, span, step: {"type": "integer", "minimum": low, "maximum": low + span, "multipleOf": step},
        whole,
        st.integers(6, 20),
        st.integers(1, 6),
    ),
    st.builds(lambda low: {"type": "number", "exclusiveMinimum": low, "maximum": low + 0.5}, whole),
    st.builds(lambda least, span: {"type": "string", "minLength": least, "maxLength": least + span}, few, few),
    st.sampled_from(["date", "email", "uuid"]).map(lambda name: {"type": "string", "format": name}),
    st.sampled_from([["string", "null"], "boolean", "null"]).map(lambda kind: {"type": kind}),
    st.sampled_from(["leaf", "tree"]).map(lambda name: {"$ref": f"#/$defs/{name}"}),
    st.just({"type": "string", "pattern": "^[a-c]+[0-9]{2,4}$"}),
    st.sampled_from([{"const": "fixed"}, {"enum": ["Paris", 3, None]}, True]),
)


def deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    properties = st.dictionaries(names, inner, max_size=3)
    return st.one_of(
        st.builds(
            lambda fields, required, closed: {
                "type": "object",
                "properties": fields,
                "required": sorted(required & fields.keys()),
                **({"additionalProperties": False} if closed else {}),
            },
            properties,
            st.sets(names),
            st.booleans(),
        ),
        st.builds(lambda items, least: {"type": "array", "items": items, "minItems": least}, inner, st.integers(0, 3)),
        st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda only: {"oneOf": [only]}, inner),
        st.builds(lambda part, note: {"allOf": [part, {"description": note}]}, inner, st.text(max_size=3)),
    )


schemas = st.recursive(leaves, deeper, max_leaves=8)
DEFINITIONS = {
    "leaf": {"type": "integer", "minimum": 3},
    "tree": {
        "type": "object",
        "properties": {"left": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]}},
        "required": ["left"],
    },
}
wishes = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.floats(allow_nan=False) | st.sampled_from(["paris", "4", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(properties=st.dictionaries(names, schemas, min_size=1), wanted=st.dictionaries(names, wishes), heard=names)
def test_whatever_can_be_satisfied_is(properties: dict[str, Any], wanted: dict[str, Any], heard: str) -> None:
    schema = {"properties": properties, "required": sorted(properties), "$defs": DEFINITIONS}
    jsonschema.Draft202012Validator.check_schema(schema)
    found = fit(wanted, schema, {heard: "paris"})
    assert valid(found, schema), found


KEYWORDS = (
    "type properties required items anyOf oneOf allOf not if then $ref $defs enum const pattern format minItems "
    "maxLength minimum multipleOf uniqueItems patternProperties additionalProperties prefixItems contains "
    "minProperties nullable"
)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["#", "#/x", "("]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.sampled_from(KEYWORDS.split()), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schema=junk, wanted=st.dictionaries(names, wishes))
def test_no_declaration_does_any_harm(schema: Any, wanted: dict[str, Any]) -> None:
    assert isinstance(fit(wanted, schema, {"city": "paris"}), dict)
    assert isinstance(plain(schema), bool | dict)


@pytest.mark.timeout(20, method="thread")
@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"x": {"type": "string", "minLength": 60, "pattern": "(a+)+b$"}}, "required": ["x"]},
        {"properties": {"x": {"type": "string", "pattern": "((a{1000}){1000}){1000}"}}, "required": ["x"]},
        {"properties": {"x": {"type": "array", "minItems": 10**9}}, "required": ["x"]},
        {"properties": {"x": {"type": "string", "minLength": 10**9}}, "required": ["x"]},
        {"patternProperties": {"(a|a)*b": {}}, "minProperties": 1},
        {"properties": {"x": {"$ref": "http://localhost/never"}}, "required": ["x"]},
        {"properties": {"x": {"allOf": [{"anyOf": [{"minimum": n} for n in range(50)]}] * 20}}, "required": ["x"]},
    ],
)
def test_a_hostile_declaration_takes_no_time(schema: dict[str, Any]) -> None:
    # Some of these would take years.
    assert isinstance(fit({"x": "a" * 40}, schema, {"x": "a" * 40}), dict)


@pytest.mark.parametrize(
    "pattern",
    [
        r"^[A-Z]{2}\d{4}$", r"^\+?[1-9]\d{1,14}$", "foo|bar", r"(a+)+$", r"^[^\s@]+@[^\s@]+\.[a-z]{2,}$", "(?i)abc",
        r"(\w)\1", "^$", "[à-ü]", "x*?", r"^\S(.*\S)?$", r"^(?:ab|c){3}$", r"\D\W\s", "(?>ab)c++",
    ],
)  # fmt: skip
def test_a_text_for_a_pattern_matches_it(pattern: str) -> None:
    assert re.search(pattern, patterns.shortest(pattern))


@pytest.mark.parametrize("pattern", ["(", "a{99999}", r"\p{L}", "[^\\w\\W]"])
def test_a_pattern_that_nothing_is_found_for_says_so(pattern: str) -> None:
    with pytest.raises(patterns.NoMatchError):
        patterns.shortest(pattern)


def test_a_pattern_is_run_only_where_that_is_quick() -> None:
    assert patterns.matches("^a+$", "aaa") is True and patterns.matches("^a+$", "b") is False
    assert patterns.matches("(a+)+$", "aaa") is None and patterns.matches("^a+$", "a" * 100) is None
    assert patterns.matches("(", "a") is None and patterns.matches("a*a*a*a*", "a") is None


@behaviour("13.16", off=patched("emulator.mind.planner.fit", lambda wanted, schema, heard: dict(wanted)))
@pytest.mark.parametrize("field", ["parameters", "parametersJsonSchema"])
def test_a_call_satisfies_its_declaration(field: str) -> None:
    schema = {
        "type": "object" if field == "parametersJsonSchema" else "OBJECT",
        "properties": {
            "city": {"type": "string", "enum": ["Paris", "London"]},
            "days": {"type": "integer", "minimum": 1},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "where": {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]},
        },
        "required": ["city", "days", "unit", "where"],
    }
    caller = Caller(tools=[{"functionDeclarations": [{"name": "get_weather", field: schema}]}])
    caller.ask("what is the weather in london")
    args = caller.messages[0]["toolCall"]["functionCalls"][0]["args"]
    assert args == {"city": "London", "days": 1, "unit": "celsius", "where": {"lat": 0}}
    assert valid(args, schema if field == "parametersJsonSchema" else plain(schema))
