"""The tools of this process: modules loaded, conflicts and broken declarations reported, the rest served."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from services.tools.declare import DeclarationError, FunctionTool, declare, is_marked
from services.tools.settings import ToolsSettings

log = structlog.get_logger()

SET_UP: Final = "set_up_tools"
"""A module of tools may define this function: it is called once with the settings, before its tools are served."""


class Registry:
    """Tools by name, and what could not become one."""

    def __init__(self) -> None:
        self._tools: dict[str, FunctionTool] = {}
        self.problems: list[str] = []
        self.unknown_modules: list[str] = []
        """Names that are no module at all: a wrong setting, not a broken source."""
        """One sentence for each module or function that is not served, naming it."""

    def load(self, modules: Iterable[str], settings: ToolsSettings) -> None:
        """Import the modules and take their tools. Never raises: `problems` says what is missing."""
        for name in modules:
            try:
                module = importlib.import_module(name)
                set_up: Callable[[ToolsSettings], None] | None = getattr(module, SET_UP, None)
                if set_up is not None:
                    set_up(settings)
            except BaseException as error:  # noqa: BLE001 - foreign code: also sys.exit is its module's problem alone
                if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
                    self.unknown_modules.append(name)
                self._problem(f"module {name} cannot be loaded: {type(error).__name__}: {error}", error)
                continue
            # What a module imported from another one belongs to the other one.
            marked = [value for value in vars(module).values() if is_marked(value) and value.__module__ == name]
            if not marked:
                self._problem(f"module {name} has no functions marked with @tool")
            for function in marked:
                self.add(function)

    def add(self, function: object) -> None:
        """Take one marked function; `problems` says when it cannot be served."""
        try:
            tool = declare(function)
        except DeclarationError as error:
            self._problem(str(error))
            return
        there = self._tools.setdefault(tool.name, tool)
        if there is not tool and there.function is not tool.function:
            self._problem(f"{tool.site}: the name {tool.name!r} is taken by {there.site}")

    def get(self, name: str) -> FunctionTool | None:
        """One tool; None when there is none of this name."""
        return self._tools.get(name)

    def all(self) -> list[FunctionTool]:
        """Every tool, by name."""
        return [self._tools[name] for name in sorted(self._tools)]

    def _problem(self, text: str, error: BaseException | None = None) -> None:
        self.problems.append(text)
        log.error("tool not served", problem=text, exc_info=error)
