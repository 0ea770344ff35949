"""Strict proto3 JSON against a table of fields: either spelling, either base64 alphabet, the service's error texts.

A kind is one of the names below, a dict of fields (a message), or a list with one kind (repeated)::

    "string" "bool" "int" "number" "bytes" "enum" "duration"   scalars
    "json"                                                      anything, left as it is
    {"mimeType": "string"}                                      a message
    ["string"]                                                  repeated
"""

import base64
import binascii
import math
import re
from collections.abc import Mapping
from typing import Any

from emulator.errors import invalid

Kind = str | Mapping[str, Any] | list[Any]

_HUMP = re.compile(r"[A-Z]")
_SNAKE = re.compile(r"_+([a-z0-9])")
_DURATION = re.compile(r"-?\d+(\.\d{1,9})?s")
_TO_STANDARD = str.maketrans("-_", "+/")
# Deeper than anything the API defines, shallower than what exhausts the stack.
_MAX_DEPTH = 64


def camel(name: str) -> str:
    """``mime_type`` as ``mimeType``; a camel name stays as it is."""
    return _SNAKE.sub(lambda hump: hump.group(1).upper(), name) if "_" in name else name


def snake(name: str) -> str:
    """``mimeType`` as ``mime_type``, the spelling of the service's error texts."""
    return _HUMP.sub(lambda hump: "_" + hump.group().lower(), name)


def parse(value: Any, kind: Kind, path: str = "", *, strict: bool = True) -> Any:
    """``value`` in camel case with ``bytes`` decoded and nulls left out.

    Raises :class:`emulator.errors.Refusal` 1007 for a wrong type and, when ``strict``, for an unknown field.
    """
    return _parse(value, kind, path, strict, 0)


def _parse(value: Any, kind: Kind, path: str, strict: bool, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise invalid()
    if isinstance(kind, str):
        return _scalar(value, kind, path)
    if isinstance(kind, list):
        if not isinstance(value, list):
            # Proto JSON takes a single value where a list is wanted.
            value = [value]
        return [_parse(item, kind[0], f"{path}[{index}]", strict, depth + 1) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        raise invalid(f"Invalid value at '{path}' (type message), {_quoted(value)}")
    parsed: dict[str, Any] = {}
    for name, item in value.items():
        field = name if name in kind else camel(name)
        if field not in kind:
            if strict:
                where = f" at '{path}'" if path else ""
                raise invalid(f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.')
            continue
        if item is not None:
            inner = f"{path}.{snake(field)}" if path else snake(field)
            parsed[field] = _parse(item, kind[field], inner, strict, depth + 1)
    return parsed


def _scalar(value: Any, kind: str, path: str) -> Any:
    match kind:
        case "json":
            return value
        case "string" if isinstance(value, str):
            return value
        case "enum" if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        case "bool" if isinstance(value, bool):
            return value
        case "int" | "number":
            if (number := _number(value)) is not None and (kind == "number" or number.is_integer()):
                return int(number) if kind == "int" else number
        case "duration" if isinstance(value, str) and _DURATION.fullmatch(value):
            return float(value[:-1])
        case "bytes" if isinstance(value, str):
            return _bytes(value, path)
    raise invalid(f"Invalid value at '{path}' (TYPE_{kind.upper()}), {_quoted(value)}")


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _bytes(value: str, path: str) -> bytes:
    text = value.translate(_TO_STANDARD).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid(f"Invalid value at '{path}' (TYPE_BYTES), Base64 decoding failed for {_quoted(value)}") from None


def _quoted(value: Any) -> str:
    return f'"{value[:40]}"' if isinstance(value, str) else str(value)[:40]
