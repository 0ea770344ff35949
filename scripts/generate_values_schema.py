"""Write the services' settings, and the fields of a profile, into the chart's values.schema.json.

    python scripts/generate_values_schema.py           # write
    python scripts/generate_values_schema.py --check   # fail when the file is not what would be written

Everything else in the schema is written by hand. What the chart sets itself is left out: two sources of one setting
would contradict each other one day.
"""

from __future__ import annotations

import argparse
import json
import sys
import types
from pathlib import Path
from typing import Any, Final, Literal, Union, cast, get_args, get_origin

from annotated_types import Ge, Gt, Le
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from pydantic.fields import FieldInfo

from parley.v1 import live_pb2
from services.fabric.settings import Duration, ServiceSettings
from services.gateway.settings import GatewaySettings
from services.session_worker.settings import WorkerSettings
from services.tools.settings import ToolsSettings

SCHEMA: Final = Path(__file__).parents[1] / "deploy/helm/parley/values.schema.json"
DURATION: Final = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$"
SERVICES: Final[dict[str, type[ServiceSettings]]] = {
    "gateway": GatewaySettings,
    "worker": WorkerSettings,
    "tools": ToolsSettings,
}
_EVERYWHERE: Final = {
    "id",
    "nats_url",
    "nats_user",
    "nats_password",
    "nats_ca_file",
    "fabric_replicas",
    "otlp_endpoint",
    "ops_listen",
    "log_level",
    "shutdown_grace",
}
SET_BY_THE_CHART: Final = {
    "gateway": _EVERYWHERE | {"listen", "api_keys_file", "development", "backend", "profiles_dir"},
    "worker": _EVERYWHERE | {"capacity", "gemini_api_key", "gemini_base_url", "gemini_ca_file", "backend"},
    "tools": _EVERYWHERE | {"listen", "api_keys_file", "modules", "sources"},
}


def settings_schema(service: str) -> dict[str, Any]:
    """What `SERVICE.settings` may be."""
    fields = SERVICES[service].model_fields
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: _field(field) for name, field in sorted(fields.items()) if name not in SET_BY_THE_CHART[service]
        },
    }


def _field(field: FieldInfo) -> dict[str, Any]:
    schema: dict[str, Any] = {"description": field.description or ""}
    schema |= _type(field)
    for bound in field.metadata:
        if schema["type"] == "string" and isinstance(bound, Ge | Gt | Le):
            continue  # of a duration: JSON Schema does not compare them; the service does, at start
        match bound:
            case Ge(ge=least):
                schema["minimum"] = least
            case Gt(gt=below):
                schema["exclusiveMinimum"] = below
            case Le(le=most):
                schema["maximum"] = most
            case _ if (pattern := getattr(bound, "pattern", None)) is not None:
                schema["pattern"] = pattern
    return schema


def _type(field: FieldInfo) -> dict[str, Any]:
    kind = field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(one for one in get_args(kind) if one is not type(None))
    if get_origin(kind) is Literal:
        return {"type": "string", "enum": list(get_args(kind))}
    if get_origin(kind) is dict:
        return {"type": "object", "additionalProperties": {"type": "string"}}
    if kind in (bool, int, float, str):
        return {"type": {bool: "boolean", int: "integer", float: "number", str: "string"}[kind]}
    if kind is get_args(Duration)[0] or Duration in (kind, *get_args(kind)) or "timedelta" in repr(kind):
        return {"type": "string", "pattern": DURATION}
    if kind is Path:
        return {"type": "string"}
    raise TypeError(f"no schema for {field!r}")


def profile_schema() -> dict[str, Any]:
    """What a profile may be: the fields of SessionConfig. What each may say is the gateway's to check, at start."""
    fields = cast(Descriptor, live_pb2.SessionConfig.DESCRIPTOR).fields
    return {
        "type": "object",
        "additionalProperties": False,
        "minProperties": 1,
        "properties": {field.name: _profile_field(field) for field in fields},
    }


def _profile_field(field: FieldDescriptor) -> dict[str, Any]:
    if field.is_repeated:
        return {"type": "array"}
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_MESSAGE:
            # Durations are texts.
            return {"type": "object" if field.message_type.file.package != "google.protobuf" else ["string", "object"]}
        case FieldDescriptor.CPPTYPE_BOOL:
            return {"type": "boolean"}
        case FieldDescriptor.CPPTYPE_STRING | FieldDescriptor.CPPTYPE_ENUM:
            return {"type": "string"}
        case _:
            return {"type": "number"}


def written() -> str:
    """The schema file as it should be."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    for service in SERVICES:
        schema["$defs"][f"{service}Settings"] = settings_schema(service)
    schema["$defs"]["profile"] = profile_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true")
    wanted = written()
    if not parser.parse_args().check:
        SCHEMA.write_text(wanted, encoding="utf-8")
        return 0
    if SCHEMA.read_text(encoding="utf-8") == wanted:
        return 0
    print(f"{SCHEMA}: the services' settings have changed; run scripts/generate_values_schema.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
