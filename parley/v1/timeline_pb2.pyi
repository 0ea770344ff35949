import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from parley.v1 import live_pb2 as _live_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TimelineEventType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIMELINE_EVENT_TYPE_UNSPECIFIED: _ClassVar[TimelineEventType]
    TIMELINE_EVENT_TYPE_OPENED: _ClassVar[TimelineEventType]
    TIMELINE_EVENT_TYPE_REFUSED: _ClassVar[TimelineEventType]
    TIMELINE_EVENT_TYPE_ATTACHED: _ClassVar[TimelineEventType]
    TIMELINE_EVENT_TYPE_DETACHED: _ClassVar[TimelineEventType]
    TIMELINE_EVENT_TYPE_GATEWAY_DRAINING: _ClassVar[TimelineEventType]
    TIMELINE_EVENT_TYPE_WORKER_LOST: _ClassVar[TimelineEventType]
    TIMELINE_EVENT_TYPE_RELEASED: _ClassVar[TimelineEventType]
    TIMELINE_EVENT_TYPE_OWNERSHIP_LOST: _ClassVar[TimelineEventType]
    TIMELINE_EVENT_TYPE_LINK_LOST: _ClassVar[TimelineEventType]
    TIMELINE_EVENT_TYPE_LINK_REFUSED: _ClassVar[TimelineEventType]
    TIMELINE_EVENT_TYPE_ROTATED: _ClassVar[TimelineEventType]
    TIMELINE_EVENT_TYPE_RECOVERED: _ClassVar[TimelineEventType]
    TIMELINE_EVENT_TYPE_MIGRATED: _ClassVar[TimelineEventType]
    TIMELINE_EVENT_TYPE_BUS_LOST: _ClassVar[TimelineEventType]
    TIMELINE_EVENT_TYPE_TURN: _ClassVar[TimelineEventType]
    TIMELINE_EVENT_TYPE_TURN_RESTARTED: _ClassVar[TimelineEventType]
    TIMELINE_EVENT_TYPE_TOOL_CALL: _ClassVar[TimelineEventType]
    TIMELINE_EVENT_TYPE_TOOL_TROUBLE: _ClassVar[TimelineEventType]
    TIMELINE_EVENT_TYPE_GAP: _ClassVar[TimelineEventType]
    TIMELINE_EVENT_TYPE_ENDED: _ClassVar[TimelineEventType]
    TIMELINE_EVENT_TYPE_EVENTS_DROPPED: _ClassVar[TimelineEventType]
TIMELINE_EVENT_TYPE_UNSPECIFIED: TimelineEventType
TIMELINE_EVENT_TYPE_OPENED: TimelineEventType
TIMELINE_EVENT_TYPE_REFUSED: TimelineEventType
TIMELINE_EVENT_TYPE_ATTACHED: TimelineEventType
TIMELINE_EVENT_TYPE_DETACHED: TimelineEventType
TIMELINE_EVENT_TYPE_GATEWAY_DRAINING: TimelineEventType
TIMELINE_EVENT_TYPE_WORKER_LOST: TimelineEventType
TIMELINE_EVENT_TYPE_RELEASED: TimelineEventType
TIMELINE_EVENT_TYPE_OWNERSHIP_LOST: TimelineEventType
TIMELINE_EVENT_TYPE_LINK_LOST: TimelineEventType
TIMELINE_EVENT_TYPE_LINK_REFUSED: TimelineEventType
TIMELINE_EVENT_TYPE_ROTATED: TimelineEventType
TIMELINE_EVENT_TYPE_RECOVERED: TimelineEventType
TIMELINE_EVENT_TYPE_MIGRATED: TimelineEventType
TIMELINE_EVENT_TYPE_BUS_LOST: TimelineEventType
TIMELINE_EVENT_TYPE_TURN: TimelineEventType
TIMELINE_EVENT_TYPE_TURN_RESTARTED: TimelineEventType
TIMELINE_EVENT_TYPE_TOOL_CALL: TimelineEventType
TIMELINE_EVENT_TYPE_TOOL_TROUBLE: TimelineEventType
TIMELINE_EVENT_TYPE_GAP: TimelineEventType
TIMELINE_EVENT_TYPE_ENDED: TimelineEventType
TIMELINE_EVENT_TYPE_EVENTS_DROPPED: TimelineEventType

class TimelineEvent(_message.Message):
    __slots__ = ("time", "type", "duration", "cause", "message", "worker", "gateway", "epoch", "attach_generation", "trace_id", "model", "profile", "turn", "first_audio", "interrupted", "tool", "outcome", "method", "state_restored", "tries", "replayed", "dropped", "gap", "count", "end_reason")
    TIME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ATTACH_GENERATION_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    FIRST_AUDIO_FIELD_NUMBER: _ClassVar[int]
    INTERRUPTED_FIELD_NUMBER: _ClassVar[int]
    TOOL_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    STATE_RESTORED_FIELD_NUMBER: _ClassVar[int]
    TRIES_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    END_REASON_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    type: TimelineEventType
    duration: _duration_pb2.Duration
    cause: str
    message: str
    worker: str
    gateway: str
    epoch: int
    attach_generation: int
    trace_id: str
    model: str
    profile: str
    turn: int
    first_audio: _duration_pb2.Duration
    interrupted: bool
    tool: str
    outcome: _live_pb2.ToolOutcome
    method: str
    state_restored: bool
    tries: int
    replayed: int
    dropped: int
    gap: _live_pb2.Gap
    count: int
    end_reason: _live_pb2.EndReason
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., type: _Optional[_Union[TimelineEventType, str]] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., cause: _Optional[str] = ..., message: _Optional[str] = ..., worker: _Optional[str] = ..., gateway: _Optional[str] = ..., epoch: _Optional[int] = ..., attach_generation: _Optional[int] = ..., trace_id: _Optional[str] = ..., model: _Optional[str] = ..., profile: _Optional[str] = ..., turn: _Optional[int] = ..., first_audio: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., interrupted: _Optional[bool] = ..., tool: _Optional[str] = ..., outcome: _Optional[_Union[_live_pb2.ToolOutcome, str]] = ..., method: _Optional[str] = ..., state_restored: _Optional[bool] = ..., tries: _Optional[int] = ..., replayed: _Optional[int] = ..., dropped: _Optional[int] = ..., gap: _Optional[_Union[_live_pb2.Gap, _Mapping]] = ..., count: _Optional[int] = ..., end_reason: _Optional[_Union[_live_pb2.EndReason, str]] = ...) -> None: ...
