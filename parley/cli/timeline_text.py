"""A timeline in words: what each event says, and what the causes mean. Plain code: no I/O."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration

from parley.v1 import live_pb2, sessions_pb2, timeline_pb2
from parley.v1 import timeline_pb2 as kinds

Event = timeline_pb2.TimelineEvent

MEANINGS = {
    "GO_AWAY": "the model's endpoint announced the end of its connection (goAway)",
    "LINK_LOST": "the connection to the model broke, or its endpoint closed it",
    "LINK_SILENT": "the connection to the model hung, and was given up",
    "AGE": "the connection to the model had reached the age at which it is replaced",
    "PARKED": "nobody was there to listen, so the connection to the model was closed",
    "OWNERSHIP_LAPSED": "the worker was frozen, or cut off from the message bus, and stopped until it was back",
    "DEAD": "the worker's process was gone (killed, crashed, or its host lost)",
    "SILENT": "the worker neither answered nor announced itself (frozen, or cut off)",
    "NOT_HELD": "the worker was there, and did not have the session",
    "FENCED": "a worker found that another one has the session by now",
    "DRAIN": "the worker was drained (a deploy, or `parley worker drain`)",
    "MOVED": "an operator moved the session",
    "GATEWAY_DRAINING": "the gateway was told to go away (a deploy)",
    "GATEWAY_LOST": "the gateway's process was gone (killed, crashed, or its host lost)",
    "GATEWAY_SILENT": "the gateway was not heard any more (frozen, or cut off)",
    "CALLER_GONE": "the caller cancelled its call, or its connection broke",
    "SUPERSEDED": "another stream took the session over",
    "BUS_LOST": "the connection to the message bus (NATS) was lost",
    "EXECUTOR_LOST": "the tools service that ran a function was gone (killed, crashed, or its host lost)",
    "EXECUTOR_HANGS": "the tools service that ran a function did not end it in time",
    "NO_TOOLS_SERVICE": "no tools service was there that has the function",
    "OVERLOAD": "audio was dropped, as it could not be passed on in time (what a caller is to hear: it did not read)",
    "LOG_DISABLED": "the log of the conversation is off, so what the handle lacked could not be told again",
    "ABANDONED": "nobody came back within the resume window",
    "BACKEND": "the model's link failed and could not be mended",
    "OPERATOR": "an operator ended the session",
}
"""Causes that deserve a sentence."""

_TROUBLE = frozenset(
    {
        kinds.TIMELINE_EVENT_TYPE_REFUSED,
        kinds.TIMELINE_EVENT_TYPE_DETACHED,
        kinds.TIMELINE_EVENT_TYPE_GATEWAY_DRAINING,
        kinds.TIMELINE_EVENT_TYPE_WORKER_LOST,
        kinds.TIMELINE_EVENT_TYPE_RELEASED,
        kinds.TIMELINE_EVENT_TYPE_OWNERSHIP_LOST,
        kinds.TIMELINE_EVENT_TYPE_LINK_LOST,
        kinds.TIMELINE_EVENT_TYPE_LINK_REFUSED,
        kinds.TIMELINE_EVENT_TYPE_BUS_LOST,
        kinds.TIMELINE_EVENT_TYPE_TOOL_TROUBLE,
        kinds.TIMELINE_EVENT_TYPE_GAP,
        kinds.TIMELINE_EVENT_TYPE_ENDED,
    }
)
"""Types whose cause is one of something that did not go on as it was."""
_ORDINARY = frozenset({"CALLER", "CALLER_CLOSED", "SESSION_ENDED", ""})
_SECONDS = 60.0
"""Below it a time is told in seconds."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Of something that did not go on as it was."""

    name: str
    count: int
    meaning: str
    """In words; empty for what the name says."""


def causes(events: Iterable[Event]) -> list[Cause]:
    """The causes of what went wrong, or was done to the session, in the order in which they came."""
    counts: Counter[str] = Counter()
    for event in events:
        if event.type in _TROUBLE and event.cause not in _ORDINARY:
            counts[event.cause] += max(1, event.count)
    return [Cause(name, count, MEANINGS.get(name, "")) for name, count in counts.items()]


def heading(answer: sessions_pb2.GetSessionTimelineResponse) -> str:
    """What it is about, and the causes in words."""
    session_id = answer.session_ids[0]
    lines = [f"{session_id}  {_state(answer)}"]
    if answer.events:
        began = answer.events[0].time.ToDatetime().isoformat(sep=" ", timespec="seconds")
        lines[0] += f", from {began} UTC"
    found = causes(answer.events)
    if not found:
        lines.append("nothing went wrong")
    for cause in found:
        times = f" ({cause.count} times)" if cause.count > 1 else ""
        lines.append(f"- {cause.name}{times}{': ' if cause.meaning else ''}{cause.meaning}")
    return "\n".join(lines)


