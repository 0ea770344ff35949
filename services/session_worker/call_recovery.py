"""What an earlier owner of a session left of its tool calls, as the claims and the log say. Plain code."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from parley.v1 import live_pb2
from services.fabric.claims import Claim, answer
from services.session_worker import events
from services.session_worker.call_book import Identity


@dataclass(frozen=True, slots=True)
class Owed:
    """A call whose outcome the model has not been told. It may run still, and it may have been given up."""

    call: events.FunctionCall
    """With the id that the model gave it, on a link that is gone."""
    identity: Identity
    timeout: float
    """Seconds that the tool may take."""
    idempotent: bool
    traceparent: str = ""
    """Of the span of whoever asked for it."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What there is after a takeover."""

    newest_answer: int
    """Turn with which the answer began that the newest call was made for; 0 when there is none. It is taken for one
    that is generated anew; other answers must have higher numbers."""
    owed: list[Owed]
    """In the order in which the model made the calls."""


def owed(claims: Iterable[Claim], told: Collection[str]) -> list[Owed]:
    """The calls that are not told; `told` has the claim keys that the log's tool records name. What the model took back
    is owed to nobody, also where there was no time to say so in the log, and also when it had ended and is undone."""
    cancelled = live_pb2.TOOL_OUTCOME_CANCELLED
    return [_owed(claim) for claim in claims if claim.key not in told and answer(claim).outcome != cancelled]


def _owed(claim: Claim) -> Owed:
    record = claim.record
    return Owed(
        events.FunctionCall(record.call_id, record.tool, json.loads(record.arguments_json or "{}")),
        Identity(claim.key, record.turn, record.number, record.tool, again=True),
        record.timeout.ToTimedelta().total_seconds(),
        record.idempotent,
        record.traceparent,
    )
