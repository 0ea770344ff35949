"""Pages of the list of sessions: what a page token says, and how a page is filled."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import itertools
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from parley.v1 import sessions_pb2
from services.fabric.errors import invalid_field
from services.gateway.session_config import SESSION_ID
from services.gateway.session_filter import Expression

_AT_ONCE: Final = 32
"""Attachments that are read at once."""
MAX_EXAMINED: Final = 4096
"""Sessions whose attachment is read for one page at most; the rest is left to the next page."""

Session = sessions_pb2.Session


def token_after(session: str, filter_text: str = "") -> str:
    """A page token: the next page begins after this session, and is for this filter only."""
    raw = f"1:{session}" if not filter_text else f"2:{_digest(filter_text)}:{session}"
    return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")


def session_of_token(token: str, filter_text: str = "") -> str:
    """Undo `token_after`; ServiceError FIELD_INVALID for what it never made, or made for another filter."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raw = ""
    session = raw.rpartition(":")[2]
    if not SESSION_ID.fullmatch(session) or token_after(session, filter_text) != token:
        raise invalid_field(
            "page_token", "must be `next_page_token` of an earlier answer to the same `filter`, or empty"
        )
    return session


def _digest(filter_text: str) -> str:
    return hashlib.sha256(filter_text.encode()).hexdigest()[:16]


async def fill_page(
    newest_first: Iterable[Session], which: Expression, size: int, complete: Callable[[Session], Awaitable[Session]]
) -> tuple[list[Session], str]:
    """Up to `size` sessions that match, and the id after which the next page begins; empty when there is none.

    The sessions come without their attachment. `complete` reads it, and is asked only for those that can still match,
    a few at once; a page that would need too many of these reads is cut short.
    """
    candidates = (session for session in newest_first if which.matches(session, attached=False) is not False)
    found: list[Session] = []
    examined = 0
    while chunk := list(itertools.islice(candidates, _AT_ONCE)):
        completed = await asyncio.gather(*map(complete, chunk))
        found += [session for session in completed if which.matches(session, attached=True)]
        examined += len(chunk)
        if len(found) > size:
            return found[:size], found[size - 1].session_id
        if examined >= MAX_EXAMINED:
            return found, chunk[-1].session_id if next(candidates, None) is not None else ""
    return found, ""
