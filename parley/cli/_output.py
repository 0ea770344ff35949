"""Where the command writes: tables and progress for people, one JSON document for programs."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.console import Console
    from rich.table import Table

PIPE_WIDTH = 240
"""Columns where the output is no terminal: text cut to 80 would lose what grep looks for."""


def console(*, stderr: bool = False) -> "Console":
    """A rich console; plain text, and wide lines, where the output is no terminal."""
    # Imported late: `--json` needs none of it, and a test may start twenty talks at once.
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else PIPE_WIDTH)


def print_json(document: Any) -> None:
    """One line of JSON on stdout."""
    print(json.dumps(document, ensure_ascii=False), flush=True)


def document(message: "Message") -> dict[str, Any]:
    """A protobuf message as JSON, with the names of the proto and with what is empty."""
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on stdout."""
    console().print(table(title, columns, rows))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> "Table":
    """A table in the way of all tables here."""
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title or None, title_justify="left", show_edge=False, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*map(Text, row))  # text, not markup: a message may hold anything, square brackets too
    return made


def flat(mapping: Mapping[str, Any]) -> str:
    """`a=1, b=2` for a mapping."""
    return ", ".join(f"{key}={value}" for key, value in mapping.items())
