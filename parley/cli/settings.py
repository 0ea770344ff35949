"""`parley settings`: every setting of every service, from the classes that the services themselves use."""

from datetime import timedelta
from typing import Annotated, Any

import typer

from parley.cli import _output, _plugins
from parley.cli._failures import CliError, is_secret, variable


def settings(
    service: Annotated[str, typer.Argument(help="One service; without it, all that are installed.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show every setting: environment variable, default, unit and meaning."""
    points = _plugins.service_points("parley.settings")
    names = [point.name for point in points]
    if service and service not in names:
        raise CliError(f"no service {service!r}; there are: {', '.join(names)}", 2)
    documents: list[dict[str, Any]] = []
    for point in points:
        if service and point.name != service:
            continue
        try:
            rows = describe(_plugins.load(point))
        except CliError as missing:
            if service:
                raise
            documents.append({"service": point.name, "unavailable": str(missing), "settings": []})
            continue
        documents.append({"service": point.name, "settings": rows})
    if as_json:
        _output.print_json(documents)
        return
    for document in documents:
        if "unavailable" in document:
            print(f"{document['service']}: {document['unavailable']}\n")
            continue
        table = [(row["name"], row["default"], row["description"]) for row in document["settings"]]
        _output.print_table(document["service"], ("variable", "default", "meaning"), table)
        print()


def describe(cls: Any) -> list[dict[str, Any]]:
    """One entry for each field of a pydantic-settings class, in its order."""
    return [_describe_field(cls, name, field) for name, field in cls.model_fields.items()]


def _describe_field(cls: Any, name: str, field: Any) -> dict[str, Any]:
    required = field.is_required()
    secret = is_secret(field)
    default = None if required else field.get_default(call_default_factory=True)
    return {
        "name": variable(cls, name),
        "default": "(required)" if required else "(secret)" if secret else shown(default),
        "required": required,
        "secret": secret,
        "description": field.description or "",
    }


def shown(value: Any) -> str:
    """A default as one would write it into the environment."""
    if isinstance(value, timedelta):
        milliseconds = round(value / timedelta(milliseconds=1))
        for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
            if milliseconds and milliseconds % length == 0:
                return f"{milliseconds // length}{unit}"
        return f"{milliseconds}ms"
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or value in ("", [], {}, ()):
        return "(unset)" if value in (None, "") else "(none)"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
