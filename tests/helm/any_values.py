"""Any value that fits the chart's schema. For what that schema is made of; the whole of JSON Schema is no aim."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jsonschema
from hypothesis import strategies as st

Schema = Mapping[str, Any]
_MOST = 3
"""Entries of a map with free keys, and elements of a list: more shows nothing new."""


def fitting(schema: Schema, definitions: Schema) -> st.SearchStrategy[Any]:
    """Values that fit `schema`; `definitions`: its `$defs`."""
    validator = jsonschema.Draft7Validator({**schema, "$defs": definitions})
    return _of(schema, definitions).filter(validator.is_valid)


def _of(schema: Schema, definitions: Schema) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return _of(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "allOf" in schema:
        merged = {**{key: value for part in schema["allOf"] for key, value in _flat(part, definitions).items()}}
        return _of({**merged, **{key: value for key, value in schema.items() if key != "allOf"}}, definitions)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema.get("type")
    if isinstance(kind, list):
        return st.one_of([_of({**schema, "type": one}, definitions) for one in kind])
    match kind:
        case "object":
            return _object(schema, definitions)
        case "array":
            least = schema.get("minItems", 0)
            items = schema.get("items", {"type": "string"})
            return st.lists(_of(items, definitions), min_size=least, max_size=max(least, _MOST))
        case "string":
            return _string(schema)
        case "null":
            return st.none()
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(schema.get("minimum", 0), schema.get("maximum", 10**9))
        case "number":
            least = schema.get("minimum", schema.get("exclusiveMinimum", 0))
            most = schema.get("maximum", 1000)
            return st.floats(least, most, exclude_min="exclusiveMinimum" in schema, allow_nan=False)
    return st.one_of([_of(one, definitions) for one in schema["anyOf"]])


def _flat(part: Schema, definitions: Schema) -> Schema:
    return definitions[part["$ref"].rpartition("/")[2]] if "$ref" in part else part


def _string(schema: Schema) -> st.SearchStrategy[str]:
    if "pattern" in schema:
        # `$` of Python also stands before a newline at the end, and \\d is any script's digit; not so in Helm's.
        return st.from_regex(re.compile(schema["pattern"], re.ASCII)).map(lambda text: text.rstrip("\n"))
    return st.text(
        st.characters(codec="utf-8", exclude_categories=["C"]), min_size=schema.get("minLength", 0), max_size=20
    )


def _object(schema: Schema, definitions: Schema) -> st.SearchStrategy[dict[str, Any]]:
    properties: Schema = schema.get("properties", {})
    if properties:
        required = schema.get("required", [])
        return st.fixed_dictionaries(
            {name: _of(properties[name], definitions) for name in required},
            optional={name: _of(value, definitions) for name, value in properties.items() if name not in required},
        )
    free = schema.get("additionalProperties")
    if not isinstance(free, Mapping):
        return st.just({})  # of no form that the chart knows
    names = _string({"type": "string", **schema.get("propertyNames", {})})
    return st.dictionaries(names, _of(free, definitions), max_size=_MOST)
