"""A gateway that does what a script says: real gRPC on a loopback socket, without message bus and workers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from parley.conformance.steps import Called, Event, HalfClosed, Left, Received, Status, Unreadable
from parley.v1 import live_pb2 as pb

SERVICE = "parley.v1.LiveService"
MAX_CALLS = 64
"""Streams of a client in one check; one that calls more often gets RESOURCE_EXHAUSTED."""
MAX_EVENTS = 4096
"""Events that wait for the script; a client that sends more is read no further until they are taken."""
HALF_CLOSE_WAIT = 0.05
"""Seconds after which a closed request side is believed: a call reads as closed just before it is cancelled."""

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"


@dataclass(slots=True)
class _Stream:
    context: Context
    finished: asyncio.Future[Status] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class ScriptedGateway:
    """Serves `Converse`; what clients do goes into `events`, what the script says goes out by `send` and `finish`."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue(MAX_EVENTS)
        self.target = ""
        self._streams: dict[int, _Stream] = {}

    async def send(self, call: int, response: bytes) -> None:
        """Send one response; to a client that is gone it is no error."""
        stream = self._streams[call]
        if not stream.finished.done():
            with contextlib.suppress(grpc.aio.BaseError, grpc.RpcError, asyncio.InvalidStateError):
                await stream.context.write(response)

    def finish(self, call: int, status: Status) -> None:
        """End a call."""
        finished = self._streams[call].finished
        if not finished.done():
            finished.set_result(status)

    def handler(self) -> grpc.GenericRpcHandler:
        """For the gRPC server: on bytes, so that what cannot be read is seen, and unknown fields can be sent."""
        converse: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self._converse)
        return grpc.method_handlers_generic_handler(SERVICE, {"Converse": converse})

    async def _converse(self, _requests: object, context: Context) -> None:
        number = len(self._streams) + 1
        if number > MAX_CALLS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"more than {MAX_CALLS} calls in one check")
        stream = self._streams[number] = _Stream(context)
        metadata = {str(key): str(value) for key, value in context.invocation_metadata() or ()}
        await self.events.put(Called(time.monotonic(), number, context.peer(), metadata))
        reading = asyncio.create_task(self._read(number, stream), name=f"read {number}")
        try:
            status = await stream.finished
        except asyncio.CancelledError:
            stream.finished.cancel()
            with contextlib.suppress(asyncio.QueueFull):
                self.events.put_nowait(Left(time.monotonic(), number))
            raise
        finally:
            reading.cancel()
        if status.code != "OK":
            trailers = (("grpc-status-details-bin", details),) if (details := status.details()) else ()
            await context.abort(grpc.StatusCode[status.code], f"conformance: {status}", trailers)

    async def _read(self, number: int, stream: _Stream) -> None:
        try:
            while True:
                raw: object = await stream.context.read()
                if not isinstance(raw, bytes):  # grpc.aio.EOF
                    break
                now = time.monotonic()
                try:
                    await self.events.put(Received(now, number, pb.ConverseRequest.FromString(raw)))
                except DecodeError:
                    await self.events.put(Unreadable(now, number))
            await asyncio.sleep(HALF_CLOSE_WAIT)
            await self.events.put(HalfClosed(time.monotonic(), number))
        except (grpc.aio.BaseError, grpc.RpcError):
            pass  # the call is over


@asynccontextmanager
async def scripted_gateway() -> AsyncIterator[ScriptedGateway]:
    """A gateway on a free port of 127.0.0.1."""
    gateway = ScriptedGateway()
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers((gateway.handler(),))
    gateway.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield gateway
    finally:
        await server.stop(None)
