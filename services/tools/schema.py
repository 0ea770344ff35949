"""JSON Schema as the catalog holds it: neutral, short, without references where that is possible."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf import struct_pb2
from google.protobuf.message import DecodeError

MAX_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 28
"""Objects and lists in one another. Of the hundred messages that protobuf's readers follow into one another an object
takes three, and some more stand around them."""
_MAX_NODES: Final = 20_000
"""Values of one schema with its references put in place: a few lines can refer to each other a billion times."""
_DEFS: Final = "$defs"
_PREFIX: Final = f"#/{_DEFS}/"
_NAMED: Final = frozenset({"properties", "patternProperties", _DEFS, "dependentSchemas"})
"""Keywords whose keys are names, not keywords: an argument may be called `title`."""
VALUES: Final = frozenset({"default", "const", "enum", "examples", "required"})
"""Keywords whose values are no schemas."""


class SchemaError(Exception):
    """A schema that cannot be declared; the message says why."""


def neutral(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without titles, and with its definitions put in place. SchemaError.

    A definition that refers to itself stays a reference, and then it stays too, with what it refers to.
    """
    definitions: dict[str, Any] = schema.get(_DEFS, {})
    walk = _Walk(definitions)
    body = walk.node({key: value for key, value in schema.items() if key != _DEFS}, ())
    assert isinstance(body, dict)
    body.setdefault("properties", {})
    body.pop("description", None)
    kept: dict[str, Any] = {}
    while missing := walk.recursive - kept.keys():
        for name in sorted(missing):
            kept[name] = walk.node(definitions[name], (name,))
    if kept:
        body[_DEFS] = kept
    return body


def check_bounds(schema: dict[str, Any]) -> int:
    """The bytes of a schema as JSON. SchemaError when it is larger or deeper than a declaration may be, or holds what
    the catalog cannot."""
    check_depth(schema)
    try:
        size = len(json.dumps(schema, allow_nan=False, separators=(",", ":")).encode())
    except (TypeError, ValueError) as error:
        raise SchemaError(f"its schema is not JSON ({error})") from None
    if size > MAX_BYTES:
        raise SchemaError(f"its schema has more than {MAX_BYTES} bytes")
    try:
        struct_pb2.Struct().update(schema)
    except UnicodeEncodeError:
        raise SchemaError("its schema holds text that is not valid Unicode") from None
    except (OverflowError, ValueError, TypeError, DecodeError) as error:
        raise SchemaError(f"its schema holds what the catalog cannot ({error})") from None
    return size


def check_depth(schema: Any) -> None:
    """SchemaError when it is nested too deeply, or has too many parts, to be looked at."""
    if _depth(schema) > MAX_DEPTH:
        raise SchemaError(f"its schema is nested more than {MAX_DEPTH} deep")


def keywords(schema: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every keyword that is used, with the path of the argument it is used for."""
    if isinstance(schema, list):
        for item in schema:
            yield from keywords(item, path)
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        yield key, path
        if key in VALUES:
            continue
        if key in _NAMED and isinstance(value, dict):
            for name, inner in value.items():
                yield from keywords(inner, path if key == _DEFS else f"{path}.{name}" if path else name)
        else:
            yield from keywords(value, f"{path}[]" if key in ("items", "prefixItems") else path)


class _Walk:
    """Puts definitions in place."""

    def __init__(self, definitions: dict[str, Any]) -> None:
        self._definitions = definitions
        self._nodes = 0
        self.recursive: set[str] = set()
        """Definitions that something refers to inside themselves."""

    def node(self, node: Any, inside: tuple[str, ...]) -> Any:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise SchemaError(f"its schema has more than {_MAX_NODES} parts when its references are put in place")
        if len(inside) > MAX_DEPTH:
            raise SchemaError(f"its schema refers more than {MAX_DEPTH} deep")
        if isinstance(node, list):
            return [self.node(item, inside) for item in node]
        if not isinstance(node, dict):
            return node
        reference = node.get("$ref")
        if isinstance(reference, str) and reference.startswith(_PREFIX):
            return self._referred(reference.removeprefix(_PREFIX), node, inside)
        walked: dict[str, Any] = {}
        for key, value in node.items():
            if key == "title" and isinstance(value, str):
                continue
            if key in _NAMED and isinstance(value, dict):
                walked[key] = {name: self.node(item, inside) for name, item in value.items()}
            elif key in VALUES:
                walked[key] = value
            else:
                walked[key] = self.node(value, inside)
        return walked

    def _referred(self, name: str, node: dict[str, Any], inside: tuple[str, ...]) -> Any:
        if name not in self._definitions:
            raise SchemaError(f"its schema refers to {_PREFIX}{name}, which is not there")
        if name in inside:
            self.recursive.add(name)
            return node
        target = self.node(self._definitions[name], (*inside, name))
        beside = {key: value for key, value in node.items() if key != "$ref"}
        if not isinstance(target, dict):
            return target
        return {**target, **self.node(beside, inside)}


def _depth(node: Any) -> int:
    """How deep it is nested, or a little more than allowed. SchemaError when it has too many parts: a document of YAML
    can hold a list that holds another one a billion times."""
    deepest, parts, level = 0, 0, [node] if isinstance(node, dict | list) else []
    while level and deepest <= MAX_DEPTH:
        following = []
        for item in level:
            inner = list(item.values()) if isinstance(item, dict) else item
            parts += len(inner)
            if parts > _MAX_NODES:
                raise SchemaError(f"its schema has more than {_MAX_NODES} parts")
            following += [value for value in inner if isinstance(value, dict | list)]
        level = following
        deepest += 1
    return deepest
