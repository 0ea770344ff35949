"""Python functions as tools: the decorator, and the declaration that follows from hints and docstring.

The decorator only marks a function; what is wrong with it is found when its module is loaded, so that one bad function
does not take its module down.
"""

from __future__ import annotations

import inspect
import types
import typing
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar, overload

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.json_schema import PydanticJsonSchemaWarning

from services.tools import arguments, schema, streams
from services.tools.context import ToolContext
from services.tools.reports import SCHEDULINGS, Scheduling
from services.tools.tool import (
    BEHAVIORS,
    MAX_DESCRIPTION_BYTES,
    Behavior,
    Compensate,
    DeclarationError,
    Tool,
    check_name,
)

F = TypeVar("F", bound=Callable[..., Any])

_MARK: Final = "__parley_tool__"
_LARGE: Final = 8 * 1024
"""Characters of arguments beyond which pydantic may have more faults to tell of than there is time for."""


@dataclass(frozen=True)
class Options:
    """What the decorator was given, unchecked."""

    name: str | None
    timeout: timedelta | float | None
    idempotent: bool
    behavior: Behavior | None
    scheduling: Scheduling | None
    compensate: Compensate | None
    max_concurrency: int | None


@overload
def tool(function: F, /) -> F: ...
@overload
def tool(
    *,
    name: str | None = None,
    timeout: timedelta | float | None = None,
    idempotent: bool = False,
    behavior: Behavior | None = None,
    scheduling: Scheduling | None = None,
    compensate: Compensate | None = None,
    max_concurrency: int | None = None,
) -> Callable[[F], F]: ...
def tool(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    timeout: timedelta | float | None = None,
    idempotent: bool = False,
    behavior: Behavior | None = None,
    scheduling: Scheduling | None = None,
    compensate: Compensate | None = None,
    max_concurrency: int | None = None,
) -> F | Callable[[F], F]:
    """Mark a function as a tool. It stays an ordinary function.

    Synchronous functions run in a thread, coroutine functions on an event loop of their module (so they must not
    block). Of a generator, of either kind, every value is a result, and the last one the answer. The model sees the
    first paragraph of the docstring and the parameters; `Annotated[str, Field(description=...)]` describes one.
    `timeout` (seconds or timedelta; default: the service's) bounds a call. `idempotent` promises that running it twice
    does no more than running it once. `behavior` says whether the model waits for it (default: the model's), and
    `scheduling` when it speaks of what it did not wait for: `silent` (never), `when_idle` (at the next pause) or
    `interrupt` (at once). Of a tool with `max_concurrency` no more calls than that run at once in one process; others
    wait a little.

    `compensate` undoes what a call did in a session when nobody gets its result: the model took the call back, the
    session ended, or its time was up. It is called once, when the function has ended, with the arguments (a dict, as
    the model gave them), the result (a dict, as the model would have got it; None where the function was cut off) and a
    context, and may take as long as the function. It is not called when the function raised: who fails has no effect.
    """

    def mark(target: F) -> F:
        setattr(target, _MARK, Options(name, timeout, idempotent, behavior, scheduling, compensate, max_concurrency))
        return target

    return mark if function is None else mark(function)


def is_marked(value: object) -> bool:
    """Whether the decorator was applied to it."""
    # Statically: a module may hold proxies that raise when they are asked for an attribute.
    return isinstance(inspect.getattr_static(value, _MARK, None), Options)


def site(function: object) -> str:
    """Where a function is: `module.function`."""
    module = getattr(function, "__module__", None)
    return f"{module}.{getattr(function, '__qualname__', repr(function))}"


@dataclass(frozen=True, kw_only=True)
class FunctionTool(Tool):
    """A Python function that can be called as a tool."""

    function: Callable[..., Any]
    _model: type[BaseModel]
    _declared: arguments.SchemaCheck | None
    """What the model was told, where that can be checked: some hints convert what their declaration forbids."""
    _context_parameter: str | None
    _streams: bool

    def bind(self, arguments_json: str, context: ToolContext) -> Callable[[], Any]:
        """The call, ready to be made. ArgumentsError when the arguments do not fit."""
        given = arguments.parse(arguments_json)
        if self._declared is not None and len(arguments_json) > _LARGE:
            self._declared(given)  # which stops at the first faults
        values = arguments.check(self._model, given)
        if self._declared is not None:
            self._declared(given)
        keywords = {str(field.alias): getattr(values, name) for name, field in self._model.model_fields.items()}
        if self._context_parameter is not None:
            keywords[self._context_parameter] = context
        if not self._streams:
            return lambda: self.function(**keywords)
        drained = streams.drained_async if self.is_async else streams.drained
        return lambda: drained(lambda: self.function(**keywords), context)


def declare(function: object) -> FunctionTool:
    """Make a tool of a marked function. DeclarationError says where and what is wrong."""
    try:
        return _declare(function)
    except DeclarationError as error:
        raise DeclarationError(f"{site(function)}: {error}") from error.__cause__


