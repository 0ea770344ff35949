"""The sources that an operator writes down: one YAML file, checked before anything is started.

Every complaint names file and line, and says what is expected.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from yarl import URL

from services.fabric import yaml_file
from services.fabric.settings import PositiveDuration
from services.fabric.yaml_file import ConfigurationError, Value
from services.tools.reports import Scheduling
from services.tools.sources.secrets import SecretRef
from services.tools.tool import Behavior

_ENVIRONMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def _http_url(value: Any) -> Any:
    try:
        url = URL(value)
    except (TypeError, ValueError):
        raise ValueError("expected an http:// or https:// address") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("expected an http:// or https:// address")
    if url.user is not None or url.password is not None:
        raise ValueError("credentials do not belong into an address; use a header with `env` or `file`")
    return value


def _header_names(value: Any) -> Any:
    for name in value if isinstance(value, dict) else ():
        if not isinstance(name, str) or not _HEADER.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a header")
    return value


def _variable_names(value: Any) -> Any:
    for name in value if isinstance(value, dict) else ():
        if not isinstance(name, str) or not _ENVIRONMENT.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of an environment variable")
    return value


HttpUrl = Annotated[str, BeforeValidator(_http_url)]
Headers = Annotated[dict[str, str | SecretRef], BeforeValidator(_header_names)]
Tenant = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
Variables = Annotated[dict[str, str | SecretRef], BeforeValidator(_variable_names)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Hints(_Settings):
    """What the operator knows of one tool."""

    idempotent: bool | None = None
    """Running it twice does no more than running it once: it may be retried."""
    behavior: Behavior | None = None
    scheduling: Scheduling | None = None
    """When the model is to speak of its results, where it does not wait for them."""
    timeout: PositiveDuration | None = None
    max_concurrency: int | None = Field(None, ge=1, le=1024)
    """Calls that run at once in one process; default: the service's."""
    tenants: list[Tenant] | None = Field(None, max_length=1024)
    """Tenants for whom it exists, instead of those of the source."""

    @model_validator(mode="after")
    def _scheduled_unless_waited_for(self) -> Hints:
        if self.scheduling is not None and self.behavior == "blocking":
            raise ValueError("`scheduling` is for tools that do not block")
        return self


class SourceSettings(_Settings):
    """What all sources have in common."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")
    prefix: str = Field("", pattern=r"^([A-Za-z_][A-Za-z0-9_.-]{0,31})?$")
    """Put before the names of its tools."""
    include: list[str] = Field(["*"], max_length=256)
    """Names of tools as the source calls them, with * and ?; the others are not served."""
    exclude: list[str] = Field([], max_length=256)
    timeout: PositiveDuration | None = None
    """Longest time a call may take; default: the service's."""
    tenants: list[Tenant] = Field([], max_length=1024)
    """Tenants for whom its tools exist; default: everybody."""
    retries: int = Field(2, ge=0, le=5)
    """How often a call of an idempotent tool is made again when what it stands on could not be reached."""
    tools: dict[str, Hints] = Field({}, max_length=256)
    """Hints, by the name of the tool as the source calls it."""


class PythonSettings(SourceSettings):
    """Functions marked with @tool."""

    kind: Literal["python"]
    module: str = Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")
    secrets: Annotated[dict[str, SecretRef], BeforeValidator(_variable_names)] = Field({}, max_length=256)
    """What its functions get by `ToolContext.secret`, by name."""


class McpSettings(SourceSettings):
    """What all MCP servers have in common."""

    trust_annotations: bool = False
    """Whether the server's word counts that a tool is read-only or idempotent; otherwise only `tools` says so."""
    refresh: PositiveDuration = Field(timedelta(minutes=1), ge=timedelta(seconds=1))
    """How often the server is asked for its tools, besides whenever it says that they changed."""


class McpStdioSettings(McpSettings):
    """An MCP server that this process starts, and talks to over stdin and stdout."""

    kind: Literal["mcp_stdio"]
    command: str = Field(min_length=1)
    args: list[str] = Field([], max_length=256)
    cwd: Path | None = None
    env: Variables = {}
    """Beside PATH, HOME and the like; nothing else of this process's environment is handed on."""


class McpHttpSettings(McpSettings):
    """An MCP server that is reached by streamable HTTP."""

    kind: Literal["mcp_http"]
    url: HttpUrl
    headers: Headers = {}


class Auth(_Settings):
    """How an HTTP service knows who calls. The model does not see it."""

    bearer: SecretRef | None = None
    api_key: SecretRef | None = None
    name: str = Field("", pattern=r"^[A-Za-z0-9_.-]*$")
    """Of the API key's header, query parameter or cookie; default: as the document has it."""
    location: Literal["header", "query", "cookie"] | None = Field(None, alias="in")

    @model_validator(mode="after")
    def _one_of_both(self) -> Auth:
        if (self.bearer is None) == (self.api_key is None):
            raise ValueError("expected either `bearer` or `api_key`")
        if bool(self.name) != (self.location is not None):
            raise ValueError("`name` and `in` go together")
        return self


class OpenApiSettings(SourceSettings):
    """An HTTP service with an OpenAPI 3 document."""

    kind: Literal["openapi"]
    document: str = Field(min_length=1)
    """Path, relative to this file, or http(s) address."""
    base_url: HttpUrl | None = None
    """Default: the first server of the document."""
    auth: Auth | None = None
    headers: Headers = {}
    redirects: Literal["refuse", "same_origin"] = "refuse"


AnySource = Annotated[
    PythonSettings | McpStdioSettings | McpHttpSettings | OpenApiSettings, Field(discriminator="kind")
]


class _File(_Settings):
    sources: list[AnySource] = Field(max_length=64)


_FILE: Final = TypeAdapter(_File)


def load(path: Path) -> list[AnySource]:
    """The sources of a file, in its order. ConfigurationError: a line `FILE:LINE: FIELD: reason` a problem."""
    root = yaml_file.load(path)
    try:
        sources = _FILE.validate_python(root.plain).sources
    except ValidationError as error:
        lines = [_complaint(root, problem["loc"], problem["type"], problem["msg"]) for problem in error.errors()]
        raise ConfigurationError("\n".join(dict.fromkeys(lines))) from None
    seen: set[str] = set()
    for index, source in enumerate(sources):
        if source.name in seen:
            there, _ = _find(root, ("sources", index, "name"))
            raise there.problem(f"sources[{index}].name: there is another source {source.name!r}")
        seen.add(source.name)
    return sources


def _complaint(root: Value, location: Sequence[str | int], kind: str, message: str) -> str:
    value, path = _find(root, location, missing=kind == "missing")
    reason = {"missing": "is required", "extra_forbidden": "there is no such field"}.get(
        kind, message.removeprefix("Value error, ")
    )
    return str(value.problem(f"{path}: {reason}" if path else reason))


def _find(root: Value, location: Sequence[str | int], *, missing: bool = False) -> tuple[Value, str]:
    """The value at a path of pydantic's, or the nearest above it, and the path as the file has it."""
    value, path = root, ""
    for number, step in enumerate(location):
        if isinstance(step, int) and step < len(value.elements):
            value, path = value.elements[step], f"{path}[{step}]"
        elif isinstance(step, str) and step in value.items:
            value, path = value.items[step], f"{path}.{step}" if path else step
        elif missing and number == len(location) - 1:
            path = f"{path}.{step}" if path else str(step)
        # else: pydantic's name for one of several forms, which the file does not have
    return value, path
