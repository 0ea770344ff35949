"""JSON Schema as the catalog holds it: neutral, short, without references where that is possible."""

from __future__ import annotations

from typing import Any, Final

_DEFS: Final = "$defs"
_PREFIX: Final = f"#/{_DEFS}/"


def neutral(schema: dict[str, Any]) -> dict[str, Any]:
    """Pydantic's schema without the titles that it makes up, and with its definitions put in place.

    A definition that refers to itself stays a reference, and then the definitions stay too.
    """
    definitions: dict[str, Any] = schema.get(_DEFS, {})
    recursive: set[str] = set()
    body = _walk({key: value for key, value in schema.items() if key != _DEFS}, definitions, (), recursive)
    assert isinstance(body, dict)
    body.setdefault("properties", {})
    body.pop("description", None)
    if recursive:
        body[_DEFS] = {
            name: _walk(definition, definitions, (name,), recursive) for name, definition in definitions.items()
        }
    return body


def _walk(node: Any, definitions: dict[str, Any], inside: tuple[str, ...], recursive: set[str]) -> Any:
    if isinstance(node, list):
        return [_walk(item, definitions, inside, recursive) for item in node]
    if not isinstance(node, dict):
        return node
    reference = node.get("$ref")
    if isinstance(reference, str) and reference.startswith(_PREFIX):
        name = reference.removeprefix(_PREFIX)
        if name in inside:
            recursive.add(name)
            return node
        beside = {key: value for key, value in node.items() if key != "$ref"}
        target = _walk(definitions[name], definitions, (*inside, name), recursive)
        return {**target, **_walk(beside, definitions, inside, recursive)}
    walked: dict[str, Any] = {}
    for key, value in node.items():
        if key == "title" and isinstance(value, str):
            continue
        if key in ("properties", "patternProperties") and isinstance(value, dict):
            # Names of arguments, not keywords: one may be called `title`.
            walked[key] = {name: _walk(item, definitions, inside, recursive) for name, item in value.items()}
        elif key in ("default", "const", "enum", "examples"):
            walked[key] = value
        else:
            walked[key] = _walk(value, definitions, inside, recursive)
    return walked
