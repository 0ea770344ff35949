"""Arguments that satisfy what a function declares: what was heard, where it fits, and the plainest value elsewhere.

A value is proposed and then checked by the library ``jsonschema``; the first that holds is taken. The number of
proposals is bounded, so that no declaration, however twisted, takes long.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, time
from itertools import islice
from typing import Any

import jsonschema
import referencing
import referencing.exceptions

from emulator.tools import patterns
from emulator.tools.json_schema import Schema, plain
from emulator.tools.merged import merged
from emulator.tools.scalars import LONGEST, MANY, NOTHING, booleans, kind_of, kinds, numbers, strings

_PROPOSALS = 3000
_DEEPEST = 24


class UnsatisfiableError(Exception):
    """No value was found that satisfies a schema."""


_formats = jsonschema.FormatChecker()
_formats.checks("date-time", ValueError)(
    lambda value: not isinstance(value, str) or bool(datetime.fromisoformat(value).tzinfo)
)
_formats.checks("time", ValueError)(lambda value: not isinstance(value, str) or bool(time.fromisoformat(value)))


def _pattern(_: Any, pattern: Any, value: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    if isinstance(value, str) and patterns.matches(pattern, value) is False:
        yield jsonschema.ValidationError("does not match")


_Validator: Any = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator, {"pattern": _pattern}
)


def fit(wanted: Mapping[str, Any], schema: Any, heard: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for a declared ``schema``: ``wanted`` where it is declared, else what was ``heard`` by the same name.

    An optional argument is there only if something is known of it. Where nothing satisfies the declaration, the
    arguments are those that were wanted.
    """
    declared = plain(schema)
    if not isinstance(declared, dict) or not declared:
        return dict(wanted)
    known = {
        name: value for name, value in heard.items() if isinstance(value, str | int | float) and name != "pictures"
    }
    try:
        found = _Fitter({"type": "object", **declared}, known).root(dict(wanted))
    except (UnsatisfiableError, RecursionError, OverflowError, referencing.exceptions.Unresolvable):
        return dict(wanted)
    return found if isinstance(found, dict) else dict(wanted)


