import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.tools import tool
from services.tools.registry import Registry
from services.tools.settings import ToolsSettings


@pytest.fixture
def settings(tmp_path: Path) -> ToolsSettings:
    return ToolsSettings(orders_db=tmp_path / "orders.sqlite3")


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path, whose modules are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_default_modules_load(settings: ToolsSettings) -> None:
    registry = Registry()
    registry.load(settings.modules, settings)
    assert [tool.name for tool in registry.all()] == ["get_weather", "lookup_order"]
    assert registry.problems == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError"),
        ("def broken(:", "SyntaxError"),
        ("import sys; sys.exit(1)", "SystemExit"),
        ("def set_up_tools(settings): raise OSError('no disk')", "OSError: no disk"),
        ("x = 1", "no functions marked with @tool"),
    ],
)
def test_broken_module_is_named_and_the_rest_is_served(
    settings: ToolsSettings, modules: Path, source: str, problem: str
) -> None:
    (modules / "broken_tools.py").write_text(source)
    registry = Registry()
    registry.load(["broken_tools", "services.tools.examples.weather"], settings)
    assert [tool.name for tool in registry.all()] == ["get_weather"]
    assert len(registry.problems) == 1
    assert "broken_tools" in registry.problems[0]
    assert problem in registry.problems[0]


def test_broken_function_is_named_and_the_rest_of_its_module_is_served(settings: ToolsSettings) -> None:
    registry = Registry()
    registry.load(["tests.tools.functions"], settings)
    assert registry.problems == ["tests.tools.functions.no_hint: parameter 'city' has no type hint"]
    assert registry.get("whoami") is not None
    assert registry.get("no_hint") is None


def test_name_conflict_names_both_and_the_first_stays() -> None:
    @tool(name="same")
    def first() -> None:
        """First."""

    @tool(name="same")
    def second() -> None:
        """Second."""

    registry = Registry()
    registry.add(first)
    registry.add(second)
    registry.add(first)
    [problem] = registry.problems
    assert "second" in problem
    assert "first" in problem
    kept = registry.get("same")
    assert kept is not None
    assert kept.function is first


def test_imported_tool_belongs_to_the_module_that_defines_it(settings: ToolsSettings, modules: Path) -> None:
    (modules / "borrowing_tools.py").write_text(
        "from services.tools import tool\n"
        "from services.tools.examples.weather import get_weather\n"
        "@tool\ndef own() -> None:\n    'Own.'\n"
    )
    registry = Registry()
    registry.load(["borrowing_tools", "services.tools.examples.weather"], settings)
    assert [tool.name for tool in registry.all()] == ["get_weather", "own"]
    assert registry.problems == []


def test_proxy_that_raises_when_touched_is_left_alone(settings: ToolsSettings, modules: Path) -> None:
    (modules / "proxy_tools.py").write_text(
        "from services.tools import tool\n"
        "class Proxy:\n    def __getattr__(self, name): raise RuntimeError('outside of context')\n"
        "proxy = Proxy()\n"
        "@tool\ndef own() -> None:\n    'Own.'\n"
    )
    registry = Registry()
    registry.load(["proxy_tools"], settings)
    assert [tool.name for tool in registry.all()] == ["own"]
    assert isinstance(sys.modules["proxy_tools"], types.ModuleType)
