"""ARCHITECTURE's table of faults names tests that there are."""

from __future__ import annotations

import importlib
import re
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def rows() -> dict[str, list[tuple[str, str]]]:
    """Of each fault the tests that are named: file, and name. A row that names no file means that of the row before."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| fault \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    found: dict[str, list[tuple[str, str]]] = {}
    first = file = ""
    for row in table.splitlines():
        fault, *_, tests = (cell.strip() for cell in row.strip("|").split(" | "))
        file = first
        for path, name in re.findall(r"(tests/[\w/]+\.py)|`([^`]+)`", tests):
            file = path or file
            if not name.startswith("make "):
                found.setdefault(fault, []).append((file, name))
        first = next(iter(re.findall(r"tests/[\w/]+\.py", tests)), first)
    return found


def names_of(module: ModuleType) -> set[str]:
    """Tests and stories, and what parameters a module lists for them."""
    listed = {str(one) for value in vars(module).values() if isinstance(value, list | tuple) for one in value}
    return set(vars(module)) | listed


@pytest.mark.parametrize("fault", rows())
def test_the_tests_of_a_fault_are_there(fault: str) -> None:
    for file, name in rows()[fault]:
        assert (ROOT / file).is_file(), file
        if name:
            known = names_of(importlib.import_module(file.removesuffix(".py").replace("/", ".")))
            assert any(fnmatchcase(one, name) for one in known), (file, name)
