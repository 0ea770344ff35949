import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.tools import tool
from services.tools.declare import FunctionTool, declare
from services.tools.registry import Offer, Registry
from services.tools.settings import ToolsSettings
from services.tools.sources.file import PythonSettings
from services.tools.sources.python import PythonSource


@pytest.fixture
def settings(tmp_path: Path) -> ToolsSettings:
    return ToolsSettings(orders_db=tmp_path / "orders.sqlite3")


def loaded(modules: list[str], settings: ToolsSettings) -> Registry:
    registry = Registry()
    for module in modules:
        source = PythonSource(PythonSettings(name="modules", kind="python", module=module), settings, module)
        registry.offer(module, source.load())
    return registry


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path, whose modules are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_default_modules_load(settings: ToolsSettings) -> None:
    registry = loaded(settings.modules, settings)
    assert [tool.name for tool in registry.all()] == [
        *("book_appointment", "cancel_appointment", "get_weather", "list_appointments", "lookup_order"),
        *("refund_order", "research", "send_voucher"),
    ]
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
    registry = loaded(["broken_tools", "services.tools.examples.weather"], settings)
    assert [tool.name for tool in registry.all()] == ["get_weather"]
    assert len(registry.problems) == 1
    assert "broken_tools" in registry.problems[0]
    assert problem in registry.problems[0]


def test_broken_function_is_named_and_the_rest_of_its_module_is_served(settings: ToolsSettings) -> None:
    registry = loaded(["tests.tools.functions"], settings)
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
    registry.enlist(["one", "two"])
    registry.offer("two", Offer([declare(second)]))
    registry.offer("one", Offer([declare(first)]))
    [problem] = registry.problems
    assert "second" in problem
    assert "first" in problem
    kept = registry.get("same")
    assert isinstance(kept, FunctionTool)
    assert kept.function is first  # whichever came first: the order in which they are enlisted decides


def test_source_that_goes_down_is_a_problem_until_it_is_back() -> None:
    @tool
    def there() -> None:
        """There."""

    registry = Registry()
    offer = Offer([declare(there)], ["one thing is wrong"], ["another is odd"])
    registry.offer("far", offer)
    registry.changed.clear()
    registry.went_down("far", "the line is cut")
    assert registry.changed.is_set()
    assert registry.problems == ["source far: the line is cut", "one thing is wrong"]
    assert registry.get("there") is not None
    registry.offer("far", offer)
    assert registry.problems == ["one thing is wrong"]
    assert registry.remarks == ["another is odd"]
    registry.offer("far", Offer())
    assert registry.all() == []


def test_imported_tool_belongs_to_the_module_that_defines_it(settings: ToolsSettings, modules: Path) -> None:
    (modules / "borrowing_tools.py").write_text(
        "from services.tools import tool\n"
        "from services.tools.examples.weather import get_weather\n"
        "@tool\ndef own() -> None:\n    'Own.'\n"
    )
    registry = loaded(["borrowing_tools", "services.tools.examples.weather"], settings)
    assert [tool.name for tool in registry.all()] == ["get_weather", "own"]
    assert registry.problems == []


def test_proxy_that_raises_when_touched_is_left_alone(settings: ToolsSettings, modules: Path) -> None:
    (modules / "proxy_tools.py").write_text(
        "from services.tools import tool\n"
        "class Proxy:\n    def __getattr__(self, name): raise RuntimeError('outside of context')\n"
        "proxy = Proxy()\n"
        "@tool\ndef own() -> None:\n    'Own.'\n"
    )
    registry = loaded(["proxy_tools"], settings)
    assert [tool.name for tool in registry.all()] == ["own"]
    assert isinstance(sys.modules["proxy_tools"], types.ModuleType)
