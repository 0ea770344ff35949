"""What the end of a link, or a dial that failed, means: one table for the whole worker. Plain code: no I/O.

The text of a close says more than its code: 1008 is a connection that grew too old, a dead handle or a model that does
not exist. So texts are looked at first, and phrases are chosen from their beginnings: a close frame holds 123 bytes.
The texts were seen by authors of clients, or stand in the documentation and the SDK; RFC 6455 has the codes.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from typing import Final

from parley.v1 import errors_pb2
from services.fabric.errors import ServiceError


class Where(Enum):
    """What was going on. The value says it to callers."""

    LINK = "the model's link closed: {code} {text}"
    """An open link ended: a close frame, a lost connection (1006), or a watchdog that gave it up (1006)."""
    SETUP = "the model's endpoint closed the set-up: {code} {text}"
    """A close came in the place of `setupComplete`."""
    ANSWER = "the model's endpoint answered the set-up with nonsense"
    """Something else came in its place; the SDK does not say what."""
    UPGRADE = "the model's endpoint answered the upgrade with HTTP {code}"
    """The HTTP request was refused: nobody has seen the set-up."""
    CONNECT = "the model's endpoint cannot be reached ({text})"
    """Name, TCP, TLS or proxy: nobody has seen the set-up."""
    TIMEOUT = "the model's endpoint did not answer within {text}"
    """No `setupComplete` in time; whether anybody has seen the set-up is not known."""
    SDK = "the set-up was refused ({text})"
    """The SDK raised: it takes the configuration for wrong, or could not read the answer."""


@dataclass(frozen=True, slots=True)
class LinkFailure:
    """A link that ended, or one that could not be had."""

    where: Where
    code: int = 0
    """WebSocket close code, HTTP status for UPGRADE, else 0."""
    text: str = ""
    """Reason of the close, as far as it came; else what the library said."""
    retry_after: float | None = None
    """Seconds that the endpoint asked to wait (HTTP `Retry-After`)."""

    def __str__(self) -> str:
        return self.where.value.format(code=self.code, text=self.text).strip()


class Remedy(Enum):
    """What helps."""

    ROTATE = auto()
    """Another link, by the handle: the end says nothing against the state behind it."""
    RETRY = auto()
    """The same again, later: nobody has looked at the handle."""
    DROP_HANDLE = auto()
    """Neither this handle nor this set-up again, ever. A link seeded from the log has another set-up."""
    BACKEND_FAULT = auto()
    """One try with the handle, then a seed: the fault may be in the state, and nobody can tell.

    Resuming while the old socket is open is refused in the same words (1011 `Internal error encountered.`): only who
    knows that the old socket may be open (the ladder) can take it for that.
    """
    QUOTA = auto()
    """Wait. The handle is good."""
    FATAL = auto()
    """Nothing: every set-up of this session has the same fault (key, model, permission, a named field)."""


_R = errors_pb2
_REASON: Final = {
    Remedy.ROTATE: _R.ERROR_REASON_BACKEND_UNAVAILABLE,
    Remedy.RETRY: _R.ERROR_REASON_BACKEND_UNAVAILABLE,
    Remedy.DROP_HANDLE: _R.ERROR_REASON_BACKEND_REFUSED,
    Remedy.BACKEND_FAULT: _R.ERROR_REASON_BACKEND_UNAVAILABLE,
    Remedy.QUOTA: _R.ERROR_REASON_BACKEND_QUOTA,
    Remedy.FATAL: _R.ERROR_REASON_BACKEND_REFUSED,
}
"""What a caller is told when nothing has helped."""


@dataclass(frozen=True, slots=True)
class _Rule:
    where: tuple[Where, ...]
    remedy: Remedy
    text: re.Pattern[str] | None = None
    codes: Container[int] | None = None

    def fits(self, failure: LinkFailure) -> bool:
        return (
            failure.where in self.where
            and (self.text is None or self.text.search(failure.text) is not None)
            and (self.codes is None or failure.code in self.codes)
        )


def _says(*phrases: str) -> re.Pattern[str]:
    return re.compile("|".join(phrases), re.IGNORECASE)


_CLOSED = (Where.LINK, Where.SETUP)
_RULES: Final = (  # the first that fits decides
    # A connection that grew too old, in each of its wordings; pongs that came late for a client's own library.
    _Rule(_CLOSED, Remedy.ROTATE, _says("GoAway", "failed to close the connection", "session duration")),
    _Rule(_CLOSED, Remedy.ROTATE, _says("Deadline expired", "keepalive ping timeout")),
    # Whatever names the handle. The entity that is not there may be the model: then the seed is refused as well.
    _Rule(_CLOSED, Remedy.DROP_HANDLE, _says("session not found", "session handle", "session_?resumption")),
    _Rule(_CLOSED, Remedy.DROP_HANDLE, _says("entity was not found")),
    _Rule(_CLOSED, Remedy.QUOTA, _says("quota", "RESOURCE_EXHAUSTED", "resource has been exhausted", "rate limit")),
    _Rule(_CLOSED, Remedy.FATAL, _says("API key", "unregistered callers", "auth token", "UNAUTHENTICATED")),
    _Rule(_CLOSED, Remedy.FATAL, _says("PERMISSION_DENIED", "not found for API version", "Publisher model")),
    _Rule(_CLOSED, Remedy.BACKEND_FAULT, _says("currently unavailable", "Internal error", "overloaded")),
    # The set-up was taken when the session began. What its refusal does not name is likely what is new, the handle.
    _Rule((Where.SETUP,), Remedy.DROP_HANDLE, _says("^$", "invalid argument", "Precondition check failed"), {1007}),
    # From here on the code is all there is.
    _Rule(_CLOSED, Remedy.ROTATE, codes={1000, 1001, 1005, 1006, 1012, 1013, 1014, 1015}),
    _Rule((Where.SETUP,), Remedy.FATAL, codes={1002, 1003, 1007, 1008, 1009, 1010}),
    # Not the set-up, but something that was said later, or a context that grew too large: a resume brings it back.
    _Rule((Where.LINK,), Remedy.DROP_HANDLE, codes={1007}),
    # 1011; 1008 in the middle of a talk, mostly for audio in a wrong moment (a call was pending); and the rest.
    _Rule((*_CLOSED, Where.ANSWER), Remedy.BACKEND_FAULT),
    _Rule((Where.UPGRADE,), Remedy.QUOTA, codes={429}),
    _Rule((Where.UPGRADE,), Remedy.RETRY, codes={408}),
    _Rule((Where.UPGRADE,), Remedy.FATAL, codes=range(400, 500)),
    _Rule((Where.UPGRADE, Where.CONNECT), Remedy.RETRY),
    # It may be the handle that is not answered: not without end.
    _Rule((Where.TIMEOUT,), Remedy.ROTATE),
    _Rule((Where.SDK,), Remedy.DROP_HANDLE),
)


def remedy(failure: LinkFailure) -> Remedy:
    """What helps against this."""
    return next(rule.remedy for rule in _RULES if rule.fits(failure))


@dataclass(eq=False)
class LinkError(ServiceError):
    """There is no link to the model, as callers are told."""

    failure: LinkFailure = field(kw_only=True)
    """What happened."""


def link_error(failure: LinkFailure, addition: str = "") -> LinkError:
    """The error of a caller who cannot be helped; `addition` ends its sentence."""
    delay = None if failure.retry_after is None else timedelta(seconds=failure.retry_after)
    return LinkError(_REASON[remedy(failure)], f"{failure}{addition}", retry_delay=delay, failure=failure)
