"""Errors: one class, one table from reason to gRPC status, one encoding for gRPC and one for NATS."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from parley.v1 import errors_pb2, fabric_pb2

DOMAIN: Final = "parley"
_PREFIX: Final = "ERROR_REASON_"

_R = errors_pb2
_STATUS: Final[dict[int, grpc.StatusCode]] = {
    _R.ERROR_REASON_OPEN_MISPLACED: grpc.StatusCode.INVALID_ARGUMENT,
    _R.ERROR_REASON_OPEN_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    _R.ERROR_REASON_PAYLOAD_MISSING: grpc.StatusCode.INVALID_ARGUMENT,
    _R.ERROR_REASON_MESSAGE_INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    _R.ERROR_REASON_FIELD_INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    _R.ERROR_REASON_SEQUENCE_BROKEN: grpc.StatusCode.INVALID_ARGUMENT,
    _R.ERROR_REASON_AUDIO_INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    _R.ERROR_REASON_VIDEO_INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    _R.ERROR_REASON_PROFILE_UNKNOWN: grpc.StatusCode.NOT_FOUND,
    _R.ERROR_REASON_MODEL_UNKNOWN: grpc.StatusCode.INVALID_ARGUMENT,
    _R.ERROR_REASON_TOOL_UNKNOWN: grpc.StatusCode.INVALID_ARGUMENT,
    _R.ERROR_REASON_TOOL_CALL_UNKNOWN: grpc.StatusCode.INVALID_ARGUMENT,
    _R.ERROR_REASON_ARGUMENTS_INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    _R.ERROR_REASON_SESSION_UNKNOWN: grpc.StatusCode.NOT_FOUND,
    _R.ERROR_REASON_SESSION_ENDED: grpc.StatusCode.FAILED_PRECONDITION,
    _R.ERROR_REASON_RESUME_REFUSED: grpc.StatusCode.PERMISSION_DENIED,
    _R.ERROR_REASON_SUPERSEDED: grpc.StatusCode.ABORTED,
    _R.ERROR_REASON_CREDENTIAL_INVALID: grpc.StatusCode.UNAUTHENTICATED,
    _R.ERROR_REASON_TENANT_LIMIT: grpc.StatusCode.RESOURCE_EXHAUSTED,
    _R.ERROR_REASON_NO_WORKER: grpc.StatusCode.UNAVAILABLE,
    _R.ERROR_REASON_NO_CAPACITY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    _R.ERROR_REASON_FABRIC_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    _R.ERROR_REASON_BACKEND_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    _R.ERROR_REASON_BACKEND_REFUSED: grpc.StatusCode.FAILED_PRECONDITION,
    _R.ERROR_REASON_BACKEND_QUOTA: grpc.StatusCode.RESOURCE_EXHAUSTED,
    _R.ERROR_REASON_WORKER_LOST: grpc.StatusCode.UNAVAILABLE,
    _R.ERROR_REASON_GATEWAY_DRAINING: grpc.StatusCode.UNAVAILABLE,
    _R.ERROR_REASON_NOT_IMPLEMENTED: grpc.StatusCode.UNIMPLEMENTED,
    _R.ERROR_REASON_INTERNAL: grpc.StatusCode.INTERNAL,
    _R.ERROR_REASON_UPLINK_OVERFLOW: grpc.StatusCode.RESOURCE_EXHAUSTED,
    _R.ERROR_REASON_CALLER_SLOW: grpc.StatusCode.RESOURCE_EXHAUSTED,
    _R.ERROR_REASON_NOT_PERMITTED: grpc.StatusCode.PERMISSION_DENIED,
}

# Refusals that time can mend say when to try again, also where the place that raised them did not.
_RETRY_DELAY: Final[dict[int, timedelta]] = {
    _R.ERROR_REASON_TENANT_LIMIT: timedelta(seconds=5),
    _R.ERROR_REASON_NO_WORKER: timedelta(seconds=2),
    _R.ERROR_REASON_NO_CAPACITY: timedelta(seconds=2),
    _R.ERROR_REASON_FABRIC_UNAVAILABLE: timedelta(seconds=2),
    _R.ERROR_REASON_BACKEND_UNAVAILABLE: timedelta(seconds=2),
    _R.ERROR_REASON_BACKEND_QUOTA: timedelta(seconds=30),
    _R.ERROR_REASON_WORKER_LOST: timedelta(seconds=1),
    _R.ERROR_REASON_GATEWAY_DRAINING: timedelta(seconds=1),
    _R.ERROR_REASON_UPLINK_OVERFLOW: timedelta(seconds=1),
    _R.ERROR_REASON_CALLER_SLOW: timedelta(seconds=1),
}


@dataclass(eq=False)  # by identity, and hashable: `except*` and friends put exceptions into sets
class ServiceError(Exception):
    """Something is wrong, said so that a caller can act on it."""

    reason: errors_pb2.ErrorReason
    """Why; the gRPC status follows from it."""
    message: str
    """What is wrong and what would be right, in one or two sentences."""
    violations: dict[str, str] = field(default_factory=dict)
    """Field path to what is wrong with it."""
    retry_delay: timedelta | None = None
    """When to try again; the table's default when None."""

    def __str__(self) -> str:
        return f"{self.reason_name}: {self.message}"

    @property
    def reason_name(self) -> str:
        """The reason as callers see it, without the enum's prefix."""
        return errors_pb2.ErrorReason.Name(self.reason).removeprefix(_PREFIX)

    @property
    def code(self) -> grpc.StatusCode:
        """The gRPC status of the reason."""
        return _STATUS.get(self.reason, grpc.StatusCode.INTERNAL)

    def delay(self) -> timedelta | None:
        """When to try again; None when time does not help."""
        return self.retry_delay or _RETRY_DELAY.get(self.reason)

    def to_failure(self) -> fabric_pb2.Failure:
        """For the way through NATS."""
        failure = fabric_pb2.Failure(
            code=self.code.value[0],
            reason=self.reason,
            message=self.message,
            field_violations=[
                errors_pb2.FieldViolation(field=name, description=text) for name, text in self.violations.items()
            ],
        )
        if (delay := self.delay()) is not None:
            failure.retry_delay.FromTimedelta(delay)
        return failure

    @classmethod
    def from_failure(cls, failure: fabric_pb2.Failure) -> ServiceError:
        """Undo `to_failure`."""
        delay = failure.retry_delay.ToTimedelta() if failure.HasField("retry_delay") else None
        violations = {item.field: item.description for item in failure.field_violations}
        return cls(failure.reason, failure.message, violations, delay)

    def to_status(self) -> status_pb2.Status:
        """As google.rpc.Status with ErrorInfo, BadRequest and RetryInfo."""
        details = [_packed(error_details_pb2.ErrorInfo(reason=self.reason_name, domain=DOMAIN))]
        if self.violations:
            bad = error_details_pb2.BadRequest()
            for name, text in self.violations.items():
                bad.field_violations.add(field=name, description=text)
            details.append(_packed(bad))
        if (delay := self.delay()) is not None:
            retry = duration_pb2.Duration()
            retry.FromTimedelta(delay)
            details.append(_packed(error_details_pb2.RetryInfo(retry_delay=retry)))
        code = code_pb2.Code.Value(self.code.name)
        return status_pb2.Status(code=code, message=self.message, details=details)


def _packed(
    detail: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def invalid_field(path: str, problem: str, reason: errors_pb2.ErrorReason | None = None) -> ServiceError:
    """One wrong field: INVALID_ARGUMENT with a BadRequest detail that names it."""
    return ServiceError(
        reason if reason is not None else errors_pb2.ERROR_REASON_FIELD_INVALID, f"{path}: {problem}", {path: problem}
    )


def not_implemented(what: str) -> ServiceError:
    """This release does not serve it yet."""
    return ServiceError(errors_pb2.ERROR_REASON_NOT_IMPLEMENTED, f"{what} is not served by this release")
