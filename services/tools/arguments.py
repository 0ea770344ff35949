"""Arguments from the model: parse, check, and say what is wrong so that the model can mend it."""

from __future__ import annotations

import json
import math
from itertools import islice
from typing import Any, Final

import jsonschema_rs
from pydantic import BaseModel, ValidationError

from services.tools.schema import SchemaError

MAX_PROBLEMS: Final = 5
"""Problems named in one answer; a model mends a few at a time."""
_MAX_SHOWN: Final = 60
"""Characters of a wrong value that are repeated."""


class ArgumentsError(Exception):
    """The arguments do not fit the tool."""

    def __init__(self, violations: dict[str, str], more: int = 0) -> None:
        self.violations = violations
        """Path (`order_id`, `items[2].name`; empty for the whole) to what is wrong there."""
        text = "; ".join(f"{path}: {problem}" if path else problem for path, problem in violations.items())
        super().__init__(f"wrong arguments: {text}" + (f"; and {more} more" if more else ""))


def parse(arguments_json: str) -> dict[str, Any]:
    """The arguments as an object. No text at all means no arguments."""
    try:
        arguments = json.loads(
            arguments_json or "{}", parse_constant=_refuse_constant, parse_float=_whole_numbers_are_integers
        )
    except RecursionError:
        raise ArgumentsError({"": "nested too deeply"}) from None
    except ValueError as error:
        raise ArgumentsError({"": f"not JSON ({error})"}) from None
    if not isinstance(arguments, dict):
        raise ArgumentsError({"": f"expected a JSON object, got {_kind(arguments)}"})
    return arguments


def check(model: type[BaseModel], arguments: dict[str, Any]) -> BaseModel:
    """The arguments as an instance of `model`. Strict: what the declaration forbids is refused, not converted."""
    try:
        # Through JSON, because dates, enums and sets are strings and arrays there and nowhere else.
        return model.model_validate_json(json.dumps(arguments), strict=True)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        violations: dict[str, str] = {}
        for problem in problems[:MAX_PROBLEMS]:
            path = _path(problem["loc"])
            text = _explain(problem["type"], problem["msg"], problem["input"])
            violations[path] = f"{violations[path]}, or {text}" if path in violations else text
        if any(problem["type"] == "extra_forbidden" for problem in problems):
            known = ", ".join(str(field.alias) for field in model.model_fields.values())
            violations[""] = f"the arguments are: {known}" if known else "the tool takes no arguments"
        raise ArgumentsError(violations, len(problems) - len(problems[:MAX_PROBLEMS])) from None
    except RecursionError:
        raise ArgumentsError({"": "nested too deeply"}) from None


class SchemaCheck:
    """Checks arguments against a JSON Schema of somebody else: its patterns are bounded, and nothing is fetched."""

    def __init__(self, schema: dict[str, Any]) -> None:
        """SchemaError when it is no JSON Schema."""
        self._known = [str(name) for name in schema.get("properties", {})]
        try:
            self._validator = jsonschema_rs.validator_for(
                schema,
                offline=True,
                validate_formats=False,
                pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=100_000, size_limit=1_000_000),
            )
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            reason = str(error).split("\n", 1)[0]
            raise SchemaError(f"its schema is no JSON Schema: {reason[:200]}") from None

    def __call__(self, values: object) -> None:
        """ArgumentsError says what is wrong, and where."""
        violations: dict[str, str] = {}
        found = list(islice(self._validator.iter_errors(values), 10 * MAX_PROBLEMS))
        for error in found[:MAX_PROBLEMS]:
            path, text = _path(tuple(error.instance_path)), _explain_keyword(error)
            violations[path] = f"{violations[path]}, and {text}" if path in violations else text
        if not found:
            return
        if any(error.kind.name == "additionalProperties" and not error.instance_path for error in found):
            known = ", ".join(self._known)
            hint = f"the arguments are: {known}" if known else "the tool takes no arguments"
            violations[""] = f"{violations['']}; {hint}" if "" in violations else hint
        raise ArgumentsError(violations, len(found) - len(found[:MAX_PROBLEMS]))


def _explain_keyword(error: jsonschema_rs.ValidationError) -> str:
    message = " ".join(error.message.split())
    shown = repr(error.instance)
    if len(shown) > _MAX_SHOWN and len(message) > 3 * _MAX_SHOWN:
        # What is wrong stands behind the value, which is known to whoever sent it.
        message = f"does not satisfy {error.kind.name}: {message[-2 * _MAX_SHOWN :]}"
    return message[:1].lower() + message[1 : 4 * _MAX_SHOWN]


def _explain(kind: str, message: str, value: object) -> str:
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        return "is not an argument"
    shown = _kind(value) if isinstance(value, dict | list) else json.dumps(value, ensure_ascii=False, default=repr)
    if len(shown) > _MAX_SHOWN:
        shown = shown[:_MAX_SHOWN] + "..."
    return f"{message[:1].lower()}{message[1:]}, got {shown}"


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return path


def _kind(value: object) -> str:
    return {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def _whole_numbers_are_integers(text: str) -> int | float:
    # 3.0 is an integer in JSON Schema, and protobuf's Struct, through which models send arguments, knows only doubles.
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large a number")
    return int(number) if number.is_integer() else number
