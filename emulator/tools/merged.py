"""Two schemas as one that says what both say."""

import itertools
import math
from collections.abc import Callable
from typing import Any

from emulator.tools.json_schema import Schema

_TIGHTER: dict[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minItems", "minLength", "minProperties", "minContains"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxItems", "maxLength", "maxProperties", "maxContains"), min),
    "uniqueItems": lambda one, other: one or other,
    "required": lambda one, other: [*dict.fromkeys([*one, *other])],
    "multipleOf": lambda one, other: math.lcm(one, other) if isinstance(one, int) and isinstance(other, int) else other,
    "default": lambda one, other: other,
    "example": lambda one, other: other,
}
_MOST_OPTIONS = 64
_INNER = ("items", "additionalProperties", "contains", "propertyNames")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependentRequired")


def merged(one: Schema, other: Schema) -> Schema:
    """What satisfies it mostly satisfies both: of two patterns it keeps the first.

    Whoever uses it checks what comes of it.
    """
    if one is False or other is False:
        return False
    if isinstance(one, bool) or isinstance(other, bool):
        return other if one is True else one
    result = dict(one)
    for name, value in other.items():
        if name not in result or result[name] == value:
            result[name] = value
        elif name in _TIGHTER:
            result[name] = _TIGHTER[name](result[name], value)
        elif name in _INNER:
            result[name] = merged(result[name], value)
        elif name in _NAMED:
            result[name] = {**result[name], **value} | {
                key: _both(result[name][key], value[key]) for key in result[name].keys() & value.keys()
            }
        elif name == "type":
            kinds = _common_types(result[name], value)
            if not kinds:
                return False
            result[name] = kinds
        elif name == "enum":
            result[name] = [choice for choice in result[name] if choice in value]
        elif name == "allOf":
            result[name] = [*result[name], *value]
        elif name in ("anyOf", "oneOf"):
            pairs = itertools.islice(itertools.product(result[name], value), _MOST_OPTIONS)
            result[name] = [merged(left, right) for left, right in pairs]
    return result


def _both(one: Any, other: Any) -> Any:
    if isinstance(one, list):
        return [*dict.fromkeys([*one, *other])]
    return merged(one, other)


def _common_types(one: str | list[str], other: str | list[str]) -> list[str]:
    left, right = ([kinds] if isinstance(kinds, str) else kinds for kinds in (one, other))
    found = [kind for kind in left if kind in right]
    if "integer" not in found and {"integer", "number"} <= {*left, *right}:
        found.append("integer")
    return found
