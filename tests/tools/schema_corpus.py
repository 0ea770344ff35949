"""Declarations at random, each with what it allows and what it forbids: written down here, not asked of any validator.

A `Node` is a form of values in three spellings, as hints of Python, as JSON Schema and as a schema of OpenAPI 3.0, with
valid values and with wrong ones. A wrong one is a valid one with a single fault, whose place is known.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NotRequired, Optional, Union

from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, create_model
from typing_extensions import TypedDict

Place = tuple[int | str, ...]
Values = st.SearchStrategy[Any]
Wrong = st.SearchStrategy[tuple[Any, Place]]

_NUMBERS: Final = itertools.count()
_OF_KIND: Final[dict[str, Values]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "integer": st.integers(-1000, 1000),
    "number": st.sampled_from([0.5, -2.25, 1e-3, 1234.5]),
    "string": st.sampled_from(["", "x", "true", "null", "7", "[]", "ä\u2028'\"\\"]),
    "array": st.sampled_from([[], [None], [[1]], ["x", {}]]),
    "object": st.sampled_from([{}, {"unheard_of": 1}, {"a": {"b": []}}]),
}
_NAMES: Final = ("a", "b", "city", "schema", "model_config", "self", "order_id", "type", "properties", "título", "x1")
_NESTED_NAMES: Final = ("a", "b", "city", "type", "properties", "title", "x1")


@dataclass(frozen=True)
class Node:
    """A form of values."""

    hint: Any
    schema: dict[str, Any]
    old: dict[str, Any]
    """The schema as OpenAPI 3.0 has it."""
    kinds: frozenset[str]
    """What its values are in JSON; no others are of these kinds."""
    valid: Values
    faults: Wrong | None
    """Wrong values of the right kind; None: there are none."""

    def wrong(self) -> Wrong:
        """Wrong values and the places of their faults."""
        other = [_OF_KIND[kind] for kind in _OF_KIND if kind not in self.kinds]
        of_other_kind: list[Wrong] = [st.tuples(st.one_of(other), st.just(()))] if other else []
        return st.one_of(*of_other_kind, *([self.faults] if self.faults is not None else []))


def _node(kinds: str, hint: Any, schema: dict[str, Any], valid: Values, *faults: Values, old: Any = None) -> Node:
    wrong = st.tuples(st.one_of(faults), st.just(())) if faults else None
    return Node(hint, schema, schema if old is None else old, frozenset(kinds.split()), valid, wrong)


# Values without parts


@st.composite
def integers(draw: st.DrawFn) -> Node:
    low, span, step = draw(st.integers(-50, 50)), draw(st.integers(0, 20)), draw(st.sampled_from([1, 1, 3]))
    valid = st.integers(low // step + 1, (low + span) // step + 1).map(lambda number: number * step)
    least, most = (low // step + 1) * step, ((low + span) // step + 1) * step
    exclusive = draw(st.booleans())
    options: dict[str, Any] = {"le": most} | ({"gt": least - 1} if exclusive else {"ge": least})
    schema = {"type": "integer", "maximum": most} | (
        {"exclusiveMinimum": least - 1} if exclusive else {"minimum": least}
    )
    old = {"type": "integer", "maximum": most} | (
        {"minimum": least - 1, "exclusiveMinimum": True} if exclusive else {"minimum": least}
    )
    faults: list[Values] = [
        st.integers(most + 1, most + 1000),
        st.integers(least - 1000, least - 1),
        st.just(least + 0.5),
    ]
    if step > 1:
        for each in (schema, old):
            each["multipleOf"] = step
        options["multiple_of"] = step
        faults.append(
            st.integers(least, most).filter(lambda number: number % step != 0) if most > least else st.just(least + 1)
        )
    whole = st.one_of(valid, valid.map(float))  # 3.0 is an integer
    return _node("integer", Annotated[int, Field(**options)], schema, whole, *faults, old=old)


def numbers() -> st.SearchStrategy[Node]:
    valid = st.one_of(st.integers(-9, 9), st.floats(-9.5, 9.5, allow_nan=False))
    schema = {"type": "number", "minimum": -9.5, "maximum": 9.5}
    hint = Annotated[float, Field(ge=-9.5, le=9.5)]
    return st.just(_node("integer number", hint, schema, valid, st.sampled_from([-10, 10, 9.75, 1e300])))


@st.composite
def strings(draw: st.DrawFn) -> Node:
    match draw(st.sampled_from(["any", "length", "pattern"])):
        case "any":
            return _node("string", str, {"type": "string"}, st.text(max_size=8))
        case "length":
            least, most = draw(st.integers(0, 2)), draw(st.integers(2, 4))
            schema = {"type": "string", "minLength": least, "maxLength": most}
            faults: list[Values] = [st.text(min_size=most + 1, max_size=most + 9)]
            if least:
                faults.append(st.text(max_size=least - 1))
            hint = Annotated[str, Field(min_length=least, max_length=most)]
            return _node("string", hint, schema, st.text(min_size=least, max_size=most), *faults)
        case _:
            pattern = "^[a-z]{2,5}-[0-9]+$"
            valid = st.builds("{}-{}".format, st.from_regex("[a-z]{2,5}", fullmatch=True), st.integers(0, 99))
            wrong = st.sampled_from(["", "ab", "AB-1", "abcdef-1", "ab-1 ", " ab-1", "ab-x"])
            hint = Annotated[str, Field(pattern=pattern)]
            return _node("string", hint, {"type": "string", "pattern": pattern}, valid, wrong)


class Colour(enum.Enum):
    RED = "red"
    LIGHT_BLUE = "light blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 3


CHOICES: Final = (
    _node(
        "string",
        Colour,
        {"type": "string", "enum": ["red", "light blue"]},
        st.sampled_from(["red", "light blue"]),
        st.sampled_from(["RED", "", "light", "green"]),
    ),
    _node(
        "integer", Level, {"type": "integer", "enum": [1, 3]}, st.sampled_from([1, 3, 3.0]), st.sampled_from([0, 2, 4])
    ),
    _node(
        "string",
        Literal["one", "two"],
        {"type": "string", "enum": ["one", "two"]},
        st.sampled_from(["one", "two"]),
        st.sampled_from(["three", "ONE", ""]),
    ),
    _node("string", Literal["only"], {"const": "only"}, st.just("only"), st.just("other"), old={"enum": ["only"]}),
    _node("boolean", bool, {"type": "boolean"}, st.booleans()),
)

LEAVES: Final = st.one_of(integers(), numbers(), strings(), st.sampled_from(CHOICES))


# Values with parts


@st.composite
def arrays(draw: st.DrawFn, inner: st.SearchStrategy[Node]) -> Node:
    of = draw(inner)
    least, most = draw(st.integers(0, 1)), draw(st.integers(1, 3))
    bounds = {"minItems": least, "maxItems": most}

    @st.composite
    def faults(draw: st.DrawFn) -> tuple[Any, Place]:
        values = draw(st.lists(of.valid, min_size=max(1, least), max_size=most))
        match draw(st.sampled_from(["item", "item", "many", "few"] if least else ["item", "item", "many"])):
            case "item":
                index = draw(st.integers(0, len(values) - 1))
                values[index], place = draw(of.wrong())
                return values, (index, *place)
            case "many":
                return draw(st.lists(of.valid, min_size=most + 1, max_size=most + 2)), ()
            case _:
                return [], ()

    return Node(
        Annotated[list[of.hint], Field(min_length=least, max_length=most)],  # type: ignore[name-defined]
        {"type": "array", "items": of.schema, **bounds},
        {"type": "array", "items": of.old, **bounds},
        frozenset({"array"}),
        st.lists(of.valid, min_size=least, max_size=most),
        faults(),
    )


@st.composite
def sets(draw: st.DrawFn) -> Node:
    least = draw(st.integers(0, 1))
    of = draw(strings())
    schema = {"type": "array", "items": of.schema, "uniqueItems": True, "minItems": least}

    @st.composite
    def faults(draw: st.DrawFn) -> tuple[Any, Place]:
        values = draw(st.lists(of.valid, min_size=1, max_size=3, unique=True))
        match draw(st.sampled_from(["twice", "item"])):
            case "twice":
                return [*values, values[0]], ()
            case _:
                index = draw(st.integers(0, len(values) - 1))
                values[index], place = draw(of.wrong().filter(lambda fault: fault[0] not in values))
                return values, (index, *place)

    valid = st.lists(of.valid, min_size=least, max_size=3, unique=True)
    hint = Annotated[set[of.hint], Field(min_length=least)]  # type: ignore[name-defined]
    return Node(hint, schema, schema, frozenset({"array"}), valid, faults())


@st.composite
def maps(draw: st.DrawFn, inner: st.SearchStrategy[Node]) -> Node:
    of = draw(inner)
    keys = st.sampled_from(["k", "a key", "0", "of.dots", "["])

    @st.composite
    def faults(draw: st.DrawFn) -> tuple[Any, Place]:
        values = draw(st.dictionaries(keys, of.valid, max_size=2))
        key = draw(keys)
        values[key], place = draw(of.wrong())
        return values, (key, *place)

    return Node(
        dict[str, of.hint],  # type: ignore[name-defined]
        {"type": "object", "additionalProperties": of.schema},
        {"type": "object", "additionalProperties": of.old},
        frozenset({"object"}),
        st.dictionaries(keys, of.valid, max_size=2),
        faults(),
    )


@dataclass(frozen=True)
class Member:
    """A property of an object."""

    of: Node
    required: bool


def _objects_valid(members: dict[str, Member]) -> Values:
    required = {name: member.of.valid for name, member in members.items() if member.required}
    optional = {name: member.of.valid for name, member in members.items() if not member.required}
    return st.fixed_dictionaries(required, optional=optional)


def object_faults(members: dict[str, Member], *, unknown: bool = True) -> Wrong:
    """One member wrong, one that is required left out, one too many."""
    whole = _objects_valid(members)
    required = [name for name, member in members.items() if member.required]

    @st.composite
    def faults(draw: st.DrawFn) -> tuple[Any, Place]:
        value = draw(whole)
        kinds = ["member"] * 2 * bool(members) + ["missing"] * bool(required) + ["unknown"] * unknown
        match draw(st.sampled_from(kinds or ["none"])):
            case "member":
                name = draw(st.sampled_from(sorted(members)))
                value[name], place = draw(members[name].of.wrong())
                return value, (name, *place)
            case "missing":
                name = draw(st.sampled_from(required))
                del value[name]
                return value, (name,)
            case _:
                name = draw(st.sampled_from(["colour", "A", "a ", "items"]))
                return {**value, name: 1}, (name,)

    return faults()


def object_schema(members: dict[str, Member], spelling: str) -> dict[str, Any]:
    """In JSON Schema (`schema`) or as OpenAPI 3.0 (`old`)."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: getattr(member.of, spelling) for name, member in members.items()},
        "additionalProperties": False,
    }
    if required := [name for name, member in members.items() if member.required]:
        schema["required"] = required
    return schema