def _state(answer: sessions_pb2.GetSessionTimelineResponse) -> str:
    if answer.HasField("session"):
        session = answer.session
        state = sessions_pb2.SessionState.Name(session.state).removeprefix("SESSION_STATE_").lower()
        return state if session.state == sessions_pb2.SESSION_STATE_ENDED else f"{state}, on {session.worker}"
    refused = any(event.type == kinds.TIMELINE_EVENT_TYPE_REFUSED for event in answer.events)
    return "refused" if refused else "ended"


class Columns:
    """How events are printed: offsets count from the first."""

    names = ("at", "took", "what", "cause", "where", "")
    _WIDTHS = (10, 8, 17, 17, 27)

    def __init__(self, events: Sequence[Event]) -> None:
        self._zero = events[0].time.ToDatetime() if events else None
        self._trace = ""

    def row(self, event: Event) -> tuple[str, ...]:
        """One event."""
        at = event.time.ToDatetime()
        self._zero = self._zero or at
        said = list(details(event))
        if event.trace_id not in ("", self._trace):  # each process says it once
            self._trace = event.trace_id
            said.append(f"trace {event.trace_id}")
        return (
            f"+{_short((at - self._zero).total_seconds())}",
            took(event.duration) if event.HasField("duration") else "",
            name_of(event),
            event.cause,
            " ".join(part for part in (event.gateway, event.worker) if part),
            "; ".join(said),
        )

    def line(self, event: Event) -> str:
        """One event, for a terminal that is written line by line."""
        *padded, last = self.row(event)
        return " ".join([*(f"{text:{width}}" for text, width in zip(padded, self._WIDTHS, strict=True)), last]).rstrip()


def rows(events: Iterable[Event], columns: Columns) -> Iterator[tuple[str, ...]]:
    """A table's."""
    first = True
    for event in events:
        begins = (kinds.TIMELINE_EVENT_TYPE_OPENED, kinds.TIMELINE_EVENT_TYPE_REFUSED)
        if first and event.type not in begins:
            yield ("", "", "...", "", "", "what came before is not kept any more")
        first = False
        yield columns.row(event)


def name_of(event: Event) -> str:
    """What happened, in words."""
    if event.type not in kinds.TimelineEventType.values():
        return str(event.type)  # of a later release
    return kinds.TimelineEventType.Name(event.type).removeprefix("TIMELINE_EVENT_TYPE_").lower().replace("_", " ")


def took(duration: Duration) -> str:
    """A length of time."""
    return _short(duration.ToTimedelta().total_seconds())


def _short(seconds: float) -> str:
    if abs(seconds) < _SECONDS:
        return f"{seconds:.3f} s"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:.0f}:{minutes:02.0f}:{rest:06.3f}" if hours else f"{minutes:.0f}:{rest:06.3f}"


def details(event: Event) -> Iterator[str]:
    """What else there is to say."""
    match event.type:
        case kinds.TIMELINE_EVENT_TYPE_OPENED:
            yield event.model
            yield f"profile {event.profile}" if event.profile else "inline config"
            if event.tries > 1:
                yield f"{event.tries} workers asked"
        case kinds.TIMELINE_EVENT_TYPE_TURN:
            yield f"turn {event.turn}"
            if event.HasField("first_audio"):
                yield f"first audio after {took(event.first_audio)}"
            if event.interrupted:
                yield "interrupted"
        case kinds.TIMELINE_EVENT_TYPE_TURN_RESTARTED:
            yield f"turn {event.turn}"
        case kinds.TIMELINE_EVENT_TYPE_TOOL_CALL:
            yield f"{event.tool}: {live_pb2.ToolOutcome.Name(event.outcome).removeprefix('TOOL_OUTCOME_').lower()}"
        case kinds.TIMELINE_EVENT_TYPE_TOOL_TROUBLE:
            yield event.tool
        case kinds.TIMELINE_EVENT_TYPE_GAP:
            yield _lost(event.gap)
        case kinds.TIMELINE_EVENT_TYPE_LINK_REFUSED:
            yield f"{event.method.lower()}, try {event.tries}"
        case (
            kinds.TIMELINE_EVENT_TYPE_ROTATED | kinds.TIMELINE_EVENT_TYPE_RECOVERED | kinds.TIMELINE_EVENT_TYPE_MIGRATED
        ):
            yield event.method.lower()
            if not event.state_restored:
                yield "state not restored"
            if event.replayed:
                yield f"{_messages(event.replayed)} given again"
            if event.dropped:
                yield f"{_messages(event.dropped)} could not be given again"
        case _:
            pass
    if event.message:
        yield event.message
    if event.attach_generation:
        yield f"stream {event.attach_generation}"
    if event.count > 1:
        yield f"{event.count} of them"


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"


def _lost(gap: live_pb2.Gap) -> str:
    direction = live_pb2.Direction.Name(gap.direction).removeprefix("DIRECTION_").lower()
    kind = live_pb2.MediaClass.Name(gap.media_class).removeprefix("MEDIA_CLASS_").lower()
    known = "" if kind == "unspecified" else f", {kind}"
    return f"{direction} {gap.from_seq} to {gap.to_seq}{known}"
