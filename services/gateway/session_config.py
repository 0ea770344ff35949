"""What is allowed in `open` and in a session's settings. Plain code: no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from parley.v1 import errors_pb2, live_pb2
from services.fabric.capabilities import Backend
from services.fabric.errors import ServiceError, invalid_field
from services.fabric.records import MAX_SETTINGS
from services.gateway.content_check import check_content
from services.gateway.declarations import TOOL_NAME, check_declaration
from services.gateway.model_check import check_model

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
PROFILE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
SESSION_ID: Final = re.compile(r"ses_[0-9a-hjkmnp-tv-z]{26}")
LABEL_KEY: Final = re.compile(r"[a-z0-9_.-]{1,63}")
_KIB: Final = 1024
MAX_TOOLS: Final = 128
MAX_HISTORY: Final = 100
MAX_INSTRUCTIONS: Final = 32 * _KIB


def check_open(request: live_pb2.ConverseRequest, backend: Backend = "developer") -> live_pb2.Open:
    """The first message of a stream. ServiceError when it is not a well-formed `open`."""
    if request.WhichOneof("payload") != "open":
        if request.WhichOneof("payload") is None:
            raise invalid_field("payload", "the first message must be `open`", errors_pb2.ERROR_REASON_PAYLOAD_MISSING)
        raise invalid_field("open", "must be the first message", errors_pb2.ERROR_REASON_OPEN_MISPLACED)
    if request.seq:
        raise invalid_field("seq", "must be 0 on `open`", errors_pb2.ERROR_REASON_SEQUENCE_BROKEN)
    opening = request.open
    if len(opening.labels) > 16:
        raise invalid_field("open.labels", "at most 16")
    for key, value in opening.labels.items():
        if not LABEL_KEY.fullmatch(key):
            raise invalid_field("open.labels", f"key {key[:80]!r} must match {LABEL_KEY.pattern}")
        if len(value) > 128:
            raise invalid_field(f"open.labels.{key}", "at most 128 characters")
    source = opening.WhichOneof("source")
    if opening.HasField("resume"):
        if source is not None:
            raise invalid_field(f"open.{source}", "must be unset together with `resume`: the session keeps its own")
        if not opening.resume.session_id:
            raise invalid_field("open.resume.session_id", "required")
        if not opening.resume.resume_token:
            raise invalid_field("open.resume.resume_token", "required")
        return opening
    if not REQUEST_ID.fullmatch(opening.request_id):
        raise invalid_field("open.request_id", f"required; must match {REQUEST_ID.pattern}")
    if source is None:
        raise invalid_field("open.profile", "required, or `open.config`")
    if source == "config":
        check_config(opening.config, "open.config", backend)
    return opening


def check_config(config: live_pb2.SessionConfig, path: str, backend: Backend = "developer") -> None:
    """Everything about settings that can be told without asking anybody. ServiceError names the field."""
    _known_enums(config, path)
    check_instructions(config.instructions, f"{path}.instructions")
    if config.input_sample_rate_hertz and not 8000 <= config.input_sample_rate_hertz <= 48000:
        raise invalid_field(f"{path}.input_sample_rate_hertz", "8000 to 48000, or 0 for 16000")
    detection = config.voice_activity_detection
    _in_range(detection, "prefix_padding", timedelta(seconds=1), f"{path}.voice_activity_detection")
    _in_range(detection, "silence", timedelta(seconds=10), f"{path}.voice_activity_detection")
    _in_range(config.resumption, "window", timedelta(days=1), f"{path}.resumption")
    _check_compression(config.context_compression, f"{path}.context_compression")
    _check_sampling(config.sampling, f"{path}.sampling")
    check_tool_names(config.tools, f"{path}.tools")
    _check_caller_tools(config, f"{path}.caller_tools")
    if len(config.history) > MAX_HISTORY:
        raise invalid_field(f"{path}.history", f"at most {MAX_HISTORY}")
    for index, content in enumerate(config.history):
        check_content(content, f"{path}.history[{index}]")
    check_size(config.ByteSize(), path)
    check_model(config, path, backend)


def check_size(size: int, path: str) -> None:
    """All settings of a session together fit, with the declarations of its tools. ServiceError."""
    if size > MAX_SETTINGS:
        raise invalid_field(path, f"at most {MAX_SETTINGS // _KIB} KiB, history and declarations of tools included")


def check_instructions(text: str, path: str) -> None:
    """System instructions fit. ServiceError."""
    if len(text.encode()) > MAX_INSTRUCTIONS:
        raise invalid_field(path, "at most 32 KiB")


def check_tool_names(tools: Sequence[str], path: str) -> None:
    """Names of catalog tools, each once; whether there are such tools only the catalog knows. ServiceError."""
    if len(tools) > MAX_TOOLS:
        raise invalid_field(path, f"at most {MAX_TOOLS}")
    for index, name in enumerate(tools):
        if not TOOL_NAME.fullmatch(name):
            raise unknown_tool(f"{path}[{index}]")
        if name in tools[:index]:
            raise invalid_field(f"{path}[{index}]", "stands here twice")


def _check_caller_tools(config: live_pb2.SessionConfig, path: str) -> None:
    if len(config.caller_tools) + len(config.tools) > MAX_TOOLS:
        raise invalid_field(path, f"at most {MAX_TOOLS} together with `tools`")
    seen = set(config.tools)
    for index, function in enumerate(config.caller_tools):
        check_declaration(function, f"{path}[{index}]")
        if function.name in seen:
            raise invalid_field(f"{path}[{index}].name", f"{function.name} is declared twice")
        seen.add(function.name)


def unknown_tool(path: str) -> ServiceError:
    """The catalog has no such tool."""
    return invalid_field(path, "no such tool in the catalog", errors_pb2.ERROR_REASON_TOOL_UNKNOWN)


def _check_compression(compression: live_pb2.ContextCompression, path: str) -> None:
    if compression.trigger_tokens and not 5_000 <= compression.trigger_tokens <= 128_000:
        raise invalid_field(f"{path}.trigger_tokens", "5,000 to 128,000, or 0")
    if compression.target_tokens and not compression.target_tokens < (compression.trigger_tokens or 128_000):
        raise invalid_field(f"{path}.target_tokens", "must be below `trigger_tokens`")


def _check_sampling(sampling: live_pb2.Sampling, path: str) -> None:
    if not 0 <= sampling.temperature <= 2:
        raise invalid_field(f"{path}.temperature", "0 to 2")
    if not 0 <= sampling.top_p <= 1:
        raise invalid_field(f"{path}.top_p", "0 to 1")
    for name in ("top_k", "max_output_tokens"):
        if sampling.HasField(name) and getattr(sampling, name) < 1:
            raise invalid_field(f"{path}.{name}", "1 or more")


def _in_range(message: Message, name: str, most: timedelta, path: str) -> None:
    if not message.HasField(name):
        return
    value: Duration = getattr(message, name)
    seconds = value.seconds + value.nanos / 1e9
    if not 0 <= seconds <= most.total_seconds():
        raise invalid_field(f"{path}.{name}", f"0 to {most.total_seconds():g} s")


def _known_enums(message: Message, path: str) -> None:
    """A number that no enum value has is refused: the model would never hear of it."""
    for field, value in message.ListFields():
        where = f"{path}.{field.name}"
        enum = field.enum_type
        if enum is not None and value not in enum.values_by_number:
            raise invalid_field(where, f"{value} is no {enum.name}")
        if field.type == FieldDescriptor.TYPE_MESSAGE and not _is_plain(field):
            for number, inner in enumerate(value if field.is_repeated else [value]):
                _known_enums(inner, f"{where}[{number}]" if field.is_repeated else where)


def _is_plain(field: FieldDescriptor) -> bool:
    """Durations and structs have no enums of ours in them."""
    return field.message_type is None or field.message_type.file.package == "google.protobuf"
