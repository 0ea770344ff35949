"""Resumption handles: each restores the snapshot it was issued with, for as long as its session lives on."""

import math
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from emulator import texts
from emulator.audio import Intake
from emulator.errors import Refusal
from emulator.mind.context import Context
from emulator.record import Position
from emulator.tools.ledger import Ledger

DEAD = {"1008": texts.SESSION_NOT_FOUND, "1008 entity": texts.ENTITY_NOT_FOUND, "1007": texts.INVALID_HANDLE}
"""How a handle that restores nothing is refused, by the values of the switch ``dead_handle``."""


@dataclass(frozen=True)
class Hearing:
    """What is being heard and has not become part of the context yet. PCM16 at 16 kHz."""

    marked: bool = False
    """Whether the caller marked its activity; it means nothing to a connection that differs in that."""
    recent: tuple[bytes, ...] = ()
    """The latest 20 ms frames while nobody speaks, oldest first."""
    voiced: tuple[bool, ...] = ()
    """Whether the last of them sounded like speech."""
    speech: tuple[bytes, ...] | None = None
    """The utterance under way, in pieces; None when nobody speaks."""
    quiet: int = 0
    """Frames of silence at its end."""
    rest: bytes = b""
    """Less than a frame."""
    intake: Intake | None = None
    """The stream, in the middle of a sample or of a change of rate."""
    ended: tuple[bytes, ...] = ()
    """Utterances that are over and not understood yet."""


@dataclass(frozen=True)
class Snapshot:
    """What a conversation was when it was taken."""

    context: Context = field(default_factory=Context)
    unanswered: tuple[str, ...] = ()
    """What the user said or asked that has not been answered."""
    hearing: Hearing | None = None
    """None where what was being heard is not restored."""
    position: Position | None = None
    """Where the link's record was; None for a conversation that starts from nothing."""

    @property
    def history(self) -> tuple[tuple[str, str], ...]:
        """Role and text of each entry with a text."""
        return tuple((entry.role, entry.text) for entry in self.context if entry.text)

    @property
    def pictures(self) -> int:
        """Pictures that are remembered."""
        return self.context.pictures + self.context.images


class Owner(NamedTuple):
    """Whose a session is; a handle is good for nobody else."""

    model: str
    backend: str = "developer"
    project: str = ""
    """The API key, or the cloud project."""


@dataclass
class Session:
    """What outlives a connection. Times are in seconds of the emulator's clock."""

    conversation: str
    """Id of the record it is kept in."""
    owner: Owner
    opened: float
    """When the connection that has it open, or had it last, took it."""
    used: float = 0.0
    """Seconds that earlier connections had it open."""
    warned: bool = False
    """Whether a client was told that its time is over soon."""
    video: bool = False
    """Whether a picture was streamed in it."""
    connections: int = 1
    """So many had it, the present one included."""
    closed: float | None = None
    """When the last connection ended; None while one has it open."""
    ttl: float = 0.0
    """How long it can be resumed after that."""
    calls: Ledger = field(default_factory=Ledger)
    """The function calls made in it."""
    newest: str = ""
    """The handle issued last, or resumed by since."""
    displace: Callable[[Refusal], None] | None = None
    """Ends the connection that has it open."""

    def dead(self, now: float) -> bool:
        """Whether it cannot be resumed any more."""
        return self.closed is not None and now >= self.closed + self.ttl


@dataclass(frozen=True)
class Restored:
    """What a handle stands for."""

    session: Session
    snapshot: Snapshot


@dataclass
class _Entry:
    session: Session
    own: Snapshot
    """Taken when the handle was issued."""
    covering: Snapshot | None = None
    """Taken later, while no newer handle was issued."""


class HandleStore:
    """A bounded number of handles, the oldest given up first."""

    def __init__(self, *, limit: int, prefix: str = "") -> None:
        self._limit = limit
        self._prefix = prefix
        """What handles begin with, so that they tell who issued them."""
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def issue(self, session: Session, snapshot: Snapshot, now: float) -> str:
        """A new handle. Older ones of the session stay good, for their own snapshots."""
        self.uncover(session)
        handle = session.newest = self._prefix + secrets.token_urlsafe(32)
        self._entries[handle] = _Entry(session, snapshot)
        while len(self._entries) > self._limit or next(iter(self._entries.values())).session.dead(now):
            self._entries.popitem(last=False)
        return handle

    def resume(
        self,
        handle: str,
        owner: Owner,
        now: float,
        *,
        dead: texts.Reason = texts.SESSION_NOT_FOUND,
        take_over: bool = False,
        life: Callable[[Session], float] = lambda session: math.inf,
    ) -> Restored:
        """What to restore; its session is open from now on, as often as the handle is used.

        Raises ``dead`` for a handle that is unknown, somebody else's or too old, or whose session has been open for all
        its ``life`` (seconds). A session that is still open raises
        1011, or is taken from its connection; the service is not known to do that, so what that one is told is a guess.
        """
        entry = self._entries.get(handle)
        if entry is None or entry.session.owner != owner or entry.session.dead(now):
            raise dead.refusal()
        session = entry.session
        if session.closed is not None and session.used >= life(session):
            raise dead.refusal()
        if session.closed is None:
            if not take_over:
                raise texts.STILL_OPEN.refusal()
            if session.displace is not None:
                session.displace(texts.ABORTED.refusal())
            self.close(session, session.connections, now)
        self._entries.move_to_end(handle)
        session.connections += 1
        if handle != session.newest:
            # At an older handle none of the calls that wait had been made.
            session.calls.unanswered.clear()
        session.opened, session.closed, session.newest = now, None, handle
        return Restored(session, entry.covering or entry.own)

    def cover(self, session: Session, snapshot: Snapshot) -> bool:
        """The newest handle restores ``snapshot``, until a newer one is issued; false where there is none."""
        entry = self._entries.get(session.newest)
        if entry is not None:
            entry.covering = snapshot
        return entry is not None

    def uncover(self, session: Session) -> Snapshot | None:
        """The newest handle restores its own snapshot again: that, or None where it covered nothing else."""
        entry = self._entries.get(session.newest)
        if entry is None or entry.covering is None:
            return None
        entry.covering = None
        return entry.own

    def forget(self, conversation: str, *, newest_only: bool = False) -> None:
        """The conversation's handles are dead from now on: all of them, or the one issued last."""
        gone = [handle for handle, entry in self._entries.items() if entry.session.conversation == conversation]
        for handle in gone[-1:] if newest_only else gone:
            del self._entries[handle]

    def close(self, session: Session, connection: int, now: float, covering: Snapshot | None = None) -> bool:
        """The session's ``connection`` (counted from 1) has ended; false when another had taken it over before.

        ``covering``: what the newest handle restores from now on, where it covers what came after it.
        """
        if connection != session.connections or session.closed is not None:
            return False
        session.used += now - session.opened
        # A session outlives its connections by hours, and must not keep them.
        session.closed, session.displace = now, None
        if covering is not None:
            self.cover(session, covering)
        return True
