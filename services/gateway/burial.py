"""Ends a session that no worker holds: the record that it has ended, and nothing else, stays for a while."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from nats.js import JetStreamContext
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from parley.v1 import fabric_pb2, live_pb2, sessions_pb2
from services.fabric.conversation_log import ConversationLog
from services.fabric.errors import ServiceError
from services.fabric.records import SessionRecords

_ATTEMPTS: Final = 6


async def bury(
    js: JetStreamContext,
    records: SessionRecords,
    own: fabric_pb2.OwnRecord,
    revision: int,
    *,
    reason: live_pb2.EndReason,
    retention: timedelta,
) -> None:
    """Write the end over `own` as it was read, and remove the rest. FencedError when it is another record by now, and
    then nothing was changed; ServiceError."""
    session = own.session.session_id
    tombstone = fabric_pb2.OwnRecord()
    tombstone.CopyFrom(own)
    tombstone.session.state = sessions_pb2.SESSION_STATE_ENDED
    tombstone.session.end_reason = reason
    tombstone.session.end_time.GetCurrentTime()
    await records.end_own(session, revision, tombstone, retention)

    async def forget() -> None:
        await records.forget_work(session)
        await ConversationLog(js, session, epoch=0).forget()
        if own.request_key:
            await records.forget_request(own.request_key)

    # From here on nobody else would come to that.
    patiently = AsyncRetrying(
        retry=retry_if_exception_type(ServiceError),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.1, max=2),
        reraise=True,
    )
    await patiently(forget)
