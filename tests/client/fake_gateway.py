"""A gateway of a few lines that speaks the real API over a real socket; each test scripts what it answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from parley.v1 import errors_pb2
from parley.v1 import live_pb2 as pb
from parley.v1.live_pb2_grpc import LiveServiceServicer, add_LiveServiceServicer_to_server
from tests.support.eventually import eventually

Script = Callable[["Stream"], Awaitable[None]]


@dataclass
class Stream:
    """One `Converse` call, seen from the server."""

    context: Any
    requests: list[pb.ConverseRequest] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    seq: int = 0
    cancelled: bool = False
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> pb.ConverseRequest | None:
        request = await self.context.read()
        if request is grpc.aio.EOF:
            return None
        self.requests.append(request)
        return request

    async def read_until(self, payload: str) -> pb.ConverseRequest:
        while (request := await self.read()) is not None:
            if request.WhichOneof("payload") == payload:
                return request
        raise AssertionError(f"the client half-closed before it sent {payload}")

    async def opened(self, **more: Any) -> None:
        await self.read()
        defaults = {"session_id": "ses_test", "resume_token": "secret", "next_uplink_seq": 1}
        await self.context.write(pb.ConverseResponse(opened=pb.Opened(**(defaults | more))))

    async def lose(
        self, *, after: float | None = None, reason: str = "", code: Any = grpc.StatusCode.UNAVAILABLE
    ) -> None:
        """Ends the call as a gateway does that goes away; `after`: seconds of RetryInfo."""
        details: list[tuple[str, Any]] = []
        if reason:
            details.append(("ErrorInfo", errors_pb2.ErrorInfoDetail(reason=f"ERROR_REASON_{reason}", domain="parley")))
        if after is not None:
            delay = {"nanos": round(after * 1e9)}
            details.append(("RetryInfo", errors_pb2.RetryInfoDetail(retry_delay=delay)))
        await self.context.abort(code, reason or "connection lost", status_details(code.value[0], *details))

    async def send(self, *, seq: int | None = None, acked_seq: int = 0, **payload: Any) -> None:
        self.seq = self.seq + 1 if seq is None else seq
        await self.context.write(pb.ConverseResponse(seq=self.seq, acked_seq=acked_seq, **payload))

    async def audio(self, seconds: float, *, seq: int | None = None) -> None:
        await self.send(seq=seq, audio=pb.AudioOutput(frames=[b"\1\0" * int(24_000 * seconds)]))

    async def ended(self) -> None:
        await self.send(ended=pb.Ended(reason=pb.END_REASON_CALLER))

    def of(self, payload: str) -> list[pb.ConverseRequest]:
        return [request for request in self.requests if request.WhichOneof("payload") == payload]

    def numbered(self) -> list[int]:
        return [request.seq for request in self.requests if request.WhichOneof("payload") not in {"open", "ack"}]


@dataclass
class FakeGateway:
    target: str = ""
    streams: list[Stream] = field(default_factory=list)

    async def stream(self) -> Stream:
        """The first call, once it is there."""
        await eventually(lambda: self.streams)
        return self.streams[0]


class _Service(LiveServiceServicer):
    def __init__(self, gateway: FakeGateway, script: Script) -> None:
        self.gateway = gateway
        self.script = script

    async def Converse(self, request_iterator: Any, context: Any) -> None:  # noqa: N802
        metadata = dict(context.invocation_metadata())
        stream = Stream(context, metadata=metadata)
        self.gateway.streams.append(stream)
        try:
            await self.script(stream)
        except asyncio.CancelledError:
            stream.cancelled = True
            raise
        finally:
            stream.finished.set()


@asynccontextmanager
async def fake_gateway(script: Script) -> AsyncIterator[FakeGateway]:
    gateway = FakeGateway()
    # Windows as the gateway has them: with probing they would take in a minute of audio that nobody reads.
    server = grpc.aio.server(options=[("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 64 * 1024)])
    add_LiveServiceServicer_to_server(_Service(gateway, script), server)
    gateway.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield gateway
    finally:
        await server.stop(None)


async def converse_until_end(stream: Stream) -> None:
    """Opens, takes everything, confirms `end`."""
    await stream.opened()
    await stream.read_until("end")
    await stream.ended()


def status_details(code: int, *details: tuple[str, Any]) -> tuple[tuple[str, bytes], ...]:
    """Trailing metadata as a service sends it."""
    status = errors_pb2.StatusDetails(code=code)
    for name, message in details:
        status.details.add(type_url=f"type.googleapis.com/google.rpc.{name}", value=message.SerializeToString())
    return (("grpc-status-details-bin", status.SerializeToString()),)
