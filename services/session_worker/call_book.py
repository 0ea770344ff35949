"""Which call of the model is which: the same call has the same claim, under whatever id it comes. Plain code.

The model's own ids do not tell: a backend may send a call twice with another id, and a turn that is generated anew
calls with new ones. What tells is the turn, the tool, its arguments, and how often they came before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from parley.v1 import fabric_pb2

MAX_CALLS: Final = 10_000
"""Calls of one session: what a day of a call every nine seconds makes. Each leaves a claim until the session ends."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which call it is."""

    key: str
    """Of its claim."""
    turn: int
    number: int
    """Which call of its turn, from 1."""
    tool: str
    again: bool = False
    """It was made before, in a turn that is generated anew or that another worker began."""


def canonical(arguments: dict[str, Any]) -> str:
    """Arguments as JSON, the same for the same arguments."""
    return json.dumps(arguments, sort_keys=True, separators=(",", ":"))


class CallBook:
    """The calls of one session's present turn."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._turn = 0
        self._made: dict[str, Identity] = {}
        """Calls of the turn by key, in order."""
        self._earlier: dict[str, Identity] = {}
        """Of those: made before the turn was generated anew, and not called for since."""
        self._counts: dict[str, int] = {}
        """How often the same content came since the turn began (anew)."""
        self._open: dict[str, Identity] = {}
        """Calls that are not answered yet, by content."""
        self.total = 0
        """Calls of the session so far."""

    @property
    def full(self) -> bool:
        """No more calls can be claimed in this session."""
        return self.total >= MAX_CALLS

    def identify(self, tool: str, arguments: str, turn: int, *, idempotent: bool) -> Identity:
        """Which call this is; `arguments` are canonical.

        A call that comes again while it is not answered is that call: a model that has no answer yet has no reason to
        repeat itself. In a turn generated anew, a tool that is not idempotent gets the calls made before even if the
        arguments differ: its effect has been had.
        """
        if turn != self._turn:
            self._begin(turn)
        content = f"{tool}\0{arguments}"
        if (same := self._open.get(content)) is not None:
            return same
        self._counts[content] = self._counts.get(content, 0) + 1
        identity = self._earlier_call(self._key(content), tool, idempotent=idempotent) or self._new(content, tool)
        self._open[content] = identity
        return identity

    def answered(self, key: str) -> None:
        """The model has, or will not want, the outcome: the same content is another call from now on."""
        for content in [content for content, identity in self._open.items() if identity.key == key]:
            del self._open[content]

    def restarted(self, turn: int) -> None:
        """The model generates this turn anew: its calls may come again."""
        if turn != self._turn:
            self._begin(turn)
        self._earlier = dict(self._made)
        self._counts.clear()
        self._open.clear()

    def restore(self, records: Iterable[tuple[str, fabric_pb2.ClaimRecord]]) -> int:
        """Take over what another worker claimed, in order; return the turn of the newest call (0: there is none).

        That turn is taken for one that is generated anew until another begins.
        """
        records = list(records)
        self._begin(max((record.turn for _, record in records), default=0))
        self.total = len(records)
        for key, record in records:
            if record.turn == self._turn:
                self._made[key] = Identity(key, record.turn, record.number, record.tool, again=True)
        self._earlier = dict(self._made)
        return self._turn

    def _begin(self, turn: int) -> None:
        self._turn = turn
        for calls in (self._made, self._earlier, self._counts, self._open):
            calls.clear()

    def _earlier_call(self, key: str, tool: str, *, idempotent: bool) -> Identity | None:
        if key not in self._earlier:
            if key in self._made:
                return self._again(self._made[key])
            if idempotent:
                return None
            key = next((key for key, made in self._earlier.items() if made.tool == tool), "")
        made = self._earlier.pop(key, None)
        return None if made is None else self._again(made)

    @staticmethod
    def _again(made: Identity) -> Identity:
        return Identity(made.key, made.turn, made.number, made.tool, again=True)

    def _new(self, content: str, tool: str) -> Identity:
        key = self._key(content)
        number = max((made.number for made in self._made.values()), default=0) + 1
        identity = self._made[key] = Identity(key, self._turn, number, tool)
        self.total += 1
        return identity

    def _key(self, content: str) -> str:
        parts = (self._session, str(self._turn), content, str(self._counts[content]))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()
