"""Taking a session over from an owner that is gone: who may, and what is written before anything is done with it."""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from parley.v1 import errors_pb2, fabric_pb2, sessions_pb2
from services.fabric import subjects
from services.fabric.bus import Bus, NoResponderError
from services.fabric.capabilities import Backend, ModelCapabilities, capabilities_of
from services.fabric.conversation_log import ConversationLog
from services.fabric.errors import ServiceError
from services.fabric.records import FencedError, SessionRecords, handed_over, stream_gateway
from services.session_worker.conversation import Conversation
from services.session_worker.ownership import Ownership
from services.session_worker.restored_state import Numbering, RestoredState, restored
from services.session_worker.seq_ranges import Range

WORKER_LOST: Final = "WORKER_LOST"
_PING: Final = 0.5
"""Seconds that the old owner has to say that it is there after all."""
_YOUNG: Final = 5.0
"""Seconds for which whoever wrote `own` is not taken for silent: as long as its silence must be."""


@dataclass(frozen=True)
class Inherited:
    """A session that is this worker's now, and what there is of it."""

    request: fabric_pb2.TakeOver
    spec: fabric_pb2.OpenSession
    ownership: Ownership
    log: ConversationLog
    state: RestoredState
    numbering: Numbering
    generation: int
    """Attach generation of the stream before."""
    gateway: str
    """Gateway of that stream; empty: it was over."""
    cause: str
    """As the caller is told."""

    @property
    def last_downlink_seq(self) -> int:
        """Number of the newest downlink message that the owner before counts as having sent."""
        return self.request.floor if self.state.undelivered is None else self.state.undelivered[1]

    @property
    def replayed(self) -> list[Range]:
        """Uplink that the model may have heard before, and is given (again)."""
        first, last = self.state.received + 1, self.request.uplink_sent_seq
        ranges = [(seq, seq) for seq in self.state.given_from_the_log]
        return [*ranges, (first, last)] if last >= first else ranges


async def inherit(
    request: fabric_pb2.TakeOver, *, me: str, bus: Bus, records: SessionRecords, backend: Backend
) -> Inherited:
    """Make a session this worker's. ServiceError; it may be this worker's all the same then, and wants another try."""
    session = request.session_id
    own, attachment, checkpoint = await asyncio.gather(
        records.read_own(session), records.read_attachment(session), records.read_checkpoint(session)
    )
    if own is None or (own[0].session.tenant, own[0].session.principal) != (request.tenant, request.principal):
        raise _unknown(session)
    check_owner(request, own[0])
    if attachment is None or checkpoint is None:
        raise _unknown(session)  # nobody was ever told of it
    check_stream(request, attachment)
    await _check_gone(request, me, bus)
    if request.proof == fabric_pb2.PROOF_OF_DEATH_SILENT:
        await _check_age(session, records)

    epoch = own[0].session.epoch + 1
    log = ConversationLog(bus.js, session, epoch)
    spec = _spec(request, own[0], attachment, checkpoint)
    ownership = Ownership(spec, me, records, log, epoch)
    try:
        await ownership.succeed(own[0], own[1], request.floor + 1)
    except FencedError:
        raise _moved(session) from None
    # Only now is nothing more written by the owner before.
    checkpoint = await records.read_checkpoint(session) or checkpoint
    attachment = await records.read_attachment(session) or attachment
    check_stream(request, attachment)
    spec = _spec(request, own[0], attachment, checkpoint)
    entries = await log.read()
    model = capabilities_of(spec.config.model, backend) or ModelCapabilities()
    words = not spec.config.conversation_log.disabled
    # What was to be written by then may not be, and what is written from now on is of this stream.
    written = entries[-1].position if entries else 0
    numbering = Numbering(attachment.numbered_from, min(attachment.log_position, written))
    state = restored(request, checkpoint, entries, Conversation(model, words=words), numbering)
    cause = own[0].handover.cause if handed_over(own[0]) else WORKER_LOST
    return Inherited(
        request, spec, ownership, log, state, numbering, attachment.attach_generation, attachment.gateway, cause
    )


