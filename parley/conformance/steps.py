"""What a scripted gateway does and what it sees. Scripts are generators: they yield actions and get what happened."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from parley.v1 import errors_pb2
from parley.v1 import live_pb2 as pb

T = TypeVar("T")


class Violation(Exception):  # noqa: N818 - it is the verdict on somebody else, no error of this program
    """The other side broke the contract; the message says what it did and what would be right."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a call ends."""

    code: str = "OK"
    """Name of the gRPC status code."""
    reason: str = ""
    """Name of the `ErrorReason`; empty: without details, as gRPC itself or a proxy ends calls."""
    retry_delay: float | None = None
    """Seconds of `RetryInfo`; None: without."""

    def details(self) -> bytes:
        """As `grpc-status-details-bin`; empty when there are none."""
        if not self.reason:
            return b""
        status = errors_pb2.StatusDetails(message=self.reason)
        _add(status, "ErrorInfo", errors_pb2.ErrorInfoDetail(reason=self.reason, domain="parley"))
        if self.retry_delay is not None:
            retry = errors_pb2.RetryInfoDetail()
            retry.retry_delay.FromMicroseconds(round(self.retry_delay * 1e6))
            _add(status, "RetryInfo", retry)
        return status.SerializeToString()

    def __str__(self) -> str:
        return f"{self.code} ({self.reason})" if self.reason else self.code


def _add(status: errors_pb2.StatusDetails, name: str, detail: Any) -> None:
    status.details.add(type_url=f"type.googleapis.com/google.rpc.{name}", value=detail.SerializeToString())


# What a script does


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for the next event, at most so many seconds; the answer is the event, or `Nothing`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Send:
    """Send one response, as bytes; the answer is `Done`."""

    call: int
    response: bytes


@dataclass(frozen=True, slots=True)
class Finish:
    """End a call; the answer is `Done`, with the time just before the client can know."""

    call: int
    status: Status


Action: TypeAlias = Wait | Send | Finish


# What a script sees; times are seconds of one monotonic clock


@dataclass(frozen=True, slots=True)
class Called:
    """The client called `Converse`."""

    at: float
    call: int
    """Number of the call, from 1."""
    connection: str
    """Which connection it came by."""
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Received:
    """A message of the client."""

    at: float
    call: int
    request: pb.ConverseRequest


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Bytes of the client that are no `ConverseRequest`."""

    at: float
    call: int


@dataclass(frozen=True, slots=True)
class HalfClosed:
    """The client closed its side."""

    at: float
    call: int


@dataclass(frozen=True, slots=True)
class Left:
    """The client cancelled the call, or its connection is gone."""

    at: float
    call: int


@dataclass(frozen=True, slots=True)
class Reported:
    """The client printed a line of the report protocol."""

    at: float
    event: str
    seq: int


@dataclass(frozen=True, slots=True)
class Exited:
    """The client's process ended."""

    at: float
    status: int


@dataclass(frozen=True, slots=True)
class Nothing:
    """The time to wait is over."""

    at: float


@dataclass(frozen=True, slots=True)
class Done:
    """The action was carried out."""

    at: float


Event: TypeAlias = Called | Received | Unreadable | HalfClosed | Left | Reported | Exited
Answer: TypeAlias = Event | Nothing | Done
Steps: TypeAlias = Generator[Action, Answer, T]
