"""What the relay captures: one value for each line of a recording, as it was on the wire."""

from dataclasses import dataclass, field
from typing import Any

Headers = tuple[tuple[str, str], ...]

# What a captured value costs beside its bytes, in memory and roughly also as a line.
_OVERHEAD = 512

NO_CODE = 1005
"""Close code of a close frame that has none (RFC 6455, 7.1.5)."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A text (1), binary (2), ping (9) or pong (10) frame."""

    connection: int
    t: float
    """Seconds since the connection began."""
    from_client: bool
    opcode: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """A close frame."""

    connection: int
    t: float
    from_client: bool
    code: int
    """:data:`NO_CODE` where the frame was empty."""
    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """A side that went away without a close frame, or broke the protocol."""

    connection: int
    t: float
    from_client: bool
    why: str


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The request for a WebSocket, written once its outcome is known."""

    connection: int
    path: str
    """With the query."""
    headers: Headers
    extensions: str | None
    """What was negotiated with the client, as the header says it."""


@dataclass(frozen=True, slots=True)
class Upgraded:
    """The answer to it: 101, or a refusal with its body."""

    connection: int
    t: float
    status: int
    headers: Headers
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Request:
    """A plain HTTP request."""

    exchange: int
    method: str
    path: str
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to it; ``t`` counts from the request."""

    exchange: int
    t: float
    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A remark of the recorder's."""

    label: str
    facts: dict[str, Any] = field(default_factory=dict)
    connection: int | None = None


Captured = Frame | Close | Lost | Upgrade | Upgraded | Request | Answer | Note


def size(captured: Captured) -> int:
    """Bytes that it takes while it waits to be written."""
    match captured:
        case Frame():
            return _OVERHEAD + len(captured.data)
        case Upgraded() | Request() | Answer():
            return _OVERHEAD + len(captured.body) + _headers_size(captured.headers)
        case Upgrade():
            return _OVERHEAD + _headers_size(captured.headers)
        case _:
            return _OVERHEAD


def _headers_size(headers: Headers) -> int:
    return sum(len(name) + len(value) for name, value in headers)
