"""Durations as people write them."""

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h)?\s*")

_LONGEST = 1000 * 365.25 * 86400.0


def _duration(value: Any) -> Any:
    """``500ms``, ``2.5s``, ``10m``, ``2h`` or bare seconds; whatever else pydantic takes for a timedelta."""
    if isinstance(value, str) and (found := _DURATION.fullmatch(value)):
        seconds = float(found.group(1)) * _UNITS[found.group(2) or "s"]
        if seconds > _LONGEST:
            raise ValueError("longer than a thousand years")
        return timedelta(seconds=seconds)
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration)]
