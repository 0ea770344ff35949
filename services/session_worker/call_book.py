"""Which call of the model is which: the same call has the same claim, under whatever id it comes. Plain code.

The model's own ids do not tell: a backend may send a call twice with another id, and a turn that is generated anew
calls with new ones. What tells is the answer that it is made for, the tool, its arguments, and how often they came
before. An answer may take several turns: those of calls alone, and the one that speaks. It goes by the number of the
first, and is generated anew as a whole.
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
    """With which the answer began that it is made for."""
    number: int
    """Which call of its answer, from 1."""
    tool: str
    again: bool = False
    """It was made before, for an answer that is generated anew or that another worker began."""


def canonical(arguments: dict[str, Any]) -> str:
    """Arguments as JSON, the same for the same arguments."""
    return json.dumps(arguments, sort_keys=True, separators=(",", ":"))


class CallBook:
    """The calls for one session's present answer."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._answer = 0
        self._made: dict[str, Identity] = {}
        """Calls for the answer by key, in order."""
        self._earlier: dict[str, Identity] = {}
        """Of those: made before the answer was generated anew, and not called for since."""
        self._counts: dict[str, int] = {}
        """How often the same content came since the answer began (anew)."""
        self._open: dict[tuple[int, str], Identity] = {}
        """Calls that have no result yet, by turn and content."""
        self.total = 0
        """Calls of the session so far."""

    @property
    def full(self) -> bool:
        """No more calls can be claimed in this session."""
        return self.total >= MAX_CALLS

    def identify(self, tool: str, arguments: str, turn: int, answer: int, *, idempotent: bool) -> Identity:
        """Which call this is; `arguments` are canonical, `answer` is the turn with which the answer began.

        A call that comes again in its turn while it has no result is that call: a model that waits has no reason to
        repeat itself. For an answer generated anew, a tool that is not idempotent gets the calls made before even if
        the arguments differ: its effect has been had.
        """
        if answer != self._answer:
            self._begin(answer)
        content = f"{tool}\0{arguments}"
        if (same := self._open.get((turn, content))) is not None:
            return same
        self._counts[content] = self._counts.get(content, 0) + 1
        identity = self._earlier_call(self._key(content), tool, idempotent=idempotent) or self._new(content, tool)
        self._open[turn, content] = identity
        return identity

    def answered(self, key: str) -> None:
        """The model has, or will not want, the outcome: the same content is another call from now on."""
        for call in [call for call, identity in self._open.items() if identity.key == key]:
            del self._open[call]

    def restarted(self, answer: int) -> None:
        """The model generates the answer anew that began with this turn: its calls may come again."""
        if answer != self._answer:
            self._begin(answer)
        self._earlier = dict(self._made)
        self._counts.clear()
        self._open.clear()

    def restore(self, records: Iterable[tuple[str, fabric_pb2.ClaimRecord]]) -> int:
        """Take over what another worker claimed, in order; return the answer of the newest call (0: there is none).

        It is taken for one that is generated anew until another begins.
        """
        records = list(records)
        self._begin(max((record.turn for _, record in records), default=0))
        self.total = len(records)
        for key, record in records:
            if record.turn == self._answer:
                self._made[key] = Identity(key, record.turn, record.number, record.tool, again=True)
        self._earlier = dict(self._made)
        return self._answer

    def _begin(self, answer: int) -> None:
        self._answer = answer
        self._made.clear()
        self._earlier.clear()
        self._counts.clear()
        self._open.clear()

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
        identity = self._made[key] = Identity(key, self._answer, number, tool)
        self.total += 1
        return identity

    def _key(self, content: str) -> str:
        parts = (self._session, str(self._answer), content, str(self._counts[content]))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()
