"""What is allowed in `open` and in a session's settings. Plain code: no I/O."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from parley.v1 import errors_pb2, live_pb2
from services.fabric.capabilities import MODELS, capabilities_of
from services.fabric.errors import ServiceError, invalid_field, not_implemented

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
PROFILE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
SESSION_ID: Final = re.compile(r"ses_[0-9a-hjkmnp-tv-z]{26}")
_LABEL_KEY: Final = re.compile(r"[a-z0-9_.-]{1,63}")
_TOOL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_KIB: Final = 1024
MAX_TOOLS: Final = 128


def check_open(request: live_pb2.ConverseRequest) -> live_pb2.Open:
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
        if not _LABEL_KEY.fullmatch(key):
            raise invalid_field("open.labels", f"key {key[:80]!r} must match {_LABEL_KEY.pattern}")
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
        check_config(opening.config, "open.config")
    return opening


def check_config(config: live_pb2.SessionConfig, path: str) -> None:
    """Everything about settings that can be told without asking anybody. ServiceError names the field."""
    for name in ("history", "caller_tools"):
        if len(getattr(config, name)):
            raise not_implemented(f"{path}.{name}")
    if config.HasField("translation"):
        raise not_implemented(f"{path}.translation")
    traits = capabilities_of(config.model)
    if traits is None:
        known = ", ".join(sorted(MODELS))
        raise invalid_field(f"{path}.model", f"must be one of {known}", errors_pb2.ERROR_REASON_MODEL_UNKNOWN)
    _known_enums(config, path)
    if len(config.instructions.encode()) > 32 * _KIB:
        raise invalid_field(f"{path}.instructions", "at most 32 KiB")
    if config.response_modality == live_pb2.MODALITY_TEXT and not traits.text_output:
        raise invalid_field(f"{path}.response_modality", f"{config.model} answers with audio only")
    if config.input_sample_rate_hertz and not 8000 <= config.input_sample_rate_hertz <= 48000:
        raise invalid_field(f"{path}.input_sample_rate_hertz", "8000 to 48000, or 0 for 16000")
    detection = config.voice_activity_detection
    _in_range(detection, "prefix_padding", timedelta(seconds=1), f"{path}.voice_activity_detection")
    _in_range(detection, "silence", timedelta(seconds=10), f"{path}.voice_activity_detection")
    _check_compression(config.context_compression, f"{path}.context_compression")
    _check_sampling(config.sampling, f"{path}.sampling")
    if len(config.tools) > MAX_TOOLS:
        raise invalid_field(f"{path}.tools", f"at most {MAX_TOOLS}")
    for index, name in enumerate(config.tools):
        if not _TOOL_NAME.fullmatch(name):
            raise unknown_tool(f"{path}.tools[{index}]")
        if name in config.tools[:index]:
            raise invalid_field(f"{path}.tools[{index}]", "stands here twice")


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
        if field.type == FieldDescriptor.TYPE_MESSAGE and not field.is_repeated:
            _known_enums(value, where)
