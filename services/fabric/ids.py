"""Identifiers: unique, sortable by time of creation, safe as a NATS token."""

from __future__ import annotations

import os
import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no letter that looks like a digit


def _base32(value: int, length: int) -> str:
    digits = []
    for _ in range(length):
        digits.append(_ALPHABET[value & 31])
        value >>= 5
    return "".join(reversed(digits))


def sortable_id() -> str:
    """48 bits of milliseconds and 80 random bits as 26 characters; later ids sort after earlier ones."""
    return _base32(time.time_ns() // 1_000_000, 10) + _base32(int.from_bytes(os.urandom(10), "big"), 16)


def session_id() -> str:
    """A new session's id."""
    return f"ses_{sortable_id()}"


def instance_id(kind: str) -> str:
    """An id for this process, new at every start: a restarted process is another process."""
    return f"{kind}-{_base32(int.from_bytes(os.urandom(6), 'big'), 10)}"


def resume_token() -> str:
    """A secret of 256 bits."""
    return secrets.token_urlsafe(32)
