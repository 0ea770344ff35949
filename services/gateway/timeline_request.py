"""What is asked of a timeline, checked. Plain code: no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from parley.v1 import errors_pb2, sessions_pb2
from services.fabric.errors import ServiceError, invalid_field
from services.gateway.session_config import SESSION_ID

_TRACE_ID: Final = re.compile(r"^[0-9a-f]{32}$")
_AFTER: Final = re.compile(r"^[0-9]{1,18}$")


@dataclass(frozen=True, slots=True)
class Asked:
    """One of the first two is set."""

    session: str = ""
    trace: str = ""
    after: int = 0
    """Where an earlier answer ended."""


def check_request(request: sessions_pb2.GetSessionTimelineRequest) -> Asked:
    """What is asked. ServiceError FIELD_INVALID; SESSION_UNKNOWN for what cannot be the id of a session."""
    if request.after and not _AFTER.match(request.after):
        raise invalid_field("after", "must be `next_after` of an earlier answer")
    after = int(request.after or 0)
    match request.WhichOneof("of"):
        case "session_id":
            asked = Asked(session=request.session_id, after=after)
            if not SESSION_ID.fullmatch(request.session_id):
                raise unknown_timeline(asked)
            return asked
        case "trace_id":
            trace = request.trace_id.lower()
            if not _TRACE_ID.match(trace):
                raise invalid_field("trace_id", "must be 32 hexadecimal digits")
            return Asked(trace=trace, after=after)
        case _:
            raise invalid_field("session_id", "required, or `trace_id`")


def unknown_timeline(asked: Asked) -> ServiceError:
    """Nothing is known of it, or nothing that the caller may know."""
    what = "no session of this trace is known" if asked.trace else "no such session is known"
    return ServiceError(
        errors_pb2.ERROR_REASON_SESSION_UNKNOWN, f"{what}; what happened to a session is kept for a limited time"
    )
