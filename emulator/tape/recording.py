"""A recording as it will be replayed: connections with what each side did, and HTTP exchanges."""

from dataclasses import dataclass, field
from typing import Any

from emulator.tape.captured import Headers


@dataclass(frozen=True, slots=True)
class FromClient:
    """A frame of the client's."""

    t: float
    line: int
    message: Any
    """JSON; blobs emptied. None where it was no JSON object."""
    kind: str
    amount: int
    """See :func:`emulator.tape.shape.amount`."""


@dataclass(frozen=True, slots=True)
class FromServer:
    """A frame of the server's: text (1), binary (2) or ping (9)."""

    t: float
    line: int
    opcode: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """A close frame, or the loss of the connection (``code`` None)."""

    t: float
    line: int
    from_client: bool
    code: int | None
    reason: str = ""


Step = FromClient | FromServer | Closed


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: of an exchange, or to an upgrade that was refused."""

    status: int
    headers: Headers
    body: bytes


@dataclass
class Connection:
    """One WebSocket."""

    number: int
    """As ``x-emulator-replay`` names it."""
    refused: Answer | None = None
    steps: list[Step] = field(default_factory=list)
    dropped: int = 0
    """Frames that the recorder could not write: what it replays is not all that was."""


@dataclass
class Recording:
    """A whole file."""

    connections: dict[int, Connection] = field(default_factory=dict)
    """By number, in the order of the file."""
    exchanges: dict[tuple[str, str], list[Answer]] = field(default_factory=dict)
    """By method and path without query, in the order of the file."""