def members_of(inner: st.SearchStrategy[Node], names: tuple[str, ...], least: int = 0) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(names), st.builds(Member, inner, st.booleans()), min_size=least, max_size=3)


def _as_model(members: dict[str, Member]) -> Any:
    # Nothing by default that the schema would have to allow: what is left out is left out.
    fields: dict[str, Any] = {
        f"f{number}": (member.of.hint, Field(... if member.required else None, alias=name))
        for number, (name, member) in enumerate(members.items())
    }
    return create_model(f"Model{next(_NUMBERS)}", __config__=ConfigDict(extra="forbid"), **fields)


def _as_typed_dict(members: dict[str, Member]) -> Any:
    fields = {
        name: member.of.hint if member.required else NotRequired[member.of.hint]  # type: ignore[valid-type]
        for name, member in members.items()
    }
    made: Any = TypedDict(f"Typed{next(_NUMBERS)}", fields)  # type: ignore[misc]
    made.__pydantic_config__ = ConfigDict(extra="forbid")
    return made


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[Node]) -> Node:
    members: dict[str, Member] = draw(members_of(inner, _NESTED_NAMES, least=1))
    make: Callable[[dict[str, Member]], Any] = draw(st.sampled_from([_as_model, _as_typed_dict]))
    return Node(
        make(members),
        object_schema(members, "schema"),
        object_schema(members, "old"),
        frozenset({"object"}),
        _objects_valid(members),
        object_faults(members),
    )


