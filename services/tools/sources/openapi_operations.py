"""Operations of an OpenAPI document as tools: one object of arguments each, and the request made of it. Plain code.

What an operation takes in its path, query, headers and JSON body becomes one flat object, because that is what a model
fills in well. Where two have one name, the later is called after its place too (`body_id`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.tools.context import ToolError
from services.tools.schema import SchemaError
from services.tools.sources.openapi_document import Document, ReferenceRefusedError
from services.tools.sources.openapi_schema import Schemas

METHODS: Final = ("get", "head", "put", "delete", "post", "patch", "options", "trace")
IDEMPOTENT: Final = frozenset({"get", "head", "put", "delete", "options"})
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_PIECES: Final = re.compile(r"(\{[^{}]*\})")
_SET_ELSEWHERE: Final = frozenset(
    {"accept", "content-type", "authorization", "idempotency-key", "host", "cookie", "connection", "content-length"}
    | {"transfer-encoding", "te", "trailer", "upgrade", "expect", "accept-encoding", "traceparent", "tracestate"}
)
"""Headers that are ours to set, or the connection's: no model does."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_IN_PATHS: Final = "/%:@!$&'()*+,;=?~"
_MAX_OPERATIONS: Final = 2000

Place = Literal["path", "query", "header"]


class OperationError(Exception):
    """An operation that cannot be a tool; the message says why."""


