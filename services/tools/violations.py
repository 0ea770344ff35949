"""What is wrong with arguments, and where, from what the validators say. Plain code.

A place is the way to a value in the arguments as they were sent: `order_id`, `items[2].name`; empty for the whole. Of
several forms that a value may have, only what is wrong with the one that is meant is told, where that can be seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import jsonschema_rs
from pydantic_core import ErrorDetails

MAX_PROBLEMS: Final = 5
"""Problems named in one answer; a model mends a few at a time."""
REQUIRED: Final = "is required"
UNKNOWN: Final = "is not an argument"
MAX_LOOKED_AT: Final = 1000
"""Values of which it is said what is wrong with them."""
TOO_MANY: Final = f"they do not fit, somewhere behind their first {MAX_LOOKED_AT} values: send fewer"
_MAX_SHOWN: Final = 60
"""Characters of a wrong value that are repeated."""
_MAX_MESSAGE: Final = 240

Location = tuple[int | str, ...]
Violation = tuple[Location, str]


def of_pydantic(problems: Iterable[ErrorDetails], arguments: object) -> list[Violation]:
    """What pydantic says of arguments."""
    found: list[tuple[Location, bool, str]] = []
    for problem in problems:
        location, in_union = _location(problem["loc"], problem["type"], arguments)
        found.append((location, in_union, _explain(problem["type"], problem["msg"], problem["input"])))
    deeper = {location[:length] for location, _, _ in found for length in range(len(location))}
    return [(location, text) for location, in_union, text in found if not (in_union and location in deeper)]


def of_schema(errors: Iterable[jsonschema_rs.ValidationError], arguments: object) -> Iterator[Violation]:
    """What a JSON Schema forbids of arguments."""
    for error in errors:
        at, kind = _named(error.instance_path, arguments), error.kind
        if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
            yield (*at, kind.property), REQUIRED
        elif isinstance(kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
            for name in kind.unexpected[: 10 * MAX_PROBLEMS]:
                yield (*at, name), UNKNOWN
        elif (meant := _meant(error)) is not None:
            yield from of_schema(meant, arguments)
        else:
            yield at, _explain_keyword(error)


def beginning(arguments: object) -> object:
    """The arguments, with no more values than are looked at: lists and objects are cut short where they have more."""
    left = MAX_LOOKED_AT

    def cut(value: object) -> object:
        nonlocal left
        left -= 1
        if isinstance(value, dict):
            return {key: cut(item) for key, item in value.items() if left > 0}
        if isinstance(value, list):
            return [cut(item) for item in value if left > 0]
        return value

    return cut(arguments)


def told(found: Sequence[Violation], known: Sequence[str]) -> tuple[dict[str, str], int]:
    """The first few, by the places as they are written down, and how many more there are. `known`: the arguments that
    the tool has."""
    violations: dict[str, str] = {}
    for location, text in found[:MAX_PROBLEMS]:
        place = written(location)
        violations[place] = f"{violations[place]}, or {text}" if place in violations else text
    if any(text == UNKNOWN and len(location) == 1 for location, text in found):
        hint = f"the arguments are: {', '.join(known)}" if known else "the tool takes no arguments"
        violations[""] = f"{violations['']}; {hint}" if "" in violations else hint
    return violations, len(found) - len(found[:MAX_PROBLEMS])


def written(location: Location) -> str:
    """A place as it is told."""
    place = ""
    for step in location:
        if isinstance(step, int):
            place += f"[{step}]"
        else:
            place += f".{step}" if place else step
    return place


def kind_of(value: object) -> str:
    """What a value is in JSON, with its article."""
    return {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )


def _location(steps: Location, problem: str, arguments: object) -> tuple[Location, bool]:
    """The place in the arguments, and whether it is that of a value of several forms: pydantic puts the names of forms,
    of keys and of functions between its steps."""
    location: list[int | str] = []
    value, named = arguments, False
    for number, step in enumerate(steps):
        if _has(value, step):
            value = value[step]  # type: ignore[index]
        elif not (problem == "missing" and number == len(steps) - 1):
            named = True
            continue
        named = False
        location.append(step)
    return tuple(location), named


def _named(steps: Sequence[int | str], arguments: object) -> Location:
    """The place with the names that are made of digits as names: the validator takes them for numbers."""
    location: list[int | str] = []
    value = arguments
    for step in steps:
        location.append(str(step) if isinstance(value, dict) else step)
        value = value[location[-1]] if _has(value, location[-1]) else None  # type: ignore[index]
    return tuple(location)


def _has(value: object, step: int | str) -> bool:
    if isinstance(value, list):
        return isinstance(step, int) and step < len(value)
    return isinstance(value, dict) and step in value


def _explain(kind: str, message: str, value: object) -> str:
    if kind == "missing":
        return REQUIRED
    if kind == "extra_forbidden":
        return UNKNOWN
    shown = kind_of(value) if isinstance(value, dict | list) else json.dumps(value, ensure_ascii=False, default=repr)
    if len(shown) > _MAX_SHOWN:
        shown = shown[:_MAX_SHOWN] + "..."
    return f"{message[:1].lower()}{message[1:]}, got {shown}"


def _meant(error: jsonschema_rs.ValidationError) -> list[jsonschema_rs.ValidationError] | None:
    """What is wrong with the one form of several that the value is of; None when that cannot be told."""
    forms = _forms(error) or []
    meant = [form for form in forms if not _of_another_kind(form, list(error.instance_path))]
    return meant[0] if len(meant) == 1 else None


def _forms(error: jsonschema_rs.ValidationError) -> list[list[jsonschema_rs.ValidationError]] | None:
    """What is wrong with each form that the value may have; None when it may have one only."""
    kind = error.kind
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.AnyOf | jsonschema_rs.ValidationErrorKind.OneOfNotValid):
        return kind.context
    return None


def _of_another_kind(form: list[jsonschema_rs.ValidationError], at: list[str | int]) -> bool:
    """Whether a form is for values of another type than the one at a place."""
    for error in form:
        if list(error.instance_path) != at:
            continue
        match error.kind:
            case jsonschema_rs.ValidationErrorKind.Type():
                return True
            case jsonschema_rs.ValidationErrorKind.Constant(expected_value=value):
                allowed = [value]
            case jsonschema_rs.ValidationErrorKind.Enum(options=options) if isinstance(options, list):
                allowed = options
            case _:
                forms = _forms(error)
                if forms is not None and all(_of_another_kind(inner, at) for inner in forms):
                    return True
                continue
        if kind_of(error.instance) not in map(kind_of, allowed):
            return True
    return False


def _explain_keyword(error: jsonschema_rs.ValidationError) -> str:
    message = " ".join(error.message.split())
    if len(repr(error.instance)) > _MAX_SHOWN and len(message) > 3 * _MAX_SHOWN:
        # What is wrong stands behind the value, which is known to whoever sent it.
        message = f"does not satisfy {error.kind.name}: {message[-2 * _MAX_SHOWN :]}"
    return message[:1].lower() + message[1:_MAX_MESSAGE]
