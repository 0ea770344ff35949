"""Tools that run elsewhere: declared by somebody else, checked here before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, Protocol

import structlog

from services.tools import arguments, heeded, schema
from services.tools.context import ToolContext
from services.tools.registry import Offer
from services.tools.sources.file import SourceSettings
from services.tools.sources.guard import Guard
from services.tools.tool import MAX_DESCRIPTION_BYTES, DeclarationError, Tool, check_name

log = structlog.get_logger()

MAX_TOOLS: Final = 256
"""Tools of one source; more are not served."""
MAX_DECLARED: Final = 1024 * 1024
"""Bytes of all declarations of one source: the catalog is for everybody's."""
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_.-]")
_MAX_PROBLEMS: Final = 64
_SHOWN: Final = 80
"""Characters of a name that are repeated."""

Send = Callable[[dict[str, Any], ToolContext], Awaitable[Any]]


class Availability(Protocol):
    """Whether a source is there."""

    def reason(self) -> str:
        """Why it is not; empty when it is. For the model: short, and without secrets."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """A tool as its source describes it."""

    name: str
    """As the source calls it."""
    description: str
    parameters: dict[str, Any]
    idempotent: bool
    """Without a word of the operator."""
    send: Send
    """Does it; raises ToolUnavailableError, ToolError."""
    reports: bool = False
    """It may say how far it is."""


@dataclass(frozen=True, kw_only=True)
class RemoteTool(Tool):
    """A tool that runs elsewhere."""

    _check: arguments.SchemaCheck
    _send: Send
    _guard: Guard
    _availability: Availability

    def bind(self, arguments_json: str, context: ToolContext) -> Callable[[], Any]:
        """The call, ready to be made. ArgumentsError when the arguments do not fit."""
        values = arguments.parse(arguments_json)
        self._check(values)
        return lambda: self._guard.call(lambda: self._send(values, context), context, idempotent=self.idempotent)

    def hide(self, text: str) -> str:
        """The text without the secrets of the source: servers do send back what they were sent."""
        return self._guard.hide(text)

    def unavailable(self) -> str:
        """Why it cannot be called at the moment; empty when it can."""
        return self._availability.reason()


class Catalogue:
    """Makes tools of what one source describes, by what the operator wants of it."""

    def __init__(self, settings: SourceSettings, guard: Guard, availability: Availability) -> None:
        self._settings = settings
        self._guard = guard
        self._availability = availability
        self._tools: list[Tool] = []
        self._problems: list[str] = []
        self._remarks: list[str] = []
        self._names: set[str] = set()
        self._bytes = 0

    def add(self, described: Described) -> None:
        """Take one tool, if it is wanted and can be served; otherwise the offer says why not."""
        if not wanted(self._settings, described.name):
            return
        if len(self._tools) >= MAX_TOOLS:
            self.problem(f"it has more than {MAX_TOOLS} tools; the rest is not served (use `include`)")
            return
        try:
            self._tools.append(self._tool(described))
        except (DeclarationError, schema.SchemaError) as error:
            self.problem(str(error), described.name)
        except Exception as error:
            # Whatever a source comes up with costs that tool alone.
            log.exception("tool cannot be declared", source=self._settings.name, tool=described.name[:_SHOWN])
            self.problem(f"its declaration cannot be read ({type(error).__name__})", described.name)

    def problem(self, text: str, name: str = "") -> None:
        """Something is not served."""
        if len(self._problems) < _MAX_PROBLEMS:
            self._problems.append(f"{self._site(name)}: {text}")

    def _remark(self, text: str, name: str) -> None:
        if len(self._remarks) < _MAX_PROBLEMS:
            self._remarks.append(f"{self._site(name)}: {text}")

    def offer(self) -> Offer:
        """All that was added."""
        unused = [name for name in self._settings.tools if name not in self._names]
        for name in unused:
            self._remark("`tools` has hints for it, but there is no such tool", name)
        return Offer(self._tools, list(dict.fromkeys(self._problems)), self._remarks)

    def _site(self, name: str) -> str:
        return f"source {self._settings.name}" + (f", tool {name[:_SHOWN]!r}" if name else "")

    def _tool(self, described: Described) -> RemoteTool:
        self._names.add(described.name)
        hints = self._settings.tools.get(described.name)
        name = check_name(self._settings.prefix + _NOT_IN_NAMES.sub("_", described.name))
        # First of all that it is a schema, and can be walked through.
        schema.check_depth(described.parameters)
        arguments.SchemaCheck(described.parameters)
        parameters = schema.neutral(_with_definitions(described.parameters))
        description = _shortened(described.description or f"{described.name} of {self._settings.name}")
        size = schema.check_bounds(parameters) + len(description.encode())
        if parameters.get("type") != "object":
            raise DeclarationError("the schema of its arguments is not of type object")
        check = arguments.SchemaCheck(parameters)
        if self._bytes + size > MAX_DECLARED:
            raise DeclarationError(f"the tools of its source have more than {MAX_DECLARED} bytes (use `include`)")
        self._bytes += size
        parameters.pop("$schema", None)  # it says how to check arguments, and nothing to a model
        for remark in heeded.remarks(parameters):
            self._remark(remark, described.name)
        idempotent = described.idempotent if hints is None or hints.idempotent is None else hints.idempotent
        return RemoteTool(
            name=name,
            description=description,
            parameters=parameters,
            timeout=(hints.timeout if hints else None) or self._settings.timeout,
            idempotent=idempotent,
            behavior=hints.behavior if hints else None,
            scheduling=hints.scheduling if hints else None,
            reports=described.reports,
            max_concurrency=hints.max_concurrency if hints else None,
            tenants=tenants_of(self._settings, described.name),
            site=self._site(described.name),
            is_async=True,
            _check=check,
            _send=described.send,
            _guard=self._guard,
            _availability=self._availability,
        )


def tenants_of(settings: SourceSettings, name: str) -> frozenset[str]:
    """Tenants for whom the operator wants the tool to exist; empty: everybody."""
    hints = settings.tools.get(name)
    return frozenset(settings.tenants if hints is None or hints.tenants is None else hints.tenants)


def wanted(settings: SourceSettings, name: str) -> bool:
    """Whether the operator wants the tool, by the name that the source gives it."""
    return any(fnmatchcase(name, pattern) for pattern in settings.include) and not any(
        fnmatchcase(name, pattern) for pattern in settings.exclude
    )


def _with_definitions(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """With definitions where JSON Schema has them since 2019."""
    if "definitions" not in parameters or "$defs" in parameters:
        return dict(parameters)

    def moved(node: Any) -> Any:
        if isinstance(node, list):
            return [moved(item) for item in node]
        if not isinstance(node, dict):
            return node
        reference = node.get("$ref")
        walked = {key: moved(value) for key, value in node.items()}
        if isinstance(reference, str) and reference.startswith("#/definitions/"):
            walked["$ref"] = "#/$defs/" + reference.removeprefix("#/definitions/")
        return walked

    return {("$defs" if key == "definitions" else key): moved(value) for key, value in parameters.items()}


def _shortened(text: str) -> str:
    text = " ".join(text.encode(errors="replace").decode().split())
    if len(text.encode()) <= MAX_DESCRIPTION_BYTES:
        return text
    return text.encode()[: MAX_DESCRIPTION_BYTES - 3].decode(errors="ignore") + "..."
