"""Faults as people write them: ``reset on=turn_complete after=2s; pongs delay=8s``, JSON, or a list in YAML."""

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from pydantic import ValidationError

from emulator.faults.base import Fault
from emulator.faults.specs import ADAPTER, AnyFault, AnyLinkFault, AnyUpgradeFault

MAX_FAULTS = 100
MAX_TEXT = 16_384
"""Characters: more than a hundred faults need."""

MODELS: dict[str, type[Fault]] = {
    model.model_fields["do"].default: model for model in (*get_args(AnyUpgradeFault), *get_args(AnyLinkFault))
}
"""Every fault by its name."""


class FaultError(Exception):
    """A fault that does not exist or a parameter that it does not take; the text says what there is."""


def parse(text: str) -> list[AnyFault]:
    """The faults of a header or query parameter. Raises :class:`FaultError`."""
    text = text.strip()
    if text.startswith(("[", "{")):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FaultError(f"faults: not JSON: {error}") from error
        return parse_all(found if isinstance(found, list) else [found])
    return parse_all(_pieces(text))


def parse_all(faults: Iterable[Any]) -> list[AnyFault]:
    """Faults as mappings (``{"do": "reset", "on": "setup"}``) or in text form. Raises :class:`FaultError`."""
    faults = list(faults)
    if len(faults) > MAX_FAULTS:
        raise FaultError(f"{len(faults)} faults; at most {MAX_FAULTS} are taken at once")
    return [read(fault) for fault in faults]


def read(given: Any) -> AnyFault:
    """One fault. Raises :class:`FaultError`."""
    if isinstance(given, str):
        pieces = _pieces(given)
        if len(pieces) != 1:
            raise FaultError(f"{given[:40]!r}: one fault is wanted here")
        given = pieces[0]
    if not isinstance(given, Mapping):
        raise FaultError(f"a fault is a mapping with `do`, or text; not {type(given).__name__}")
    # YAML reads `on` as true.
    values = {"on" if key is True else str(key).replace("-", "_"): value for key, value in given.items()}
    name = values.get("do")
    if isinstance(name, str):
        name = values["do"] = name.replace("-", "_")
    if not isinstance(name, str) or name not in MODELS:
        raise FaultError(f"unknown fault {str(name)[:40]!r}; there are: {', '.join(MODELS)}")
    unknown = [key for key in values if key not in parameters(MODELS[name])]
    if unknown:
        raise FaultError(f"{name} has no {unknown[0][:40]!r}; it takes: {', '.join(sorted(parameters(MODELS[name])))}")
    try:
        return ADAPTER.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        # The first part of the location is the fault's name; of a union's alternatives only the first is told.
        where = str(first["loc"][1]) if len(first["loc"]) > 1 else "do"
        raise FaultError(f"{name}: {where}: {first['msg'].removeprefix('Value error, ')}") from error


def parameters(model: type[Fault]) -> dict[str, Any]:
    """The fields of a fault under the names that people write."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _pieces(text: str) -> list[dict[str, str]]:
    if len(text) > MAX_TEXT:
        raise FaultError(f"faults: {len(text)} characters; at most {MAX_TEXT} are read")
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";")
    lexer.whitespace_split = True
    lexer.commenters = ""
    pieces: list[dict[str, str]] = []
    current: dict[str, str] = {}
    try:
        words = list(lexer)
    except ValueError as error:
        raise FaultError(f"faults: {str(error).lower()}") from error
    for word in [*words, ";"]:
        if set(word) == {";"}:
            if current:
                pieces.append(current)
            current = {}
        elif not current:
            current = {"do": word}
        else:
            name, equals, value = word.partition("=")
            if not equals or not name:
                raise FaultError(f"{word[:40]!r} is not of the form name=value")
            current[name] = value
    return pieces
