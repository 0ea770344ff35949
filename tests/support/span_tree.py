"""What tests ask of the spans of a conversation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from parley.cli.otlp import Span

TOOL = "execute_tool"
MINUTE_NS = 60 * 10**9


def paths(spans: Iterable[Span], caller: str = "") -> Counter[str]:
    """How often there is which span, by its name after those of its ancestors: `parley.open/parley.place`.

    `caller`: id of the caller's own span, which is not among them. A span whose parent is not there begins with `?`.
    """
    by_id = {span.span_id: span for span in spans}

    def path(span: Span) -> str:
        if span.parent_id in by_id:
            return f"{path(by_id[span.parent_id])}/{span.name}"
        return span.name if span.parent_id == caller else f"?/{span.name}"

    return Counter(path(span) for span in by_id.values())


def most_in_a_minute(spans: Sequence[Span]) -> int:
    """The most spans that began within a minute."""
    begins = sorted(span.start_ns for span in spans)
    return max(sum(1 for other in begins if begin <= other < begin + MINUTE_NS) for begin in begins)


def longest(spans: Iterable[Span], *, turns: bool) -> float:
    """Milliseconds of the longest turn, or of the longest span that is neither a turn nor a tool's."""
    wanted = [span for span in spans if not span.name.startswith(TOOL) and (span.name == "parley.turn") == turns]
    return max(span.duration_ms for span in wanted)
