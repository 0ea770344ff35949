import datetime

from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_REASON_UNSPECIFIED: _ClassVar[ErrorReason]
    ERROR_REASON_OPEN_MISPLACED: _ClassVar[ErrorReason]
    ERROR_REASON_OPEN_TIMEOUT: _ClassVar[ErrorReason]
    ERROR_REASON_PAYLOAD_MISSING: _ClassVar[ErrorReason]
    ERROR_REASON_MESSAGE_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_FIELD_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_SEQUENCE_BROKEN: _ClassVar[ErrorReason]
    ERROR_REASON_AUDIO_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_VIDEO_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_PROFILE_UNKNOWN: _ClassVar[ErrorReason]
    ERROR_REASON_MODEL_UNKNOWN: _ClassVar[ErrorReason]
    ERROR_REASON_TOOL_UNKNOWN: _ClassVar[ErrorReason]
    ERROR_REASON_TOOL_CALL_UNKNOWN: _ClassVar[ErrorReason]
    ERROR_REASON_ARGUMENTS_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_SESSION_UNKNOWN: _ClassVar[ErrorReason]
    ERROR_REASON_SESSION_ENDED: _ClassVar[ErrorReason]
    ERROR_REASON_RESUME_REFUSED: _ClassVar[ErrorReason]
    ERROR_REASON_SUPERSEDED: _ClassVar[ErrorReason]
    ERROR_REASON_CREDENTIAL_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_TENANT_LIMIT: _ClassVar[ErrorReason]
    ERROR_REASON_NO_WORKER: _ClassVar[ErrorReason]
    ERROR_REASON_NO_CAPACITY: _ClassVar[ErrorReason]
    ERROR_REASON_FABRIC_UNAVAILABLE: _ClassVar[ErrorReason]
    ERROR_REASON_BACKEND_UNAVAILABLE: _ClassVar[ErrorReason]
    ERROR_REASON_BACKEND_REFUSED: _ClassVar[ErrorReason]
    ERROR_REASON_BACKEND_QUOTA: _ClassVar[ErrorReason]
    ERROR_REASON_WORKER_LOST: _ClassVar[ErrorReason]
    ERROR_REASON_GATEWAY_DRAINING: _ClassVar[ErrorReason]
    ERROR_REASON_NOT_IMPLEMENTED: _ClassVar[ErrorReason]
    ERROR_REASON_INTERNAL: _ClassVar[ErrorReason]
    ERROR_REASON_UPLINK_OVERFLOW: _ClassVar[ErrorReason]
    ERROR_REASON_CALLER_SLOW: _ClassVar[ErrorReason]
    ERROR_REASON_NOT_PERMITTED: _ClassVar[ErrorReason]
ERROR_REASON_UNSPECIFIED: ErrorReason
ERROR_REASON_OPEN_MISPLACED: ErrorReason
ERROR_REASON_OPEN_TIMEOUT: ErrorReason
ERROR_REASON_PAYLOAD_MISSING: ErrorReason
ERROR_REASON_MESSAGE_INVALID: ErrorReason
ERROR_REASON_FIELD_INVALID: ErrorReason
ERROR_REASON_SEQUENCE_BROKEN: ErrorReason
ERROR_REASON_AUDIO_INVALID: ErrorReason
ERROR_REASON_VIDEO_INVALID: ErrorReason
ERROR_REASON_PROFILE_UNKNOWN: ErrorReason
ERROR_REASON_MODEL_UNKNOWN: ErrorReason
ERROR_REASON_TOOL_UNKNOWN: ErrorReason
ERROR_REASON_TOOL_CALL_UNKNOWN: ErrorReason
ERROR_REASON_ARGUMENTS_INVALID: ErrorReason
ERROR_REASON_SESSION_UNKNOWN: ErrorReason
ERROR_REASON_SESSION_ENDED: ErrorReason
ERROR_REASON_RESUME_REFUSED: ErrorReason
ERROR_REASON_SUPERSEDED: ErrorReason
ERROR_REASON_CREDENTIAL_INVALID: ErrorReason
ERROR_REASON_TENANT_LIMIT: ErrorReason
ERROR_REASON_NO_WORKER: ErrorReason
ERROR_REASON_NO_CAPACITY: ErrorReason
ERROR_REASON_FABRIC_UNAVAILABLE: ErrorReason
ERROR_REASON_BACKEND_UNAVAILABLE: ErrorReason
ERROR_REASON_BACKEND_REFUSED: ErrorReason
ERROR_REASON_BACKEND_QUOTA: ErrorReason
ERROR_REASON_WORKER_LOST: ErrorReason
ERROR_REASON_GATEWAY_DRAINING: ErrorReason
ERROR_REASON_NOT_IMPLEMENTED: ErrorReason
ERROR_REASON_INTERNAL: ErrorReason
ERROR_REASON_UPLINK_OVERFLOW: ErrorReason
ERROR_REASON_CALLER_SLOW: ErrorReason
ERROR_REASON_NOT_PERMITTED: ErrorReason

class StatusDetails(_message.Message):
    __slots__ = ("code", "message", "details")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    details: _containers.RepeatedCompositeFieldContainer[_any_pb2.Any]
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., details: _Optional[_Iterable[_Union[_any_pb2.Any, _Mapping]]] = ...) -> None: ...

class ErrorInfoDetail(_message.Message):
    __slots__ = ("reason", "domain", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REASON_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    reason: str
    domain: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, reason: _Optional[str] = ..., domain: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class BadRequestDetail(_message.Message):
    __slots__ = ("field_violations",)
    FIELD_VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    field_violations: _containers.RepeatedCompositeFieldContainer[FieldViolation]
    def __init__(self, field_violations: _Optional[_Iterable[_Union[FieldViolation, _Mapping]]] = ...) -> None: ...

class FieldViolation(_message.Message):
    __slots__ = ("field", "description")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    field: str
    description: str
    def __init__(self, field: _Optional[str] = ..., description: _Optional[str] = ...) -> None: ...

class RetryInfoDetail(_message.Message):
    __slots__ = ("retry_delay",)
    RETRY_DELAY_FIELD_NUMBER: _ClassVar[int]
    retry_delay: _duration_pb2.Duration
    def __init__(self, retry_delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
