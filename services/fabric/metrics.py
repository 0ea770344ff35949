"""Every metric: name, unit, meaning, and the words that its labels may take. The only file that knows them.

A label never holds what callers bring (session, principal, tenant, id of a call): its words are listed here, or are
names that an operator chose, up to a bound. Whatever else is given counts as `OTHER` (`meters`), so that no fault of
ours and no caller can make series without end. The reference is docs/metrics.md, which a test holds to this file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from parley.v1 import errors_pb2, live_pb2
from services.fabric import names

OTHER: Final = "other"
"""What a word counts as that is not in the vocabulary of its label."""


@dataclass(frozen=True, slots=True)
class Words:
    """What a label may say."""

    words: frozenset[str] = frozenset()
    """All of them; empty: names that an operator chose, the first `most` that come."""
    most: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One metric."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    """As UCUM writes it; `{thing}` counts things."""
    description: str
    labels: Mapping[str, Words] = field(default_factory=dict)
    """By attribute name. A label may be left out."""
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram."""
    observed: bool = True
    """Read from plain numbers of the process when somebody asks. Otherwise it is told of each event."""


def _words(*words: str) -> Words:
    return Words(frozenset(words))


def _enum(values: Iterable[str], prefix: str) -> Words:
    return Words(frozenset(value.removeprefix(prefix) for value in values))


REASONS: Final = _enum(errors_pb2.ErrorReason.keys(), "ERROR_REASON_")
CAUSES: Final = _words(
    "GO_AWAY", "AGE", "LINK_LOST", "LINK_SILENT", "WORKER_LOST", "DRAIN", "MOVED", "OWNERSHIP_LAPSED", "PARKED"
)
"""Of `link_state.rotating.cause`."""
_DIRECTIONS: Final = _words("uplink", "downlink")
_CLASSES: Final = _enum(live_pb2.MediaClass.keys(), "MEDIA_CLASS_")
_GAP_REASONS: Final = _words(
    "OVERLOAD", "PACE", "LOST", "FORGOTTEN", "ENDED", "VOID", "LINK_LOST", "TOO_OLD", "LOG_DISABLED"
)
_TOOL_OUTCOMES: Final = _words("succeeded", "failed", "timed_out", "cancelled", "unknown", "unspecified")
_TOOLS: Final = Words(most=200)
_STATUSES: Final = Words(frozenset(str(code) for code in range(17)))
_MODALITIES: Final = _words("TEXT", "AUDIO", "IMAGE", "VIDEO", "DOCUMENT", "MODALITY_UNSPECIFIED")

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_HOP_SECONDS: Final = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)

# Every process

READY: Final = Metric("parley.ready", "gauge", "", "1 while /readyz says so.")
LOOP_LAG: Final = Metric("parley.loop.lag", "gauge", "s", "How late the event loop ran, the worst of the last second.")
TASKS: Final = Metric("parley.tasks", "gauge", "{task}", "Tasks of the event loop.")
MEMORY: Final = Metric("process.memory.usage", "gauge", "By", "Resident memory.")
CPU: Final = Metric(
    "process.cpu.time", "counter", "s", "CPU time of all threads.", {names.CPU_MODE: _words("user", "system")}
)
BUS_CONNECTED: Final = Metric("parley.bus.connected", "gauge", "", "1 while there is a connection to NATS.")
BUS_RECONNECTS: Final = Metric("parley.bus.reconnects", "counter", "{reconnect}", "Connections to NATS made again.")
BUS_ERRORS: Final = Metric(
    "parley.bus.errors", "counter", "{error}", "Errors that NATS told of, and messages not taken."
)
SUBSCRIPTIONS: Final = Metric("parley.bus.subscriptions", "gauge", "{subscription}", "Subscriptions on NATS.")
PUBLISH_FAILURES: Final = Metric(
    "parley.bus.publish_failures", "counter", "{publication}", "Publications of media that could not be made."
)
HOP: Final = Metric(
    "parley.hop.duration",
    "histogram",
    "s",
    "Time that media spends in this process, sampled at most 5 times a second.",
    {names.HOP: _words("gateway_uplink", "gateway_downlink", "worker_uplink", "worker_downlink")},
    _HOP_SECONDS,
    observed=False,
)

# Gateway

