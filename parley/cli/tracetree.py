"""A trace as a tree on the terminal."""

from collections.abc import Sequence

from rich.text import Text
from rich.tree import Tree

from parley.cli.otlp import Span

_COLOURS = ("cyan", "green", "yellow", "magenta", "blue")
_SHOWN = (
    "gen_ai.tool.name",
    "parley.tool.outcome",
    "parley.turn.number",
    "parley.turn.first_audio_ms",
    "parley.link.cause",
    "parley.link.gap_ms",
    "parley.end.reason",
)
"""Attributes worth a place on the line."""


def trace_tree(spans: Sequence[Span]) -> Tree:
    """The spans of one trace: name, service, begin after the first span's begin, and duration, in milliseconds.

    A span whose parent is not among them stands at the top and says so.
    """
    ordered = sorted(spans, key=lambda span: span.start_ns)
    begin = ordered[0].start_ns if ordered else 0
    known = {span.span_id for span in ordered}
    services = list(dict.fromkeys(span.service for span in ordered))
    colours = {service: _COLOURS[index % len(_COLOURS)] for index, service in enumerate(services)}
    root = Tree(Text(f"trace {ordered[0].trace_id}" if ordered else "no spans", style="bold"))
    children: dict[str, list[Span]] = {}
    for span in ordered:
        children.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)
    # A stack and not recursion: a hostile trace must not be able to exhaust ours.
    pending = [(span, root) for span in reversed(children.get("", []))]
    while pending:
        span, parent = pending.pop()
        orphan = bool(span.parent_id) and span.parent_id not in known
        branch = parent.add(_line(span, begin, colours[span.service], orphan=orphan))
        pending += [(child, branch) for child in reversed(children.get(span.span_id, []))]
    return root


def _line(span: Span, begin: int, colour: str, *, orphan: bool) -> Text:
    notes = [f"{key.rsplit('.', 1)[-1]}={span.attributes[key]}" for key in _SHOWN if key in span.attributes]
    if span.status == "ERROR":
        notes.append(f"ERROR {span.status_message}".strip())
    if orphan:
        notes.append(f"(parent {span.parent_id} is not here)")
    return Text.assemble(
        (f"{span.service:<22}", f"bold {colour}"),
        span.name,
        (f"  +{(span.start_ns - begin) / 1e6:.0f} ms  {span.duration_ms:.1f} ms", "dim"),
        (f"  {' '.join(notes)}" if notes else ""),
    )
