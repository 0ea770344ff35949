import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Modality(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODALITY_UNSPECIFIED: _ClassVar[Modality]
    MODALITY_AUDIO: _ClassVar[Modality]
    MODALITY_TEXT: _ClassVar[Modality]

class Sensitivity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SENSITIVITY_UNSPECIFIED: _ClassVar[Sensitivity]
    SENSITIVITY_HIGH: _ClassVar[Sensitivity]
    SENSITIVITY_LOW: _ClassVar[Sensitivity]

class ActivityHandling(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTIVITY_HANDLING_UNSPECIFIED: _ClassVar[ActivityHandling]
    ACTIVITY_HANDLING_INTERRUPTS: _ClassVar[ActivityHandling]
    ACTIVITY_HANDLING_NO_INTERRUPTION: _ClassVar[ActivityHandling]

class TurnCoverage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TURN_COVERAGE_UNSPECIFIED: _ClassVar[TurnCoverage]
    TURN_COVERAGE_ONLY_ACTIVITY: _ClassVar[TurnCoverage]
    TURN_COVERAGE_ALL_INPUT: _ClassVar[TurnCoverage]
    TURN_COVERAGE_AUDIO_ACTIVITY_AND_ALL_VIDEO: _ClassVar[TurnCoverage]

class ThinkingLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    THINKING_LEVEL_UNSPECIFIED: _ClassVar[ThinkingLevel]
    THINKING_LEVEL_MINIMAL: _ClassVar[ThinkingLevel]
    THINKING_LEVEL_LOW: _ClassVar[ThinkingLevel]
    THINKING_LEVEL_MEDIUM: _ClassVar[ThinkingLevel]
    THINKING_LEVEL_HIGH: _ClassVar[ThinkingLevel]

class MediaResolution(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEDIA_RESOLUTION_UNSPECIFIED: _ClassVar[MediaResolution]
    MEDIA_RESOLUTION_LOW: _ClassVar[MediaResolution]
    MEDIA_RESOLUTION_MEDIUM: _ClassVar[MediaResolution]
    MEDIA_RESOLUTION_HIGH: _ClassVar[MediaResolution]

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_USER: _ClassVar[Role]
    ROLE_MODEL: _ClassVar[Role]

class ResponseScheduling(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESPONSE_SCHEDULING_UNSPECIFIED: _ClassVar[ResponseScheduling]
    RESPONSE_SCHEDULING_SILENT: _ClassVar[ResponseScheduling]
    RESPONSE_SCHEDULING_WHEN_IDLE: _ClassVar[ResponseScheduling]
    RESPONSE_SCHEDULING_INTERRUPT: _ClassVar[ResponseScheduling]

class ToolBehavior(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOOL_BEHAVIOR_UNSPECIFIED: _ClassVar[ToolBehavior]
    TOOL_BEHAVIOR_BLOCKING: _ClassVar[ToolBehavior]
    TOOL_BEHAVIOR_NON_BLOCKING: _ClassVar[ToolBehavior]

class InterruptionReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INTERRUPTION_REASON_UNSPECIFIED: _ClassVar[InterruptionReason]
    INTERRUPTION_REASON_BARGE_IN: _ClassVar[InterruptionReason]
    INTERRUPTION_REASON_RESTARTED: _ClassVar[InterruptionReason]

class ToolPhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOOL_PHASE_UNSPECIFIED: _ClassVar[ToolPhase]
    TOOL_PHASE_STARTED: _ClassVar[ToolPhase]
    TOOL_PHASE_PROGRESS: _ClassVar[ToolPhase]
    TOOL_PHASE_FINISHED: _ClassVar[ToolPhase]

class ToolOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOOL_OUTCOME_UNSPECIFIED: _ClassVar[ToolOutcome]
    TOOL_OUTCOME_SUCCEEDED: _ClassVar[ToolOutcome]
    TOOL_OUTCOME_FAILED: _ClassVar[ToolOutcome]
    TOOL_OUTCOME_TIMED_OUT: _ClassVar[ToolOutcome]
    TOOL_OUTCOME_CANCELLED: _ClassVar[ToolOutcome]
    TOOL_OUTCOME_UNKNOWN: _ClassVar[ToolOutcome]

class VoiceActivityKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VOICE_ACTIVITY_KIND_UNSPECIFIED: _ClassVar[VoiceActivityKind]
    VOICE_ACTIVITY_KIND_START: _ClassVar[VoiceActivityKind]
    VOICE_ACTIVITY_KIND_END: _ClassVar[VoiceActivityKind]

class Direction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIRECTION_UNSPECIFIED: _ClassVar[Direction]
    DIRECTION_UPLINK: _ClassVar[Direction]
    DIRECTION_DOWNLINK: _ClassVar[Direction]

class MediaClass(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEDIA_CLASS_UNSPECIFIED: _ClassVar[MediaClass]
    MEDIA_CLASS_VIDEO: _ClassVar[MediaClass]
    MEDIA_CLASS_AUDIO: _ClassVar[MediaClass]
    MEDIA_CLASS_VITAL: _ClassVar[MediaClass]

class EndReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    END_REASON_UNSPECIFIED: _ClassVar[EndReason]
    END_REASON_CALLER: _ClassVar[EndReason]
    END_REASON_OPERATOR: _ClassVar[EndReason]
    END_REASON_ABANDONED: _ClassVar[EndReason]
    END_REASON_BACKEND: _ClassVar[EndReason]
    END_REASON_LIMIT: _ClassVar[EndReason]
MODALITY_UNSPECIFIED: Modality
MODALITY_AUDIO: Modality
MODALITY_TEXT: Modality
SENSITIVITY_UNSPECIFIED: Sensitivity
SENSITIVITY_HIGH: Sensitivity
SENSITIVITY_LOW: Sensitivity
ACTIVITY_HANDLING_UNSPECIFIED: ActivityHandling
ACTIVITY_HANDLING_INTERRUPTS: ActivityHandling
ACTIVITY_HANDLING_NO_INTERRUPTION: ActivityHandling
TURN_COVERAGE_UNSPECIFIED: TurnCoverage
TURN_COVERAGE_ONLY_ACTIVITY: TurnCoverage
TURN_COVERAGE_ALL_INPUT: TurnCoverage
TURN_COVERAGE_AUDIO_ACTIVITY_AND_ALL_VIDEO: TurnCoverage
THINKING_LEVEL_UNSPECIFIED: ThinkingLevel
THINKING_LEVEL_MINIMAL: ThinkingLevel
THINKING_LEVEL_LOW: ThinkingLevel
THINKING_LEVEL_MEDIUM: ThinkingLevel
THINKING_LEVEL_HIGH: ThinkingLevel
MEDIA_RESOLUTION_UNSPECIFIED: MediaResolution
MEDIA_RESOLUTION_LOW: MediaResolution
MEDIA_RESOLUTION_MEDIUM: MediaResolution
MEDIA_RESOLUTION_HIGH: MediaResolution
ROLE_UNSPECIFIED: Role
ROLE_USER: Role
ROLE_MODEL: Role
RESPONSE_SCHEDULING_UNSPECIFIED: ResponseScheduling
RESPONSE_SCHEDULING_SILENT: ResponseScheduling
RESPONSE_SCHEDULING_WHEN_IDLE: ResponseScheduling
RESPONSE_SCHEDULING_INTERRUPT: ResponseScheduling
TOOL_BEHAVIOR_UNSPECIFIED: ToolBehavior
TOOL_BEHAVIOR_BLOCKING: ToolBehavior
TOOL_BEHAVIOR_NON_BLOCKING: ToolBehavior
INTERRUPTION_REASON_UNSPECIFIED: InterruptionReason
INTERRUPTION_REASON_BARGE_IN: InterruptionReason
INTERRUPTION_REASON_RESTARTED: InterruptionReason
TOOL_PHASE_UNSPECIFIED: ToolPhase
TOOL_PHASE_STARTED: ToolPhase
TOOL_PHASE_PROGRESS: ToolPhase
TOOL_PHASE_FINISHED: ToolPhase
TOOL_OUTCOME_UNSPECIFIED: ToolOutcome
TOOL_OUTCOME_SUCCEEDED: ToolOutcome
TOOL_OUTCOME_FAILED: ToolOutcome
TOOL_OUTCOME_TIMED_OUT: ToolOutcome
TOOL_OUTCOME_CANCELLED: ToolOutcome
TOOL_OUTCOME_UNKNOWN: ToolOutcome
VOICE_ACTIVITY_KIND_UNSPECIFIED: VoiceActivityKind
VOICE_ACTIVITY_KIND_START: VoiceActivityKind
VOICE_ACTIVITY_KIND_END: VoiceActivityKind
DIRECTION_UNSPECIFIED: Direction
DIRECTION_UPLINK: Direction
DIRECTION_DOWNLINK: Direction
MEDIA_CLASS_UNSPECIFIED: MediaClass
MEDIA_CLASS_VIDEO: MediaClass
MEDIA_CLASS_AUDIO: MediaClass
MEDIA_CLASS_VITAL: MediaClass
END_REASON_UNSPECIFIED: EndReason
END_REASON_CALLER: EndReason
END_REASON_OPERATOR: EndReason
END_REASON_ABANDONED: EndReason
END_REASON_BACKEND: EndReason
END_REASON_LIMIT: EndReason

class ConverseRequest(_message.Message):
    __slots__ = ("seq", "open", "audio", "video", "text", "turn", "activity_start", "activity_end", "audio_stream_end", "tool_result", "context_update", "ack", "end")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    VIDEO_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    ACTIVITY_START_FIELD_NUMBER: _ClassVar[int]
    ACTIVITY_END_FIELD_NUMBER: _ClassVar[int]
    AUDIO_STREAM_END_FIELD_NUMBER: _ClassVar[int]
    TOOL_RESULT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_UPDATE_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    seq: int
    open: Open
    audio: AudioInput
    video: VideoInput
    text: TextInput
    turn: TurnInput
    activity_start: ActivityStart
    activity_end: ActivityEnd
    audio_stream_end: AudioStreamEnd
    tool_result: ToolResult
    context_update: ContextUpdate
    ack: Ack
    end: End
    def __init__(self, seq: _Optional[int] = ..., open: _Optional[_Union[Open, _Mapping]] = ..., audio: _Optional[_Union[AudioInput, _Mapping]] = ..., video: _Optional[_Union[VideoInput, _Mapping]] = ..., text: _Optional[_Union[TextInput, _Mapping]] = ..., turn: _Optional[_Union[TurnInput, _Mapping]] = ..., activity_start: _Optional[_Union[ActivityStart, _Mapping]] = ..., activity_end: _Optional[_Union[ActivityEnd, _Mapping]] = ..., audio_stream_end: _Optional[_Union[AudioStreamEnd, _Mapping]] = ..., tool_result: _Optional[_Union[ToolResult, _Mapping]] = ..., context_update: _Optional[_Union[ContextUpdate, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., end: _Optional[_Union[End, _Mapping]] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("request_id", "profile", "config", "resume", "traceparent", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    profile: str
    config: SessionConfig
    resume: Resume
    traceparent: str
    labels: _containers.ScalarMap[str, str]
    def __init__(self, request_id: _Optional[str] = ..., profile: _Optional[str] = ..., config: _Optional[_Union[SessionConfig, _Mapping]] = ..., resume: _Optional[_Union[Resume, _Mapping]] = ..., traceparent: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Resume(_message.Message):
    __slots__ = ("session_id", "resume_token", "last_received_seq")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    LAST_RECEIVED_SEQ_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    resume_token: str
    last_received_seq: int
    def __init__(self, session_id: _Optional[str] = ..., resume_token: _Optional[str] = ..., last_received_seq: _Optional[int] = ...) -> None: ...

class SessionConfig(_message.Message):
    __slots__ = ("model", "instructions", "voice", "language", "tools", "response_modality", "voice_activity_detection", "activity_handling", "turn_coverage", "input_transcription", "output_transcription", "context_compression", "thinking_level", "sampling", "media_resolution", "proactive_audio", "affective_dialog", "history", "caller_tools", "input_sample_rate_hertz", "translation", "thinking_budget_tokens", "include_thoughts", "google_search", "resumption", "conversation_log")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTIONS_FIELD_NUMBER: _ClassVar[int]
    VOICE_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_MODALITY_FIELD_NUMBER: _ClassVar[int]
    VOICE_ACTIVITY_DETECTION_FIELD_NUMBER: _ClassVar[int]
    ACTIVITY_HANDLING_FIELD_NUMBER: _ClassVar[int]
    TURN_COVERAGE_FIELD_NUMBER: _ClassVar[int]
    INPUT_TRANSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TRANSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    THINKING_LEVEL_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    MEDIA_RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    PROACTIVE_AUDIO_FIELD_NUMBER: _ClassVar[int]
    AFFECTIVE_DIALOG_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    CALLER_TOOLS_FIELD_NUMBER: _ClassVar[int]
    INPUT_SAMPLE_RATE_HERTZ_FIELD_NUMBER: _ClassVar[int]
    TRANSLATION_FIELD_NUMBER: _ClassVar[int]
    THINKING_BUDGET_TOKENS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_THOUGHTS_FIELD_NUMBER: _ClassVar[int]
    GOOGLE_SEARCH_FIELD_NUMBER: _ClassVar[int]
    RESUMPTION_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_LOG_FIELD_NUMBER: _ClassVar[int]
    model: str
    instructions: str
    voice: str
    language: str
    tools: _containers.RepeatedScalarFieldContainer[str]
    response_modality: Modality
    voice_activity_detection: VoiceActivityDetection
    activity_handling: ActivityHandling
    turn_coverage: TurnCoverage
    input_transcription: bool
    output_transcription: bool
    context_compression: ContextCompression
    thinking_level: ThinkingLevel
    sampling: Sampling
    media_resolution: MediaResolution
    proactive_audio: bool
    affective_dialog: bool
    history: _containers.RepeatedCompositeFieldContainer[Content]
    caller_tools: _containers.RepeatedCompositeFieldContainer[FunctionDeclaration]
    input_sample_rate_hertz: int
    translation: Translation
    thinking_budget_tokens: int
    include_thoughts: bool
    google_search: bool
    resumption: Resumption
    conversation_log: ConversationLog
    def __init__(self, model: _Optional[str] = ..., instructions: _Optional[str] = ..., voice: _Optional[str] = ..., language: _Optional[str] = ..., tools: _Optional[_Iterable[str]] = ..., response_modality: _Optional[_Union[Modality, str]] = ..., voice_activity_detection: _Optional[_Union[VoiceActivityDetection, _Mapping]] = ..., activity_handling: _Optional[_Union[ActivityHandling, str]] = ..., turn_coverage: _Optional[_Union[TurnCoverage, str]] = ..., input_transcription: _Optional[bool] = ..., output_transcription: _Optional[bool] = ..., context_compression: _Optional[_Union[ContextCompression, _Mapping]] = ..., thinking_level: _Optional[_Union[ThinkingLevel, str]] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ..., media_resolution: _Optional[_Union[MediaResolution, str]] = ..., proactive_audio: _Optional[bool] = ..., affective_dialog: _Optional[bool] = ..., history: _Optional[_Iterable[_Union[Content, _Mapping]]] = ..., caller_tools: _Optional[_Iterable[_Union[FunctionDeclaration, _Mapping]]] = ..., input_sample_rate_hertz: _Optional[int] = ..., translation: _Optional[_Union[Translation, _Mapping]] = ..., thinking_budget_tokens: _Optional[int] = ..., include_thoughts: _Optional[bool] = ..., google_search: _Optional[bool] = ..., resumption: _Optional[_Union[Resumption, _Mapping]] = ..., conversation_log: _Optional[_Union[ConversationLog, _Mapping]] = ...) -> None: ...

class ConversationLog(_message.Message):
    __slots__ = ("disabled",)
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    disabled: bool
    def __init__(self, disabled: _Optional[bool] = ...) -> None: ...

class Resumption(_message.Message):
    __slots__ = ("disabled", "window")
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    disabled: bool
    window: _duration_pb2.Duration
    def __init__(self, disabled: _Optional[bool] = ..., window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class VoiceActivityDetection(_message.Message):
    __slots__ = ("disabled", "start_sensitivity", "end_sensitivity", "prefix_padding", "silence")
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    START_SENSITIVITY_FIELD_NUMBER: _ClassVar[int]
    END_SENSITIVITY_FIELD_NUMBER: _ClassVar[int]
    PREFIX_PADDING_FIELD_NUMBER: _ClassVar[int]
    SILENCE_FIELD_NUMBER: _ClassVar[int]
    disabled: bool
    start_sensitivity: Sensitivity
    end_sensitivity: Sensitivity
    prefix_padding: _duration_pb2.Duration
    silence: _duration_pb2.Duration
    def __init__(self, disabled: _Optional[bool] = ..., start_sensitivity: _Optional[_Union[Sensitivity, str]] = ..., end_sensitivity: _Optional[_Union[Sensitivity, str]] = ..., prefix_padding: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., silence: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ContextCompression(_message.Message):
    __slots__ = ("disabled", "trigger_tokens", "target_tokens")
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TARGET_TOKENS_FIELD_NUMBER: _ClassVar[int]
    disabled: bool
    trigger_tokens: int
    target_tokens: int
    def __init__(self, disabled: _Optional[bool] = ..., trigger_tokens: _Optional[int] = ..., target_tokens: _Optional[int] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("temperature", "top_p", "top_k", "max_output_tokens", "seed")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_p: float
    top_k: int
    max_output_tokens: int
    seed: int
    def __init__(self, temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., max_output_tokens: _Optional[int] = ..., seed: _Optional[int] = ...) -> None: ...

class Translation(_message.Message):
    __slots__ = ("target_language", "echo_target_language")
    TARGET_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    ECHO_TARGET_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    target_language: str
    echo_target_language: bool
    def __init__(self, target_language: _Optional[str] = ..., echo_target_language: _Optional[bool] = ...) -> None: ...

class Content(_message.Message):
    __slots__ = ("role", "parts")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    role: Role
    parts: _containers.RepeatedCompositeFieldContainer[Part]
    def __init__(self, role: _Optional[_Union[Role, str]] = ..., parts: _Optional[_Iterable[_Union[Part, _Mapping]]] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("text", "image")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    text: str
    image: Blob
    def __init__(self, text: _Optional[str] = ..., image: _Optional[_Union[Blob, _Mapping]] = ...) -> None: ...

class Blob(_message.Message):
    __slots__ = ("mime_type", "data")
    MIME_TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    mime_type: str
    data: bytes
    def __init__(self, mime_type: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class AudioInput(_message.Message):
    __slots__ = ("frames",)
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, frames: _Optional[_Iterable[bytes]] = ...) -> None: ...

class VideoInput(_message.Message):
    __slots__ = ("image",)
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    image: Blob
    def __init__(self, image: _Optional[_Union[Blob, _Mapping]] = ...) -> None: ...

class TextInput(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class TurnInput(_message.Message):
    __slots__ = ("content", "turn_complete")
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    TURN_COMPLETE_FIELD_NUMBER: _ClassVar[int]
    content: _containers.RepeatedCompositeFieldContainer[Content]
    turn_complete: bool
    def __init__(self, content: _Optional[_Iterable[_Union[Content, _Mapping]]] = ..., turn_complete: _Optional[bool] = ...) -> None: ...

class ActivityStart(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ActivityEnd(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AudioStreamEnd(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ToolResult(_message.Message):
    __slots__ = ("call_id", "output", "error", "scheduling", "will_continue")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SCHEDULING_FIELD_NUMBER: _ClassVar[int]
    WILL_CONTINUE_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    output: _struct_pb2.Struct
    error: str
    scheduling: ResponseScheduling
    will_continue: bool
    def __init__(self, call_id: _Optional[str] = ..., output: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., error: _Optional[str] = ..., scheduling: _Optional[_Union[ResponseScheduling, str]] = ..., will_continue: _Optional[bool] = ...) -> None: ...

class ContextUpdate(_message.Message):
    __slots__ = ("instructions", "tools")
    INSTRUCTIONS_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    instructions: str
    tools: ToolSelection
    def __init__(self, instructions: _Optional[str] = ..., tools: _Optional[_Union[ToolSelection, _Mapping]] = ...) -> None: ...

class ToolSelection(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("seq",)
    SEQ_FIELD_NUMBER: _ClassVar[int]
    seq: int
    def __init__(self, seq: _Optional[int] = ...) -> None: ...

class End(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class FunctionDeclaration(_message.Message):
    __slots__ = ("name", "description", "parameters", "behavior")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    BEHAVIOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    parameters: _struct_pb2.Struct
    behavior: ToolBehavior
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., parameters: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., behavior: _Optional[_Union[ToolBehavior, str]] = ...) -> None: ...

class ConverseResponse(_message.Message):
    __slots__ = ("seq", "acked_seq", "opened", "audio", "text", "input_transcript", "output_transcript", "interrupted", "generation_complete", "turn_complete", "tool_call", "tool_call_cancelled", "tool_activity", "usage", "voice_activity", "link_state", "gap", "gateway_draining", "ended", "raw")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    ACKED_SEQ_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    INPUT_TRANSCRIPT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TRANSCRIPT_FIELD_NUMBER: _ClassVar[int]
    INTERRUPTED_FIELD_NUMBER: _ClassVar[int]
    GENERATION_COMPLETE_FIELD_NUMBER: _ClassVar[int]
    TURN_COMPLETE_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALL_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALL_CANCELLED_FIELD_NUMBER: _ClassVar[int]
    TOOL_ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    VOICE_ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    LINK_STATE_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_DRAINING_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    seq: int
    acked_seq: int
    opened: Opened
    audio: AudioOutput
    text: TextOutput
    input_transcript: Transcript
    output_transcript: Transcript
    interrupted: Interrupted
    generation_complete: GenerationComplete
    turn_complete: TurnComplete
    tool_call: ToolCall
    tool_call_cancelled: ToolCallCancelled
    tool_activity: ToolActivity
    usage: Usage
    voice_activity: VoiceActivity
    link_state: LinkState
    gap: Gap
    gateway_draining: GatewayDraining
    ended: Ended
    raw: Raw
    def __init__(self, seq: _Optional[int] = ..., acked_seq: _Optional[int] = ..., opened: _Optional[_Union[Opened, _Mapping]] = ..., audio: _Optional[_Union[AudioOutput, _Mapping]] = ..., text: _Optional[_Union[TextOutput, _Mapping]] = ..., input_transcript: _Optional[_Union[Transcript, _Mapping]] = ..., output_transcript: _Optional[_Union[Transcript, _Mapping]] = ..., interrupted: _Optional[_Union[Interrupted, _Mapping]] = ..., generation_complete: _Optional[_Union[GenerationComplete, _Mapping]] = ..., turn_complete: _Optional[_Union[TurnComplete, _Mapping]] = ..., tool_call: _Optional[_Union[ToolCall, _Mapping]] = ..., tool_call_cancelled: _Optional[_Union[ToolCallCancelled, _Mapping]] = ..., tool_activity: _Optional[_Union[ToolActivity, _Mapping]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., voice_activity: _Optional[_Union[VoiceActivity, _Mapping]] = ..., link_state: _Optional[_Union[LinkState, _Mapping]] = ..., gap: _Optional[_Union[Gap, _Mapping]] = ..., gateway_draining: _Optional[_Union[GatewayDraining, _Mapping]] = ..., ended: _Optional[_Union[Ended, _Mapping]] = ..., raw: _Optional[_Union[Raw, _Mapping]] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("session_id", "resume_token", "next_uplink_seq", "existing", "resume_window")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    NEXT_UPLINK_SEQ_FIELD_NUMBER: _ClassVar[int]
    EXISTING_FIELD_NUMBER: _ClassVar[int]
    RESUME_WINDOW_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    resume_token: str
    next_uplink_seq: int
    existing: bool
    resume_window: _duration_pb2.Duration
    def __init__(self, session_id: _Optional[str] = ..., resume_token: _Optional[str] = ..., next_uplink_seq: _Optional[int] = ..., existing: _Optional[bool] = ..., resume_window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class AudioOutput(_message.Message):
    __slots__ = ("frames", "sample_rate_hertz")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_HERTZ_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedScalarFieldContainer[bytes]
    sample_rate_hertz: int
    def __init__(self, frames: _Optional[_Iterable[bytes]] = ..., sample_rate_hertz: _Optional[int] = ...) -> None: ...

class TextOutput(_message.Message):
    __slots__ = ("text", "thought")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    THOUGHT_FIELD_NUMBER: _ClassVar[int]
    text: str
    thought: bool
    def __init__(self, text: _Optional[str] = ..., thought: _Optional[bool] = ...) -> None: ...

class Transcript(_message.Message):
    __slots__ = ("text", "finished", "language")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    text: str
    finished: bool
    language: str
    def __init__(self, text: _Optional[str] = ..., finished: _Optional[bool] = ..., language: _Optional[str] = ...) -> None: ...

class Interrupted(_message.Message):
    __slots__ = ("reason", "void_from_seq", "void_to_seq")
    REASON_FIELD_NUMBER: _ClassVar[int]
    VOID_FROM_SEQ_FIELD_NUMBER: _ClassVar[int]
    VOID_TO_SEQ_FIELD_NUMBER: _ClassVar[int]
    reason: InterruptionReason
    void_from_seq: int
    void_to_seq: int
    def __init__(self, reason: _Optional[_Union[InterruptionReason, str]] = ..., void_from_seq: _Optional[int] = ..., void_to_seq: _Optional[int] = ...) -> None: ...

class GenerationComplete(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TurnComplete(_message.Message):
    __slots__ = ("reason", "waiting_for_input")
    REASON_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_INPUT_FIELD_NUMBER: _ClassVar[int]
    reason: str
    waiting_for_input: bool
    def __init__(self, reason: _Optional[str] = ..., waiting_for_input: _Optional[bool] = ...) -> None: ...

class ToolCall(_message.Message):
    __slots__ = ("call_id", "name", "arguments")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    name: str
    arguments: _struct_pb2.Struct
    def __init__(self, call_id: _Optional[str] = ..., name: _Optional[str] = ..., arguments: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class ToolCallCancelled(_message.Message):
    __slots__ = ("call_ids",)
    CALL_IDS_FIELD_NUMBER: _ClassVar[int]
    call_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, call_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ToolActivity(_message.Message):
    __slots__ = ("call_id", "name", "phase", "arguments", "outcome", "message", "duration", "fraction", "output")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    name: str
    phase: ToolPhase
    arguments: _struct_pb2.Struct
    outcome: ToolOutcome
    message: str
    duration: _duration_pb2.Duration
    fraction: float
    output: _struct_pb2.Struct
    def __init__(self, call_id: _Optional[str] = ..., name: _Optional[str] = ..., phase: _Optional[_Union[ToolPhase, str]] = ..., arguments: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., outcome: _Optional[_Union[ToolOutcome, str]] = ..., message: _Optional[str] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., fraction: _Optional[float] = ..., output: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("prompt_tokens", "response_tokens", "total_tokens", "tool_use_tokens", "thought_tokens", "cached_tokens", "prompt_tokens_by_modality", "response_tokens_by_modality")
    class PromptTokensByModalityEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class ResponseTokensByModalityEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOOL_USE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    THOUGHT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_BY_MODALITY_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_TOKENS_BY_MODALITY_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    response_tokens: int
    total_tokens: int
    tool_use_tokens: int
    thought_tokens: int
    cached_tokens: int
    prompt_tokens_by_modality: _containers.ScalarMap[str, int]
    response_tokens_by_modality: _containers.ScalarMap[str, int]
    def __init__(self, prompt_tokens: _Optional[int] = ..., response_tokens: _Optional[int] = ..., total_tokens: _Optional[int] = ..., tool_use_tokens: _Optional[int] = ..., thought_tokens: _Optional[int] = ..., cached_tokens: _Optional[int] = ..., prompt_tokens_by_modality: _Optional[_Mapping[str, int]] = ..., response_tokens_by_modality: _Optional[_Mapping[str, int]] = ...) -> None: ...

class VoiceActivity(_message.Message):
    __slots__ = ("kind", "audio_offset")
    KIND_FIELD_NUMBER: _ClassVar[int]
    AUDIO_OFFSET_FIELD_NUMBER: _ClassVar[int]
    kind: VoiceActivityKind
    audio_offset: _duration_pb2.Duration
    def __init__(self, kind: _Optional[_Union[VoiceActivityKind, str]] = ..., audio_offset: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class LinkState(_message.Message):
    __slots__ = ("rotating", "recovered")
    ROTATING_FIELD_NUMBER: _ClassVar[int]
    RECOVERED_FIELD_NUMBER: _ClassVar[int]
    rotating: Rotating
    recovered: Recovered
    def __init__(self, rotating: _Optional[_Union[Rotating, _Mapping]] = ..., recovered: _Optional[_Union[Recovered, _Mapping]] = ...) -> None: ...

class Rotating(_message.Message):
    __slots__ = ("cause",)
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    cause: str
    def __init__(self, cause: _Optional[str] = ...) -> None: ...

class Recovered(_message.Message):
    __slots__ = ("method", "state_restored", "gap", "replayed", "dropped")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    STATE_RESTORED_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    method: str
    state_restored: bool
    gap: _duration_pb2.Duration
    replayed: _containers.RepeatedCompositeFieldContainer[SeqRange]
    dropped: _containers.RepeatedCompositeFieldContainer[SeqRange]
    def __init__(self, method: _Optional[str] = ..., state_restored: _Optional[bool] = ..., gap: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., replayed: _Optional[_Iterable[_Union[SeqRange, _Mapping]]] = ..., dropped: _Optional[_Iterable[_Union[SeqRange, _Mapping]]] = ...) -> None: ...

class SeqRange(_message.Message):
    __slots__ = ("from_seq", "to_seq")
    FROM_SEQ_FIELD_NUMBER: _ClassVar[int]
    TO_SEQ_FIELD_NUMBER: _ClassVar[int]
    from_seq: int
    to_seq: int
    def __init__(self, from_seq: _Optional[int] = ..., to_seq: _Optional[int] = ...) -> None: ...

class Gap(_message.Message):
    __slots__ = ("direction", "from_seq", "to_seq", "media_class", "reason")
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    FROM_SEQ_FIELD_NUMBER: _ClassVar[int]
    TO_SEQ_FIELD_NUMBER: _ClassVar[int]
    MEDIA_CLASS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    direction: Direction
    from_seq: int
    to_seq: int
    media_class: MediaClass
    reason: str
    def __init__(self, direction: _Optional[_Union[Direction, str]] = ..., from_seq: _Optional[int] = ..., to_seq: _Optional[int] = ..., media_class: _Optional[_Union[MediaClass, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class GatewayDraining(_message.Message):
    __slots__ = ("time_left",)
    TIME_LEFT_FIELD_NUMBER: _ClassVar[int]
    time_left: _duration_pb2.Duration
    def __init__(self, time_left: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Ended(_message.Message):
    __slots__ = ("reason", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: EndReason
    message: str
    def __init__(self, reason: _Optional[_Union[EndReason, str]] = ..., message: _Optional[str] = ...) -> None: ...

class Raw(_message.Message):
    __slots__ = ("json",)
    JSON_FIELD_NUMBER: _ClassVar[int]
    json: str
    def __init__(self, json: _Optional[str] = ...) -> None: ...
