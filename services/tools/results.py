"""Results of functions: to JSON, within bounds, or a clear sentence about why not.

One pass that stops at the bound: a result of 50 MB costs no more than one of the size allowed.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel

from services.tools.context import ToolError
from services.tools.schema import MAX_DEPTH

_MAX_INTEGER_BITS: Final = 1023
"""Beyond that an integer is no double, which it becomes on its way to a caller."""
_AROUND: Final = 128
"""Bytes for what stands around a text that was cut."""


class ResultError(ToolError):
    """The tool ran, but what it returned cannot be given to a model. The message says why, for the model."""


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A result that is JSON already, as `encode` makes it."""

    json: str


def encode(value: object, max_bytes: int, hide: Callable[[str], str] = str) -> str:
    """A JSON object. What is not an object becomes `{"result": value}`; a text that is too long by itself is cut.
    ResultError otherwise. `hide` takes out of a text what nobody may read."""
    if isinstance(value, Encoded):
        return value.json
    if isinstance(value, str) and not isinstance(value, Enum):
        value = truncated(hide(value), max_bytes - _AROUND)
    plain = _Plain(max_bytes, hide).walk(value, "result", 0)
    if not isinstance(plain, dict):
        plain = {"result": plain}
    try:
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ResultError("the result holds text that is not valid Unicode") from None
    if size > max_bytes:
        raise _too_large(max_bytes)
    return text


def truncated(text: str, max_bytes: int) -> str:
    """The text, cut so that it takes at most `max_bytes` inside JSON, and then saying so."""
    if len(text) <= max_bytes and _size_in_json(text) <= max_bytes:
        return text
    low, high = 0, min(len(text), max_bytes)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _size_in_json(text[:middle]) <= max_bytes else (low, middle - 1)
    return f"{text[:low]}[... cut off: {len(text) - low} more characters]"


def _size_in_json(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode(errors="replace"))


def _too_large(max_bytes: int) -> ResultError:
    return ResultError(f"the result is too large: more than {max_bytes} bytes of JSON; ask for less")


class _Plain:
    """Turns a value into what JSON knows."""

    def __init__(self, max_bytes: int, hide: Callable[[str], str]) -> None:
        self._max_bytes = max_bytes
        self._hide = hide
        self._size = 0
        self._open: set[int] = set()

    def walk(self, value: object, path: str, depth: int) -> Any:
        """The plain form of `value`."""
        self._count(2)
        if isinstance(value, Enum):
            value = value.value
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            self._count(len(value))
            return self._hide(str(value))
        if isinstance(value, int):
            if value.bit_length() > _MAX_INTEGER_BITS:
                raise ResultError(f"{path} is an integer too large for JSON")
            return self._number(int(value))
        if isinstance(value, float):
            if not math.isfinite(value):
                raise ResultError(f"{path} is {value}, which JSON cannot say")
            return self._number(float(value))
        if isinstance(value, datetime | date | time):
            return value.isoformat()
        if isinstance(value, Decimal | UUID):
            return self._hide(str(value))
        return self._container(value, path, depth)

    def _container(self, value: object, path: str, depth: int) -> Any:
        if id(value) in self._open:
            raise ResultError(f"{path} contains itself")
        if depth >= MAX_DEPTH:
            raise ResultError(f"the result is nested more than {MAX_DEPTH} deep")
        self._open.add(id(value))
        try:
            if isinstance(value, BaseModel):
                fields = {name: getattr(value, name) for name in type(value).model_fields}
                return self._object(fields | (value.model_extra or {}), path, depth)
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                names = [field.name for field in dataclasses.fields(value)]
                return self._object({name: getattr(value, name) for name in names}, path, depth)
            if isinstance(value, Mapping):
                return self._object(value, path, depth)
            if isinstance(value, list | tuple):
                return [self.walk(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
        finally:
            self._open.discard(id(value))
        raise ResultError(f"{path} is of type {type(value).__name__}, which JSON cannot say")

    def _object(self, value: Mapping[Any, object], path: str, depth: int) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise ResultError(f"{path} has a key of type {type(key).__name__}; JSON has strings only")
            self._count(len(key))
            plain[self._hide(str(key))] = self.walk(item, f"{path}.{key}" if len(path) < 200 else path, depth + 1)
        return plain

    def _number(self, value: float) -> float | str:
        text = repr(value)
        hidden = self._hide(text)  # a secret may be a number, too
        return value if hidden == text else hidden

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > self._max_bytes:
            raise _too_large(self._max_bytes)
