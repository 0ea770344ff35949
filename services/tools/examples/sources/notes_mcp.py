"""An MCP server to copy: notes by topic, over stdio. `python notes_mcp.py`; or `--http PORT` for streamable HTTP.

The official SDK makes declarations of type hints and docstrings. Annotations say what a tool does to the world; Parley
heeds them only where `trust_annotations: true` says that this server tells the truth.
"""

from __future__ import annotations

import sys
from typing import Annotated

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

server = MCPServer("notes")
_notes: dict[str, list[str]] = {"parking": ["The gate opens at six.", "Visitors park on level two."]}

Topic = Annotated[str, Field(description="What the notes are about, e.g. parking.", min_length=1, max_length=60)]


class Notes(BaseModel):
    """Notes of one topic."""

    topic: str
    notes: list[str]


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def read_notes(topic: Topic) -> Notes:
    """Read all notes about a topic."""
    if topic.lower() not in _notes:
        raise ToolError(f"no notes about {topic}; there are notes about: {', '.join(sorted(_notes))}")
    return Notes(topic=topic, notes=_notes[topic.lower()])


@server.tool(annotations=ToolAnnotations(idempotent_hint=False))
def add_note(topic: Topic, text: Annotated[str, Field(description="The note.", max_length=500)]) -> Notes:
    """Write down a note about a topic."""
    _notes.setdefault(topic.lower(), []).append(text)
    return Notes(topic=topic, notes=_notes[topic.lower()])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--http"]:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
    else:
        server.run("stdio")
