"""Answers what gateways and other workers ask of this worker: one command a NATS request, one reply."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import nats.errors
import structlog
from google.protobuf.message import DecodeError
from nats.aio.msg import Msg

from parley.v1 import errors_pb2, fabric_pb2
from services.fabric import telemetry
from services.fabric.errors import ServiceError
from services.session_worker.backend_check import BackendCheck

if TYPE_CHECKING:
    from services.session_worker.worker import Worker

log = structlog.get_logger()


class Commands:
    """Of one worker."""

    def __init__(self, worker: Worker, backend_check: BackendCheck) -> None:
        self._worker = worker
        self._backend_check = backend_check

    async def answer(self, message: Msg) -> None:
        """Do what it asks, and say what came of it."""
        request, reply = fabric_pb2.ControlRequest(), fabric_pb2.ControlReply(schema_version=1)
        try:
            request.ParseFromString(message.data)
            await self._execute(request, message, reply)
        except ServiceError as error:
            reply.failure.CopyFrom(error.to_failure())
        except DecodeError:
            unreadable = ServiceError(errors_pb2.ERROR_REASON_MESSAGE_INVALID, "unreadable command")
            reply.failure.CopyFrom(unreadable.to_failure())
        except asyncio.CancelledError:
            if not self._worker.draining:
                raise
            refused = ServiceError(errors_pb2.ERROR_REASON_NO_CAPACITY, f"worker {self._worker.name} is draining")
            reply.failure.CopyFrom(refused.to_failure())
        except Exception as error:
            # Whoever asked must get an answer; the log gets the cause.
            with telemetry.within(telemetry.context_from(message.headers)):
                log.exception("command failed", command=request.WhichOneof("command"))
            failure = ServiceError(errors_pb2.ERROR_REASON_INTERNAL, f"the worker failed ({type(error).__name__})")
            reply.failure.CopyFrom(failure.to_failure())
        if message.reply:
            with contextlib.suppress(nats.errors.Error):
                await message.respond(reply.SerializeToString())

    async def _execute(self, request: fabric_pb2.ControlRequest, message: Msg, reply: fabric_pb2.ControlReply) -> None:
        worker = self._worker
        asked = telemetry.context_from(message.headers)
        of_session = telemetry.session_context_from(message.headers)
        match request.WhichOneof("command"):
            case "open":
                reply.attached.CopyFrom(await worker.open(request.open, asked, of_session))
            case "attach":
                session = worker.held(request.attach.session_id)
                reply.attached.CopyFrom(await session.attach(request.attach, of_session))
            case "take_over":
                reply.attached.CopyFrom(await worker.take_over(request.take_over, asked, of_session))
            case "reserve":
                worker.reserve(request.reserve.session_id)
                reply.done.SetInParent()
            case "release":
                if await worker.release(request.release):
                    reply.released.SetInParent()
                else:
                    reply.busy.SetInParent()
            case "move":
                worker.move(request.move.session_id, request.move.to_worker)
                reply.done.SetInParent()
            case "set_draining":
                await worker.set_draining(draining=request.set_draining.draining)
                reply.pong.CopyFrom(worker.described())
            case "end":
                worker.held(request.end.session_id).finish(request.end.reason, request.end.message)
                reply.done.SetInParent()
            case "ping":
                if request.ping.session_id:
                    worker.check_has(request.ping.session_id)
                reply.pong.CopyFrom(worker.described())
            case "check_backend":
                reply.backend_checked.CopyFrom(await self._backend_check.run(request.check_backend))
            case other:
                raise ServiceError(errors_pb2.ERROR_REASON_NOT_IMPLEMENTED, f"unknown command {other!r}")