@st.composite
def optionals(draw: st.DrawFn, inner: st.SearchStrategy[Node]) -> Node:
    of = draw(inner.filter(lambda node: "null" not in node.kinds))
    old = (
        {**of.old, "nullable": True} if "type" in of.old or "anyOf" in of.old else {"anyOf": [of.old], "nullable": True}
    )
    return Node(
        Optional[of.hint],  # noqa: UP045 - of a value
        {"anyOf": [of.schema, {"type": "null"}]},
        old,
        of.kinds | {"null"},
        st.one_of(st.none(), of.valid),
        of.faults,
    )


@st.composite
def unions(draw: st.DrawFn, inner: st.SearchStrategy[Node]) -> Node:
    first = draw(inner)
    second = draw(inner.filter(lambda node: not node.kinds & first.kinds))
    keyword = draw(st.sampled_from(["anyOf", "oneOf"]))
    faults = [node.faults for node in (first, second) if node.faults is not None]
    return Node(
        Union[first.hint, second.hint],  # noqa: UP007 - of values
        {keyword: [first.schema, second.schema]},
        {keyword: [first.old, second.old]},
        first.kinds | second.kinds,
        st.one_of(first.valid, second.valid),
        st.one_of(faults) if faults else None,
    )


class Tree(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    children: list[Tree] = []


_TREES: Final = st.recursive(
    st.fixed_dictionaries({"name": st.text(max_size=3)}),
    lambda inner: st.fixed_dictionaries({"name": st.text(max_size=3), "children": st.lists(inner, max_size=2)}),
    max_leaves=4,
)


@st.composite
def _tree_faults(draw: st.DrawFn, depth: int = 0) -> tuple[Any, Place]:
    tree = draw(_TREES)
    match draw(st.sampled_from(["name", "missing", "unknown", "below"] if depth < 3 else ["name", "missing"])):
        case "name":
            return {**tree, "name": 7}, ("name",)
        case "missing":
            return {key: value for key, value in tree.items() if key != "name"}, ("name",)
        case "unknown":
            return {**tree, "leaf": 1}, ("leaf",)
        case _:
            child, place = draw(_tree_faults(depth + 1))
            before = tree.get("children", [])
            return {**tree, "children": [*before, child]}, ("children", len(before), *place)


TREE_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}},
    "required": ["name"],
    "additionalProperties": False,
}
TREE: Final = Node(
    Tree,
    {"$ref": "#/$defs/Tree"},
    {"$ref": "#/components/schemas/Tree"},
    frozenset({"object"}),
    _TREES,
    _tree_faults(),
)


def _grown(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    return st.one_of(arrays(inner), maps(inner), objects(inner), optionals(inner), unions(inner))


NODES: Final = st.recursive(st.one_of(LEAVES, LEAVES, sets(), st.just(TREE)), _grown, max_leaves=4)


def parameters() -> st.SearchStrategy[dict[str, Member]]:
    """Of a tool."""
    return members_of(NODES, _NAMES, least=1)


def valid_arguments(members: dict[str, Member]) -> Values:
    """What the declaration allows."""
    return _objects_valid(members)
