"""Server frames: what one is about, and those that no client should ever have to see."""

import json
from typing import Any, Literal

FrameKind = Literal[
    "any",
    "setup",
    "audio",
    "input_transcription",
    "output_transcription",
    "generation_complete",
    "turn_complete",
    "interrupted",
    "tool_call",
    "cancellation",
    "usage",
    "voice_activity",
    "handle",
    "go_away",
]

_TOP: dict[str, FrameKind] = {
    "setupComplete": "setup",
    "toolCall": "tool_call",
    "toolCallCancellation": "cancellation",
    "usageMetadata": "usage",
    "voiceActivity": "voice_activity",
    "sessionResumptionUpdate": "handle",
    "goAway": "go_away",
}
_CONTENT: dict[str, FrameKind] = {
    "modelTurn": "audio",
    "inputTranscription": "input_transcription",
    "outputTranscription": "output_transcription",
    "generationComplete": "generation_complete",
    "turnComplete": "turn_complete",
    "interrupted": "interrupted",
}

OVERSIZED = 1_200_000
"""Bytes: more than the 1 MiB that the Python SDK's WebSocket library takes by default."""


def kinds(message: dict[str, Any]) -> set[FrameKind]:
    """All that a server message is about; one message may be about several things."""
    found: set[FrameKind] = {"any"}
    for name in message:
        if name in _TOP:
            found.add(_TOP[name])
    content = message.get("serverContent")
    if isinstance(content, dict):
        for name, body in content.items():
            if body and name in _CONTENT:
                found.add(_CONTENT[name])
    return found


Odd = Literal[
    "malformed",
    "not_json",
    "not_utf8",
    "empty",
    "object",
    "unknown_top",
    "unknown_nested",
    "unknown_enum",
    "wrong_type",
    "bad_base64",
    "error",
    "status",
    "snake_case",
    "text",
    "oversized",
    "empty_content",
    "usage_only",
    "empty_turn",
    "raw",
]

_AUDIO = {"mimeType": "audio/pcm;rate=24000", "data": "AAAAAAAA"}
_ERROR = {"code": 503, "message": "The service is currently unavailable.", "status": "UNAVAILABLE"}
_STATUS = {"code": 429, "message": "Resource has been exhausted (e.g. check quota).", "status": "RESOURCE_EXHAUSTED"}

_MESSAGES: dict[Odd, Any] = {
    "object": {},
    "unknown_top": {"emulatorSurprise": {"answer": 42}},
    "unknown_nested": {"serverContent": {"emulatorSurprise": True, "outputTranscription": {"text": "", "volume": 11}}},
    "unknown_enum": {"serverContent": {"turnCompleteReason": "EMULATOR_SURPRISE"}},
    "wrong_type": {"serverContent": {"modelTurn": {"parts": "none"}}},
    "bad_base64": {"serverContent": {"modelTurn": {"parts": [{"inlineData": {**_AUDIO, "data": "!not base64!"}}]}}},
    "error": {"error": _ERROR},
    "status": _STATUS,
    "snake_case": {"server_content": {"model_turn": {"parts": [{"inline_data": _AUDIO}]}}},
    "empty_content": {"serverContent": {}},
    "usage_only": {"serverContent": {}, "usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 1}},
    "empty_turn": {"serverContent": {"turnComplete": True}},
}
_FRAMES: dict[Odd, str | bytes] = {
    "malformed": b'{"serverContent": {"modelTurn": {"parts": [',
    "not_json": b"upstream connect error or disconnect/reset before headers",
    "not_utf8": b"\xff\xfe\x00\x01",
    "empty": b"",
    "text": json.dumps({"serverContent": {"outputTranscription": {"text": ""}}}),
}

DESCRIPTIONS: dict[Odd, str] = {
    "malformed": "JSON that breaks off",
    "not_json": "the words of a proxy",
    "not_utf8": "bytes that are no text",
    "empty": "a frame of no bytes",
    "object": "`{}`",
    "unknown_top": "a top-level key that no SDK knows",
    "unknown_nested": "known keys with unknown ones inside",
    "unknown_enum": "a value that an enum does not have",
    "wrong_type": "a string where a list belongs",
    "bad_base64": "audio that cannot be decoded",
    "error": '`{"error": {…}}` as REST answers',
    "status": '`{"code": 429, …}` at the top',
    "snake_case": "a message in snake case",
    "text": "a well-formed message in a text frame",
    "oversized": "more than a megabyte; `size` says how much",
    "empty_content": "`serverContent: {}`",
    "usage_only": "`serverContent: {}` with usage",
    "empty_turn": "a turnComplete that belongs to no turn",
    "raw": "the parameter `raw`, as it is",
}


def odd(what: Odd, *, raw: str, size: int) -> str | bytes:
    """The frame itself: str is sent as text, bytes as binary."""
    if what == "raw":
        return raw.encode()
    if what == "oversized":
        empty = {"serverContent": {"outputTranscription": {"text": ""}}}
        padding = "x" * max(0, size - len(json.dumps(empty)))
        return json.dumps({"serverContent": {"outputTranscription": {"text": padding}}}).encode()
    if what in _MESSAGES:
        return json.dumps(_MESSAGES[what]).encode()
    return _FRAMES[what]
