"""What came of a check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One check, one verdict."""

    name: str
    passed: bool
    detail: str
    """What was wrong; of a check that passed, what is worth telling."""
    seconds: float
    stderr: tuple[str, ...] = ()
    """The last lines that a client which failed wrote there."""

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self), "seconds": round(self.seconds, 3), "stderr": list(self.stderr)}

    def line(self) -> str:
        """For people: one line."""
        return f"{'PASS' if self.passed else 'FAIL'} {self.name}" + (f": {self.detail}" if self.detail else "")


def chosen(checks: Mapping[str, T], only: Sequence[str]) -> list[T]:
    """The checks with these names, or all. KeyError names one that does not exist."""
    if missing := [name for name in only if name not in checks]:
        raise KeyError(missing[0])
    return [check for name, check in checks.items() if not only or name in only]
