"""Is what the caller sends right? Plain code: one message in, its class out, or an error that names the field."""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from parley.v1 import errors_pb2, live_pb2
from services.fabric.capabilities import Backend, capabilities_of
from services.fabric.errors import ServiceError, invalid_field, not_implemented
from services.gateway.content_check import check_content, check_frame, check_text
from services.gateway.declarations import MAX_DEPTH, depth_of, json_size
from services.gateway.model_check import check_context_update, check_input, check_tool_result
from services.gateway.session_config import MAX_TOOLS, check_instructions, check_tool_names

_KIB: Final = 1024
_DEFAULT_RATE: Final = 16_000
_HIGHEST_RATE: Final = 48_000
_CLASS: Final = {"audio": live_pb2.MEDIA_CLASS_AUDIO, "video": live_pb2.MEDIA_CLASS_VIDEO}
MAX_RESULT: Final = 256 * _KIB
MAX_TOOL_ERROR: Final = 4 * _KIB
MAX_CONTENTS: Final = 100
_NOTHING: Final = "the session's model answers only what was said since its last answer"


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
        self,
        next_seq: int,
        config: live_pb2.SessionConfig | None,
        *,
        backend: Backend = "developer",
        existing: bool,
        max_message: int,
    ) -> None:
        """`config`: None where only the worker knows it, which then refuses what it must."""
        self._next = next_seq
        self._may_repeat = existing
        """Until its first new message, a caller that came back may send again what the session has already."""
        self._repeated = 0
        rate = _HIGHEST_RATE if config is None else config.input_sample_rate_hertz or _DEFAULT_RATE
        self._max_audio = rate * 2  # one second of 16 bit samples
        self._manual = None if config is None else config.voice_activity_detection.disabled
        self._speaking: bool | None = None if existing else False
        self._max_message = max_message
        self._model = None if config is None else capabilities_of(config.model, backend)
        self._most_tools = MAX_TOOLS - (0 if config is None else len(config.caller_tools))
        # What a caller that came back has said on the stream before is not known here.
        self._said: bool | None = None if existing else False
        """Ordered content was added that the model was not asked to answer."""
        self._marked: bool | None = None if existing else False
        """Something was said since `activity_start`."""

    def check(self, request: live_pb2.ConverseRequest, size: int) -> live_pb2.MediaClass | None:
        """The class of a numbered message to pass on; None for one to drop (the session has it already).

        `ack` is not for here. ServiceError when the message is wrong; the stream cannot go on then.
        """
        kind = request.WhichOneof("payload")
        if kind is None:
            unknown = UnknownFieldSet(request)
            if len(unknown):
                raise not_implemented(f"a payload with field number {unknown[0].field_number}, of a newer API,")
            raise invalid_field("payload", "required", errors_pb2.ERROR_REASON_PAYLOAD_MISSING)
        if kind == "open":
            raise invalid_field("open", "only the first message may be one", errors_pb2.ERROR_REASON_OPEN_MISPLACED)
        if self._is_repeated(request.seq):
            return None
        if size > self._max_message:
            raise invalid_field(kind, f"the message has {size} bytes; at most {self._max_message}")
        check_input(kind, self._model)
        self._check_payload(kind, request)
        self._note(kind, request)
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

    def _note(self, kind: str, request: live_pb2.ConverseRequest) -> None:
        """What the next message may have to rest on."""
        if kind == "turn":
            self._said = not request.turn.turn_complete
        if kind in ("audio", "text"):
            self._marked = True
        elif kind == "activity_start":
            self._marked = False

    def _check_payload(self, kind: str, request: live_pb2.ConverseRequest) -> None:
        match kind:
            case "audio":
                self._check_audio(request.audio)
            case "video":
                check_frame(request.video.image, "video.image")
            case "text":
                check_text(request.text.text, "text.text")
            case "turn":
                _check_turn(request.turn)
                if not request.turn.content and self._said is False and self._asks_nothing:
                    raise invalid_field("turn.content", f"required: {_NOTHING}")
            case "tool_result":
                _check_result(request.tool_result)
                check_tool_result(request.tool_result, self._model)
            case "context_update":
                _check_update(request.context_update)
                check_context_update(self._model)
                if len(request.context_update.tools.names) > self._most_tools:
                    problem = f"at most {self._most_tools}: {MAX_TOOLS} together with the session's `caller_tools`"
                    raise invalid_field("context_update.tools.names", problem)
            case "activity_start" | "activity_end":
                self._check_activity(kind)
            case "end" if len(request.end.reason) > 256:
                raise invalid_field("end.reason", "at most 256 characters")
            case _:
                pass

    def _check_audio(self, audio: live_pb2.AudioInput) -> None:
        problem = ""
        sizes = [len(frame) for frame in audio.frames]
        if not sizes:
            problem = "at least one frame"
        elif any(not size or size % 2 for size in sizes):
            problem = "each frame holds whole 16 bit samples: an even number of bytes, at least 2"
        elif sum(sizes) > self._max_audio:
            problem = f"all frames together at most 1 s ({self._max_audio} bytes)"
        if problem:
            raise invalid_field("audio.frames", problem, errors_pb2.ERROR_REASON_AUDIO_INVALID)

    def _check_activity(self, kind: str) -> None:
        if self._manual is False:
            raise invalid_field(kind, "only where `voice_activity_detection.disabled` is set")
        start = kind == "activity_start"
        if self._speaking is start:
            raise invalid_field(kind, "comes in turn: `activity_start`, then `activity_end`")
        if not start and self._marked is False and self._asks_nothing:
            raise invalid_field(kind, f"comes after speech or text: {_NOTHING}")
        self._speaking = start

    @property
    def _asks_nothing(self) -> bool:
        """The model ends the link where it is asked to answer and nothing was said."""
        return self._model is not None and not self._model.answers_nothing


def _check_turn(turn: live_pb2.TurnInput) -> None:
    if not turn.content and not turn.turn_complete:
        raise invalid_field("turn.content", "required unless `turn_complete` is set")
    if len(turn.content) > MAX_CONTENTS:
        raise invalid_field("turn.content", f"at most {MAX_CONTENTS}")
    for index, content in enumerate(turn.content):
        check_content(content, f"turn.content[{index}]")


def _check_result(result: live_pb2.ToolResult) -> None:
    if not 0 < len(result.call_id) <= _KIB:
        raise invalid_field("tool_result.call_id", "required; the id of a `tool_call`")
    if result.scheduling not in live_pb2.ResponseScheduling.values():
        raise invalid_field("tool_result.scheduling", f"{result.scheduling} is no ResponseScheduling")
    match result.WhichOneof("outcome"):
        case "output":
            if depth_of(result.output) > MAX_DEPTH:
                raise invalid_field("tool_result.output", f"at most {MAX_DEPTH} levels deep")
            if json_size(result.output, "tool_result.output") > MAX_RESULT:
                raise invalid_field("tool_result.output", "at most 256 KiB as JSON")
        case "error":
            if not 0 < len(result.error.encode()) <= MAX_TOOL_ERROR:
                raise invalid_field("tool_result.error", "1 byte to 4 KiB of UTF-8")
        case _:
            raise invalid_field("tool_result.output", "required, or `tool_result.error`")


def _check_update(update: live_pb2.ContextUpdate) -> None:
    if not update.HasField("instructions") and not update.HasField("tools"):
        raise invalid_field("context_update.instructions", "required, or `context_update.tools`")
    check_instructions(update.instructions, "context_update.instructions")
    check_tool_names(update.tools.names, "context_update.tools.names")
