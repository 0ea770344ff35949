"""Functions that a caller declares for itself: whether the model could be given them. Plain code: no I/O."""

from __future__ import annotations

import json
import re
from typing import Final

from google.protobuf import json_format, struct_pb2

from parley.v1 import live_pb2
from services.fabric.errors import invalid_field

TOOL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_KIB: Final = 1024
MAX_DESCRIPTION: Final = 4 * _KIB
MAX_SCHEMA: Final = 64 * _KIB
MAX_DEPTH: Final = 32


def check_declaration(function: live_pb2.FunctionDeclaration, path: str) -> None:
    """ServiceError names what is wrong with the declaration."""
    if not TOOL_NAME.fullmatch(function.name):
        raise invalid_field(f"{path}.name", f"must match {TOOL_NAME.pattern}")
    if len(function.description.encode()) > MAX_DESCRIPTION:
        raise invalid_field(f"{path}.description", "at most 4 KiB")
    if not function.HasField("parameters"):
        return
    schema = function.parameters
    if depth_of(schema) > MAX_DEPTH:
        raise invalid_field(f"{path}.parameters", f"at most {MAX_DEPTH} levels deep")
    if json_size(schema, f"{path}.parameters") > MAX_SCHEMA:
        raise invalid_field(f"{path}.parameters", "at most 64 KiB as JSON")
    kind = schema.fields.get("type")
    if kind is None or kind.string_value != "object":
        raise invalid_field(f"{path}.parameters.type", "must be `object`: arguments have names")


def json_size(value: struct_pb2.Struct, path: str) -> int:
    """Bytes of a struct as JSON. ServiceError where it is none: JSON knows neither NaN nor infinity."""
    try:
        plain = json_format.MessageToDict(value)
    except ValueError:
        raise invalid_field(path, "numbers must be finite") from None
    return len(json.dumps(plain, separators=(",", ":")).encode())


def depth_of(value: struct_pb2.Struct | struct_pb2.ListValue) -> int:
    """How deep it is nested. Never more than protobuf's own limit, which parsing has checked."""
    values = value.fields.values() if isinstance(value, struct_pb2.Struct) else value.values
    deepest = 0
    for inner in values:
        match inner.WhichOneof("kind"):
            case "struct_value":
                deepest = max(deepest, depth_of(inner.struct_value))
            case "list_value":
                deepest = max(deepest, depth_of(inner.list_value))
            case _:
                pass
    return deepest + 1
