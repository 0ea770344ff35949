"""Client frames as typed events, and server messages as frames. No I/O."""

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from emulator import schema
from emulator.errors import invalid
from emulator.protojson import Kind, camel, parse


@dataclass(frozen=True, slots=True)
class Setup:
    """The first message."""

    body: dict[str, Any]
    """Camel case, checked."""
    received: Any
    """As the client wrote it, for the record."""


@dataclass(frozen=True, slots=True)
class Content:
    """One entry of a conversation."""

    role: str | None
    text: str
    images: tuple[tuple[bytes, str], ...] = ()
    """Bytes and mime type of each."""
    audio: tuple[tuple[bytes, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ClientContent:
    """Ordered turns; ``complete`` asks for an answer."""

    turns: tuple[Content, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Audio:
    """A piece of the caller's audio, PCM16."""

    data: bytes
    mime_type: str


@dataclass(frozen=True, slots=True)
class Video:
    """One picture."""

    data: bytes
    mime_type: str


@dataclass(frozen=True, slots=True)
class MediaChunks:
    """The old form of realtime input."""

    chunks: tuple[tuple[bytes, str], ...]


@dataclass(frozen=True, slots=True)
class Text:
    """Text that counts as activity."""

    text: str


@dataclass(frozen=True, slots=True)
class AudioStreamEnd:
    """The microphone was closed."""


@dataclass(frozen=True, slots=True)
class ActivityStart:
    """The caller's own detection: somebody began to speak."""


@dataclass(frozen=True, slots=True)
class ActivityEnd:
    """The caller's own detection: somebody finished."""


@dataclass(frozen=True, slots=True)
class FunctionResponse:
    """The outcome of one call."""

    id: str
    name: str
    response: Any
    scheduling: str
    will_continue: bool


@dataclass(frozen=True, slots=True)
class ToolResponse:
    """Outcomes of calls."""

    responses: tuple[FunctionResponse, ...]


@dataclass(frozen=True, slots=True)
class ContextUpdate:
    """What is set replaces; None leaves as it was."""

    instructions: Content | None
    tools: list[dict[str, Any]] | None
    received: Any = field(compare=False, default=None)


Event = (
    Setup
    | ClientContent
    | Audio
    | Video
    | MediaChunks
    | Text
    | AudioStreamEnd
    | ActivityStart
    | ActivityEnd
    | ToolResponse
    | ContextUpdate
)


@lru_cache(maxsize=8)
def _message(backend: str, api_version: str) -> Kind:
    return schema.message(backend, api_version)


class Decoder:
    """Reads the frames of one connection."""

    def __init__(self, backend: str, api_version: str, *, strict: bool) -> None:
        self._kind = _message(backend, api_version)
        self._strict = strict

    def decode(self, frame: str | bytes) -> Event:
        """The one event of a frame. Raises :class:`emulator.errors.Refusal` for anything else."""
        try:
            received = json.loads(frame)
        except (ValueError, RecursionError):
            raise invalid() from None
        if not isinstance(received, dict):
            raise invalid()
        parsed = parse(received, self._kind, strict=self._strict)
        if len(parsed) != 1:
            raise invalid()
        ((name, body),) = parsed.items()
        match name:
            case "setup":
                original = next(value for key, value in received.items() if camel(key) == "setup")
                return Setup(body, original)
            case "clientContent":
                return ClientContent(
                    tuple(content(turn) for turn in body.get("turns", ())), body.get("turnComplete", False)
                )
            case "realtimeInput":
                return _realtime(body)
            case "toolResponse":
                return ToolResponse(tuple(_response(item) for item in body.get("functionResponses", ())))
            case _:
                tools = body["tools"].get("tools", []) if "tools" in body else None
                instructions = content(body["systemInstruction"]) if "systemInstruction" in body else None
                original = next(iter(received.values()))
                return ContextUpdate(instructions, tools, original)


def content(body: dict[str, Any]) -> Content:
    """A Content with its texts joined and its blobs sorted by what they are."""
    texts: list[str] = []
    images: list[tuple[bytes, str]] = []
    audio: list[tuple[bytes, str]] = []
    for part in body.get("parts", ()):
        if "text" in part and not part.get("thought"):
            texts.append(part["text"])
        if blob := part.get("inlineData"):
            mime_type = blob.get("mimeType", "")
            (audio if mime_type.startswith("audio/") else images).append((blob.get("data", b""), mime_type))
    return Content(body.get("role"), " ".join(texts), tuple(images), tuple(audio))


def _realtime(body: dict[str, Any]) -> Event:
    if len(body) != 1:
        raise invalid()
    ((name, value),) = body.items()
    match name:
        case "audio":
            return Audio(value.get("data", b""), value.get("mimeType", ""))
        case "video":
            return Video(value.get("data", b""), value.get("mimeType", ""))
        case "mediaChunks":
            return MediaChunks(tuple((chunk.get("data", b""), chunk.get("mimeType", "")) for chunk in value))
        case "text":
            return Text(value)
        case "activityStart":
            return ActivityStart()
        case "activityEnd":
            return ActivityEnd()
        case _:
            return AudioStreamEnd()


def _response(body: dict[str, Any]) -> FunctionResponse:
    return FunctionResponse(
        id=body.get("id", ""),
        name=body.get("name", ""),
        response=body.get("response", {}),
        scheduling=str(body.get("scheduling", "")),
        will_continue=body.get("willContinue", False),
    )


def encode(message: dict[str, Any]) -> bytes:
    """A server message as the service sends it: JSON in a binary frame."""
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()


def seconds(value: float) -> str:
    """A proto duration: ``1.2s``."""
    return f"{value:.3f}".rstrip("0").rstrip(".") + "s"
