"""What happened to sessions and is not stored yet: bounded, in order, merged where it is the same. Plain code: no I/O.

Two kinds, because the server keeps so many messages of a subject: what a long talk says again and again (turns, calls,
gaps) must not push out how the session was opened and why it lost its link.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Final

from parley.v1 import fabric_pb2, timeline_pb2
from services.fabric import subjects

LIFE: Final = "life"
TALK: Final = "talk"
_TALK_TYPES: Final = frozenset(
    {
        timeline_pb2.TIMELINE_EVENT_TYPE_TURN,
        timeline_pb2.TIMELINE_EVENT_TYPE_TOOL_CALL,
        timeline_pb2.TIMELINE_EVENT_TYPE_GAP,
    }
)
MOST_OF_ONE: Final = 128
"""Events that wait for one subject. Beyond it the oldest gives way to a count of those that did."""
MOST: Final = 20_000
"""Events that wait in a process: some 4 MB. Beyond it a new one is counted, and not kept."""
_BATCH: Final = 64
"""Events of one message: some 16 KiB."""
_TRACES: Final = 5_000
"""Traces that a process remembers to have stored; one that it forgot is stored again, which changes nothing."""
_LONGEST: Final = 300
"""Characters of a message."""


@dataclass(slots=True)
class Noted:
    """An event and when it happened, in monotonic seconds."""

    event: timeline_pb2.TimelineEvent
    at: float
    number: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be stored next of one subject."""

    session: str
    tenant: str
    kind: str
    notes: tuple[Noted, ...]

    @property
    def subject(self) -> str:
        """Where it belongs."""
        return subjects.timeline(self.session, self.kind)

    @property
    def traces(self) -> set[str]:
        """That begin here."""
        return {noted.event.trace_id for noted in self.notes} - {""}

    def record(self, writer: str, now: float) -> fabric_pb2.TimelineRecord:
        """As it is stored when it is published now."""
        record = fabric_pb2.TimelineRecord(schema_version=1, tenant=self.tenant, writer=writer)
        record.published.FromTimedelta(timedelta(seconds=now))
        for noted in self.notes:
            note = record.notes.add(event=noted.event, number=noted.number)
            note.at.FromTimedelta(timedelta(seconds=noted.at))
        return record


@dataclass(slots=True)
class _Waiting:
    tenant: str
    notes: deque[Noted] = field(default_factory=deque)


class TimelineOutbox:
    """Of one process."""

    def __init__(self, *, most: int = MOST, most_of_one: int = MOST_OF_ONE) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        """By session and kind; whose turn is next comes first."""
        self._count = 0
        self._number = 0
        self._handed_out = 0
        """The newest that may be on its way: what is on its way must not change."""
        self._traces: dict[tuple[str, str], None] = {}
        self.dropped = 0
        """Events that were not stored, for want of room."""

    def __len__(self) -> int:
        return self._count

    def add(self, session: str, tenant: str, event: timeline_pb2.TimelineEvent, at: float) -> None:
        """Something happened at `at` (monotonic seconds)."""
        event.message = event.message[:_LONGEST]
        kind = TALK if event.type in _TALK_TYPES else LIFE
        waiting = self._waiting.get((session, kind))
        if (
            waiting is not None
            and waiting.notes[-1].number > self._handed_out
            and _merge(waiting.notes[-1].event, event)
        ):
            return
        if self._count >= self._most:
            self.dropped += 1
            return
        if waiting is None:
            waiting = self._waiting[session, kind] = _Waiting(tenant)
        waiting.notes.append(Noted(event, at, self._next_number()))
        self._count += 1
        if len(waiting.notes) > self._most_of_one:
            self._drop_oldest(waiting.notes)

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _drop_oldest(self, notes: deque[Noted]) -> None:
        """In place of two events stands how many there were."""
        first, second = notes.popleft(), notes.popleft()
        was_marker = first.event.type == timeline_pb2.TIMELINE_EVENT_TYPE_EVENTS_DROPPED
        gone = _count(second.event) + (first.event.count if was_marker else _count(first.event))
        marker = timeline_pb2.TimelineEvent(type=timeline_pb2.TIMELINE_EVENT_TYPE_EVENTS_DROPPED, count=gone)
        # Where the trace begins must not get lost with what told it.
        marker.trace_id = first.event.trace_id or second.event.trace_id
        notes.appendleft(Noted(marker, first.at, self._next_number()))
        self._count -= 1
        self.dropped += 1 if was_marker else 2

    def batches(self, most: int) -> list[Batch]:
        """What to store next, of up to `most` subjects. It stays here until it is `stored`."""
        found = [
            Batch(session, waiting.tenant, kind, tuple(islice(waiting.notes, _BATCH)))
            for (session, kind), waiting in islice(self._waiting.items(), most)
        ]
        self._handed_out = self._number
        return found

    def stored(self, batch: Batch) -> None:
        """It is safe."""
        key = batch.session, batch.kind
        waiting = self._waiting.pop(key, None)
        if waiting is None:
            return
        safe = {noted.number for noted in batch.notes}
        left = deque(noted for noted in waiting.notes if noted.number not in safe)
        self._count -= len(waiting.notes) - len(left)
        if left:  # at the end of the line
            self._waiting[key] = _Waiting(waiting.tenant, left)

    # Traces

    def is_known(self, trace: str, session: str) -> bool:
        """Whether it is stored that the trace belongs to the session."""
        return (trace, session) in self._traces

    def trace_stored(self, trace: str, session: str) -> None:
        """It is."""
        self._traces[trace, session] = None
        if len(self._traces) > _TRACES:
            del self._traces[next(iter(self._traces))]


def _count(event: timeline_pb2.TimelineEvent) -> int:
    return max(1, event.count)


def _merge(last: timeline_pb2.TimelineEvent, event: timeline_pb2.TimelineEvent) -> bool:
    """Whether this is more of the same loss; then it is counted there."""
    same = (
        event.type == last.type == timeline_pb2.TIMELINE_EVENT_TYPE_GAP
        and (event.worker, event.gateway, event.epoch) == (last.worker, last.gateway, last.epoch)
        and (event.gap.direction, event.gap.media_class, event.gap.reason)
        == (last.gap.direction, last.gap.media_class, last.gap.reason)
        and not event.trace_id
    )
    if same:
        last.gap.from_seq = min(last.gap.from_seq, event.gap.from_seq)
        last.gap.to_seq = max(last.gap.to_seq, event.gap.to_seq)
        last.count = _count(last) + 1
    return same
