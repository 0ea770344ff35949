"""What two client frames have in common whatever they say: the kind of message, and which fields it has."""

from typing import Any

from emulator.api.protojson import camel
from emulator.tape.blobs import decoded_size
from emulator.tape.scrub import is_blob, is_handle

RAW = "raw"
"""Kind of a frame that is no JSON object."""

AUDIO = "realtimeInput.audio"

# What a caller or its tools choose; the API does not look inside.
_FREE = frozenset({"args", "response", "parameters", "parametersJsonSchema", "responseJsonSchema"})
_MAX_DEPTH = 64


def kind(message: Any) -> str:
    """The field that names a message, in camel case; with the one below it for realtime input."""
    if not isinstance(message, dict):
        return RAW
    names = sorted(camel(name) for name in message)
    if names == ["realtimeInput"]:
        (body,) = message.values()
        if isinstance(body, dict):
            return ".".join(["realtimeInput", "+".join(sorted(camel(name) for name in body))])
    return "+".join(names)


def amount(message: Any) -> int:
    """How much a frame counts towards those of its kind: bytes of audio, so that pieces may be cut elsewhere; else 1.

    A frame of audio that holds none counts nothing.
    """
    if kind(message) != AUDIO:
        return 1
    (body,) = message.values()
    (blob,) = body.values()
    return decoded_size(blob["data"]) if isinstance(blob, dict) and is_blob(blob) else 0


def without_blobs(message: Any, depth: int = 0) -> Any:
    """A copy in which blobs are empty: what :func:`difference` needs of it."""
    if depth > _MAX_DEPTH:
        return None
    if isinstance(message, dict):
        blob = is_blob(message)
        return {
            name: "" if blob and name == "data" else without_blobs(value, depth + 1) for name, value in message.items()
        }
    if isinstance(message, list):
        return [without_blobs(value, depth + 1) for value in message]
    return message


def difference(expected: Any, got: Any) -> str | None:
    """The first way in which ``got`` is not of the shape of ``expected``, for a reader; None when it is.

    Fields in either spelling are the same field. Values may differ, but for resumption handles.
    """
    if (wanted := kind(expected)) != (seen := kind(got)):
        return f"expected {wanted}, got {seen}"
    return _difference(expected, got, "", "", 0)


def _difference(expected: Any, got: Any, where: str, parent: str, depth: int) -> str | None:
    place = where or "the message"
    if _type(expected) != _type(got):
        return f"expected {place} to be {_type(expected)}, got {_type(got)}"
    name = where.rpartition(".")[2].partition("[")[0]
    if name in _FREE or depth > _MAX_DEPTH:
        return None
    if isinstance(expected, dict):
        return _fields(expected, got, where, name, depth)
    if isinstance(expected, list):
        if len(expected) != len(got):
            return f"expected {len(expected)} in {place}, got {len(got)}"
        pairs = zip(expected, got, strict=True)
        found = (_difference(a, b, f"{where}[{i}]", parent, depth + 1) for i, (a, b) in enumerate(pairs))
        return next((one for one in found if one), None)
    if is_handle(name, parent) and expected != got:
        return f"expected {place} to be {expected!r}, got another"
    return None


def _fields(expected: dict[str, Any], got: dict[str, Any], where: str, parent: str, depth: int) -> str | None:
    ours, theirs = ({camel(name): value for name, value in one.items()} for one in (expected, got))
    prefix = f"{where}." if where else ""
    if missing := sorted(ours.keys() - theirs.keys()):
        return f"expected {prefix}{missing[0]}, which is missing"
    if extra := sorted(theirs.keys() - ours.keys()):
        return f"got {prefix}{extra[0]}, which was not there"
    found = (_difference(ours[name], theirs[name], f"{prefix}{name}", parent, depth + 1) for name in ours)
    return next((one for one in found if one), None)


def _type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"
