"""In which order the files are run."""

from __future__ import annotations

from pathlib import Path

import pytest

_TESTS = Path(__file__).parent
_REAL_TIME = ("e2e", "examples", "faults")
"""Folders whose tests spend their time listening to speech, not on the CPU."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the files that wait evenly among those that compute, so that side by side they fill the machine."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    wait = [file for file in files if file.relative_to(_TESTS).parts[0] in _REAL_TIME]
    compute = [file for file in files if file not in wait]
    places = {file: (n + 0.5) / len(several) for several in (wait, compute) for n, file in enumerate(several)}
    # The waiting ones are long: none of them may be the last.
    places.update({file: places[file] * 0.8 for file in wait})
    items[:] = [item for file in sorted(files, key=places.__getitem__) for item in files[file]]
