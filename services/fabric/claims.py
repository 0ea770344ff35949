"""Claims of tool calls: who runs a call, and how it ended, once for all.

A claim is created by whoever begins the call, fenced by `own` and never over another: of the tools service that is
about to run a function and a worker that has given it up, the first decides. From then on it changes by compare-and-set
on its own revision alone: the outcome of a function counts also when the session has another owner by now, and of
several outcomes the first stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from parley.v1 import fabric_pb2, live_pb2
from services.fabric import subjects
from services.fabric.errors import ServiceError
from services.fabric.records import FencedError, RecordStore

TIMEOUT: Final = 2.0
"""Seconds that JetStream may take over a claim: a call of the model waits for it."""
MAX_ARGUMENTS: Final = 64 * 1024
"""Bytes of arguments that a claim takes; with the largest output they fit into a record."""
MAX_OUTPUT_KEPT: Final = 1024
"""Bytes of an output that stays in its claim when the turn is over."""
_ATTEMPTS: Final = 2


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim as it stands."""

    key: str
    record: fabric_pb2.ClaimRecord
    revision: int

    @property
    def settled(self) -> bool:
        """It has its outcome, which will not change."""
        return self.record.HasField("outcome")


class Claims(RecordStore):
    """Reads and writes the claims of sessions."""

    async def create(self, session: str, key: str, own: int, record: fabric_pb2.ClaimRecord) -> Claim:
        """Claim a call; return the claim that stands: `record`, or the one that was there first.

        FencedError when the session has another owner; ServiceError when JetStream is not available, and then nothing
        may be begun although the claim may be there.
        """
        subject, payload = subjects.claim(session, key), record.SerializeToString()
        for attempt in range(_ATTEMPTS):
            try:
                return Claim(key, record, await self._fenced(session, own, subject, payload, create_only=True))
            except ServiceError:
                # There is one already, or it is not known whether this one was written: what counts is what is there.
                found = await self.read(session, key)
                if found is not None:
                    return found
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    async def replace(self, session: str, claim: Claim, record: fabric_pb2.ClaimRecord) -> Claim:
        """Write `record` over `claim`; return what stands: `record`, or what was written over it before.

        Safe to repeat. FencedError when the claim is gone, as it is when its session is over; ServiceError.
        """
        try:
            revision = await self._replace(
                subjects.claim(session, claim.key), claim.revision, record.SerializeToString()
            )
        except FencedError:
            found = await self.read(session, claim.key)
            if found is None:
                raise
            return found
        return Claim(claim.key, record, revision)

    async def settle(
        self,
        session: str,
        claim: Claim,
        outcome: fabric_pb2.ToolCallReply,
        compensation: fabric_pb2.Compensation | None = None,
    ) -> Claim:
        """Store how a running call ended, unless it has an outcome, and who sets out to undo it. Errors as of
        `replace`."""
        if claim.settled:
            return claim
        record = fabric_pb2.ClaimRecord()
        record.CopyFrom(claim.record)
        record.state = fabric_pb2.CLAIM_STATE_SETTLED
        record.outcome.CopyFrom(outcome)
        if compensation is not None:
            record.compensation.CopyFrom(compensation)
        return await self.replace(session, claim, record)

    async def compensate(self, session: str, claim: Claim, compensation: fabric_pb2.Compensation) -> Claim:
        """Set out to undo a settled call, or store what became of it. Errors as of `replace`."""
        record = fabric_pb2.ClaimRecord()
        record.CopyFrom(claim.record)
        record.compensation.CopyFrom(compensation)
        return await self.replace(session, claim, record)

    async def shorten(self, session: str, key: str) -> None:
        """Let go of arguments and output of a settled call, which will not run again. Errors as of `replace`."""
        claim = await self.read(session, key)
        if claim is None or not claim.settled:
            return
        record = fabric_pb2.ClaimRecord()
        record.CopyFrom(claim.record)
        record.ClearField("arguments_json")
        record.outcome.ClearField("output_json")
        await self.replace(session, claim, record)

    async def read(self, session: str, key: str) -> Claim | None:
        """One claim. ServiceError."""
        found = await self._read(subjects.claim(session, key))
        return None if found is None else Claim(key, fabric_pb2.ClaimRecord.FromString(found[0]), found[1])

    async def all(self, session: str) -> list[Claim]:
        """Every claim of a session, in the order in which the model made the calls. ServiceError."""
        claims = [
            Claim(
                message.subject.rpartition(".")[2],
                fabric_pb2.ClaimRecord.FromString(message.data),
                message.metadata.sequence.stream,
            )
            for message in await self._all(subjects.claim(session, "*"))
        ]
        return sorted(claims, key=lambda claim: (claim.record.turn, claim.record.number))


def not_run(why: str) -> fabric_pb2.ToolCallReply:
    """What the model is told of a call that had no effect."""
    return fabric_pb2.ToolCallReply(
        schema_version=1,
        outcome=live_pb2.TOOL_OUTCOME_FAILED,
        error=f"not run: {why}",
        status=fabric_pb2.CALL_STATUS_NOT_BEGUN,
    )


def unknown(tool: str) -> fabric_pb2.ToolCallReply:
    """What the model is told of a call that may or may not have had its effect."""
    return fabric_pb2.ToolCallReply(
        schema_version=1,
        outcome=live_pb2.TOOL_OUTCOME_UNKNOWN,
        error=f"the tool {tool!r} did not answer; whether it had its effect is unknown",
        status=fabric_pb2.CALL_STATUS_ENDED,
    )


_TAKEN_BACK: Final = {
    fabric_pb2.COMPENSATION_STATE_RUNNING: "the call was taken back; whether what it did is undone by now is unknown",
    fabric_pb2.COMPENSATION_STATE_DONE: "the call was taken back, and what it did was undone",
    fabric_pb2.COMPENSATION_STATE_NOT_NEEDED: "the call was taken back, and did nothing",
    fabric_pb2.COMPENSATION_STATE_FAILED: "the call was taken back, but what it did could not be undone",
}
_MAY_HAVE_HAPPENED: Final = frozenset({live_pb2.TOOL_OUTCOME_SUCCEEDED, live_pb2.TOOL_OUTCOME_UNKNOWN})


def can_be_undone(claim: Claim) -> bool:
    """The call had its effect, or may have, and nobody has set out to undo it."""
    record = claim.record
    return claim.settled and record.outcome.outcome in _MAY_HAVE_HAPPENED and not record.HasField("compensation")


def answer(claim: Claim) -> fabric_pb2.ToolCallReply:
    """The claim as a reply to a request for the call."""
    if not claim.settled:
        return fabric_pb2.ToolCallReply(schema_version=1, status=fabric_pb2.CALL_STATUS_RUNNING)
    reply = fabric_pb2.ToolCallReply()
    reply.CopyFrom(claim.record.outcome)
    reply.status = fabric_pb2.CALL_STATUS_ENDED
    if claim.record.HasField("compensation") and reply.outcome in _MAY_HAVE_HAPPENED:
        reply.outcome = live_pb2.TOOL_OUTCOME_CANCELLED
        reply.error = _TAKEN_BACK.get(claim.record.compensation.state, "the call was taken back")
        reply.ClearField("output_json")
    return reply