CALLS: Final = Metric("parley.gateway.calls", "gauge", "{call}", "`Converse` calls that have not returned.")
STREAMS: Final = Metric("parley.gateway.streams", "gauge", "{stream}", "Streams attached to a session.")
WATCHES: Final = Metric("parley.gateway.watches", "gauge", "{watch}", "`WatchSession` calls.")
WORKERS: Final = Metric("parley.gateway.workers", "gauge", "{worker}", "Workers heard in the last seconds.")
REFUSALS: Final = Metric(
    "parley.gateway.refusals",
    "counter",
    "{call}",
    "Calls that ended with an error. A deadline has no reason.",
    {names.ERROR_REASON: REASONS, names.RPC_STATUS: _STATUSES},
    observed=False,
)
OPEN: Final = Metric(
    "parley.gateway.open.duration",
    "histogram",
    "s",
    "From the first message of a stream to `opened`, or to its refusal.",
    {names.OUTCOME: _words("opened", "refused", "gone")},
    _SECONDS,
    observed=False,
)
RECOVERIES: Final = Metric(
    "parley.gateway.recoveries",
    "counter",
    "{session}",
    "Sessions of streams that lost their worker.",
    {names.OUTCOME: _words("recovered", "given_up")},
)
MOVES: Final = Metric("parley.gateway.moves", "counter", "{session}", "Sessions moved to another worker on purpose.")
SWEPT: Final = Metric("parley.gateway.sessions.swept", "counter", "{session}", "Abandoned sessions that were ended.")
GATEWAY_DROPPED: Final = Metric(
    "parley.gateway.dropped",
    "counter",
    "{message}",
    "Messages that the gateway did not pass on.",
    {
        names.DIRECTION: _DIRECTIONS,
        names.REASON: _words(
            "shed",
            "forgotten",
            "duplicate",
            "voided",
            "refused",
            "lost",
            "stale",
            "unroutable",
            "unreadable",
            "unflushed",
        ),
    },
)
GATEWAY_DROPPED_BYTES: Final = Metric(
    "parley.gateway.dropped_size",
    "counter",
    "By",
    "Bytes of messages that the gateway did not pass on.",
    {names.DIRECTION: _DIRECTIONS, names.REASON: _words("shed", "voided", "unflushed")},
)
GATEWAY_QUEUE: Final = Metric(
    "parley.gateway.queue.length",
    "gauge",
    "{message}",
    "Messages that wait in all streams: uplink for NATS, downlink for the caller.",
    {names.QUEUE: _words("uplink", "downlink")},
)
GATEWAY_QUEUE_BYTES: Final = Metric(
    "parley.gateway.queue.size",
    "gauge",
    "By",
    "Bytes that wait in all streams; `uplink_ring`: kept until the worker acks them.",
    {names.QUEUE: _words("uplink", "downlink", "uplink_ring")},
)

# Session worker

SESSIONS: Final = Metric(
    "parley.worker.sessions",
    "gauge",
    "{session}",
    "Sessions held.",
    {names.STATE: _words("attached", "detached", "recovering", "ending")},
)
CAPACITY: Final = Metric("parley.worker.capacity", "gauge", "{session}", "Sessions that the worker takes at most.")
DRAINING: Final = Metric("parley.worker.draining", "gauge", "", "1 while the worker lets its sessions go.")
OPENING: Final = Metric("parley.worker.opening", "gauge", "{session}", "Sessions being opened or taken over.")
LINKS: Final = Metric(
    "parley.worker.links",
    "gauge",
    "{link}",
    "Links to the model by state; `replacing`: a session has none and is getting one.",
    {names.STATE: _words("connected", "leaving", "replacing", "parked", "lapsed")},
)
SESSIONS_BEGUN: Final = Metric(
    "parley.worker.sessions.begun",
    "counter",
    "{session}",
    "Sessions that came to this worker.",
    {names.REASON: _words("opened", "taken_over")},
)
SESSIONS_LET_GO: Final = Metric(
    "parley.worker.sessions.let_go", "counter", "{session}", "Sessions that left for another worker."
)
SESSIONS_ENDED: Final = Metric(
    "parley.worker.sessions.ended",
    "counter",
    "{session}",
    "Sessions that ended.",
    {names.REASON: _enum(live_pb2.EndReason.keys(), "END_REASON_")},
    observed=False,
)
LAPSES: Final = Metric(
    "parley.worker.ownership.lapses", "counter", "{lapse}", "Times out of touch with JetStream for the ownership ttl."
)
FENCED: Final = Metric(
    "parley.worker.ownership.lost",
    "counter",
    "{session}",
    "Sessions that turned out to be another worker's.",
    observed=False,
)
UNROUTABLE: Final = Metric(
    "parley.worker.uplink.dropped",
    "counter",
    "{message}",
    "Envelopes for sessions that are not here.",
    {names.REASON: _words("unroutable")},
)
WORKER_QUEUE: Final = Metric(
    "parley.worker.queue.length",
    "gauge",
    "{message}",
    "What waits in all sessions: input for the link, log entries for JetStream, downlink for the gateway.",
    {names.QUEUE: _words("input", "log", "downlink")},
)
RINGS: Final = Metric("parley.worker.ring.size", "gauge", "By", "Downlink kept until callers ack it.")
DIALS: Final = Metric(
    "parley.link.dial.duration",
    "histogram",
    "s",
    "Connecting a link, set-up included; without a reason it was connected.",
    {names.ERROR_REASON: REASONS},
    _SECONDS,
    observed=False,
)
REPLACEMENTS: Final = Metric(
    "parley.link.replacements",
    "counter",
    "{link}",
    "Links that were to take the place of another one (rotation, recovery, return).",
    {
        names.LINK_CAUSE: CAUSES,
        names.LINK_METHOD: _words("RESUMED", "RESEEDED", "NONE"),
        names.OUTCOME: _words("connected", "failed", "cancelled"),
    },
    observed=False,
)
GAPS: Final = Metric(
    "parley.link.gap.duration",
    "histogram",
    "s",
    "Time in which a model did not hear its caller, from one link to the next.",
    {names.LINK_CAUSE: CAUSES},
    _SECONDS,
    observed=False,
)
REPLAYED: Final = Metric(
    "parley.replayed",
    "counter",
    "{message}",
    "Messages of callers that a link was given again: as they were, or (VITAL) in words.",
    {names.MEDIA_CLASS: _CLASSES},
    observed=False,
)
LOST: Final = Metric(
    "parley.lost",
    "counter",
    "{message}",
    "Messages that the worker reported as a `gap`.",
    {names.DIRECTION: _DIRECTIONS, names.MEDIA_CLASS: _CLASSES, names.REASON: _GAP_REASONS},
    observed=False,
)
TURNS: Final = Metric(
    "parley.turns",
    "counter",
    "{turn}",
    "Turns of the model; `restarted`: the link was lost in the middle, and the turn was asked for again.",
    {names.OUTCOME: _words("completed", "interrupted", "restarted")},
    observed=False,
)
FIRST_AUDIO: Final = Metric(
    "parley.turn.first_audio.duration",
    "histogram",
    "s",
    "From what the model answers (text, tool result, or the transcript of speech) to its first audio.",
    {},
    _SECONDS,
    observed=False,
)
TOKENS: Final = Metric(
    "parley.tokens",
    "counter",
    "{token}",
    "Tokens as the model counts them, by modality.",
    {names.GEN_AI_TOKEN_TYPE: _words("input", "output"), names.MODALITY: _MODALITIES},
    observed=False,
)
CALL_LATENCY: Final = Metric(
    "parley.worker.tool_call.duration",
    "histogram",
    "s",
    "From a model's call of a server-run tool to its outcome, claims and NATS included.",
    {names.TOOL_OUTCOME: _TOOL_OUTCOMES},
    _SECONDS,
    observed=False,
)

