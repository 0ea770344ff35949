"""A declaration's JSON Schema as the Live API takes it."""

from __future__ import annotations

from typing import Any, Final

_NAMED: Final = frozenset({"properties", "patternProperties", "$defs", "dependentSchemas"})
"""Keywords whose keys are names."""
_VALUES: Final = frozenset({"default", "const", "enum", "examples", "required", "propertyOrdering"})
"""Keywords whose values are no schemas."""


def as_taken(schema: Any) -> Any:
    """Without what stands beside a reference: only what begins with `$` may be set there (google-genai 3.4.0,
    `GenerationConfig.response_json_schema`, the one place where it is written down which JSON Schema the API takes).
    Of tools whose arguments are checked by us nothing is lost but a hint."""
    if isinstance(schema, list):
        return [as_taken(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(schema.get("$ref"), str):
        schema = {key: value for key, value in schema.items() if key.startswith("$")}
    taken: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _NAMED and isinstance(value, dict):
            taken[key] = {name: as_taken(inner) for name, inner in value.items()}
        else:
            taken[key] = value if key in _VALUES else as_taken(value)
    return taken