class _Parameter(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str = Field(min_length=1)
    location: Literal["path", "query", "header", "cookie"] = Field(alias="in")
    required: bool = False
    description: str = ""
    schema_: Any = Field(None, alias="schema")
    content: dict[str, Any] | None = None
    style: str = ""
    explode: bool | None = None


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore")

    content: dict[str, Any]
    required: bool = False
    description: str = ""


class _Operation(BaseModel):
    model_config = ConfigDict(extra="ignore")

    operation_id: str = Field("", alias="operationId")
    summary: str = ""
    description: str = ""
    parameters: list[Any] = []
    body: Any = Field(None, alias="requestBody")


@dataclass(frozen=True)
class Argument:
    """Where one argument goes."""

    name: str
    """As the model knows it."""
    wire_name: str
    place: Place
    explode: bool
    """Elements of a list are sent one by one, not joined by commas."""
    as_json: bool

    def texts(self, value: Any) -> list[str]:
        """The value as it is sent."""
        if self.as_json:
            return [json.dumps(value, ensure_ascii=False)]
        if isinstance(value, list):
            texts = [_text(item) for item in value]
            return texts if self.explode else [",".join(texts)]
        return [_text(value)]


@dataclass(frozen=True)
class Request:
    """What is sent."""

    path: str
    """Encoded, with a slash in front."""
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: Any
    has_body: bool


@dataclass(frozen=True)
class Operation:
    """An operation that can be a tool."""

    name: str
    method: str
    path: str
    description: str
    parameters: dict[str, Any]
    """JSON Schema of all arguments."""
    arguments: list[Argument]
    body: Mapping[str, str] | str | None = None
    """Arguments by the names of the body's properties; or the argument that is the body; or None."""
    needs_body: bool = False

    @property
    def idempotent(self) -> bool:
        """By the meaning of its method."""
        return self.method in IDEMPOTENT

    def request(self, values: Mapping[str, Any]) -> Request:
        """The request for arguments that fit the schema. ToolError for those that a path cannot hold."""
        path, query, headers = self.path, [], {}
        for argument in self.arguments:
            if values.get(argument.name) is None:
                continue
            texts = argument.texts(values[argument.name])
            match argument.place:
                case "path":
                    path = path.replace("{" + argument.wire_name + "}", _segment(argument.name, ",".join(texts)))
                case "query":
                    query += [(argument.wire_name, text) for text in texts]
                case "header":
                    headers[argument.wire_name] = _header(argument.name, ",".join(texts))
        if isinstance(self.body, str):
            return Request(path, query, headers, values.get(self.body), self.body in values)
        if self.body is None:
            return Request(path, query, headers, None, False)
        body = {name: values[argument] for name, argument in self.body.items() if argument in values}
        return Request(path, query, headers, body, bool(body) or self.needs_body)


def operations(document: Document, hidden: frozenset[tuple[str, str]]) -> Iterator[Operation | OperationError]:
    """Every operation of a document, in its order; an error for each that cannot be a tool.

    `hidden`: parameters that the model must not see, as (place, name in lower case): credentials.
    """
    count = 0
    for path, item in document.root["paths"].items():
        try:
            found = document.resolved(item, f"{path}")
        except ReferenceRefusedError as error:
            yield OperationError(str(error))
            continue
        for method in METHODS if isinstance(found, dict) and str(path).startswith("/") else ():
            if method not in found:
                continue
            count += 1
            if count > _MAX_OPERATIONS:
                yield OperationError(
                    f"the document has more than {_MAX_OPERATIONS} operations; the rest is not looked at"
                )
                return
            where = f"{method.upper()} {path}"
            try:
                yield _operation(document, str(path), method, found, hidden)
            except (OperationError, ReferenceRefusedError, SchemaError) as error:
                yield OperationError(f"{where}: {str(error).removeprefix(f'{where}: ')}")
            except ValidationError as error:
                problem = error.errors(include_url=False, include_input=False)[0]
                field_name = ".".join(map(str, problem["loc"]))
                yield OperationError(f"{where}: {field_name}: {problem['msg']}")
            except RecursionError:
                yield OperationError(f"{where}: is nested too deeply")


@dataclass
class _Merged:
    """Arguments of one operation while they are collected."""

    properties: dict[str, Any] = field(default_factory=dict)
    required: list[str] = field(default_factory=list)

    def add(self, name: str, place: str, schema: Any, *, required: bool) -> str:
        """Take one; the name that it gets."""
        free = name if name not in self.properties else f"{place}_{name}"
        while free in self.properties:
            free += "_"
        self.properties[free] = schema
        if required:
            self.required.append(free)
        return free


def _operation(
    document: Document, path: str, method: str, item: dict[str, Any], hidden: frozenset[tuple[str, str]]
) -> Operation:
    raw = item[method]
    if not isinstance(raw, dict):
        raise OperationError(f"expected an operation, found {type(raw).__name__}")
    operation = _Operation.model_validate(raw)
    where = f"{method.upper()} {path}"
    schemas, merged, arguments = Schemas(document), _Merged(), list[Argument]()
    common = item.get("parameters", [])
    if not isinstance(common, list):
        raise OperationError("parameters: expected a list")
    parameters: dict[tuple[str, str], _Parameter] = {}
    for reference in [*common, *operation.parameters]:
        parameter = _Parameter.model_validate(document.resolved(reference, where))
        parameters[parameter.location, parameter.name] = parameter  # an operation's own replaces the path's
    for parameter in parameters.values():
        if (parameter.location, parameter.name.lower()) in hidden:
            continue
        if (argument := _argument(parameter, schemas, merged, where)) is not None:
            arguments.append(argument)
    missing = set(_PLACEHOLDER.findall(path)) - {item.wire_name for item in arguments if item.place == "path"}
    if missing:
        raise OperationError(f"no parameter for {{{sorted(missing)[0]}}} of its path")
    body, needs_body = _body(document, operation.body, schemas, merged, where)
    schema: dict[str, Any] = {"type": "object", "properties": merged.properties, "additionalProperties": False}
    if merged.required:
        schema["required"] = merged.required
    if schemas.definitions:
        schema["$defs"] = schemas.definitions
    described = "\n".join(dict.fromkeys(text for text in (operation.summary, operation.description) if text))
    name = operation.operation_id or f"{method}_{path.strip('/')}".replace("/", "_").replace("{", "").replace("}", "")
    return Operation(name, method, _encoded(path), described or where, schema, arguments, body, needs_body)


def _argument(parameter: _Parameter, schemas: Schemas, merged: _Merged, where: str) -> Argument | None:
    what = f"parameter {parameter.name!r}"
    if parameter.location == "header" and parameter.name.lower() in _SET_ELSEWHERE:
        return None
    if parameter.location == "header" and not _TOKEN.fullmatch(parameter.name):
        raise OperationError(f"{what} is no name of a header")
    if parameter.location == "cookie":
        if parameter.required:
            raise OperationError(f"{what} is a cookie, which is not supported")
        return None
    schema, as_json = parameter.schema_, False
    if parameter.content is not None:
        schema, as_json = _json_schema(parameter.content, what), True
    translated = schemas.translate(schema if schema is not None else {}, where)
    kind = schemas.resolved(schema, where)
    kind = kind.get("type") if isinstance(kind, dict) else None
    style = parameter.style or ("form" if parameter.location == "query" else "simple")
    if not as_json and (kind == "object" or style not in ("form", "simple")):
        if parameter.required:
            raise OperationError(f"{what} is sent in a way that is not supported (style {style}, type {kind})")
        return None
    if parameter.description and isinstance(translated, dict):
        translated = {**translated, "description": parameter.description}
    required = parameter.required or parameter.location == "path"
    name = merged.add(parameter.name, parameter.location, translated, required=required)
    explode = parameter.explode if parameter.explode is not None else style == "form"
    return Argument(name, parameter.name, parameter.location, explode, as_json)


def _body(
    document: Document, raw: Any, schemas: Schemas, merged: _Merged, where: str
) -> tuple[Mapping[str, str] | str | None, bool]:
    if raw is None:
        return None, False
    body = _Body.model_validate(document.resolved(raw, where))
    schema = _json_schema(body.content, "its body")
    plain = schemas.resolved(schema, where)
    properties = plain.get("properties") if isinstance(plain, dict) else None
    if (
        body.required
        and isinstance(properties, dict)
        and plain.get("type", "object") == "object"
        and not plain.get("additionalProperties")
        and not plain.keys() & {"allOf", "anyOf", "oneOf", "not", "if", "patternProperties", "minProperties"}
    ):
        translated = schemas.translate(plain, where)
        required = translated.get("required", [])
        return {
            name: merged.add(name, "body", inner, required=name in required)
            for name, inner in translated["properties"].items()
        }, True
    translated = schemas.translate(schema, where)
    if body.description and isinstance(translated, dict):
        translated = {**translated, "description": body.description}
    return merged.add("body", "request", translated, required=body.required), body.required


def _json_schema(content: dict[str, Any], what: str) -> Any:
    for kind, media in content.items():
        plain = str(kind).partition(";")[0].strip().lower()
        if (plain == "application/json" or plain.endswith("+json")) and isinstance(media, dict):
            return media.get("schema", {})
    raise OperationError(f"{what} is {', '.join(map(str, content))[:100] or 'nothing'}; only JSON is supported")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _encoded(path: str) -> str:
    """A path of the document as a URL has it, its placeholders left as they are."""
    pieces = _PIECES.split(path)
    return "".join(piece if _PLACEHOLDER.fullmatch(piece) else quote(piece, safe=_IN_PATHS) for piece in pieces)


def _segment(name: str, text: str) -> str:
    if text in ("", ".", ".."):
        raise ToolError(f"wrong arguments: {name}: {text!r} cannot stand in a path")
    return quote(text, safe="")


def _header(name: str, text: str) -> str:
    if any(ord(character) < 32 or ord(character) > 126 for character in text):
        raise ToolError(f"wrong arguments: {name}: only printable ASCII can stand in a header")
    return text
