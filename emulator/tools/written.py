"""Objects that clients send as text: frameworks write a tool's result, as JSON or as Python does, into one string."""

import ast
import json
from typing import Any

LONGEST = 16_384
"""Characters; what is longer is taken for prose."""


def unwritten(value: Any) -> dict[str, Any] | None:
    """The object that ``value`` is, or that it is the text of; else None."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, str) or not value.lstrip().startswith("{") or len(value) > LONGEST:
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(value.strip())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if isinstance(found, dict) and all(isinstance(name, str) for name in found):
            return found
    return None
