"""Strict proto3 JSON against a table of fields: either spelling, either base64 alphabet, the service's error texts.

A kind is one of the names below, or an object of one of the classes, or a list with one kind (repeated)::

    "string" "bool" "int" "int64" "number" "bytes" "duration"   scalars
    "string or null"                                            a string; null is kept as None instead of left out
    "struct"                                                    an object, left as it is
    "json"                                                      anything, left as it is
    Enum(...)                                                   one of its names, as a name or a number
    Message(...), or a plain dict of fields                     a message
    MapOf(kind)                                                 an object with any names
    ["string"]                                                  repeated; a single value counts as a list of one
"""

import binascii
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emulator import texts
from emulator.api.jsontext import MAX_DEPTH
from emulator.errors import Refusal, invalid

_HUMP = re.compile(r"[A-Z]")
_SNAKE = re.compile(r"_+([a-z0-9])")
_DURATION = re.compile(r"-?\d{1,12}(\.\d{1,9})?s")
_INTEGER = re.compile(r"-?\d{1,30}")
_DECIMAL = re.compile(r"-?(0|[1-9]\d{0,300})(\.\d{1,300})?([eE][+-]?\d{1,5})?")
_SPACE = re.compile(r"\s+")
_TO_STANDARD = str.maketrans("-_", "+/")
# One frame can hold thousands of mistakes; a close reason tells of one or two.
_MAX_MISTAKES = 4
MAX_VALUES = 50_000
"""Values in a frame. One more is refused: while it is read nobody is answered (a guess; the service's is not known)."""

_TYPES = {
    "string": "TYPE_STRING",
    "string or null": "TYPE_STRING",
    "bool": "TYPE_BOOL",
    "int": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "number": "TYPE_FLOAT",
    "bytes": "TYPE_BYTES",
    "duration": "type.googleapis.com/google.protobuf.Duration",
    "struct": "type.googleapis.com/google.protobuf.Struct",
}
_RANGES = {"int": range(-(2**31), 2**31), "int64": range(-(2**63), 2**63)}


@dataclass(frozen=True)
class Enum:
    """Names by number, the first of which means unset; some names may be other ways to write one."""

    type: str
    names: tuple[str, ...]
    other: Mapping[str, str] = field(default_factory=dict)

    def name(self, value: Any) -> str | None:
        """The name that a name, in any case, or a number means."""
        if isinstance(value, str):
            name = value.upper().replace("-", "_")
            name = self.other.get(name, name)
            return name if name in self.names else None
        number = _integer(value)
        return self.names[number] if number is not None and 0 <= number < len(self.names) else None


@dataclass(frozen=True)
class MapOf:
    """An object with any names and values of one kind."""

    kind: Any


class Message(dict[str, Any]):
    """Fields by their camel case names; ``one_of`` tells for some of them the group that only one of may be set."""

    def __init__(self, name: str, fields: Mapping[str, Any], one_of: Mapping[str, str] | None = None) -> None:
        super().__init__(fields)
        self.type = name
        self.one_of = one_of or {}


Kind = str | Mapping[str, Any] | list[Any] | Enum | MapOf


class _WrongError(Exception):
    """A value that was reported as wrong."""


def camel(name: str) -> str:
    """``mime_type`` as ``mimeType``; a camel name stays as it is."""
    return _SNAKE.sub(lambda hump: hump.group(1).upper(), name) if "_" in name else name


def snake(name: str) -> str:
    """``mimeType`` as ``mime_type``, the spelling of the service's error texts."""
    return _HUMP.sub(lambda hump: "_" + hump.group().lower(), name)


def parse(value: Any, kind: Kind, path: str = "", *, strict: bool = True) -> Any:
    """``value`` in camel case with ``bytes`` decoded, enums by name and nulls left out.

    Raises :class:`emulator.errors.Refusal` 1007 for wrong types and, when ``strict``, for unknown fields; it names the
    first few of them.
    """
    reader = _Reader(strict=strict)
    try:
        parsed = reader.read(value, kind, path, 0)
    except _WrongError:
        parsed = None
    if reader.mistakes:
        raise invalid("\n".join(reader.mistakes))
    return parsed


