"""What a function declares about its arguments, as one kind of schema: JSON Schema, draft 2020-12.

``parametersJsonSchema`` is that already. ``parameters`` is the API's own: types in upper case, numbers as text,
``nullable``, ``ref`` and ``defs``, names in either spelling. What is not understood says nothing.
"""

import math
from collections.abc import Mapping
from typing import Any

from emulator.api.protojson import camel
from emulator.tools import patterns

Schema = dict[str, Any] | bool

_TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")
_ONE = (
    "items",
    "additionalProperties",
    "not",
    "if",
    "then",
    "else",
    "contains",
    "propertyNames",
    "unevaluatedProperties",
)
_MANY = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_COUNTS = (
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "minProperties",
    "maxProperties",
    "minContains",
    "maxContains",
)
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_TEXTS = ("pattern", "format")
_FLAGS = ("uniqueItems",)
_ANYTHING = ("const", "default", "example")
_LONG_NAMES = {"ref": "$ref", "defs": "$defs"}
# Deeper than any declaration, shallower than what exhausts the stack.
_DEEPEST = 48


def plain(schema: Any) -> Schema:
    """``schema`` in plain JSON Schema."""
    return _plain(schema, 0)


def _plain(schema: Any, depth: int) -> Schema:
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return {}
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if value is None and key != "const":
            continue
        name = _LONG_NAMES.get(key, camel(str(key)))
        if (kept := _keyword(name, value, depth)) is not None or name in ("const", "default"):
            result[name] = kept
    for bound, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        # In OpenAPI it is a flag beside the limit.
        if schema.get(bound) is True and limit in result:
            result[bound] = result.pop(limit)
    if schema.get("nullable") is True:
        return {"anyOf": [result, {"type": "null"}]}
    return result


def _keyword(name: str, value: Any, depth: int) -> Any:
    """The value of a keyword, checked; None where it says nothing."""
    if name in _ANYTHING:
        return value
    if name in _ONE:
        return None if isinstance(value, list) else _plain(value, depth + 1)
    if name in _MANY and isinstance(value, list) and value:
        return [_plain(item, depth + 1) for item in value]
    if name == "patternProperties" and isinstance(value, Mapping):
        # One that might take long to match is not looked at.
        value = {key: item for key, item in value.items() if patterns.matches(str(key), "") is not None}
    if name in _NAMED and isinstance(value, Mapping):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if name == "type":
        return _types(value)
    if name == "enum" and isinstance(value, list) and value:
        return value
    if name == "required" and isinstance(value, list):
        return [item for item in value if isinstance(item, str)]
    if name == "dependentRequired" and isinstance(value, Mapping):
        return {
            key: [item for item in items if isinstance(item, str)]
            for key, items in value.items()
            if isinstance(items, list)
        }
    if name in _COUNTS and (number := _number(value)) is not None and number >= 0:
        return int(number)
    if name in _NUMBERS and (number := _number(value)) is not None and (name != "multipleOf" or number > 0):
        return number
    if name in _TEXTS and isinstance(value, str):
        return value
    if name in _FLAGS and isinstance(value, bool):
        return value
    if name == "$ref" and isinstance(value, str) and value.startswith("#"):
        return value.replace("#/defs/", "#/$defs/", 1)
    return None


def _types(value: Any) -> str | list[str] | None:
    if isinstance(value, list):
        found = [one for one in (_types(item) for item in value) if isinstance(one, str)]
        return found or None
    name = str(value).lower()
    return name if name in _TYPES else None


def _number(value: Any) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() else number
