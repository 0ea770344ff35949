"""Moves a session to another worker, when its worker wishes that: first a place for it, then it is let go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog
from google.protobuf.message import Message

from parley.v1 import errors_pb2, fabric_pb2
from services.fabric import subjects
from services.fabric.bus import Bus, NoResponderError
from services.fabric.errors import ServiceError
from services.gateway.placement import WorkerTable
from services.gateway.recovery import Recovery
from services.gateway.stream import Stream

log = structlog.get_logger()

_AGAIN: Final = 0.5
"""Seconds after a try that came to nothing; the wish may be gone by then."""
_MOST_ASKED: Final = 3
"""Workers that are asked for a place in one try."""
_RESERVE_TIMEOUT: Final = 2.0
_RELEASE_TIMEOUT: Final = 8.0


class Mover:
    """Of all streams of a gateway."""

    def __init__(self, bus: Bus, table: WorkerTable, recovery: Recovery, now: Callable[[], float]) -> None:
        self._bus = bus
        self._table = table
        self._recovery = recovery
        self._now = now
        self.moved = 0

    async def move(self, stream: Stream, wish: fabric_pb2.MoveWish) -> None:
        """One try. Where it comes to nothing the session stays where it is, and the worker wishes again; where it is
        not known what it came to, the worker's silence will tell."""
        if wish.released:
            await self._recovery.recover(stream, None)
            return
        stream.moving = True
        try:
            place = await self._reserve(stream, wish)
            released = not stream.closed and await self._release(stream, place, force=wish.force)
        except (NoResponderError, ServiceError) as error:
            log.info("session not moved", session=stream.session, worker=stream.worker, error=str(error))
            released = False
        finally:
            stream.moving = False
            stream.move_at = self._now() + _AGAIN
        if released and not stream.closed:
            self.moved += 1
            await self._recovery.recover(stream, None)

    async def _reserve(self, stream: Stream, wish: fabric_pb2.MoveWish) -> str:
        """A worker that keeps a place for the session. ServiceError when there is none."""
        request = fabric_pb2.ControlRequest(
            schema_version=1, reserve=fabric_pb2.ReservePlace(session_id=stream.session)
        )
        tried = {stream.worker}
        while True:
            worker = wish.to_worker if len(tried) == 1 and wish.to_worker else self._table.choose(tried)
            try:
                await self._ask(worker, request, _RESERVE_TIMEOUT)
            except (NoResponderError, ServiceError) as error:
                if isinstance(error, ServiceError) and error.reason == errors_pb2.ERROR_REASON_NOT_IMPLEMENTED:
                    return worker  # of the release before, which keeps no places
                tried.add(worker)
                if wish.to_worker or len(tried) > _MOST_ASKED:
                    raise
            else:
                return worker

    async def _release(self, stream: Stream, to_worker: str, *, force: bool) -> bool:
        """Whether its worker has let it go; False when it is busy."""
        release = fabric_pb2.ReleaseSession(session_id=stream.session, force=force, to_worker=to_worker)
        request = fabric_pb2.ControlRequest(schema_version=1, release=release)
        reply = await self._ask(stream.worker, request, _RELEASE_TIMEOUT)
        return reply.HasField("released")

    async def _ask(self, worker: str, request: Message, timeout: float) -> fabric_pb2.ControlReply:
        reply = await self._bus.request(subjects.control(worker), request, fabric_pb2.ControlReply, timeout)
        if reply.WhichOneof("result") == "failure":
            raise ServiceError.from_failure(reply.failure)
        if reply.WhichOneof("result") is None:
            raise ServiceError(errors_pb2.ERROR_REASON_INTERNAL, "the worker's answer has no result")
        return reply
