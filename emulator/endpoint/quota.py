"""How many connections each project may have open at a time."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Quota:
    """Counts the open connections of each project, which an API key stands for."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @contextmanager
    def connection(self, project: str, limit: int) -> Iterator[bool]:
        """Whether ``project`` may have one more, which it then has until the block ends, in whatever way.

        ``limit`` 0 is none.
        """
        if limit and self._open[project] >= limit:
            yield False
            return
        self._open[project] += 1
        try:
            yield True
        finally:
            self._open[project] -= 1
            if not self._open[project]:
                del self._open[project]
