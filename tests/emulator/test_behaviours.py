"""The table of behaviours in the documentation, the switches it names, and the tests that it names agree."""

import importlib
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter

from emulator.durations import Duration
from emulator.faults.text import MODELS as FAULTS
from emulator.settings import EmulatorSettings
from tests.emulator.behaviour import MARK

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs" / "emulator-behaviours.md"
HERE = Path(__file__).parent
# The checklist, what other clients depend on, and the failures seen in the field (by the numbers of the dossier).
WANTED = {
    *(f"10.{number}" for number in range(1, 47)),
    *(f"13.{number}" for number in range(1, 25)),
    *(f"2.4.{number}" for number in range(1, 29)),
}


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    rows: tuple[str, ...]
    settings: tuple[str, ...]
    """Switches and settings it names."""
    faults: tuple[str, ...]
    tests: tuple[str, ...]
    """``file::function``."""
    line: str


def table() -> list[Row]:
    found = []
    for line in TABLE.read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) != 4 or set(cells[0]) <= set("-: ") or cells[0] == "Row":
            continue
        found.append(
            Row(
                tuple(re.findall(r"`([^`]+)`", cells[0])),
                tuple(name.split("=")[0] for name in re.findall(r"(?:switch|setting) `([^`]+)`", cells[2])),
                tuple(name.split()[0] for name in re.findall(r"fault `([^`]+)`", cells[2])),
                tuple(re.findall(r"`(test_\w+\.py::\w+)`", cells[3])),
                line,
            )
        )
    return found


def _members(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """What a module holds, and what its classes of tests hold."""
    for name, member in vars(module).items():
        yield name, member
        if isinstance(member, type) and name.startswith("Test") and member.__module__ == module.__name__:
            yield from vars(member).items()


def marked() -> Iterator[tuple[str, Any]]:
    """Every test of a behaviour, ``file::function`` and its marker."""
    for path in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(f"tests.emulator.{path.stem}")
        for name, function in _members(module):
            if not callable(function) or getattr(function, "__module__", "") != module.__name__:
                continue
            for mark in getattr(function, "pytestmark", ()):
                if mark.name == MARK:
                    yield f"{path.name}::{name}", mark


def test_every_row_of_the_dossier_is_in_the_table() -> None:
    listed = {one for row in table() for one in row.rows}
    assert sorted(WANTED - listed) == []


def test_every_row_names_a_test_that_is_made_for_it() -> None:
    rows_of: dict[str, set[str]] = defaultdict(set)
    for test, mark in marked():
        rows_of[test] |= set(mark.args[0])
    for row in table():
        assert row.tests or "client's own" in row.line, f"no test: {row.line}"
        for test in row.tests:
            assert test in rows_of, f"{test} is not a test of a behaviour: {row.line}"
        covered = set().union(*(rows_of[test] for test in row.tests)) if row.tests else set(row.rows)
        assert set(row.rows) <= covered, f"{sorted(set(row.rows) - covered)} not marked on {row.tests}"


def test_every_test_of_a_behaviour_is_in_the_table() -> None:
    listed = {test for row in table() for test in row.tests}
    assert sorted({test for test, _ in marked()} - listed) == []


def test_every_switch_and_fault_it_names_exists() -> None:
    for row in table():
        assert not set(row.settings) - set(EmulatorSettings.model_fields), row.line
        assert not set(row.faults) - set(FAULTS), row.line


def test_every_row_names_the_switches_that_turn_it_off() -> None:
    switches = {test: {name for name, _ in mark.args[1].switches} for test, mark in marked()}
    for row in table():
        wanted = set().union(*(switches[test] for test in row.tests))
        assert wanted & set(EmulatorSettings.model_fields) <= set(row.settings), row.line


def test_what_nobody_is_certain_of_has_the_default_it_says() -> None:
    questions = [line for line in TABLE.read_text().splitlines() if line.count("|") == 4 and "?" in line]
    assert len(questions) > 15
    for line in questions:
        _, _, default, switches, _ = line.split("|")
        for name in re.findall(r"`([^`]+)`", switches):
            value = EmulatorSettings.model_fields[name].default
            said = re.findall(r"`([^`]+)`", default)
            if name == "api_versions":
                assert "v1" in value
            elif isinstance(value, timedelta):
                assert value in [TypeAdapter(Duration).validate_python(one) for one in said], line
            else:
                assert str(value).lower() in said, line
