import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from parley.v1 import errors_pb2 as _errors_pb2
from parley.v1 import fleet_pb2 as _fleet_pb2
from parley.v1 import live_pb2 as _live_pb2
from parley.v1 import sessions_pb2 as _sessions_pb2
from parley.v1 import timeline_pb2 as _timeline_pb2
from parley.v1 import tools_pb2 as _tools_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProofOfDeath(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROOF_OF_DEATH_UNSPECIFIED: _ClassVar[ProofOfDeath]
    PROOF_OF_DEATH_DEAD: _ClassVar[ProofOfDeath]
    PROOF_OF_DEATH_SILENT: _ClassVar[ProofOfDeath]
    PROOF_OF_DEATH_NOT_HELD: _ClassVar[ProofOfDeath]
    PROOF_OF_DEATH_RELEASED: _ClassVar[ProofOfDeath]

class CompensationState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMPENSATION_STATE_UNSPECIFIED: _ClassVar[CompensationState]
    COMPENSATION_STATE_RUNNING: _ClassVar[CompensationState]
    COMPENSATION_STATE_DONE: _ClassVar[CompensationState]
    COMPENSATION_STATE_NOT_NEEDED: _ClassVar[CompensationState]
    COMPENSATION_STATE_FAILED: _ClassVar[CompensationState]

class ClaimState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLAIM_STATE_UNSPECIFIED: _ClassVar[ClaimState]
    CLAIM_STATE_RUNNING: _ClassVar[ClaimState]
    CLAIM_STATE_SETTLED: _ClassVar[ClaimState]
    CLAIM_STATE_ABANDONED: _ClassVar[ClaimState]

class CallStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CALL_STATUS_UNSPECIFIED: _ClassVar[CallStatus]
    CALL_STATUS_ENDED: _ClassVar[CallStatus]
    CALL_STATUS_NOT_BEGUN: _ClassVar[CallStatus]
    CALL_STATUS_RUNNING: _ClassVar[CallStatus]
    CALL_STATUS_FENCED: _ClassVar[CallStatus]
PROOF_OF_DEATH_UNSPECIFIED: ProofOfDeath
PROOF_OF_DEATH_DEAD: ProofOfDeath
PROOF_OF_DEATH_SILENT: ProofOfDeath
PROOF_OF_DEATH_NOT_HELD: ProofOfDeath
PROOF_OF_DEATH_RELEASED: ProofOfDeath
COMPENSATION_STATE_UNSPECIFIED: CompensationState
COMPENSATION_STATE_RUNNING: CompensationState
COMPENSATION_STATE_DONE: CompensationState
COMPENSATION_STATE_NOT_NEEDED: CompensationState
COMPENSATION_STATE_FAILED: CompensationState
CLAIM_STATE_UNSPECIFIED: ClaimState
CLAIM_STATE_RUNNING: ClaimState
CLAIM_STATE_SETTLED: ClaimState
CLAIM_STATE_ABANDONED: ClaimState
CALL_STATUS_UNSPECIFIED: CallStatus
CALL_STATUS_ENDED: CallStatus
CALL_STATUS_NOT_BEGUN: CallStatus
CALL_STATUS_RUNNING: CallStatus
CALL_STATUS_FENCED: CallStatus

class UplinkEnvelope(_message.Message):
    __slots__ = ("schema_version", "epoch", "attach_generation", "requests", "skips", "last_seq", "downlink_received_seq", "downlink_acked_seq", "downlink_missing", "half_closed", "detached")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ATTACH_GENERATION_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    SKIPS_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    DOWNLINK_RECEIVED_SEQ_FIELD_NUMBER: _ClassVar[int]
    DOWNLINK_ACKED_SEQ_FIELD_NUMBER: _ClassVar[int]
    DOWNLINK_MISSING_FIELD_NUMBER: _ClassVar[int]
    HALF_CLOSED_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    epoch: int
    attach_generation: int
    requests: _containers.RepeatedScalarFieldContainer[bytes]
    skips: _containers.RepeatedCompositeFieldContainer[Skip]
    last_seq: int
    downlink_received_seq: int
    downlink_acked_seq: int
    downlink_missing: _containers.RepeatedCompositeFieldContainer[_live_pb2.SeqRange]
    half_closed: bool
    detached: bool
    def __init__(self, schema_version: _Optional[int] = ..., epoch: _Optional[int] = ..., attach_generation: _Optional[int] = ..., requests: _Optional[_Iterable[bytes]] = ..., skips: _Optional[_Iterable[_Union[Skip, _Mapping]]] = ..., last_seq: _Optional[int] = ..., downlink_received_seq: _Optional[int] = ..., downlink_acked_seq: _Optional[int] = ..., downlink_missing: _Optional[_Iterable[_Union[_live_pb2.SeqRange, _Mapping]]] = ..., half_closed: _Optional[bool] = ..., detached: _Optional[bool] = ...) -> None: ...

class Skip(_message.Message):
    __slots__ = ("range", "media_class", "reason")
    RANGE_FIELD_NUMBER: _ClassVar[int]
    MEDIA_CLASS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    range: _live_pb2.SeqRange
    media_class: _live_pb2.MediaClass
    reason: str
    def __init__(self, range: _Optional[_Union[_live_pb2.SeqRange, _Mapping]] = ..., media_class: _Optional[_Union[_live_pb2.MediaClass, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class DownlinkEnvelope(_message.Message):
    __slots__ = ("schema_version", "epoch", "attach_generation", "items", "last_seq", "uplink_received_seq", "uplink_acked_seq", "uplink_missing", "stream_end", "skips", "uplink_stored", "move")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ATTACH_GENERATION_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    UPLINK_RECEIVED_SEQ_FIELD_NUMBER: _ClassVar[int]
    UPLINK_ACKED_SEQ_FIELD_NUMBER: _ClassVar[int]
    UPLINK_MISSING_FIELD_NUMBER: _ClassVar[int]
    STREAM_END_FIELD_NUMBER: _ClassVar[int]
    SKIPS_FIELD_NUMBER: _ClassVar[int]
    UPLINK_STORED_FIELD_NUMBER: _ClassVar[int]
    MOVE_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    epoch: int
    attach_generation: int
    items: _containers.RepeatedCompositeFieldContainer[DownlinkItem]
    last_seq: int
    uplink_received_seq: int
    uplink_acked_seq: int
    uplink_missing: _containers.RepeatedCompositeFieldContainer[_live_pb2.SeqRange]
    stream_end: StreamEnd
    skips: _containers.RepeatedCompositeFieldContainer[Skip]
    uplink_stored: _containers.RepeatedCompositeFieldContainer[_live_pb2.SeqRange]
    move: MoveWish
    def __init__(self, schema_version: _Optional[int] = ..., epoch: _Optional[int] = ..., attach_generation: _Optional[int] = ..., items: _Optional[_Iterable[_Union[DownlinkItem, _Mapping]]] = ..., last_seq: _Optional[int] = ..., uplink_received_seq: _Optional[int] = ..., uplink_acked_seq: _Optional[int] = ..., uplink_missing: _Optional[_Iterable[_Union[_live_pb2.SeqRange, _Mapping]]] = ..., stream_end: _Optional[_Union[StreamEnd, _Mapping]] = ..., skips: _Optional[_Iterable[_Union[Skip, _Mapping]]] = ..., uplink_stored: _Optional[_Iterable[_Union[_live_pb2.SeqRange, _Mapping]]] = ..., move: _Optional[_Union[MoveWish, _Mapping]] = ...) -> None: ...

class MoveWish(_message.Message):
    __slots__ = ("to_worker", "force", "released")
    TO_WORKER_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    to_worker: str
    force: bool
    released: bool
    def __init__(self, to_worker: _Optional[str] = ..., force: _Optional[bool] = ..., released: _Optional[bool] = ...) -> None: ...

class DownlinkItem(_message.Message):
    __slots__ = ("response", "seq", "audio_milliseconds", "void_from_seq", "void_to_seq")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    AUDIO_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    VOID_FROM_SEQ_FIELD_NUMBER: _ClassVar[int]
    VOID_TO_SEQ_FIELD_NUMBER: _ClassVar[int]
    response: bytes
    seq: int
    audio_milliseconds: int
    void_from_seq: int
    void_to_seq: int
    def __init__(self, response: _Optional[bytes] = ..., seq: _Optional[int] = ..., audio_milliseconds: _Optional[int] = ..., void_from_seq: _Optional[int] = ..., void_to_seq: _Optional[int] = ...) -> None: ...

class StreamEnd(_message.Message):
    __slots__ = ("failure",)
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    failure: Failure
    def __init__(self, failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("code", "reason", "message", "field_violations", "retry_delay")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    RETRY_DELAY_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: _errors_pb2.ErrorReason
    message: str
    field_violations: _containers.RepeatedCompositeFieldContainer[_errors_pb2.FieldViolation]
    retry_delay: _duration_pb2.Duration
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[_Union[_errors_pb2.ErrorReason, str]] = ..., message: _Optional[str] = ..., field_violations: _Optional[_Iterable[_Union[_errors_pb2.FieldViolation, _Mapping]]] = ..., retry_delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ControlRequest(_message.Message):
    __slots__ = ("schema_version", "open", "attach", "end", "ping", "take_over", "reserve", "release", "move", "set_draining", "check_backend")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    ATTACH_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    TAKE_OVER_FIELD_NUMBER: _ClassVar[int]
    RESERVE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    MOVE_FIELD_NUMBER: _ClassVar[int]
    SET_DRAINING_FIELD_NUMBER: _ClassVar[int]
    CHECK_BACKEND_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    open: OpenSession
    attach: AttachSession
    end: CloseSession
    ping: Ping
    take_over: TakeOver
    reserve: ReservePlace
    release: ReleaseSession
    move: MoveAway
    set_draining: SetDraining
    check_backend: CheckBackend
    def __init__(self, schema_version: _Optional[int] = ..., open: _Optional[_Union[OpenSession, _Mapping]] = ..., attach: _Optional[_Union[AttachSession, _Mapping]] = ..., end: _Optional[_Union[CloseSession, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ..., take_over: _Optional[_Union[TakeOver, _Mapping]] = ..., reserve: _Optional[_Union[ReservePlace, _Mapping]] = ..., release: _Optional[_Union[ReleaseSession, _Mapping]] = ..., move: _Optional[_Union[MoveAway, _Mapping]] = ..., set_draining: _Optional[_Union[SetDraining, _Mapping]] = ..., check_backend: _Optional[_Union[CheckBackend, _Mapping]] = ...) -> None: ...

class ControlReply(_message.Message):
    __slots__ = ("schema_version", "failure", "attached", "done", "pong", "released", "busy", "backend_checked")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    BUSY_FIELD_NUMBER: _ClassVar[int]
    BACKEND_CHECKED_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    failure: Failure
    attached: Attached
    done: Done
    pong: _fleet_pb2.Worker
    released: Released
    busy: Busy
    backend_checked: BackendChecked
    def __init__(self, schema_version: _Optional[int] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., attached: _Optional[_Union[Attached, _Mapping]] = ..., done: _Optional[_Union[Done, _Mapping]] = ..., pong: _Optional[_Union[_fleet_pb2.Worker, _Mapping]] = ..., released: _Optional[_Union[Released, _Mapping]] = ..., busy: _Optional[_Union[Busy, _Mapping]] = ..., backend_checked: _Optional[_Union[BackendChecked, _Mapping]] = ...) -> None: ...

class CheckBackend(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class BackendChecked(_message.Message):
    __slots__ = ("model", "took")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOOK_FIELD_NUMBER: _ClassVar[int]
    model: str
    took: _duration_pb2.Duration
    def __init__(self, model: _Optional[str] = ..., took: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class OpenSession(_message.Message):
    __slots__ = ("session_id", "tenant", "principal", "profile", "config", "tools", "labels", "request_key", "gateway", "resume_token_sha256")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_KEY_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_SHA256_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    tenant: str
    principal: str
    profile: str
    config: _live_pb2.SessionConfig
    tools: _containers.RepeatedCompositeFieldContainer[_tools_pb2.Tool]
    labels: _containers.ScalarMap[str, str]
    request_key: str
    gateway: str
    resume_token_sha256: bytes
    def __init__(self, session_id: _Optional[str] = ..., tenant: _Optional[str] = ..., principal: _Optional[str] = ..., profile: _Optional[str] = ..., config: _Optional[_Union[_live_pb2.SessionConfig, _Mapping]] = ..., tools: _Optional[_Iterable[_Union[_tools_pb2.Tool, _Mapping]]] = ..., labels: _Optional[_Mapping[str, str]] = ..., request_key: _Optional[str] = ..., gateway: _Optional[str] = ..., resume_token_sha256: _Optional[bytes] = ...) -> None: ...

class AttachSession(_message.Message):
    __slots__ = ("session_id", "gateway", "tenant", "principal", "presented_token_sha256", "new_token_sha256", "last_received_seq", "passed_on_seq")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    PRESENTED_TOKEN_SHA256_FIELD_NUMBER: _ClassVar[int]
    NEW_TOKEN_SHA256_FIELD_NUMBER: _ClassVar[int]
    LAST_RECEIVED_SEQ_FIELD_NUMBER: _ClassVar[int]
    PASSED_ON_SEQ_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    gateway: str
    tenant: str
    principal: str
    presented_token_sha256: bytes
    new_token_sha256: bytes
    last_received_seq: int
    passed_on_seq: int
    def __init__(self, session_id: _Optional[str] = ..., gateway: _Optional[str] = ..., tenant: _Optional[str] = ..., principal: _Optional[str] = ..., presented_token_sha256: _Optional[bytes] = ..., new_token_sha256: _Optional[bytes] = ..., last_received_seq: _Optional[int] = ..., passed_on_seq: _Optional[int] = ...) -> None: ...

class Attached(_message.Message):
    __slots__ = ("epoch", "attach_generation", "next_uplink_seq", "next_downlink_seq", "resume_window")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ATTACH_GENERATION_FIELD_NUMBER: _ClassVar[int]
    NEXT_UPLINK_SEQ_FIELD_NUMBER: _ClassVar[int]
    NEXT_DOWNLINK_SEQ_FIELD_NUMBER: _ClassVar[int]
    RESUME_WINDOW_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    attach_generation: int
    next_uplink_seq: int
    next_downlink_seq: int
    resume_window: _duration_pb2.Duration
    def __init__(self, epoch: _Optional[int] = ..., attach_generation: _Optional[int] = ..., next_uplink_seq: _Optional[int] = ..., next_downlink_seq: _Optional[int] = ..., resume_window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class TakeOver(_message.Message):
    __slots__ = ("session_id", "gateway", "tenant", "principal", "from_worker", "from_epoch", "proof", "floor", "downlink_acked_seq", "last_audio_seq", "attach_generation", "presented_token_sha256", "uplink_acked_seq", "uplink_sent_seq", "silence", "new_token_sha256")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    FROM_WORKER_FIELD_NUMBER: _ClassVar[int]
    FROM_EPOCH_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    FLOOR_FIELD_NUMBER: _ClassVar[int]
    DOWNLINK_ACKED_SEQ_FIELD_NUMBER: _ClassVar[int]
    LAST_AUDIO_SEQ_FIELD_NUMBER: _ClassVar[int]
    ATTACH_GENERATION_FIELD_NUMBER: _ClassVar[int]
    PRESENTED_TOKEN_SHA256_FIELD_NUMBER: _ClassVar[int]
    UPLINK_ACKED_SEQ_FIELD_NUMBER: _ClassVar[int]
    UPLINK_SENT_SEQ_FIELD_NUMBER: _ClassVar[int]
    SILENCE_FIELD_NUMBER: _ClassVar[int]
    NEW_TOKEN_SHA256_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    gateway: str
    tenant: str
    principal: str
    from_worker: str
    from_epoch: int
    proof: ProofOfDeath
    floor: int
    downlink_acked_seq: int
    last_audio_seq: int
    attach_generation: int
    presented_token_sha256: bytes
    uplink_acked_seq: int
    uplink_sent_seq: int
    silence: _duration_pb2.Duration
    new_token_sha256: bytes
    def __init__(self, session_id: _Optional[str] = ..., gateway: _Optional[str] = ..., tenant: _Optional[str] = ..., principal: _Optional[str] = ..., from_worker: _Optional[str] = ..., from_epoch: _Optional[int] = ..., proof: _Optional[_Union[ProofOfDeath, str]] = ..., floor: _Optional[int] = ..., downlink_acked_seq: _Optional[int] = ..., last_audio_seq: _Optional[int] = ..., attach_generation: _Optional[int] = ..., presented_token_sha256: _Optional[bytes] = ..., uplink_acked_seq: _Optional[int] = ..., uplink_sent_seq: _Optional[int] = ..., silence: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., new_token_sha256: _Optional[bytes] = ...) -> None: ...

class ReservePlace(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class ReleaseSession(_message.Message):
    __slots__ = ("session_id", "force", "to_worker")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    TO_WORKER_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    force: bool
    to_worker: str
    def __init__(self, session_id: _Optional[str] = ..., force: _Optional[bool] = ..., to_worker: _Optional[str] = ...) -> None: ...

class Released(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Busy(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MoveAway(_message.Message):
    __slots__ = ("session_id", "to_worker")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TO_WORKER_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    to_worker: str
    def __init__(self, session_id: _Optional[str] = ..., to_worker: _Optional[str] = ...) -> None: ...

class SetDraining(_message.Message):
    __slots__ = ("draining",)
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    draining: bool
    def __init__(self, draining: _Optional[bool] = ...) -> None: ...

class CloseSession(_message.Message):
    __slots__ = ("session_id", "reason", "message")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    reason: _live_pb2.EndReason
    message: str
    def __init__(self, session_id: _Optional[str] = ..., reason: _Optional[_Union[_live_pb2.EndReason, str]] = ..., message: _Optional[str] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class OwnRecord(_message.Message):
    __slots__ = ("schema_version", "session", "request_key", "epochs", "handover")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_KEY_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    HANDOVER_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    session: _sessions_pb2.Session
    request_key: str
    epochs: _containers.RepeatedCompositeFieldContainer[EpochRange]
    handover: Handover
    def __init__(self, schema_version: _Optional[int] = ..., session: _Optional[_Union[_sessions_pb2.Session, _Mapping]] = ..., request_key: _Optional[str] = ..., epochs: _Optional[_Iterable[_Union[EpochRange, _Mapping]]] = ..., handover: _Optional[_Union[Handover, _Mapping]] = ...) -> None: ...

class Handover(_message.Message):
    __slots__ = ("cause", "to_worker", "epoch")
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    TO_WORKER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    cause: str
    to_worker: str
    epoch: int
    def __init__(self, cause: _Optional[str] = ..., to_worker: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class EpochRange(_message.Message):
    __slots__ = ("epoch", "first_downlink_seq")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FIRST_DOWNLINK_SEQ_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    first_downlink_seq: int
    def __init__(self, epoch: _Optional[int] = ..., first_downlink_seq: _Optional[int] = ...) -> None: ...

class AttachmentRecord(_message.Message):
    __slots__ = ("schema_version", "attach_generation", "gateway", "resume_token_sha256", "last_gateway", "numbered_from", "log_position")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    ATTACH_GENERATION_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_SHA256_FIELD_NUMBER: _ClassVar[int]
    LAST_GATEWAY_FIELD_NUMBER: _ClassVar[int]
    NUMBERED_FROM_FIELD_NUMBER: _ClassVar[int]
    LOG_POSITION_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    attach_generation: int
    gateway: str
    resume_token_sha256: bytes
    last_gateway: str
    numbered_from: int
    log_position: int
    def __init__(self, schema_version: _Optional[int] = ..., attach_generation: _Optional[int] = ..., gateway: _Optional[str] = ..., resume_token_sha256: _Optional[bytes] = ..., last_gateway: _Optional[str] = ..., numbered_from: _Optional[int] = ..., log_position: _Optional[int] = ...) -> None: ...

class CheckpointRecord(_message.Message):
    __slots__ = ("schema_version", "epoch", "handle", "covered_uplink_seq", "config", "tools", "traceparent", "handle_position", "exact", "log_position", "turns", "turn_end_downlink_seq", "begun", "caller_calls", "waiting_calls", "issued_position", "tracestate", "trace_part", "trace_age", "turn_traceparent", "untold_losses")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    COVERED_UPLINK_SEQ_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    HANDLE_POSITION_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    LOG_POSITION_FIELD_NUMBER: _ClassVar[int]
    TURNS_FIELD_NUMBER: _ClassVar[int]
    TURN_END_DOWNLINK_SEQ_FIELD_NUMBER: _ClassVar[int]
    BEGUN_FIELD_NUMBER: _ClassVar[int]
    CALLER_CALLS_FIELD_NUMBER: _ClassVar[int]
    WAITING_CALLS_FIELD_NUMBER: _ClassVar[int]
    ISSUED_POSITION_FIELD_NUMBER: _ClassVar[int]
    TRACESTATE_FIELD_NUMBER: _ClassVar[int]
    TRACE_PART_FIELD_NUMBER: _ClassVar[int]
    TRACE_AGE_FIELD_NUMBER: _ClassVar[int]
    TURN_TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    UNTOLD_LOSSES_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    epoch: int
    handle: str
    covered_uplink_seq: int
    config: _live_pb2.SessionConfig
    tools: _containers.RepeatedCompositeFieldContainer[_tools_pb2.Tool]
    traceparent: str
    handle_position: int
    exact: bool
    log_position: int
    turns: int
    turn_end_downlink_seq: int
    begun: AnswerBegun
    caller_calls: _containers.RepeatedCompositeFieldContainer[CallerCall]
    waiting_calls: _containers.RepeatedCompositeFieldContainer[WaitingCall]
    issued_position: int
    tracestate: str
    trace_part: int
    trace_age: _duration_pb2.Duration
    turn_traceparent: str
    untold_losses: _containers.RepeatedCompositeFieldContainer[UntoldLoss]
    def __init__(self, schema_version: _Optional[int] = ..., epoch: _Optional[int] = ..., handle: _Optional[str] = ..., covered_uplink_seq: _Optional[int] = ..., config: _Optional[_Union[_live_pb2.SessionConfig, _Mapping]] = ..., tools: _Optional[_Iterable[_Union[_tools_pb2.Tool, _Mapping]]] = ..., traceparent: _Optional[str] = ..., handle_position: _Optional[int] = ..., exact: _Optional[bool] = ..., log_position: _Optional[int] = ..., turns: _Optional[int] = ..., turn_end_downlink_seq: _Optional[int] = ..., begun: _Optional[_Union[AnswerBegun, _Mapping]] = ..., caller_calls: _Optional[_Iterable[_Union[CallerCall, _Mapping]]] = ..., waiting_calls: _Optional[_Iterable[_Union[WaitingCall, _Mapping]]] = ..., issued_position: _Optional[int] = ..., tracestate: _Optional[str] = ..., trace_part: _Optional[int] = ..., trace_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., turn_traceparent: _Optional[str] = ..., untold_losses: _Optional[_Iterable[_Union[UntoldLoss, _Mapping]]] = ...) -> None: ...

class UntoldLoss(_message.Message):
    __slots__ = ("gap", "downlink_seq")
    GAP_FIELD_NUMBER: _ClassVar[int]
    DOWNLINK_SEQ_FIELD_NUMBER: _ClassVar[int]
    gap: _live_pb2.Gap
    downlink_seq: int
    def __init__(self, gap: _Optional[_Union[_live_pb2.Gap, _Mapping]] = ..., downlink_seq: _Optional[int] = ...) -> None: ...

class WaitingCall(_message.Message):
    __slots__ = ("call_id", "name")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    name: str
    def __init__(self, call_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class CallerCall(_message.Message):
    __slots__ = ("call_id", "name", "arguments_json", "turn")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_JSON_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    name: str
    arguments_json: str
    turn: int
    def __init__(self, call_id: _Optional[str] = ..., name: _Optional[str] = ..., arguments_json: _Optional[str] = ..., turn: _Optional[int] = ...) -> None: ...

class AnswerBegun(_message.Message):
    __slots__ = ("turn", "given_seq", "log_position", "first_downlink_seq", "generated_downlink_seq", "said")
    TURN_FIELD_NUMBER: _ClassVar[int]
    GIVEN_SEQ_FIELD_NUMBER: _ClassVar[int]
    LOG_POSITION_FIELD_NUMBER: _ClassVar[int]
    FIRST_DOWNLINK_SEQ_FIELD_NUMBER: _ClassVar[int]
    GENERATED_DOWNLINK_SEQ_FIELD_NUMBER: _ClassVar[int]
    SAID_FIELD_NUMBER: _ClassVar[int]
    turn: int
    given_seq: int
    log_position: int
    first_downlink_seq: int
    generated_downlink_seq: int
    said: str
    def __init__(self, turn: _Optional[int] = ..., given_seq: _Optional[int] = ..., log_position: _Optional[int] = ..., first_downlink_seq: _Optional[int] = ..., generated_downlink_seq: _Optional[int] = ..., said: _Optional[str] = ...) -> None: ...

class RequestRecord(_message.Message):
    __slots__ = ("schema_version", "session_id")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    session_id: str
    def __init__(self, schema_version: _Optional[int] = ..., session_id: _Optional[str] = ...) -> None: ...

class LogEntry(_message.Message):
    __slots__ = ("schema_version", "epoch", "epoch_begins", "request", "input_transcript", "model_said", "tool", "renumbered", "position")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    EPOCH_BEGINS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    INPUT_TRANSCRIPT_FIELD_NUMBER: _ClassVar[int]
    MODEL_SAID_FIELD_NUMBER: _ClassVar[int]
    TOOL_FIELD_NUMBER: _ClassVar[int]
    RENUMBERED_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    epoch: int
    epoch_begins: EpochBegins
    request: _live_pb2.ConverseRequest
    input_transcript: _live_pb2.Transcript
    model_said: ModelSaid
    tool: ToolRecord
    renumbered: Renumbered
    position: int
    def __init__(self, schema_version: _Optional[int] = ..., epoch: _Optional[int] = ..., epoch_begins: _Optional[_Union[EpochBegins, _Mapping]] = ..., request: _Optional[_Union[_live_pb2.ConverseRequest, _Mapping]] = ..., input_transcript: _Optional[_Union[_live_pb2.Transcript, _Mapping]] = ..., model_said: _Optional[_Union[ModelSaid, _Mapping]] = ..., tool: _Optional[_Union[ToolRecord, _Mapping]] = ..., renumbered: _Optional[_Union[Renumbered, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class EpochBegins(_message.Message):
    __slots__ = ("worker",)
    WORKER_FIELD_NUMBER: _ClassVar[int]
    worker: str
    def __init__(self, worker: _Optional[str] = ...) -> None: ...

class Renumbered(_message.Message):
    __slots__ = ("position", "seq", "left_out")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    position: int
    seq: int
    left_out: bool
    def __init__(self, position: _Optional[int] = ..., seq: _Optional[int] = ..., left_out: _Optional[bool] = ...) -> None: ...

class ModelSaid(_message.Message):
    __slots__ = ("text", "interrupted", "given_seq", "turn", "given_position", "last_downlink_seq", "untold_losses")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    INTERRUPTED_FIELD_NUMBER: _ClassVar[int]
    GIVEN_SEQ_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    GIVEN_POSITION_FIELD_NUMBER: _ClassVar[int]
    LAST_DOWNLINK_SEQ_FIELD_NUMBER: _ClassVar[int]
    UNTOLD_LOSSES_FIELD_NUMBER: _ClassVar[int]
    text: str
    interrupted: bool
    given_seq: int
    turn: int
    given_position: int
    last_downlink_seq: int
    untold_losses: _containers.RepeatedCompositeFieldContainer[UntoldLoss]
    def __init__(self, text: _Optional[str] = ..., interrupted: _Optional[bool] = ..., given_seq: _Optional[int] = ..., turn: _Optional[int] = ..., given_position: _Optional[int] = ..., last_downlink_seq: _Optional[int] = ..., untold_losses: _Optional[_Iterable[_Union[UntoldLoss, _Mapping]]] = ...) -> None: ...

class ToolRecord(_message.Message):
    __slots__ = ("call_id", "name", "arguments_json", "response_json", "outcome", "claim_key", "turn", "told_as", "silent")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_JSON_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_JSON_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CLAIM_KEY_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    TOLD_AS_FIELD_NUMBER: _ClassVar[int]
    SILENT_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    name: str
    arguments_json: str
    response_json: str
    outcome: _live_pb2.ToolOutcome
    claim_key: str
    turn: int
    told_as: str
    silent: bool
    def __init__(self, call_id: _Optional[str] = ..., name: _Optional[str] = ..., arguments_json: _Optional[str] = ..., response_json: _Optional[str] = ..., outcome: _Optional[_Union[_live_pb2.ToolOutcome, str]] = ..., claim_key: _Optional[str] = ..., turn: _Optional[int] = ..., told_as: _Optional[str] = ..., silent: _Optional[bool] = ...) -> None: ...

class ClaimRecord(_message.Message):
    __slots__ = ("schema_version", "epoch", "state", "turn", "number", "tool", "arguments_json", "call_id", "idempotent", "execution_id", "executor", "timeout", "outcome", "attempt", "compensation", "traceparent")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TOOL_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_JSON_FIELD_NUMBER: _ClassVar[int]
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENT_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    COMPENSATION_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    epoch: int
    state: ClaimState
    turn: int
    number: int
    tool: str
    arguments_json: str
    call_id: str
    idempotent: bool
    execution_id: str
    executor: str
    timeout: _duration_pb2.Duration
    outcome: ToolCallReply
    attempt: str
    compensation: Compensation
    traceparent: str
    def __init__(self, schema_version: _Optional[int] = ..., epoch: _Optional[int] = ..., state: _Optional[_Union[ClaimState, str]] = ..., turn: _Optional[int] = ..., number: _Optional[int] = ..., tool: _Optional[str] = ..., arguments_json: _Optional[str] = ..., call_id: _Optional[str] = ..., idempotent: _Optional[bool] = ..., execution_id: _Optional[str] = ..., executor: _Optional[str] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., outcome: _Optional[_Union[ToolCallReply, _Mapping]] = ..., attempt: _Optional[str] = ..., compensation: _Optional[_Union[Compensation, _Mapping]] = ..., traceparent: _Optional[str] = ...) -> None: ...

class Compensation(_message.Message):
    __slots__ = ("state", "executor", "error", "attempt")
    STATE_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    state: CompensationState
    executor: str
    error: str
    attempt: str
    def __init__(self, state: _Optional[_Union[CompensationState, str]] = ..., executor: _Optional[str] = ..., error: _Optional[str] = ..., attempt: _Optional[str] = ...) -> None: ...

class WorkerAnnouncement(_message.Message):
    __slots__ = ("schema_version", "worker", "leaving")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    worker: _fleet_pb2.Worker
    leaving: bool
    def __init__(self, schema_version: _Optional[int] = ..., worker: _Optional[_Union[_fleet_pb2.Worker, _Mapping]] = ..., leaving: _Optional[bool] = ...) -> None: ...

class ToolCallRequest(_message.Message):
    __slots__ = ("schema_version", "execution_id", "name", "arguments_json", "timeout", "session_id", "tenant", "caller", "idempotency_key", "epoch", "labels", "own_revision", "turn", "call_number", "call_id", "replaces_revision", "compensates")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_JSON_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    OWN_REVISION_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    CALL_NUMBER_FIELD_NUMBER: _ClassVar[int]
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    REPLACES_REVISION_FIELD_NUMBER: _ClassVar[int]
    COMPENSATES_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    execution_id: str
    name: str
    arguments_json: str
    timeout: _duration_pb2.Duration
    session_id: str
    tenant: str
    caller: str
    idempotency_key: str
    epoch: int
    labels: _containers.ScalarMap[str, str]
    own_revision: int
    turn: int
    call_number: int
    call_id: str
    replaces_revision: int
    compensates: bool
    def __init__(self, schema_version: _Optional[int] = ..., execution_id: _Optional[str] = ..., name: _Optional[str] = ..., arguments_json: _Optional[str] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., session_id: _Optional[str] = ..., tenant: _Optional[str] = ..., caller: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., epoch: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ..., own_revision: _Optional[int] = ..., turn: _Optional[int] = ..., call_number: _Optional[int] = ..., call_id: _Optional[str] = ..., replaces_revision: _Optional[int] = ..., compensates: _Optional[bool] = ...) -> None: ...

class ToolCallReply(_message.Message):
    __slots__ = ("schema_version", "outcome", "output_json", "error", "duration", "status", "scheduling")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_JSON_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SCHEDULING_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    outcome: _live_pb2.ToolOutcome
    output_json: str
    error: str
    duration: _duration_pb2.Duration
    status: CallStatus
    scheduling: _live_pb2.ResponseScheduling
    def __init__(self, schema_version: _Optional[int] = ..., outcome: _Optional[_Union[_live_pb2.ToolOutcome, str]] = ..., output_json: _Optional[str] = ..., error: _Optional[str] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., status: _Optional[_Union[CallStatus, str]] = ..., scheduling: _Optional[_Union[_live_pb2.ResponseScheduling, str]] = ...) -> None: ...

class ToolReport(_message.Message):
    __slots__ = ("schema_version", "number", "progress", "partial")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    number: int
    progress: ToolProgress
    partial: PartialResult
    def __init__(self, schema_version: _Optional[int] = ..., number: _Optional[int] = ..., progress: _Optional[_Union[ToolProgress, _Mapping]] = ..., partial: _Optional[_Union[PartialResult, _Mapping]] = ...) -> None: ...

class ToolProgress(_message.Message):
    __slots__ = ("message", "fraction")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    message: str
    fraction: float
    def __init__(self, message: _Optional[str] = ..., fraction: _Optional[float] = ...) -> None: ...

class PartialResult(_message.Message):
    __slots__ = ("output_json", "scheduling")
    OUTPUT_JSON_FIELD_NUMBER: _ClassVar[int]
    SCHEDULING_FIELD_NUMBER: _ClassVar[int]
    output_json: str
    scheduling: _live_pb2.ResponseScheduling
    def __init__(self, output_json: _Optional[str] = ..., scheduling: _Optional[_Union[_live_pb2.ResponseScheduling, str]] = ...) -> None: ...

class CatalogRecord(_message.Message):
    __slots__ = ("schema_version", "tool", "version")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    TOOL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    tool: _tools_pb2.Tool
    version: str
    def __init__(self, schema_version: _Optional[int] = ..., tool: _Optional[_Union[_tools_pb2.Tool, _Mapping]] = ..., version: _Optional[str] = ...) -> None: ...

class UsageRecord(_message.Message):
    __slots__ = ("schema_version", "session_id", "tenant", "profile", "model", "usage", "time")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    session_id: str
    tenant: str
    profile: str
    model: str
    usage: _live_pb2.Usage
    time: _timestamp_pb2.Timestamp
    def __init__(self, schema_version: _Optional[int] = ..., session_id: _Optional[str] = ..., tenant: _Optional[str] = ..., profile: _Optional[str] = ..., model: _Optional[str] = ..., usage: _Optional[_Union[_live_pb2.Usage, _Mapping]] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class TimelineRecord(_message.Message):
    __slots__ = ("schema_version", "tenant", "writer", "published", "notes")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    WRITER_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    tenant: str
    writer: str
    published: _duration_pb2.Duration
    notes: _containers.RepeatedCompositeFieldContainer[TimelineNote]
    def __init__(self, schema_version: _Optional[int] = ..., tenant: _Optional[str] = ..., writer: _Optional[str] = ..., published: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., notes: _Optional[_Iterable[_Union[TimelineNote, _Mapping]]] = ...) -> None: ...

class TimelineNote(_message.Message):
    __slots__ = ("event", "at", "number")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    event: _timeline_pb2.TimelineEvent
    at: _duration_pb2.Duration
    number: int
    def __init__(self, event: _Optional[_Union[_timeline_pb2.TimelineEvent, _Mapping]] = ..., at: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., number: _Optional[int] = ...) -> None: ...

class TimelineTrace(_message.Message):
    __slots__ = ("schema_version", "tenant")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    tenant: str
    def __init__(self, schema_version: _Optional[int] = ..., tenant: _Optional[str] = ...) -> None: ...