# Tools service

TOOLS: Final = Metric("parley.tools.served", "gauge", "{tool}", "Tools that this process serves.")
PROBLEMS: Final = Metric("parley.tools.problems", "gauge", "{problem}", "What the sources offer and cannot be served.")
RUNNING: Final = Metric(
    "parley.tools.calls.active",
    "gauge",
    "{call}",
    "Calls by state; `overrunning`: answered, and the function has not ended.",
    {names.STATE: _words("running", "waiting", "overrunning")},
)
TOOL_CALLS: Final = Metric(
    "parley.tools.calls",
    "counter",
    "{call}",
    "Calls that were answered.",
    {names.GEN_AI_TOOL_NAME: _TOOLS, names.TOOL_OUTCOME: _TOOL_OUTCOMES},
)
TOOL_LATENCY: Final = Metric(
    "parley.tools.call.duration",
    "histogram",
    "s",
    "Time that a call took in the tools service.",
    {names.GEN_AI_TOOL_NAME: _TOOLS, names.TOOL_OUTCOME: _TOOL_OUTCOMES},
    _SECONDS,
    observed=False,
)
TOOL_REFUSALS: Final = Metric(
    "parley.tools.refusals",
    "counter",
    "{call}",
    "Calls that were not begun.",
    {
        names.REASON: _words(
            "unknown_tool",
            "unavailable",
            "wrong_arguments",
            "not_permitted",
            "busy",
            "tool_busy",
            "tenant_busy",
            "draining",
            "running_already",
        )
    },
)
CLAIMS: Final = Metric(
    "parley.tools.claims",
    "counter",
    "{call}",
    "Claims that went another way: `again`: a call came twice; `unclaimed`, `unsettled`: JetStream did not take it.",
    {names.OUTCOME: _words("again", "unclaimed", "unsettled")},
)
COMPENSATIONS: Final = Metric(
    "parley.tools.compensations",
    "counter",
    "{call}",
    "Calls that were to be undone.",
    {names.OUTCOME: _words("done", "failed", "not_needed")},
)
UNDELIVERED: Final = Metric(
    "parley.tools.undelivered",
    "counter",
    "{message}",
    "What NATS did not take.",
    {names.REASON: _words("reply", "report")},
)
SOURCE_RESTARTS: Final = Metric("parley.tools.source.restarts", "counter", "{restart}", "Sources started again.")
LOOPS_BLOCKED: Final = Metric("parley.tools.loops.blocked", "gauge", "{loop}", "Event loops of modules that hang now.")

ALL: Final = {metric.name: metric for metric in list(vars().values()) if isinstance(metric, Metric)}
"""By name."""
