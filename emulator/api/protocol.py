"""Client frames as typed events, and server messages as frames. No I/O."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from emulator import texts
from emulator.api import audio_frame, jsontext, schema
from emulator.api.protojson import camel, parse


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
    """Its texts, joined."""
    images: tuple[tuple[bytes, str], ...] = ()
    """Bytes and mime type of each."""
    audio: tuple[tuple[bytes, str], ...] = ()
    files: tuple[str, ...] = ()
    """Addresses of what it only names."""
    responses: tuple["FunctionResponse", ...] = ()
    """Outcomes of calls that it tells as history."""
    texts: tuple[str, ...] = ()
    """Its texts one by one, where there are several."""


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
    parts: tuple[tuple[bytes, str], ...] = ()
    """Bytes and mime type of the media that belong to it."""


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


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of a kind that the API does not have, where that is ignored."""


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
    | Unknown
)


class Decoder:
    """Reads the frames of one connection."""

    def __init__(self, backend: str, api_version: str, *, strict: bool) -> None:
        self._kind = schema.message(backend, api_version)
        self._strict = strict

    def decode(self, frame: str | bytes) -> Event:
        """The one event of a frame. Raises :class:`emulator.errors.Refusal` for anything else."""
        if audio := audio_frame.read(frame):
            return Audio(*audio)
        received = jsontext.load(frame)
        parsed = parse(received, self._kind, strict=self._strict)
        if not parsed:
            if self._strict or not received or any(camel(name) in self._kind for name in received):
                raise texts.INVALID_ARGUMENT.refusal()
            return Unknown()
        ((name, body),) = parsed.items()
        # Of a message that stands twice, in either spelling, the last one counts.
        original = [value for key, value in received.items() if camel(key) == name and value is not None][-1]
        match name:
            case "setup":
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
                return ContextUpdate(instructions, tools, original)


def content(body: dict[str, Any]) -> Content:
    """A Content with its texts joined and its other parts sorted by what they are."""
    spoken: list[str] = []
    images: list[tuple[bytes, str]] = []
    audio: list[tuple[bytes, str]] = []
    files: list[str] = []
    responses: list[FunctionResponse] = []
    for part in body.get("parts", ()):
        if "text" in part and not part.get("thought"):
            spoken.append(part["text"])
        elif blob := part.get("inlineData"):
            data, mime_type = _blob(blob)
            (audio if mime_type.startswith("audio/") else images).append((data, mime_type))
        elif "fileData" in part:
            files.append(part["fileData"].get("fileUri", ""))
        elif "functionResponse" in part:
            responses.append(_response(part["functionResponse"]))
    texts = tuple(spoken) if len(spoken) > 1 else ()
    return Content(
        body.get("role"), " ".join(spoken), tuple(images), tuple(audio), tuple(files), tuple(responses), texts
    )


def _blob(body: dict[str, Any]) -> tuple[bytes, str]:
    return body.get("data", b""), body.get("mimeType", "")


def _realtime(body: dict[str, Any]) -> Event:
    if body.get("audioStreamEnd") is False:
        # What a field that is not sent would say.
        del body["audioStreamEnd"]
    if len(body) != 1:
        raise texts.INVALID_ARGUMENT.refusal()
    ((name, value),) = body.items()
    match name:
        case "audio":
            return Audio(*_blob(value))
        case "video":
            return Video(*_blob(value))
        case "mediaChunks":
            return MediaChunks(tuple(_blob(chunk) for chunk in value))
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
        scheduling=body.get("scheduling", ""),
        will_continue=body.get("willContinue", False),
        parts=tuple(_blob(part["inlineData"]) for part in body.get("parts", ()) if "inlineData" in part),
    )


_ENCODER = msgspec.json.Encoder()


def encode(message: dict[str, Any]) -> bytes:
    """A server message as the service sends it: JSON in a binary frame."""
    return _ENCODER.encode(message)


def seconds(value: float) -> str:
    """A proto duration: ``1.2s``."""
    return f"{value:.3f}".rstrip("0").rstrip(".") + "s"
