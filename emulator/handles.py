"""Resumption handles: each restores the snapshot it was issued with, for as long as it lives."""

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field

from emulator.errors import Refusal
from emulator.usage import Meter

NOT_FOUND = "BidiGenerateContent session not found"
STILL_OPEN = "Internal error encountered."


@dataclass(frozen=True)
class Snapshot:
    """What a conversation was when the handle was issued."""

    history: tuple[tuple[str, str], ...] = ()
    """Role and text of each entry."""
    pictures: int = 0
    unanswered: tuple[str, ...] = ()
    meter: Meter = field(default_factory=Meter)


@dataclass
class Session:
    """What outlives a connection. At most one connection has it open."""

    conversation: str
    """Id of the record it is kept in."""
    model: str
    open: bool = True


@dataclass
class Restored:
    """What a handle stands for."""

    session: Session
    snapshot: Snapshot
    link: int
    """Index of the link that issued it."""
    expires: float


class HandleStore:
    """A bounded number of handles, the oldest given up first. Time is an argument, in seconds."""

    def __init__(self, *, ttl: float, limit: int) -> None:
        self._ttl = ttl
        self._limit = limit
        self._entries: OrderedDict[str, Restored] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def issue(self, session: Session, snapshot: Snapshot, now: float, *, link: int = 0) -> str:
        """A new handle. Older ones of the session stay good for their own snapshots."""
        handle = secrets.token_urlsafe(32)
        self._entries[handle] = Restored(session, snapshot, link, now + self._ttl)
        while len(self._entries) > self._limit:
            self._entries.popitem(last=False)
        return handle

    def resume(self, handle: str, model: str, now: float) -> Restored:
        """What to restore; its session is open from now on. Raises :class:`emulator.errors.Refusal`."""
        self._expire(now)
        entry = self._entries.get(handle)
        if entry is None or entry.session.model != model:
            raise Refusal(1008, NOT_FOUND)
        if entry.session.open:
            raise Refusal(1011, STILL_OPEN)
        entry.session.open = True
        entry.expires = now + self._ttl
        self._entries.move_to_end(handle)
        return entry

    def _expire(self, now: float) -> None:
        # Issue and resume both move to the end with a new expiry, so the order is that of expiry.
        while self._entries and next(iter(self._entries.values())).expires <= now:
            self._entries.popitem(last=False)
