"""The records of one session, as its owner writes them: ownership, attachment, end, and what is forgotten after it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import structlog

from parley.v1 import errors_pb2, fabric_pb2, live_pb2, sessions_pb2
from services.fabric.conversation_log import ConversationLog
from services.fabric.errors import ServiceError
from services.fabric.records import FencedError, SessionRecords
from services.session_worker.restored_state import Numbering

log = structlog.get_logger()

FIRST_EPOCH: Final = 1
_MOST_EPOCHS: Final = 16
"""Ranges that `own` keeps; nothing of an older one is on its way any more."""


class Ownership:
    """One worker's hold on one session."""

    def __init__(
        self,
        spec: fabric_pb2.OpenSession,
        worker: str,
        records: SessionRecords,
        conversation: ConversationLog,
        epoch: int = FIRST_EPOCH,
    ) -> None:
        self.epoch = epoch
        """Number of this ownership; each takeover raises it."""
        self._spec = spec
        self._worker = worker
        self._records = records
        self._conversation = conversation
        self._own = fabric_pb2.OwnRecord()
        self._attempted = False
        self.revision = 0
        """Stream sequence of our `own`, which fences every other write."""
        self.lost = False
        """The session was found to be somebody else's."""

    async def take(self) -> None:
        """Write the first `own` and begin the log. ServiceError when somebody else has the session."""
        spec = self._spec
        session = sessions_pb2.Session(
            session_id=spec.session_id,
            tenant=spec.tenant,
            principal=spec.principal,
            profile=spec.profile,
            model=spec.config.model,
            state=sessions_pb2.SESSION_STATE_ATTACHED,
            worker=self._worker,
            epoch=self.epoch,
            labels=dict(spec.labels),
        )
        session.open_time.GetCurrentTime()
        epochs = [fabric_pb2.EpochRange(epoch=self.epoch, first_downlink_seq=1)]
        self._own = fabric_pb2.OwnRecord(schema_version=1, session=session, request_key=spec.request_key, epochs=epochs)
        self._attempted = True
        try:
            self.revision = await self._records.create_own(spec.session_id, self._own)
            await self._conversation.begin(self._worker)
        except FencedError:
            raise ServiceError(
                errors_pb2.ERROR_REASON_NO_CAPACITY, f"session {spec.session_id} is being opened elsewhere"
            ) from None

    async def succeed(self, own: fabric_pb2.OwnRecord, revision: int, first_downlink_seq: int) -> None:
        """Write `own` over that of an owner that is gone, and begin the log: from here on it can write nothing more.
        FencedError when somebody else was faster; ServiceError, and then it may have been written."""
        self._own.CopyFrom(own)
        session = self._own.session
        self._own.ClearField("handover")
        session.worker, session.epoch = self._worker, self.epoch
        self._own.epochs.add(epoch=self.epoch, first_downlink_seq=first_downlink_seq)
        del self._own.epochs[:-_MOST_EPOCHS]
        self.revision = await self._records.take_own(self._spec.session_id, revision, self._own)
        await self._conversation.begin(self._worker)

    async def confirm(self) -> None:
        """Read whether the session is still ours, after others may have had reason to take it over. FencedError when it
        is not; ServiceError when that cannot be said."""
        found = await self._records.read_own(self._spec.session_id)
        if found is None or found[1] != self.revision:
            self.lost = True
            raise FencedError(self._spec.session_id)

    async def release(self, cause: str, to_worker: str) -> None:
        """Write that the session is let go; safe to repeat. Nothing may be written after that. FencedError;
        ServiceError, and then it may have been written."""
        self._own.handover.CopyFrom(fabric_pb2.Handover(cause=cause, to_worker=to_worker, epoch=self.epoch))
        await self._records.take_own(self._spec.session_id, self.revision, self._own)

    async def attach(
        self, generation: int, gateway: str, token_sha256: bytes, numbering: Numbering, *, last_gateway: str = ""
    ) -> None:
        """Write the attachment; an empty gateway says that nobody is attached, since `last_gateway` was. FencedError;
        ServiceError."""
        record = fabric_pb2.AttachmentRecord(
            schema_version=1,
            attach_generation=generation,
            gateway=gateway,
            resume_token_sha256=token_sha256,
            last_gateway=last_gateway,
            numbered_from=numbering.first,
            log_position=numbering.position,
        )
        await self._records.write_attachment(self._spec.session_id, self.revision, record)

    async def end(self, reason: live_pb2.EndReason, generation: int, retention: timedelta) -> None:
        """Replace `own` by a tombstone and remove what only a living session needs; safe to repeat. ServiceError."""
        session_id = self._spec.session_id
        session = self._own.session
        session.state = sessions_pb2.SESSION_STATE_ENDED
        session.end_reason = reason
        session.attach_generation = generation
        if not session.HasField("end_time"):
            session.end_time.GetCurrentTime()
        try:
            await self._records.end_own(session_id, self.revision, self._own, retention)
        except FencedError:
            if await self._records.read_own(session_id) is not None:
                log.warning("ownership lost before the end", session=session_id)
                self.lost = True
                return
        await self._records.forget_work(session_id)

    async def undo(self) -> None:
        """Leave nothing of a session whose open failed; safe to repeat. ServiceError."""
        if not self._attempted:
            return
        if not self.revision:
            # A create that timed out may have succeeded: the record is ours if it says so word for word.
            found = await self._records.read_own(self._spec.session_id)
            if found is None or found[0] != self._own:
                return
        await self._conversation.forget()
        await self._records.forget(self._spec.session_id)
