"""The tools of a setup or of a context update, checked against the model's rules."""

import re
from dataclasses import dataclass
from typing import Any

from emulator import models, texts
from emulator.api.protojson import snake
from emulator.errors import invalid

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")
_NAME_RULE = (
    "Invalid function name. Must start with a letter or an underscore. Must be alphameric (a-z, A-Z, 0-9), underscores "
    "(_), dots (.), colons (:), or dashes (-), with a maximum length of 128."
)


@dataclass(frozen=True)
class Function:
    """One declared function."""

    name: str
    blocking: bool
    schema: dict[str, Any]
    """Of its arguments, as declared: ``parameters`` or ``parametersJsonSchema``."""


def functions(tools: list[dict[str, Any]], rules: models.Rules, path: str = "setup") -> dict[str, Function]:
    """The functions among parsed tools, by name. Raises :class:`emulator.errors.Refusal` for what the model has not.

    ``path`` is where the tools stand, for error texts.
    """
    found: dict[str, Function] = {}
    for number, tool in enumerate(tools):
        for kind, value in tool.items():
            if kind != "functionDeclarations" and kind not in rules.tools | rules.idle_tools and value != []:
                raise texts.TOOL_REFUSED.refusal(tool=_title(kind))
        for index, declaration in enumerate(tool.get("functionDeclarations", ())):
            if not rules.functions:
                raise texts.TOOL_REFUSED.refusal(tool="Function Calling")
            function = _function(declaration, rules, f"{path}.tools[{number}].function_declarations[{index}]")
            if function.name in found:
                raise texts.DUPLICATE_FUNCTION.refusal(name=function.name)
            found[function.name] = function
    return found


def _title(kind: str) -> str:
    """``codeExecution`` as the service calls it: ``Code Execution``."""
    return snake(kind).replace("_", " ").title().replace("Url", "URL").replace("Mcp", "MCP")


def _function(declaration: dict[str, Any], rules: models.Rules, path: str) -> Function:
    name = declaration.get("name", "")
    if not _NAME.fullmatch(name):
        raise texts.INVALID_FIELD.refusal(path=f"{path}.name", rule=_NAME_RULE)
    schema = declaration.get("parametersJsonSchema")
    if schema is None:
        schema = declaration.get("parameters", {})
        _check_schema(schema, f"{path}.parameters")
    if not isinstance(schema, dict):
        raise invalid()
    return Function(name=name, blocking=_blocking(declaration.get("behavior", ""), rules), schema=schema)


def _check_schema(schema: dict[str, Any], path: str) -> None:
    """What the service checks beyond the kinds of the fields (seen: an array without items)."""
    if schema.get("type") == "ARRAY" and "items" not in schema:
        raise texts.INVALID_FIELD.refusal(path=f"{path}.items", rule="missing field.")
    if "items" in schema:
        _check_schema(schema["items"], f"{path}.items")
    for name, inner in schema.get("properties", {}).items():
        _check_schema(inner, f"{path}.properties[{name}]")
    for index, inner in enumerate(schema.get("anyOf", ())):
        _check_schema(inner, f"{path}.any_of[{index}]")


def _blocking(behavior: str, rules: models.Rules) -> bool:
    match rules.blocking:
        case "refused":
            # NON_BLOCKING has to be said on every declaration.
            if behavior != "NON_BLOCKING":
                raise texts.BLOCKING_REFUSED.refusal()
            return False
        case "only":
            return True
        case "default":
            return behavior != "NON_BLOCKING"
        case "opt-in":
            return behavior == "BLOCKING"
