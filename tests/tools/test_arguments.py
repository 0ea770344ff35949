import time
from typing import Any

import pytest
from pydantic import BaseModel

from services.tools import tool
from services.tools.arguments import ArgumentsError, SchemaCheck, parse
from services.tools.declare import declare
from tests.tools.test_declare import context


class Item(BaseModel):
    name: str
    count: int


@tool
def shop(items: list[Item], express: bool = False, budget: float | None = None) -> None:
    """Shops."""


def violations(text: str) -> dict[str, str]:
    with pytest.raises(ArgumentsError) as caught:
        declare(shop).bind(text, context())
    return caught.value.violations


@pytest.mark.parametrize(
    ("text", "path", "problem"),
    [
        ("{}", "items", "is required"),
        ('{"items": [{"name": "a"}]}', "items[0].count", "is required"),
        ('{"items": [{"name": "a", "count": "3"}]}', "items[0].count", 'valid integer, got "3"'),
        ('{"items": [{"name": 7, "count": 3}]}', "items[0].name", "valid string, got 7"),
        ('{"items": {}}', "items", "valid array, got an object"),
        ('{"items": [], "express": "yes"}', "express", 'valid boolean, got "yes"'),
        ('{"items": [], "budget": "cheap"}', "budget", "valid number"),
        ('{"items": [], "colour": 1}', "colour", "is not an argument"),
        ('{"items": [], "colour": 1}', "", "the arguments are: items, express, budget"),
        ("[1]", "", "expected a JSON object, got an array"),
        ("{", "", "not JSON"),
        ('{"items": NaN}', "", "NaN is no number"),
        ("[" * 100_000, "", "nested too deeply"),
        ('{"items": ' + "[" * 5000 + "]" * 5000 + "}", "", "nested too deeply"),
    ],
)
def test_wrong_arguments_name_path_and_problem(text: str, path: str, problem: str) -> None:
    assert problem in violations(text)[path]


def test_what_is_wrong_with_the_form_that_is_meant_is_told() -> None:
    forms = [{"type": "array", "items": {"type": "string"}}, {"const": "only"}, {"enum": [1, 2, None]}]
    check = SchemaCheck({"type": "object", "properties": {"a": {"oneOf": forms}, "b": {"anyOf": forms[1:]}}})
    for value, place, problem in (
        ({"a": ["x", 7]}, "a[1]", '7 is not of type "string"'),
        ({"a": "other"}, "a", "only"),
        ({"b": 3}, "b", "3 is not one of 1, 2 or null"),
        ({"a": {}}, "a", "is not valid under any"),
    ):
        with pytest.raises(ArgumentsError) as caught:
            check(value)
        assert problem in caught.value.violations[place], caught.value.violations


def test_many_wrong_arguments_are_cut_short() -> None:
    text = '{"items": [' + ",".join(['{"name": 1, "count": 1}'] * 50) + "]}"
    with pytest.raises(ArgumentsError) as caught:
        declare(shop).bind(text, context())
    assert len(caught.value.violations) == 5
    assert str(caught.value).endswith("and 45 more")


def test_huge_wrong_value_is_not_repeated_whole() -> None:
    assert len(violations('{"items": [], "express": "' + "x" * 100_000 + '"}')["express"]) < 200


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", {}), ("{}", {}), ('{"a": 3.0, "b": 3.5, "c": 1e3}', {"a": 3, "b": 3.5, "c": 1000})],
)
def test_whole_numbers_are_integers_as_json_schema_has_it(text: str, expected: dict[str, Any]) -> None:
    parsed = parse(text)
    assert parsed == expected
    assert {type(value) for value in parsed.values()} <= {int, float}
    assert not any(isinstance(value, float) and value.is_integer() for value in parsed.values())


def test_number_too_large_for_json_is_refused() -> None:
    assert violations('{"items": [], "budget": 1e999}')


FAULTY = {
    "a list": ({"type": "array", "items": {"type": "object", "required": ["a"]}}, [{}] * 250_000),
    "one of several forms": (
        {"anyOf": [{"type": "array", "items": {"type": "object", "required": ["a"]}}, {"type": "null"}]},
        [{}] * 250_000,
    ),
    "a map": ({"type": "object", "additionalProperties": {"type": "string"}}, {f"k{n}": n for n in range(100_000)}),
    "an object": ({"type": "object", "additionalProperties": False}, {f"k{n}": n for n in range(100_000)}),
    "lists in lists": (
        {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
        [[1] * 500] * 500,
    ),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_megabyte_of_faults_takes_no_longer_than_a_few(name: str) -> None:
    schema, value = FAULTY[name]
    check = SchemaCheck({"type": "object", "properties": {"x": schema}})
    before = time.thread_time()
    with pytest.raises(ArgumentsError) as caught:
        check({"x": value})
    assert time.thread_time() - before < 0.5  # it took seconds
    assert all(place.startswith("x") for place in caught.value.violations)


def test_a_function_is_spared_them_too() -> None:
    declared = declare(shop)
    text = '{"items": [' + "{}," * 250_000 + "{}]}"
    before = time.thread_time()
    with pytest.raises(ArgumentsError) as caught:
        declared.bind(text, context())
    assert time.thread_time() - before < 0.5
    assert caught.value.violations["items[0].name"] == "is required"


def test_a_fault_behind_the_values_that_are_looked_at_is_one_all_the_same() -> None:
    check = SchemaCheck({"type": "object", "properties": {"x": {"items": {"type": "integer"}}}})
    check({"x": [1] * 5000})
    with pytest.raises(ArgumentsError) as caught:
        check({"x": [*[1] * 5000, "a"]})
    assert str(caught.value) == "wrong arguments: they do not fit, somewhere behind their first 1000 values: send fewer"
