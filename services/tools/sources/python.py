"""Python modules as sources: functions marked with @tool."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import structlog

from services.tools.declare import declare, is_marked
from services.tools.registry import Offer
from services.tools.settings import ToolsSettings
from services.tools.sources.file import PythonSettings
from services.tools.sources.remote import wanted
from services.tools.sources.source import Source, TakeOffer
from services.tools.threads import DaemonThreads
from services.tools.tool import DeclarationError, Tool, check_name

log = structlog.get_logger()

SET_UP: Final = "set_up_tools"
"""A module of tools may define this function: it is called once with the settings, before its tools are served."""


class PythonSource(Source):
    """One module. What cannot be served of it is a problem, never an error."""

    def __init__(self, source: PythonSettings, settings: ToolsSettings, name: str = "") -> None:
        super().__init__(name or source.name)
        self._source = source
        self._settings = settings
        self.module = source.module
        self.unknown = False
        """There is no such module: a wrong setting, not a broken source."""

    async def run(self, offer: TakeOffer) -> None:
        """Import the module and offer its tools, once."""
        # In a thread of its own: what a module does while it is imported must hold up neither loop nor shutdown.
        offer(await DaemonThreads(1).run(self.load))

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
        for function in marked:
            try:
                tool = self._hinted(declare(function))
            except DeclarationError as error:
                problems.append(str(error))
                continue
            if tool is not None:
                tools.setdefault(id(function), tool)
        if not marked:
            problems.append(f"module {name} has no functions marked with @tool")
        return Offer([*tools.values()], problems)

    def _hinted(self, tool: Tool) -> Tool | None:
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
            behavior=(hints.behavior if hints else None) or tool.behavior,
            scheduling=(hints.scheduling if hints else None) or tool.scheduling,
        )