class _Reader:
    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._values = 0
        self.mistakes: list[str] = []

    def read(self, value: Any, kind: Kind, path: str, depth: int) -> Any:
        """Raises ``_WrongError`` once what is wrong with ``value`` itself is noted."""
        self._values += 1
        if self._values > MAX_VALUES:
            raise invalid()
        if depth > MAX_DEPTH:
            raise self._wrong(texts.TOO_DEEP.refusal())
        if isinstance(kind, list):
            items = value if isinstance(value, list) else [value]
            return self._all(((f"{path}[{index}]", item, kind[0]) for index, item in enumerate(items)), depth)
        if isinstance(value, list) and kind not in ("json", "struct"):
            raise self._wrong(texts.NOT_REPEATED.refusal(**_last(path)))
        if isinstance(kind, Mapping):
            return self._message(value, kind, path, depth)
        if isinstance(kind, MapOf):
            if not isinstance(value, dict):
                raise self._bad(value, path, "object")
            entries = [(f"{path}[{index}].value", item, kind.kind) for index, item in enumerate(value.values())]
            return dict(zip(value, self._all(entries, depth), strict=True))
        if isinstance(kind, Enum):
            if (name := kind.name(value)) is None:
                raise self._bad(value, path, f"type.googleapis.com/{kind.type}")
            return name
        return self._scalar(value, kind, path)

    def _all(self, entries: Any, depth: int) -> list[Any]:
        return [self._tried(value, kind, path, depth) for path, value, kind in entries]

    def _tried(self, value: Any, kind: Kind, path: str, depth: int) -> Any:
        """Reads on after a mistake, so that the others are noted too."""
        try:
            return self.read(value, kind, path, depth + 1)
        except _WrongError:
            return None

    def _message(self, value: Any, kind: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
        if not isinstance(value, dict):
            typed = isinstance(kind, Message) and kind.type
            raise self._bad(value, path, f"type.googleapis.com/{typed}" if typed else "type message")
        one_of = kind.one_of if isinstance(kind, Message) else {}
        taken: dict[str, str] = {}
        parsed: dict[str, Any] = {}
        for name, item in value.items():
            known = name if name in kind else camel(name)
            if known not in kind:
                if self._strict:
                    self._note(texts.UNKNOWN_NAME.refusal(name=name, place=_place(path)))
                continue
            if item is None:
                if kind[known] == "string or null":
                    parsed[known] = None
                continue
            if (group := one_of.get(known)) is not None and taken.setdefault(group, known) != known:
                self._note(texts.SET_TWICE.refusal(place=_place(path), group=group, name=name))
            inner = f"{path}.{snake(known)}" if path else snake(known)
            found = self._tried(item, kind[known], inner, depth)
            if isinstance(kind[known], Enum) and found == kind[known].names[0]:
                # Unspecified, which is what a field that is not sent would say.
                continue
            parsed[known] = found
        return parsed

    def _scalar(self, value: Any, kind: str, path: str) -> Any:
        match kind:
            case "json":
                return value
            case "struct" if isinstance(value, dict):
                return value
            case "string" | "string or null" if isinstance(value, str):
                return value
            case "bool" if isinstance(value, bool):
                return value
            case "int" | "int64":
                if (whole := _integer(value)) is not None and whole in _RANGES[kind]:
                    return whole
            case "number":
                if (number := _number(value)) is not None:
                    return number
            case "duration" if isinstance(value, str) and _DURATION.fullmatch(value):
                return float(value[:-1])
            case "bytes" if isinstance(value, str):
                if (data := _bytes(value)) is not None:
                    return data
                shown = f"Base64 decoding failed for {_shown(value)}"
                raise self._wrong(texts.BAD_VALUE.refusal(path=path, type=_TYPES[kind], value=shown))
        if isinstance(value, dict) and kind != "struct":
            raise self._wrong(texts.NOT_MESSAGE.refusal(**_last(path)))
        raise self._bad(value, path, _TYPES[kind])

    def _bad(self, value: Any, path: str, kind: str) -> _WrongError:
        return self._wrong(texts.BAD_VALUE.refusal(path=path, type=kind, value=_shown(value)))

    def _wrong(self, refusal: Refusal) -> _WrongError:
        self._note(refusal)
        return _WrongError()

    def _note(self, refusal: Refusal) -> None:
        if len(self.mistakes) < _MAX_MISTAKES:
            self.mistakes.append(refusal.text)


def _place(path: str) -> str:
    return f" at '{path}'" if path else ""


def _last(path: str) -> dict[str, str]:
    """The field that a path ends with, and where that is."""
    before, _, name = path.rpartition(".")
    return {"name": name, "place": _place(before)}


def _integer(value: Any) -> int | None:
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = _number(value)
    return int(number) if number is not None and number.is_integer() else None


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        number = float(value) if _DECIMAL.fullmatch(value) else math.nan
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            return None
    else:
        return None
    return number if math.isfinite(number) else None


def _bytes(value: str) -> bytes | None:
    text = value.rstrip("=")
    if "-" in text or "_" in text:
        text = text.translate(_TO_STANDARD)
    try:
        return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except ValueError:
        # Broken into lines, perhaps, as mail wants it.
        joined = _SPACE.sub("", value)
        return _bytes(joined) if len(joined) < len(value) else None


def _shown(value: Any) -> str:
    """As much of a value as helps; never a whole picture."""
    if isinstance(value, str):
        return f'"{value[:40]}"'
    return json.dumps(value)[:40] if isinstance(value, bool | int | float) else str(value)[:40]