def check_owner(request: fabric_pb2.TakeOver, record: fabric_pb2.OwnRecord) -> None:
    """Whether the owner is the one that is gone. ServiceError: SESSION_ENDED, or WORKER_LOST to look again."""
    own = record.session
    if own.state == sessions_pb2.SESSION_STATE_ENDED:
        raise ServiceError(errors_pb2.ERROR_REASON_SESSION_ENDED, f"session {own.session_id} has ended")
    if (own.worker, own.epoch) != (request.from_worker, request.from_epoch):
        raise _moved(own.session_id)
    released = request.proof == fabric_pb2.PROOF_OF_DEATH_RELEASED
    if request.proof == fabric_pb2.PROOF_OF_DEATH_UNSPECIFIED or (released and not handed_over(record)):
        raise ServiceError(errors_pb2.ERROR_REASON_WORKER_LOST, f"nothing proves that worker {own.worker} is gone")


def check_stream(request: fabric_pb2.TakeOver, attachment: fabric_pb2.AttachmentRecord) -> None:
    """Whether who asks may have the session. ServiceError: SUPERSEDED or RESUME_REFUSED."""
    if request.attach_generation:
        # An earlier try of the same gateway may have been written without its answer having come.
        mine = (
            stream_gateway(attachment) == request.gateway and attachment.attach_generation > request.attach_generation
        )
        if not mine and attachment.attach_generation != request.attach_generation:
            raise ServiceError(errors_pb2.ERROR_REASON_SUPERSEDED, "another stream took this session over")
    elif request.new_token_sha256:
        return
    elif not hmac.compare_digest(request.presented_token_sha256, attachment.resume_token_sha256):
        raise ServiceError(errors_pb2.ERROR_REASON_RESUME_REFUSED, "the resume token is not this session's")


async def _check_gone(request: fabric_pb2.TakeOver, me: str, bus: Bus) -> None:
    """Ask the old owner once more: who proved its end may have done so some time ago."""
    knows = request.proof not in (fabric_pb2.PROOF_OF_DEATH_SILENT, fabric_pb2.PROOF_OF_DEATH_RELEASED)
    if not knows or request.from_worker == me:
        return
    ping = fabric_pb2.ControlRequest(schema_version=1, ping=fabric_pb2.Ping(session_id=request.session_id))
    try:
        reply = await bus.request(subjects.control(request.from_worker), ping, fabric_pb2.ControlReply, _PING)
    except NoResponderError:
        return
    if reply.failure.reason != errors_pb2.ERROR_REASON_SESSION_UNKNOWN:
        raise _moved(request.session_id)


async def _check_age(session: str, records: SessionRecords) -> None:
    """A silent owner that wrote `own` just now was there then, whatever a gateway has heard of it."""
    age = await records.own_age(session)
    # Clocks that differ by more say nothing, and must not keep a session from its next owner.
    if age is not None and 0.0 <= age < _YOUNG:
        raise ServiceError(
            errors_pb2.ERROR_REASON_WORKER_LOST,
            f"the owner of session {session} took it {age:.1f} s ago, and may be there; look again",
            retry_delay=timedelta(seconds=_YOUNG - age),
        )


def _spec(
    request: fabric_pb2.TakeOver,
    own: fabric_pb2.OwnRecord,
    attachment: fabric_pb2.AttachmentRecord,
    checkpoint: fabric_pb2.CheckpointRecord,
) -> fabric_pb2.OpenSession:
    """As if it were opened now, with the settings that it has."""
    session = own.session
    return fabric_pb2.OpenSession(
        session_id=session.session_id,
        tenant=session.tenant,
        principal=session.principal,
        profile=session.profile,
        config=checkpoint.config,
        tools=checkpoint.tools,
        labels=dict(session.labels),
        request_key=own.request_key,
        gateway=request.gateway,
        resume_token_sha256=request.new_token_sha256 or attachment.resume_token_sha256,
    )


def _moved(session: str) -> ServiceError:
    return ServiceError(errors_pb2.ERROR_REASON_WORKER_LOST, f"session {session} has another owner by now; look again")


def _unknown(session: str) -> ServiceError:
    return ServiceError(errors_pb2.ERROR_REASON_SESSION_UNKNOWN, f"there is no session {session}")
