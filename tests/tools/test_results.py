import dataclasses
import enum
import json
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from parley.v1 import tools_pb2
from services.tools.results import ResultError, encode
from services.tools.schema import MAX_DEPTH

LIMIT = 10_000


class Colour(enum.StrEnum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    inner: Any = None


class Model(BaseModel):
    name: str
    point: Any = None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": [1, 2.5, None, True, "ä"]}, {"a": [1, 2.5, None, True, "ä"]}),
        (7, {"result": 7}),
        (None, {"result": None}),
        ("text", {"result": "text"}),
        ([1, (2, 3)], {"result": [1, [2, 3]]}),
        (Colour.RED, {"result": "red"}),
        (Point(1, Colour.RED), {"x": 1, "inner": "red"}),
        (Model(name="n", point=Point(2)), {"name": "n", "point": {"x": 2, "inner": None}}),
        (date(2026, 1, 2), {"result": "2026-01-02"}),
        (datetime(2026, 1, 2, tzinfo=UTC), {"result": "2026-01-02T00:00:00+00:00"}),
        (Decimal("1.10"), {"result": "1.10"}),
    ],
)
def test_result_becomes_a_json_object(value: Any, expected: dict[str, Any]) -> None:
    assert json.loads(encode(value, LIMIT)) == expected


def cyclic() -> Any:
    value: dict[str, Any] = {"a": []}
    value["a"].append(value)
    return value


def deep() -> Any:
    value: Any = 1
    for _ in range(100):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"a": {"b": float("nan")}}, "result.a.b is nan"),
        ([float("inf")], "result[0] is inf"),
        ({"data": b"\x00"}, "result.data is of type bytes"),
        ({1: "a"}, "key of type int"),
        ({"s": {1, 2}}, "result.s is of type set"),
        (object(), "result is of type object"),
        (Point, "result is of type type"),
        (cyclic(), "result.a[0] contains itself"),
        (deep(), "nested more than 28 deep"),
        ([2**1023], "integer too large"),
        ([10**5000], "integer too large"),
        ("\ud800", "not valid Unicode"),
        (["x" * LIMIT], "too large"),
        (["ä" * (LIMIT // 2 + 1)], "too large"),
        ({"k" * LIMIT: 1}, "too large"),
        ([0] * LIMIT, "too large"),
        (Model(name="n", point=b"x"), "result.point is of type bytes"),
    ],
)
def test_result_that_json_cannot_say_is_refused_with_its_place(value: Any, problem: str) -> None:
    with pytest.raises(ResultError) as caught:
        encode(value, LIMIT)
    assert problem in str(caught.value)


@pytest.mark.parametrize("character", ["x", "ä", '"', "\U0001f600"])
@pytest.mark.parametrize("length", [LIMIT - 500, LIMIT, 5_000_000])
def test_text_that_is_too_long_is_cut_and_says_so(character: str, length: int) -> None:
    text = encode(character * length, LIMIT)
    assert len(text.encode()) <= LIMIT
    kept, _, cut = json.loads(text)["result"].partition("[... cut off: ")
    assert kept == character * len(kept)
    assert len(kept) + int(cut.removesuffix(" more characters]") or 0) == length if cut else len(kept) == length


def test_text_is_cut_without_a_secret_on_the_edge() -> None:
    secret = "s3cr3t" * 20
    for before in range(LIMIT - 400, LIMIT):
        text = encode("x" * before + secret + "y" * 100, LIMIT, lambda text: text.replace(secret, "[secret]"))
        assert "s3cr3t" not in text


def test_deepest_and_largest_result_arrives_at_a_caller() -> None:
    value: Any = -(2**1023) + 1
    for number in range(MAX_DEPTH):
        value = {"a": value} if number else [value]
    response = tools_pb2.CallToolResponse()
    response.output.update(json.loads(encode([value["a"]], LIMIT)))
    assert tools_pb2.CallToolResponse.FromString(response.SerializeToString()) == response


def test_the_same_object_twice_is_no_cycle() -> None:
    inner = {"a": 1}
    assert json.loads(encode({"x": inner, "y": [inner, inner]}, LIMIT)) == {"x": inner, "y": [inner, inner]}


def test_huge_result_costs_no_more_than_the_bound() -> None:
    huge = ["x" * 1000] * 50_000  # 50 MB of JSON
    before = time.process_time()
    with pytest.raises(ResultError, match="too large"):
        encode(huge, 256 * 1024)
    assert time.process_time() - before < 0.1
