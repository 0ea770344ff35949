"""Lets go of a session for another worker: nothing more comes in or goes out, everything is written, and `own` says so.

There is no way back. Where something of it fails, the session is let go all the same, as if this worker had died: what
was written last is what its next owner goes on from.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from parley.v1 import errors_pb2
from services.fabric.errors import ServiceError
from services.fabric.records import FencedError
from services.session_worker.parts import Parts

log = structlog.get_logger()

LIMIT: Final = 10.0
"""Seconds that all of it may take; a message bus that is away may be back by then."""


async def release(parts: Parts, cause: str, to_worker: str) -> None:
    """Let go. No more uplink may come from here on. FencedError when the session was somebody else's already;
    ServiceError when it is not known whether `own` says that it was let go."""
    session = parts.spec.session_id
    try:
        async with asyncio.timeout(LIMIT):
            await _stop(parts)
            await _write(parts, cause, to_worker)
    except (TimeoutError, ServiceError) as error:
        log.warning("a session is let go without a word", session=session, error=str(error) or type(error).__name__)
        raise ServiceError(
            errors_pb2.ERROR_REASON_FABRIC_UNAVAILABLE, f"session {session} was let go, and its record may not say so"
        ) from error
    finally:
        parts.ending.let_go(cause)
        parts.downlink.let_go(to_worker)
        parts.wake()


async def _stop(parts: Parts) -> None:
    """First the link: its handle is refused while it is open. What is to be told of losses leaves meanwhile."""
    parts.downlink.tell_losses()
    parts.wake()
    await asyncio.gather(parts.tasks.stop(besides=parts.recorder.task), parts.tools.close(hand_over=True))
    await parts.links.close()
    parts.spans.finish(parts.turns.current, "the session was moved in the middle of the turn")


async def _write(parts: Parts, cause: str, to_worker: str) -> None:
    patiently = AsyncRetrying(
        retry=retry_if_exception_type(ServiceError),
        wait=wait_random_exponential(multiplier=0.1, max=1),
        reraise=True,
    )
    await parts.recorder.stop()
    await patiently(parts.recorder.write_checkpoint, parts.checkpoints.record())
    try:
        await patiently(parts.ownership.release, cause, to_worker)
    except FencedError:
        parts.ownership.lost = True
        raise