class _Fitter:
    """Proposes and checks, for one call."""

    def __init__(self, root: dict[str, Any], heard: Mapping[str, Any]) -> None:
        self._root = root
        self._heard = heard
        self._left = _PROPOSALS
        self._validator = _Validator(root, format_checker=_formats, registry=referencing.Registry())

    def root(self, wish: Any) -> Any:
        return self._one(self._root, wish, 0)

    def _one(self, schema: Schema, wish: Any, depth: int) -> Any:
        """A value. Raises :class:`UnsatisfiableError`."""
        for value in self._some(schema, wish, depth):
            return value
        raise UnsatisfiableError

    def _some(self, schema: Schema, wish: Any, depth: int) -> Iterator[Any]:
        """Values that satisfy ``schema``, the best first."""
        check = self._validator.evolve(schema=schema)
        for value in islice(self._proposals(schema, wish, depth), MANY):
            self._left -= 1
            if self._left < 0:
                return
            if check.is_valid(value):
                yield value

    def _proposals(self, schema: Schema, wish: Any, depth: int) -> Iterator[Any]:
        if schema is False or depth > _DEEPEST:
            return
        if schema is True:
            schema = {}
        for keyword in ("$ref", "allOf", "if", "anyOf", "oneOf"):
            if keyword in schema:
                for simpler in self._simpler(keyword, schema, wish):
                    yield from self._proposals(simpler, wish, depth + 1)
                return
        if "const" in schema:
            yield schema["const"]
            return
        if "enum" in schema:
            yield from sorted(schema["enum"], key=lambda choice: not _alike(choice, wish))
            return
        if wish is NOTHING:
            yield from (schema[name] for name in ("default", "example") if name in schema)
        for kind in kinds(schema, wish):
            match kind:
                case "string":
                    yield from strings(schema, wish)
                case "integer" | "number":
                    yield from numbers(schema, wish, whole=kind == "integer")
                case "boolean":
                    yield from booleans(wish)
                case "array":
                    yield from self._arrays(schema, wish, depth)
                case "object":
                    yield from self._objects(schema, wish, depth)
                case _:
                    yield None

    def _simpler(self, keyword: str, schema: dict[str, Any], wish: Any) -> Iterator[Schema]:
        """``schema`` without ``keyword``, in each way to satisfy it."""
        rest = {name: value for name, value in schema.items() if name != keyword}
        match keyword:
            case "$ref":
                yield merged(self._resolve(schema["$ref"]), rest)
            case "allOf":
                whole: Schema = rest
                for part in schema["allOf"]:
                    whole = merged(whole, part)
                yield whole
            case "if":
                yes, no = rest.pop("then", True), rest.pop("else", True)
                yield merged(merged(rest, schema["if"]), yes)
                yield merged(rest, no)
            case _:
                # What refers to something else may refer to itself, and then never end.
                for option in sorted(schema[keyword], key=lambda option: (not _takes(option, wish), _refers(option))):
                    yield merged(rest, option)

    def _resolve(self, reference: str) -> Schema:
        found: Any = self._root
        for part in reference.removeprefix("#").split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and name.isdigit() and int(name) < len(found):
                found = found[int(name)]
            elif isinstance(found, dict) and name in found:
                found = found[name]
            else:
                raise UnsatisfiableError
        return found if isinstance(found, dict | bool) else {}

    def _arrays(self, schema: dict[str, Any], wish: Any, depth: int) -> Iterator[list[Any]]:
        wishes = wish if isinstance(wish, list) else [] if wish is NOTHING else [wish]
        first = schema.get("prefixItems", [])
        count = max(schema.get("minItems", 0), min(len(wishes), schema.get("maxItems", len(wishes))))
        if count > LONGEST:
            return
        items: list[Any] = []
        for index in range(count):
            inner = first[index] if index < len(first) else schema.get("items", True)
            asked = wishes[index] if index < len(wishes) else NOTHING
            taken = items if schema.get("uniqueItems") else []
            for value in self._some(inner, asked, depth + 1):
                if not any(_same(value, other) for other in taken):
                    items.append(value)
                    break
            else:
                return
        yield items
        if "contains" in schema:
            extra = self._one(schema["contains"], NOTHING, depth + 1)
            for times in range(1, schema.get("minContains", 1) + 1):
                yield items + [extra] * times

    def _objects(self, schema: dict[str, Any], wish: Any, depth: int) -> Iterator[dict[str, Any]]:
        properties: dict[str, Schema] = schema.get("properties", {})
        wishes: dict[str, Any] = dict(wish) if isinstance(wish, Mapping) else {}
        if properties:
            wishes = {name: value for name, value in wishes.items() if name in properties}
            wishes |= {name: self._heard[name] for name in properties if name in self._heard and name not in wishes}
        needed = {*schema.get("required", ())}
        while True:
            more = {
                name
                for cause, names in schema.get("dependentRequired", {}).items()
                if cause in needed or cause in wishes
                for name in names
            } - needed
            if not more:
                break
            needed |= more
        known, least = needed | wishes.keys(), schema.get("minProperties", 0)
        # Nothing more than that; whatever else is declared; names that are not.
        for offered in ((), [*properties], [f"a{number}" for number in range(MANY)]):
            names = [*dict.fromkeys([*filter(known.__contains__, properties), *sorted(known)])]
            more_names = [name for name in offered if name not in names]
            names += more_names[: max(0, least - len(names))] if least else filter(properties.__contains__, more_names)
            value = self._filled(schema, names, needed, wishes, depth)
            if value is not None:
                yield value
                yield from self._varied(schema, value, depth)

    def _filled(
        self, schema: dict[str, Any], names: list[str], needed: set[str], wishes: dict[str, Any], depth: int
    ) -> dict[str, Any] | None:
        value: dict[str, Any] = {}
        for name in names:
            inner = self._property(schema, name)
            try:
                value[name] = self._one(inner, wishes.get(name, NOTHING), depth + 1)
            except UnsatisfiableError:
                if name in needed:
                    return None
        return value

    def _varied(self, schema: dict[str, Any], value: dict[str, Any], depth: int) -> Iterator[dict[str, Any]]:
        """Objects that differ in one property: a list may want different ones."""
        for name in value:
            for other in islice(self._some(self._property(schema, name), NOTHING, depth + 1), 1, 6):
                yield {**value, name: other}

    @staticmethod
    def _property(schema: dict[str, Any], name: str) -> Schema:
        found: Schema | None = schema.get("properties", {}).get(name)
        for pattern, inner in schema.get("patternProperties", {}).items():
            if patterns.matches(pattern, name):
                found = merged(True if found is None else found, inner)
        return schema.get("additionalProperties", True) if found is None else found


def _takes(schema: Schema, wish: Any) -> bool:
    """Whether it looks as if what is wished for might do."""
    declared = schema.get("type", ()) if isinstance(schema, dict) else ()
    wanted = {kind_of(wish), "number"} if isinstance(wish, int) else {kind_of(wish)}
    return wish is not NOTHING and not wanted.isdisjoint([declared] if isinstance(declared, str) else declared)


def _refers(schema: Schema) -> bool:
    return isinstance(schema, dict) and "$ref" in schema


def _alike(choice: Any, wish: Any) -> bool:
    """Whether a declared choice is what was heard, in whatever spelling."""
    return wish is not NOTHING and str(choice).lower().replace("_", " ") == str(wish).lower().replace("_", " ")


def _same(one: Any, other: Any) -> bool:
    """As JSON Schema compares: true is not 1."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
