"""Function calls: arguments that satisfy their declaration, and what a response says."""

from dataclasses import dataclass
from typing import Any

from emulator.protocol import FunctionResponse
from emulator.scenario import Match
from emulator.setup import Function

_EMPTY: dict[str, Any] = {"string": "", "integer": 0, "number": 0.0, "boolean": False, "array": [], "object": {}}


@dataclass(frozen=True)
class Call:
    """A call that waits for its response."""

    id: str
    function: Function
    arguments: dict[str, Any]
    match: Match

    @property
    def message(self) -> dict[str, Any]:
        """As the client is told."""
        return {"id": self.id, "name": self.function.name, "args": self.arguments}


def fit(arguments: dict[str, Any], function: Function) -> dict[str, Any]:
    """``arguments`` as the declaration wants them: known names, the types declared, every required one there."""
    known = {
        name: _typed(value, function.properties.get(name))
        for name, value in arguments.items()
        if not function.properties or name in function.properties
    }
    for name in function.required:
        if name not in known:
            known[name] = _filler(function.properties.get(name))
    return known


def outcome(response: FunctionResponse) -> tuple[dict[str, Any], bool]:
    """The fields of a response, and whether it is an error: ``output`` and ``result`` are unwrapped."""
    body = response.response
    if not isinstance(body, dict):
        return {"result": body}, False
    if body.get("error"):
        return {"error": body["error"]}, True
    for wrapper in ("output", "result"):
        inner = body.get(wrapper)
        if isinstance(inner, dict):
            return (inner, False) if not inner.get("error") else ({"error": inner["error"]}, True)
    return body, False


def _type(schema: Any) -> str:
    kind = schema.get("type") if isinstance(schema, dict) else None
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), None)
    return str(kind or "string").lower()


def _typed(value: Any, schema: Any) -> Any:
    kind = _type(schema)
    if isinstance(value, str) and kind in ("integer", "number"):
        try:
            return int(value) if kind == "integer" else float(value)
        except ValueError:
            return _EMPTY[kind]
    if isinstance(schema, dict) and isinstance(value, str):
        # A declared choice is answered in the declared spelling.
        return next((one for one in schema.get("enum") or () if str(one).lower() == value), value)
    return value


def _filler(schema: Any) -> Any:
    if isinstance(schema, dict):
        if schema.get("default") is not None:
            return schema["default"]
        if schema.get("enum"):
            return schema["enum"][0]
    return _EMPTY.get(_type(schema), "")
