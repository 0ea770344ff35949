"""What a filter of sessions means: the fields that can be compared, and the tree of comparisons. Plain code: no I/O.

A session's state and gateway are in its attachment, which costs a read of its own. So a filter may be asked before
that is known: its answer is then True, False, or None for "depends" (Kleene's three values).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.timestamp_pb2 import Timestamp

from parley.v1 import live_pb2, sessions_pb2
from services.gateway.session_config import LABEL_KEY

Session = sessions_pb2.Session
EQUALITY: Final = ("=", "!=")
ORDER: Final = ("<", "<=", ">", ">=")
_ENDED: Final = "ENDED"
_LABELS: Final = "labels."


# Fields


def _names(enum: EnumTypeWrapper, prefix: str) -> dict[int, str]:
    return {number: name.removeprefix(prefix) for name, number in enum.items() if number}


_STATES: Final = _names(sessions_pb2.SessionState, "SESSION_STATE_")
_REASONS: Final = _names(live_pb2.EndReason, "END_REASON_")


@dataclass(frozen=True)
class Field:
    """What can be compared, and with what."""

    operators: tuple[str, ...]
    read: Callable[[Session], object]
    """Its value; None when the session has none, which no comparison matches."""
    words: tuple[str, ...] = ()
    """The only values; empty: any text."""
    possible: Callable[[Session], frozenset[str] | None] | None = None
    """The values it may have while the attachment is not known, None for any; unset: it does not depend on that."""


def _possible_states(session: Session) -> frozenset[str]:
    ended = session.state == sessions_pb2.SESSION_STATE_ENDED
    return frozenset({_ENDED}) if ended else frozenset(_STATES.values()) - {_ENDED}


def _possible_gateways(session: Session) -> frozenset[str] | None:
    return frozenset({""}) if session.state == sessions_pb2.SESSION_STATE_ENDED else None


def _time(name: str) -> Callable[[Session], object]:
    def read(session: Session) -> object:
        time: Timestamp = getattr(session, name)
        return (time.seconds, time.nanos) if session.HasField(name) else None

    return read


_FIELDS: Final[dict[str, Field]] = {
    "state": Field(EQUALITY, lambda session: _STATES.get(session.state, ""), tuple(_STATES.values()), _possible_states),
    "profile": Field(EQUALITY, lambda session: session.profile),
    "model": Field(EQUALITY, lambda session: session.model),
    "worker": Field(EQUALITY, lambda session: session.worker),
    "gateway": Field(EQUALITY, lambda session: session.gateway, possible=_possible_gateways),
    "principal": Field(EQUALITY, lambda session: session.principal),
    "open_time": Field(ORDER, _time("open_time")),
    "end_time": Field(ORDER, _time("end_time")),
    "end_reason": Field(EQUALITY, lambda session: _REASONS.get(session.end_reason, ""), tuple(_REASONS.values())),
}
FIELD_NAMES: Final = (*_FIELDS, f"{_LABELS}KEY")


def field_named(name: str) -> Field | None:
    """What `name` can be compared with; None when there is no such field."""
    if name.startswith(_LABELS):
        key = name.removeprefix(_LABELS)
        label = Field(EQUALITY, lambda session: session.labels.get(key, ""))
        return label if LABEL_KEY.fullmatch(key) else None
    return _FIELDS.get(name)


# What a filter means


@dataclass(frozen=True)
class Comparison:
    """`field operator value`."""

    name: str
    operator: str
    value: str
    """As it was written, without quotes."""
    field: Field
    bound: object
    """`value` in the field's own type."""

    def matches(self, session: Session, *, attached: bool) -> bool | None:
        """Whether it holds; None when that depends on the attachment, which is known only if `attached`."""
        if attached or self.field.possible is None:
            return self._holds(self.field.read(session))
        possible = self.field.possible(session)
        answers = {None} if possible is None else {self._holds(value) for value in possible}
        return answers.pop() if len(answers) == 1 else None

    def _holds(self, value: object) -> bool:
        if value is None:
            return False
        return _COMPARE[self.operator](value, self.bound)


_COMPARE: Final[dict[str, Callable[[object, object], bool]]] = {
    "=": lambda value, bound: value == bound,
    "!=": lambda value, bound: value != bound,
    "<": lambda value, bound: value < bound,  # type: ignore[operator]
    "<=": lambda value, bound: value <= bound,  # type: ignore[operator]
    ">": lambda value, bound: value > bound,  # type: ignore[operator]
    ">=": lambda value, bound: value >= bound,  # type: ignore[operator]
}


@dataclass(frozen=True)
class Not:
    """The opposite."""

    operand: Expression

    def matches(self, session: Session, *, attached: bool) -> bool | None:
        """See `Comparison.matches`."""
        answer = self.operand.matches(session, attached=attached)
        return None if answer is None else not answer


@dataclass(frozen=True)
class All:
    """Every operand; with none of them, everything."""

    operands: tuple[Expression, ...]

    def matches(self, session: Session, *, attached: bool) -> bool | None:
        """See `Comparison.matches`."""
        answers = [operand.matches(session, attached=attached) for operand in self.operands]
        return False if False in answers else None if None in answers else True


@dataclass(frozen=True)
class AnyOf:
    """At least one operand."""

    operands: tuple[Expression, ...]

    def matches(self, session: Session, *, attached: bool) -> bool | None:
        """See `Comparison.matches`."""
        answers = [operand.matches(session, attached=attached) for operand in self.operands]
        return True if True in answers else None if None in answers else False


Expression = Comparison | Not | All | AnyOf
