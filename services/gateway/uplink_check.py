"""Is what the caller sends right? Plain code: one message in, its class out, or an error that names the field."""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError

from parley.v1 import errors_pb2, live_pb2
from services.fabric.errors import ServiceError, invalid_field, not_implemented

_KIB: Final = 1024
MAX_TEXT: Final = 64 * _KIB
MAX_IMAGE: Final = 1024 * _KIB
_DEFAULT_RATE: Final = 16_000
_HIGHEST_RATE: Final = 48_000
_VIDEO_TYPES: Final = ("image/jpeg", "image/png")
_IMAGE_TYPES: Final = (*_VIDEO_TYPES, "image/webp")
_CLASS: Final = {"audio": live_pb2.MEDIA_CLASS_AUDIO, "video": live_pb2.MEDIA_CLASS_VIDEO}
_NOT_SERVED: Final = ("tool_result", "context_update")


def parse(raw: bytes) -> live_pb2.ConverseRequest:
    """The message in these bytes; ServiceError MESSAGE_INVALID when there is none."""
    try:
        return live_pb2.ConverseRequest.FromString(raw)
    except DecodeError:
        raise ServiceError(
            errors_pb2.ERROR_REASON_MESSAGE_INVALID, "the bytes are no parley.v1.ConverseRequest"
        ) from None


class UplinkValidator:
    """Checks the messages of one stream in their order."""

    def __init__(
        self, next_seq: int, config: live_pb2.SessionConfig | None, *, existing: bool, max_message: int
    ) -> None:
        self._next = next_seq
        self._may_repeat = existing
        """Until its first new message, a caller that came back may send again what the session has already."""
        self._repeated = 0
        rate = _HIGHEST_RATE if config is None else config.input_sample_rate_hertz or _DEFAULT_RATE
        self._max_audio = rate * 2  # one second of 16 bit samples
        self._manual = None if config is None else config.voice_activity_detection.disabled
        self._speaking: bool | None = None if existing else False
        self._max_message = max_message

    def check(self, request: live_pb2.ConverseRequest, size: int) -> live_pb2.MediaClass | None:
        """The class of a numbered message to pass on; None for one to drop (the session has it already).

        `ack` is not for here. ServiceError when the message is wrong; the stream cannot go on then.
        """
        kind = request.WhichOneof("payload")
        if kind is None:
            raise invalid_field("payload", "required", errors_pb2.ERROR_REASON_PAYLOAD_MISSING)
        if kind == "open":
            raise invalid_field("open", "only the first message may be one", errors_pb2.ERROR_REASON_OPEN_MISPLACED)
        if kind in _NOT_SERVED:
            raise not_implemented(kind)
        if self._is_repeated(request.seq):
            return None
        if size > self._max_message:
            raise invalid_field(kind, f"the message has {size} bytes; at most {self._max_message}")
        self._check_payload(kind, request)
        self._next += 1
        self._may_repeat = False
        return _CLASS.get(kind, live_pb2.MEDIA_CLASS_VITAL)

    def _is_repeated(self, seq: int) -> bool:
        if seq == self._next:
            return False
        in_order = self._repeated == 0 or seq == self._repeated + 1
        if self._may_repeat and 0 < seq < self._next and in_order:
            self._repeated = seq
            return True
        raise invalid_field(
            "seq",
            f"expected {self._next}, got {seq}: number without holes, after a resume from `opened.next_uplink_seq`",
            errors_pb2.ERROR_REASON_SEQUENCE_BROKEN,
        )

    def _check_payload(self, kind: str, request: live_pb2.ConverseRequest) -> None:
        match kind:
            case "audio":
                self._check_audio(request.audio)
            case "video":
                image = request.video.image
                if image.mime_type not in _VIDEO_TYPES or not 0 < len(image.data) <= MAX_IMAGE:
                    raise invalid_field(
                        "video.image",
                        f"1 byte to 1 MiB of {' or '.join(_VIDEO_TYPES)}",
                        errors_pb2.ERROR_REASON_VIDEO_INVALID,
                    )
            case "text":
                _check_text(request.text.text, "text.text")
            case "turn":
                _check_turn(request.turn)
            case "activity_start" | "activity_end":
                self._check_activity(kind)
            case "end" if len(request.end.reason) > 256:
                raise invalid_field("end.reason", "at most 256 characters")
            case _:
                pass

    def _check_audio(self, audio: live_pb2.AudioInput) -> None:
        problem = ""
        if not audio.frames:
            problem = "at least one frame"
        elif any(not frame or len(frame) % 2 for frame in audio.frames):
            problem = "each frame holds whole 16 bit samples: an even number of bytes, at least 2"
        elif sum(map(len, audio.frames)) > self._max_audio:
            problem = f"all frames together at most 1 s ({self._max_audio} bytes)"
        if problem:
            raise invalid_field("audio.frames", problem, errors_pb2.ERROR_REASON_AUDIO_INVALID)

    def _check_activity(self, kind: str) -> None:
        if self._manual is False:
            raise invalid_field(kind, "only where `voice_activity_detection.disabled` is set")
        start = kind == "activity_start"
        if self._speaking is start:
            raise invalid_field(kind, "comes in turn: `activity_start`, then `activity_end`")
        self._speaking = start


def _check_text(text: str, path: str) -> None:
    if not 0 < len(text.encode()) <= MAX_TEXT:
        raise invalid_field(path, "1 byte to 64 KiB of UTF-8")


def _check_turn(turn: live_pb2.TurnInput) -> None:
    if not turn.content and not turn.turn_complete:
        raise invalid_field("turn.content", "required unless `turn_complete` is set")
    for index, content in enumerate(turn.content):
        path = f"turn.content[{index}]"
        if content.role not in (live_pb2.ROLE_USER, live_pb2.ROLE_MODEL):
            raise invalid_field(f"{path}.role", "ROLE_USER or ROLE_MODEL")
        if not content.parts:
            raise invalid_field(f"{path}.parts", "at least one")
        for number, part in enumerate(content.parts):
            where = f"{path}.parts[{number}]"
            match part.WhichOneof("data"):
                case "text":
                    _check_text(part.text, f"{where}.text")
                case "image":
                    if part.image.mime_type not in _IMAGE_TYPES or not 0 < len(part.image.data) <= MAX_IMAGE:
                        raise invalid_field(f"{where}.image", f"1 byte to 1 MiB of {', '.join(_IMAGE_TYPES)}")
                case _:
                    raise invalid_field(where, "`text` or `image`")
