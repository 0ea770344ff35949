"""How a call ended: the first status it got, and the typed error for it."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from parley import errors
from parley.v1 import errors_pb2

_DETAILS_KEY = "grpc-status-details-bin"
_TYPE_PREFIX = "type.googleapis.com/google.rpc."
_REASON_PREFIX = "ERROR_REASON_"

_BY_CODE: dict[grpc.StatusCode, type[errors.ParleyError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidRequest,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ResourceExhausted,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    # A gateway that was closing never looked at the call. Nobody asks for the status of a call that we cancelled.
    grpc.StatusCode.CANCELLED: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unimplemented,
    grpc.StatusCode.INTERNAL: errors.InternalError,
    grpc.StatusCode.UNKNOWN: errors.InternalError,
    grpc.StatusCode.DATA_LOSS: errors.InternalError,
}
_BY_REASON: dict[str, type[errors.ParleyError]] = {
    "SUPERSEDED": errors.Superseded,
    "SESSION_ENDED": errors.SessionEnded,
}


@dataclass(frozen=True, slots=True)
class Status:
    """Status of a finished call, as it came."""

    code: grpc.StatusCode
    message: str
    trailing_metadata: Sequence[tuple[str, str | bytes]]

    @property
    def ok(self) -> bool:
        """The call ended as it should."""
        return self.code is grpc.StatusCode.OK

    def error(self) -> errors.ParleyError:
        """The typed error; details that cannot be read are left out, never raised."""
        reason = ""
        violations: list[errors.FieldViolation] = []
        retry_delay: timedelta | None = None
        for type_url, value in self._details():
            match type_url.removeprefix(_TYPE_PREFIX):
                case "ErrorInfo":
                    info = errors_pb2.ErrorInfoDetail()
                    if _parse(info, value):
                        reason = info.reason.removeprefix(_REASON_PREFIX)
                case "BadRequest":
                    bad = errors_pb2.BadRequestDetail()
                    if _parse(bad, value):
                        violations += [errors.FieldViolation(v.field, v.description) for v in bad.field_violations]
                case "RetryInfo":
                    retry = errors_pb2.RetryInfoDetail()
                    if _parse(retry, value) and retry.HasField("retry_delay"):
                        delay = retry.retry_delay
                        retry_delay = timedelta(seconds=delay.seconds, microseconds=delay.nanos / 1000)
        kind = _BY_REASON.get(reason) or _BY_CODE.get(self.code, errors.ParleyError)
        message = self.message or "the service gave no reason"
        if kind is errors.Unimplemented and not reason:  # gRPC's own "Method not found!"
            message = "the service does not know what was asked of it: its release is older than this client's"
        return kind(
            message,
            code=self.code.name,
            reason=reason,
            field_violations=violations,
            retry_delay=retry_delay,
        )

    def _details(self) -> list[tuple[str, bytes]]:
        for key, value in self.trailing_metadata:
            status = errors_pb2.StatusDetails()
            if key == _DETAILS_KEY and isinstance(value, bytes) and _parse(status, value):
                return [(item.type_url, item.value) for item in status.details]
        return []


class FirstStatus:
    """Remembers the first status of a call.

    grpc.aio lets a write that fails after the call has ended replace the service's status by "INTERNAL: Internal error
    from Core" (grpc issue 36066). The done callback runs at the moment the first status is set, so what it reads is
    what the service said, unless the write failed a moment before the service's status arrived: then that status is
    the second one, and `settled` waits for it.
    """

    _FROM_CORE = "Internal error from Core"
    _WAIT = 1.0
    """Seconds that the service's own status may take after a failed write."""

    def __init__(self, call: Any) -> None:
        self._status: Status | None = None
        self._call = call
        call.add_done_callback(self._on_done)

    async def settled(self) -> Status | None:
        """The status once the call has ended; None when it has not.

        UNAVAILABLE where gRPC alone said that it has: the connection failed, and the service said nothing.
        """
        limit = time.monotonic() + self._WAIT
        while self._status is not None and self._is_from_core(self._status) and time.monotonic() < limit:
            await asyncio.sleep(0.005)
            self._status = _read(self._call)
        if self._status is not None and self._is_from_core(self._status):
            self._status = replace(self._status, code=grpc.StatusCode.UNAVAILABLE)
        return self._status

    def _is_from_core(self, status: Status) -> bool:
        return status.code is grpc.StatusCode.INTERNAL and status.message.startswith(self._FROM_CORE)

    @property
    def status(self) -> Status | None:
        """None while the call runs."""
        return self._status

    def _on_done(self, call: Any) -> None:
        if self._status is None:
            self._status = _read(call)


def _read(call: Any) -> Status:
    return Status(_now(call.code()), _now(call.details()) or "", tuple(_now(call.trailing_metadata()) or ()))


def from_rpc_error(error: grpc.aio.AioRpcError) -> errors.ParleyError:
    """The typed error of a failed unary call."""
    return Status(error.code(), error.details() or "", tuple(error.trailing_metadata() or ())).error()


def _now(question: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that has nothing to wait for."""
    try:
        question.send(None)
    except StopIteration as stop:
        return stop.value
    question.close()
    raise RuntimeError("grpc.aio asked to wait for the status of a call that has ended")


def _parse(message: Message, data: bytes) -> bool:
    try:
        message.ParseFromString(data)
    except DecodeError:
        return False
    return True
