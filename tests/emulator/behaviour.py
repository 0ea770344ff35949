"""Tests of the emulator's behaviours, each run twice: as it is, and with the behaviour turned off.

Turned off, the test must fail: a test that does not notice protects nothing. :mod:`tests.emulator.conftest` does the
running; `docs/emulator-behaviours.md` lists the rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

Test = TypeVar("Test", bound=Callable[..., Any])
MARK = "behaviour"


@dataclass(frozen=True)
class Patch:
    """An attribute of the emulator, by its dotted path, and what stands there while the behaviour is off."""

    target: str
    replacement: Any


@dataclass(frozen=True)
class Off:
    """How a behaviour is turned off."""

    patches: tuple[Patch, ...] = ()
    switches: tuple[tuple[str, Any], ...] = ()


def patched(target: str, replacement: Any) -> Off:
    """Off by another attribute at ``target``, in this process."""
    return Off(patches=(Patch(target, replacement),))


def without(**switches: Any) -> Off:
    """Off by the values of switches; for tests that take the fixture ``switches``."""
    return Off(switches=tuple(switches.items()))


def behaviour(*rows: str, off: Off | list[Off]) -> Callable[[Test], Test]:
    """Marks the test of one behaviour; ``rows`` are ids of the table of behaviours."""
    ways = off if isinstance(off, list) else [off]
    merged = Off(
        patches=tuple(patch for way in ways for patch in way.patches),
        switches=tuple(switch for way in ways for switch in way.switches),
    )
    assert rows and (merged.patches or merged.switches)

    def marked(test: Test) -> Test:
        marker = getattr(pytest.mark, MARK)(rows, merged)
        return marker(test)  # type: ignore[no-any-return]

    return marked
