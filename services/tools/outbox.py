"""What a function has to say and has not said yet, and when it may. Plain code: the time is an argument.

The newest takes the place of what waits. A partial result waits a moment besides: if the function ends meanwhile, that
was its answer, which need not be told twice.
"""

from __future__ import annotations

from typing import Final

from parley.v1 import fabric_pb2, live_pb2

INTERVAL: Final = 0.25
"""Seconds between two reports of an execution, at least; twice as long after each hundred."""
HELD_BACK: Final = 0.05
"""Seconds that a partial result waits for the function's end."""
MAX_REPORTS: Final = 1_000
"""Of an execution; more are not sent."""
MAX_MESSAGE: Final = 500
"""Characters of a progress message."""
MAX_PARTIAL: Final = 16 * 1024
"""Bytes of a partial result as JSON: each becomes part of the model's context."""
_SLOWER_EVERY: Final = 100


class Outbox:
    """Of one execution."""

    def __init__(self) -> None:
        self._progress: fabric_pb2.ToolProgress | None = None
        self._partial: fabric_pb2.PartialResult | None = None
        self._partial_at = 0.0
        """When the partial result may leave."""
        self._next = 0.0
        self.sent = 0

    def progress(self, message: str, fraction: float | None) -> None:
        """How far it is. Fractions beyond 0 and 1 are taken for these; one that is no number is left out."""
        told = fabric_pb2.ToolProgress(message=_valid(message)[:MAX_MESSAGE])
        if fraction is not None and fraction == fraction:  # noqa: PLR0124 - NaN
            told.fraction = min(1.0, max(0.0, fraction))
        self._progress = told

    def partial(self, output_json: str, scheduling: live_pb2.ResponseScheduling, now: float) -> None:
        """A result that may not be the last; at most `MAX_PARTIAL` bytes."""
        if self._partial is None:
            self._partial_at = now + HELD_BACK
        self._partial = fabric_pb2.PartialResult(output_json=output_json, scheduling=scheduling)

    def due(self) -> float | None:
        """When the next report may leave; None when there is none."""
        if self.sent >= MAX_REPORTS or (self._progress is None and self._partial is None):
            return None
        return self._next if self._progress is not None else max(self._next, self._partial_at)

    def take(self, now: float) -> fabric_pb2.ToolReport | None:
        """The report that is due."""
        due = self.due()
        if due is None or now < due:
            return None
        self.sent += 1
        self._next = now + INTERVAL * 2 ** (self.sent // _SLOWER_EVERY)
        report = fabric_pb2.ToolReport(schema_version=1, number=self.sent)
        if self._partial is not None and now >= self._partial_at:
            report.partial.CopyFrom(self._partial)
            self._partial = None
        elif self._progress is not None:
            report.progress.CopyFrom(self._progress)
            self._progress = None
        return report


def _valid(text: str) -> str:
    """As protobuf takes it: without lone surrogates."""
    return text.encode(errors="replace").decode()
