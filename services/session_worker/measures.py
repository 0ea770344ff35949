"""Which metrics the counts of a session worker are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from services.fabric import metrics, names
from services.fabric.meters import Table
from services.session_worker.session import Session

SESSION_STATES: Final = ("attached", "detached", "recovering", "ending")
LINK_STATES: Final = ("connected", "leaving", "replacing", "parked", "lapsed")

TABLE: Final[Table] = {
    "capacity": (metrics.CAPACITY, {}),
    "draining": (metrics.DRAINING, {}),
    "opening": (metrics.OPENING, {}),
    "sessions_opened": (metrics.SESSIONS_BEGUN, {names.REASON: "opened"}),
    "sessions_taken_over": (metrics.SESSIONS_BEGUN, {names.REASON: "taken_over"}),
    "sessions_let_go": (metrics.SESSIONS_LET_GO, {}),
    "unroutable_uplink": (metrics.UNROUTABLE, {names.REASON: "unroutable"}),
    "publish_failures": (metrics.PUBLISH_FAILURES, {}),
    "ownership_lapses": (metrics.LAPSES, {}),
    "input_waiting": (metrics.WORKER_QUEUE, {names.QUEUE: "input"}),
    "log_waiting": (metrics.WORKER_QUEUE, {names.QUEUE: "log"}),
    "downlink_waiting": (metrics.WORKER_QUEUE, {names.QUEUE: "downlink"}),
    "downlink_ring_bytes": (metrics.RINGS, {}),
    **{f"sessions_{state}": (metrics.SESSIONS, {names.STATE: state}) for state in SESSION_STATES},
    **{f"links_{state}": (metrics.LINKS, {names.STATE: state}) for state in LINK_STATES},
}


def census(sessions: Iterable[Session]) -> dict[str, int]:
    """Sessions and links by state, and what waits in all of them."""
    found = Counter[str]()
    for session in sessions:
        found[f"sessions_{session.state}"] += 1
        if session.link_state:
            found[f"links_{session.link_state}"] += 1
        found.update(session.waiting)
    states = [f"sessions_{state}" for state in SESSION_STATES] + [f"links_{state}" for state in LINK_STATES]
    queues = ("input_waiting", "log_waiting", "downlink_waiting", "downlink_ring_bytes")
    return {name: found[name] for name in (*states, *queues)}
