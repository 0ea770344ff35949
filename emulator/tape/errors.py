"""What is wrong with how ``record`` or ``replay`` was asked to run."""

from pathlib import Path


class OptionError(Exception):
    """An option that cannot be used; the text names it and says why."""


class TapeError(Exception):
    """A recording that cannot be replayed."""

    def __init__(self, path: Path, line: int | None, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if line is None else f"{path}: line {line}: {reason}")
        self.path = path
        self.line = line
        """Counted from 1; None where no line is to blame."""
        self.reason = reason
