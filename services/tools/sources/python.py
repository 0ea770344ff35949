"""Python modules as sources: functions marked with @tool, under the policy of every source."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

import structlog

from services.tools import heeded, results
from services.tools.context import ToolContext, ToolError
from services.tools.declare import FunctionTool, declare, is_marked
from services.tools.loops import Blocked, ToolLoop
from services.tools.registry import Offer
from services.tools.results import Encoded
from services.tools.settings import ToolsSettings
from services.tools.sources.file import PythonSettings
from services.tools.sources.guard import Guard
from services.tools.sources.remote import tenants_of, wanted
from services.tools.sources.secrets import Secrets
from services.tools.sources.source import Source, TakeOffer
from services.tools.threads import DaemonThreads
from services.tools.tool import Compensate, DeclarationError, Tool, check_name

log = structlog.get_logger()

SET_UP: Final = "set_up_tools"
"""A module of tools may define this function: it is called once with the settings, before its tools are served."""


@dataclass(frozen=True, kw_only=True)
class PythonTool(Tool):
    """A function, and what its source adds: secrets, retries, a circuit breaker, an event loop of its own."""

    inner: FunctionTool
    _guard: Guard
    _secrets: Mapping[str, str] = field(repr=False)
    _loop: ToolLoop | None
    """Of coroutine functions."""
    _max_result_bytes: int

    def bind(self, arguments_json: str, context: ToolContext) -> Callable[[], Any]:
        """The call, ready to be made once. ArgumentsError when the arguments do not fit."""
        context = replace(context, secrets=self._secrets)
        bound = [self.inner.bind(arguments_json, context)]

        def attempt() -> Any:
            # Another attempt gets arguments of its own: the one before may have changed them.
            function = bound.pop() if bound else self.inner.bind(arguments_json, context)
            return function()

        async def encoded() -> Encoded:
            # There, because what a function returns may run code of its own: a mapping that reads what it holds.
            return Encoded(results.encode(await attempt(), self._max_result_bytes, self.hide))

        loop = self._loop
        if loop is None:
            return lambda: self._guard.call_in_thread(attempt, context, idempotent=self.idempotent)
        return lambda: self._guard.call(lambda: loop.run(encoded, self.name), context, idempotent=self.idempotent)

    def hide(self, text: str) -> str:
        """The text without the secrets of the source."""
        return self._guard.hide(text)

    def unavailable(self) -> str:
        """Why it cannot be called at the moment; empty when it can."""
        return "another call blocks its event loop" if self._loop is not None and self._loop.blocked else ""


def _compensating(
    name: str, compensate: Compensate, guard: Guard, secrets: Mapping[str, str], loop: ToolLoop | None
) -> Compensate:
    """A function that undoes calls, with what it shares with the function that made them."""

    def hidden(error: BaseException) -> BaseException:
        text = f"{type(error).__name__}: {error}"
        return error if guard.hide(text) == text else ToolError(guard.hide(text))

    async def undo_async(arguments: dict[str, Any], result: dict[str, Any] | None, context: ToolContext) -> Any:
        assert loop is not None
        given = replace(context, secrets=secrets)
        try:
            return await loop.run(lambda: compensate(arguments, result, given), f"{name} (undoing)")
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - raised again, without secrets
            raise hidden(error) from None

    def undo(arguments: dict[str, Any], result: dict[str, Any] | None, context: ToolContext) -> Any:
        try:
            return compensate(arguments, result, replace(context, secrets=secrets))
        except BaseException as error:  # noqa: BLE001 - raised again, without secrets
            raise hidden(error) from None

    return undo_async if inspect.iscoroutinefunction(compensate) else undo


class PythonSource(Source):
    """One module. What cannot be served of it is a problem, never an error."""

    def __init__(self, source: PythonSettings, settings: ToolsSettings, name: str = "", folder: Path = Path()) -> None:
        """`folder`: what relative paths of secrets count from."""
        super().__init__(name or source.name)
        self._folder = folder
        self._source = source
        self._settings = settings
        self.module = source.module
        self.unknown = False
        """There is no such module: a wrong setting, not a broken source."""
        self.loop: ToolLoop | None = None
        """Of its coroutine functions, while there are any."""

    async def run(self, offer: TakeOffer) -> None:
        """Import the module and offer its tools. Goes on while it has coroutine functions, whose loop may be blocked.
        SourceError when there is a secret that cannot be read."""
        secrets = Secrets(self._folder)
        given = {name: secrets.resolve(value, lines=True) for name, value in self._source.secrets.items()}
        # In a thread of its own: what a module does while it is imported must hold up neither loop nor shutdown.
        loaded = await DaemonThreads(1).run(self.load)
        # A function may be slow without anything being wrong with what it stands on; if there is, it says so.
        guard = Guard(self.module.rpartition(".")[2], secrets, retries=self._source.retries, slow_is_failure=False)
        if not any(tool.is_async or inspect.iscoroutinefunction(tool.compensate) for tool in loaded.tools):
            offer(self._guarded(loaded, guard, given, None))
            return
        self.loop = loop = ToolLoop(self.name)
        try:
            guarded = self._guarded(loaded, guard, given, loop)
            offer(guarded)
            async for blocked in loop.changes():
                offer(self._changed(guarded, blocked))
        finally:
            await loop.close()

    def _guarded(self, offer: Offer, guard: Guard, secrets: Mapping[str, str], loop: ToolLoop | None) -> Offer:
        guarded = []
        for tool in offer.tools:
            assert isinstance(tool, FunctionTool)
            shared = {each.name: getattr(tool, each.name) for each in fields(Tool)}
            if tool.compensate is not None:
                shared["compensate"] = _compensating(tool.name, tool.compensate, guard, secrets, loop)
            guarded.append(
                PythonTool(
                    **shared,
                    inner=tool,
                    _guard=guard,
                    _secrets=secrets,
                    _loop=loop if tool.is_async else None,
                    _max_result_bytes=self._settings.max_result_bytes,
                )
            )
        return replace(offer, tools=guarded)

    def _changed(self, offer: Offer, blocked: Blocked | None) -> Offer:
        if blocked is None:
            return offer
        return replace(offer, problems=[*offer.problems, f"module {self.module}: {blocked}; its tools wait"])

    def load(self) -> Offer:
        """Import the module; its tools and what is wrong with them. Never raises."""
        name = self._source.module
        try:
            module = importlib.import_module(name)
            set_up: Callable[[ToolsSettings], None] | None = getattr(module, SET_UP, None)
            if set_up is not None:
                set_up(self._settings)
        except BaseException as error:
            if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
                self.unknown = True
            log.warning("module of tools not loaded", module=name, exc_info=error)
            return Offer(problems=[f"module {name} cannot be loaded: {type(error).__name__}: {error}"])
        # What a module imported from another one belongs to the other one.
        marked = [value for value in vars(module).values() if is_marked(value) and value.__module__ == name]
        tools: dict[int, Tool] = {}
        problems: list[str] = []
        unused = set(self._source.tools)
        for function in marked:
            try:
                declared = declare(function)
                unused.discard(declared.name)
                tool = self._hinted(declared)
            except DeclarationError as error:
                problems.append(str(error))
                continue
            if tool is not None:
                tools.setdefault(id(function), tool)
        if not marked:
            problems.append(f"module {name} has no functions marked with @tool")
        remarks = [f"{tool.site}: {remark}" for tool in tools.values() for remark in heeded.remarks(tool.parameters)]
        remarks += [
            f"module {name}: `tools` has hints for {tool!r}, but there is no such tool" for tool in sorted(unused)
        ]
        return Offer([*tools.values()], problems, remarks)

    def _hinted(self, tool: FunctionTool) -> FunctionTool | None:
        """The tool as the operator wants it; None when they do not."""
        source = self._source
        if not wanted(source, tool.name):
            return None
        hints = source.tools.get(tool.name)
        try:
            name = check_name(source.prefix + tool.name)
        except DeclarationError as error:
            raise DeclarationError(f"{tool.site}: {error}") from None
        return replace(
            tool,
            name=name,
            timeout=(hints.timeout if hints else None) or tool.timeout or source.timeout,
            idempotent=tool.idempotent if hints is None or hints.idempotent is None else hints.idempotent,
            max_concurrency=(hints.max_concurrency if hints else None) or tool.max_concurrency,
            tenants=tenants_of(source, tool.name),
            behavior=(hints.behavior if hints else None) or tool.behavior,
            scheduling=(hints.scheduling if hints else None) or tool.scheduling,
        )
