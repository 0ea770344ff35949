"""What models take of a declaration, and what is checked here alone: the capability table put to it. Plain code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from services.fabric.capabilities import SCHEMA_ANNOTATIONS, SCHEMA_KEYWORDS
from services.tools import schema

_SHOWN: Final = 8
_PREFIX: Final = "#/$defs/"


def remarks(parameters: dict[str, Any]) -> list[str]:
    """A sentence for each thing that models do not take as it is meant."""
    found = []
    known = SCHEMA_KEYWORDS | SCHEMA_ANNOTATIONS
    unheeded = {keyword: path for keyword, path in schema.keywords(parameters) if keyword not in known}
    if unheeded:
        shown = [f"{keyword} of {path}" if path else keyword for keyword, path in sorted(unheeded.items())]
        listed = ", ".join(shown[:_SHOWN]) + (" and more" if len(shown) > _SHOWN else "")
        found.append(f"models do not heed {listed}; wrong arguments are refused all the same")
    for name, definition in parameters.get("$defs", {}).items():
        if name in _needed(definition):
            found.append(f"models may refuse {name}, which holds itself where it is required: make that optional")
    return found


def _needed(node: Any) -> Iterator[str]:
    """Definitions that a value of this schema cannot do without."""
    if isinstance(node, list):
        for item in node:
            yield from _needed(item)
    if not isinstance(node, dict):
        return
    reference = node.get("$ref")
    if isinstance(reference, str):
        yield reference.removeprefix(_PREFIX)
    required = node.get("required", ())
    for key, value in node.items():
        if key == "properties" and isinstance(value, dict):
            yield from _needed([inner for name, inner in value.items() if name in required])
        elif key not in schema.VALUES:
            yield from _needed(value)