def _declare(function: object) -> FunctionTool:
    options = getattr(function, _MARK, None)
    if not isinstance(options, Options):
        raise DeclarationError("is not marked with @tool")
    if not isinstance(function, types.FunctionType):
        raise DeclarationError("is not a function; classes, methods and other callables cannot be tools")
    name = check_name(options.name if options.name is not None else function.__name__)
    model, context_parameter = _signature(function, name)
    parameters = _json_schema(model)
    generates = _generates(function)
    behavior = _checked_behavior(options.behavior)
    return FunctionTool(
        name=name,
        description=_description(function),
        parameters=parameters,
        timeout=_checked_timeout(options.timeout),
        idempotent=bool(options.idempotent),
        behavior=behavior,
        scheduling=_checked_scheduling(options.scheduling, behavior),
        compensate=_checked_compensate(options.compensate),
        reports=generates or context_parameter is not None,
        max_concurrency=_checked_limit(options.max_concurrency),
        site=site(function),
        is_async=inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(function),
        function=function,
        _model=model,
        _declared=_check_of(parameters),
        _context_parameter=context_parameter,
        _streams=generates,
    )


def _generates(function: types.FunctionType) -> bool:
    return inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function)


def _checked_timeout(timeout: object) -> timedelta | None:
    if timeout is None:
        return None
    try:
        length = timeout if isinstance(timeout, timedelta) else timedelta(seconds=timeout)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        length = timedelta(0)
    if length <= timedelta(0):
        raise DeclarationError(f"timeout={timeout!r} is not allowed: expected seconds above 0, or a timedelta")
    return length


def _checked_limit(limit: object) -> int | None:
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise DeclarationError(f"max_concurrency={limit!r} is not allowed: expected a whole number above 0")
    return limit


def _checked_behavior(behavior: Behavior | None) -> Behavior | None:
    if behavior not in BEHAVIORS:
        raise DeclarationError(f"behavior={behavior!r} is not allowed: expected 'blocking', 'non_blocking' or None")
    return behavior


def _checked_scheduling(scheduling: Scheduling | None, behavior: Behavior | None) -> Scheduling | None:
    if scheduling not in SCHEDULINGS:
        raise DeclarationError(
            f"scheduling={scheduling!r} is not allowed: expected 'silent', 'when_idle', 'interrupt' or None"
        )
    if scheduling is not None and behavior == "blocking":
        raise DeclarationError("scheduling is for functions that do not block; the model waits for this one")
    return scheduling


def _checked_compensate(compensate: Compensate | None) -> Compensate | None:
    if compensate is None:
        return None
    if not isinstance(compensate, types.FunctionType) or _generates(compensate):
        raise DeclarationError(f"compensate={compensate!r} is not allowed: expected a function or coroutine function")
    try:
        inspect.signature(compensate).bind({}, None, None)
    except TypeError as error:
        raise DeclarationError(
            f"compensate={compensate.__qualname__} does not take arguments, result and context ({error})"
        ) from None
    return compensate


def _description(function: types.FunctionType) -> str:
    first_paragraph = (inspect.getdoc(function) or "").strip().split("\n\n", 1)[0]
    description = " ".join(first_paragraph.split())
    if not description:
        raise DeclarationError("has no docstring; the model reads its first paragraph to know when to call it")
    if len(description.encode()) > MAX_DESCRIPTION_BYTES:
        raise DeclarationError(f"the first paragraph of its docstring has more than {MAX_DESCRIPTION_BYTES} bytes")
    return description


def _signature(function: types.FunctionType, name: str) -> tuple[type[BaseModel], str | None]:
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        raise DeclarationError(f"its type hints cannot be read: {error}") from error
    fields: dict[str, Any] = {}
    context_parameter: str | None = None
    for number, parameter in enumerate(inspect.signature(function).parameters.values()):
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise DeclarationError(f"parameter {str(parameter)!r}: only named parameters can be declared to a model")
        if parameter.name not in hints:
            raise DeclarationError(f"parameter {parameter.name!r} has no type hint")
        if hints[parameter.name] is ToolContext:
            if context_parameter is not None:
                raise DeclarationError("has more than one parameter of type ToolContext")
            context_parameter = parameter.name
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        # By alias, so that an argument may have a name that pydantic keeps for itself.
        fields[f"p{number}"] = (hints[parameter.name], Field(default, alias=parameter.name))
    try:
        return create_model(name, __config__=ConfigDict(extra="forbid"), **fields), context_parameter
    except Exception as error:
        raise DeclarationError(f"its parameters cannot be declared: {error}") from error


def _check_of(parameters: dict[str, Any]) -> arguments.SchemaCheck | None:
    try:
        return arguments.SchemaCheck(parameters)
    except schema.SchemaError:
        return None  # such as a pattern that only Python has: then the hints alone decide


def _json_schema(model: type[BaseModel]) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            # A default that JSON cannot say is left out of the schema; the function still has it.
            warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
            parameters = schema.neutral(model.model_json_schema(by_alias=True))
        schema.check_bounds(parameters)
    except schema.SchemaError as error:
        raise DeclarationError(str(error)) from None
    except Exception as error:
        raise DeclarationError(f"its parameters have no JSON Schema: {error}") from error
    return parameters
