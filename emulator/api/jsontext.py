"""A frame's text as JSON, as strictly as the service's own parser reads it (protobuf's, RFC 8259)."""

import json
import math
import re
from typing import Any, NoReturn

from emulator import texts
from emulator.errors import Refusal

MAX_DEPTH = 100
"""Levels of objects and lists, as many as protobuf reads."""

# How much of the frame its parser shows before and after what it stumbles over.
_CONTEXT = 20
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class _ConstantError(ValueError):
    """NaN or Infinity, which Python reads and JSON does not have."""


def _constant(_name: str) -> NoReturn:
    raise _ConstantError


class _RangeError(ValueError):
    """A number that a double does not hold."""


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _RangeError
    return value


_decoder = json.JSONDecoder(parse_constant=_constant, parse_float=_finite)


def load(frame: str | bytes) -> dict[str, Any]:
    """The object that a frame holds. Raises :class:`emulator.errors.Refusal` for anything else.

    UTF-8 only, no byte order mark, no NaN, no half characters; of a name that stands twice the last value counts.
    """
    if isinstance(frame, bytes):
        try:
            frame = frame.decode()
        except UnicodeDecodeError:
            raise texts.NOT_TEXT.refusal() from None
    try:
        value = _decoder.decode(frame)
    except json.JSONDecodeError as error:
        raise _malformed(frame, error.pos) from None
    except _ConstantError:
        raise _malformed(frame, max(0, min(found.start() for found in re.finditer("NaN|-?Infinity", frame)))) from None
    except RecursionError:
        raise texts.TOO_DEEP.refusal() from None
    except ValueError:
        # An integer of more digits than Python reads.
        raise texts.MALFORMED.refusal(what="Number exceeds the range of double.", excerpt="", caret="^") from None
    if not isinstance(value, dict):
        raise texts.NO_MESSAGE.refusal()
    if frame.count("{") + frame.count("[") > MAX_DEPTH and _too_deep(value):
        raise texts.TOO_DEEP.refusal()
    if _SURROGATE.search(frame):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise texts.LONE_SURROGATE.refusal() from None
    return value


def _too_deep(value: Any) -> bool:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            return True
        inner = [list(one.values()) if isinstance(one, dict) else one for one in level]
        level = [one for values in inner for one in values if isinstance(one, dict | list)]
    return False


def _malformed(frame: str, position: int) -> Refusal:
    what = "Unexpected token." if position < len(frame) else "Unexpected end of string."
    start = max(0, position - _CONTEXT)
    excerpt = frame[start : position + _CONTEXT]
    return texts.MALFORMED.refusal(what=what, excerpt=excerpt, caret=" " * (position - start) + "^")
