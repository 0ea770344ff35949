"""Arguments from the model: parse, check, and say what is wrong so that the model can mend it."""

from __future__ import annotations

import json
import math
import re
from itertools import islice
from typing import Any, Final

import jsonschema_rs
from pydantic import BaseModel, ValidationError

from services.tools import violations
from services.tools.schema import SchemaError

_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
"""How JSON writes halves of characters."""


class ArgumentsError(Exception):
    """The arguments do not fit the tool."""

    def __init__(self, found: dict[str, str], more: int = 0) -> None:
        self.violations = found
        """Path (`order_id`, `items[2].name`; empty for the whole) to what is wrong there."""
        text = "; ".join(f"{path}: {problem}" if path else problem for path, problem in found.items())
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
    if _SURROGATE.search(arguments_json) is not None:  # may be half of a character, or both halves of one
        try:
            json.dumps(arguments, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ArgumentsError({"": "text that is not valid Unicode"}) from None
    if not isinstance(arguments, dict):
        raise ArgumentsError({"": f"expected a JSON object, got {violations.kind_of(arguments)}"})
    return arguments


def check(model: type[BaseModel], arguments: dict[str, Any]) -> BaseModel:
    """The arguments as an instance of `model`. Strict: what the declaration forbids is refused, not converted."""
    try:
        # Through JSON, because dates, enums and sets are strings and arrays there and nowhere else.
        return model.model_validate_json(json.dumps(arguments), strict=True)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        known = [str(field.alias) for field in model.model_fields.values()]
        raise ArgumentsError(*violations.told(violations.of_pydantic(problems, arguments), known)) from None
    except RecursionError:
        raise ArgumentsError({"": "nested too deeply"}) from None


class SchemaCheck:
    """Checks arguments against a JSON Schema of somebody else: its patterns are bounded, and nothing is fetched."""

    def __init__(self, schema: dict[str, Any]) -> None:
        """SchemaError when it is no JSON Schema."""
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
        self._known = [str(name) for name in schema.get("properties", {})]

    def __call__(self, values: object) -> None:
        """ArgumentsError says what is wrong, and where."""
        if self._validator.is_valid(values):
            return
        # To say everything that is wrong with a megabyte takes seconds, in which nothing else would run.
        looked_at = violations.beginning(values)
        errors = islice(self._validator.iter_errors(looked_at), 10 * violations.MAX_PROBLEMS)
        found = list(islice(violations.of_schema(errors, looked_at), 10 * violations.MAX_PROBLEMS))
        raise ArgumentsError(*violations.told(found or [((), violations.TOO_MANY)], self._known))


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def _whole_numbers_are_integers(text: str) -> int | float:
    # 3.0 is an integer in JSON Schema, and protobuf's Struct, through which models send arguments, knows only doubles.
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large a number")
    return int(number) if number.is_integer() else number
