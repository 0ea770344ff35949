"""Whether what the model calls a function with can be handed on. Plain code.

It comes as JSON, and goes on in protobuf: its numbers are doubles there, and its readers, the caller's among them,
follow no more than a hundred messages into one another.
"""

from __future__ import annotations

import math
from typing import Any, Final

MAX_DEPTH: Final = 28
"""Objects and lists in one another. Of protobuf's hundred messages an object takes three."""


def problem_of(arguments: dict[str, Any]) -> str:
    """Why arguments cannot be handed on, for the model; empty when they can."""
    level: list[Any] = [arguments]
    for _ in range(MAX_DEPTH):
        values = [value for one in level for value in (one.values() if isinstance(one, dict) else one)]
        if any(isinstance(value, int | float) and not _is_double(value) for value in values):
            return "a number in the arguments is too large, or none at all"
        level = [value for value in values if isinstance(value, dict | list)]
        if not level:
            return ""
    return f"the arguments are nested more than {MAX_DEPTH} deep; flatten them"


def _is_double(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:
        return False
