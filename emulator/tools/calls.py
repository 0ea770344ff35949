"""What a function response says: its fields, whether it failed, when it is to be spoken about, what it shows."""

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from emulator.api.protocol import FunctionResponse
from emulator.errors import invalid
from emulator.tools.written import unwritten


@dataclass(frozen=True)
class Media:
    """What the parts of a response hold."""

    pictures: tuple[tuple[bytes, str], ...] = ()
    """Bytes and mime type of each."""
    text: str = ""


def outcome(response: FunctionResponse) -> tuple[dict[str, Any], bool]:
    """The fields of a response, and whether it is an error: what frameworks wrap them in is taken off."""
    body = response.response
    if not isinstance(body, dict):
        return {"result": body}, False
    if body.get("error"):
        return {"error": body["error"]}, True
    for wrapper in ("output", "result", "text"):
        if (inner := unwritten(body.get(wrapper))) is not None:
            return (inner, False) if not inner.get("error") else ({"error": inner["error"]}, True)
    return body, False


def scheduling(response: FunctionResponse) -> str:
    """``SILENT``, ``WHEN_IDLE``, ``INTERRUPT`` or empty; some clients put it inside the response."""
    inside = response.response.get("scheduling", "") if isinstance(response.response, dict) else ""
    value = (response.scheduling or str(inside)).upper()
    return "INTERRUPT" if value == "INTERRUPTED" else value


def media(response: FunctionResponse, accepted: Container[str]) -> Media:
    """The pictures and texts among the parts of a response.

    Raises :class:`emulator.errors.Refusal` for those of a type that is not ``accepted``.
    """
    pictures: list[tuple[bytes, str]] = []
    texts: list[str] = []
    for data, mime_type in response.parts:
        kind = mime_type.partition(";")[0].strip().lower()
        if kind not in accepted:
            raise invalid()
        if kind.startswith("text/"):
            texts.append(data.decode(errors="replace"))
        else:
            pictures.append((data, kind))
    return Media(tuple(pictures), " ".join(texts))
