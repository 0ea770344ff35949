"""What an MCP server answers to a call, as JSON for the model, within bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
)

from services.tools.context import ToolError
from services.tools.results import truncated

_MAX_BLOCKS: Final = 64
_MAX_ERROR: Final = 2000
_MAX_WORD: Final = 1000


def value_of(result: CallToolResult, max_bytes: int, hide: Callable[[str], str]) -> dict[str, Any]:
    """The answer as an object; ToolError when it says that the tool failed. `hide` takes secrets out of a text before
    it is cut: of half a secret nobody would know what it is.

    Structured content is taken as it is. Texts are joined, and cut where half of `max_bytes` is full. Of pictures,
    sounds and other data only kind and size are told.
    """
    texts: list[str] = []
    others: list[dict[str, Any]] = []
    for block in result.content[:_MAX_BLOCKS]:
        text = _text(block)
        if text is None:
            others.append(_summary(block, hide))
        else:
            texts.append(hide(text))
    if result.is_error:
        raise ToolError(" ".join("\n".join(texts).split())[:_MAX_ERROR] or "the tool failed and did not say why")
    if len(result.content) > _MAX_BLOCKS:
        others.append({"type": "left_out", "blocks": len(result.content) - _MAX_BLOCKS})
    if result.structured_content is not None:
        structured = result.structured_content
        value: dict[str, Any] = dict(structured) if isinstance(structured, dict) else {"result": structured}
    else:
        value = {"text": truncated("\n".join(texts), max_bytes // 2)} if texts or not others else {}
    if others:
        value.setdefault("attachments", others)
    return value


def _text(block: ContentBlock) -> str | None:
    if isinstance(block, TextContent):
        return block.text
    if isinstance(block, EmbeddedResource) and not isinstance(block.resource, BlobResourceContents):
        return block.resource.text
    return None


def _summary(block: ContentBlock, hide: Callable[[str], str]) -> dict[str, Any]:
    match block:
        case ImageContent() | AudioContent():
            kind = hide(block.mime_type)[:_MAX_WORD]
            return {"type": block.type, "mime_type": kind, "bytes": len(block.data) * 3 // 4}
        case ResourceLink():
            link = {"type": block.type, "uri": str(block.uri), "name": block.name, "description": block.description}
            return {key: hide(value)[:_MAX_WORD] for key, value in link.items() if value}
        case EmbeddedResource(resource=BlobResourceContents() as blob):
            return {
                "type": block.type,
                "uri": hide(str(blob.uri))[:_MAX_WORD],
                "mime_type": hide(blob.mime_type or "")[:_MAX_WORD],
                "bytes": len(blob.blob) * 3 // 4,
            }
        case _:
            return {"type": block.type}
