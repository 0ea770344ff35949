"""Names on NATS: subjects, streams and buckets. Subjects of media and commands address processes, not sessions."""

from __future__ import annotations

SESSIONS_STREAM = "PARLEY_SESSIONS"
LOG_STREAM = "PARLEY_LOG"
USAGE_STREAM = "PARLEY_USAGE"
TIMELINE_STREAM = "PARLEY_TIMELINE"
CATALOG_BUCKET = "PARLEY_CATALOG"
REQUESTS_BUCKET = "PARLEY_REQUESTS"

FLEET_ANNOUNCE = "parley.fleet.announce"
WORKER_QUERY = "parley.fleet.query"
"""Asks every worker to announce itself now, so that a new gateway need not wait for the next second."""

TOOLS_QUEUE = "parley-tools"
TOOLS_SERVICE = "parley-tools"
"""Name of the NATS micro service that every tools process is an instance of."""


def uplink(worker: str, session: str) -> str:
    """Gateway to worker: what the caller sent."""
    return f"parley.worker.{worker}.up.{session}"


def uplink_wildcard(worker: str) -> str:
    """All uplink of one worker process."""
    return f"parley.worker.{worker}.up.*"


def control(worker: str) -> str:
    """Requests to one worker process."""
    return f"parley.worker.{worker}.ctl"


def downlink(gateway: str, session: str) -> str:
    """Worker to gateway: what the model said."""
    return f"parley.gateway.{gateway}.down.{session}"


def downlink_wildcard(gateway: str) -> str:
    """All downlink of one gateway process."""
    return f"parley.gateway.{gateway}.down.*"


def tool_call(tool: str) -> str:
    """Requests to run one tool."""
    return f"parley.tools.call.{tool}"


def tool_cancel(execution: str) -> str:
    """Nobody wants the result of this execution any more."""
    return f"parley.tools.{execution}.cancel"


def tool_progress(execution: str) -> str:
    """How far an execution is."""
    return f"parley.tools.{execution}.progress"


def tools_ping(instance: str) -> str:
    """Is this tools process there? Its NATS micro service answers; where nobody listens the process is gone."""
    return f"$SRV.PING.{TOOLS_SERVICE}.{instance}"


def own(session: str) -> str:
    """Ownership record."""
    return f"parley.session.{session}.own"


def checkpoint(session: str) -> str:
    """Checkpoint record."""
    return f"parley.session.{session}.ckpt"


def attachment(session: str) -> str:
    """Attachment record."""
    return f"parley.session.{session}.att"


def claim(session: str, key: str) -> str:
    """Claim and outcome of a tool call."""
    return f"parley.session.{session}.claim.{key}"


def session_records(session: str) -> str:
    """Every record of one session."""
    return f"parley.session.{session}.>"


def log(session: str) -> str:
    """The conversation in text."""
    return f"parley.log.{session}"


def timeline(session: str, kind: str) -> str:
    """What happened to a session; `kind`: `life` or `talk`, each of which has its own bound."""
    return f"parley.timeline.session.{session}.{kind}"


def timeline_trace(trace: str, session: str) -> str:
    """That a trace belongs to a session."""
    return f"parley.timeline.trace.{trace}.{session}"


def usage(tenant: str) -> str:
    """Usage records of a tenant. Nothing writes them in this release."""
    return f"parley.usage.{tenant}"


def session_of(subject: str) -> str:
    """Session id at the end of an uplink or downlink subject."""
    return subject.rsplit(".", 1)[-1]
