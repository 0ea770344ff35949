"""Calls through Parley: the API's stubs and nothing else, one connection a call, as callers in many processes have.

Frames leave one a message. What was heard is acked as the Python client does it, with its own policy.
"""

import asyncio
import time
import uuid
from typing import Any

import grpc

from bench.load.call import CallOverError, Hear
from parley._acks import AckPolicy
from parley._connect import CHANNEL_OPTIONS
from parley._status import FirstStatus
from parley.v1 import live_pb2 as pb
from parley.v1.live_pb2_grpc import LiveServiceStub

_CLOSE_LIMIT = 5.0


class FabricDialer:
    """Opens calls at one gateway."""

    def __init__(self, target: str, model: str) -> None:
        self._target = target
        self._config = pb.SessionConfig(model=model)
        self._channels: list[grpc.aio.Channel] = []

    async def prepare(self, calls: int) -> None:
        """Connects: a burst of opens is to meet connections that stand."""
        while len(self._channels) < calls:
            # Channels of one process would share their connection.
            options = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
            self._channels.append(grpc.aio.insecure_channel(self._target, options=options))
        await asyncio.gather(*(channel.channel_ready() for channel in self._channels))

    async def __call__(self, hear: Hear) -> tuple["FabricCall", float]:
        """The time is that from `open` to `opened`."""
        channel = self._channels.pop()
        try:
            stream = _Stream(LiveServiceStub(channel).Converse())
            began = time.monotonic()
            opening = pb.Open(request_id=f"req_{uuid.uuid4().hex}", config=self._config)
            await stream.write(pb.ConverseRequest(open=opening))
            first = await stream.read()
            took = time.monotonic() - began
            if not first.HasField("opened"):
                raise CallOverError(f"the gateway's first message is {first.WhichOneof('payload')}, not opened")
        except BaseException:
            await channel.close()
            raise
        return FabricCall(channel, stream, hear), took

    async def close(self) -> None:
        """Connections that no call took."""
        for channel in self._channels:
            await channel.close()


class FabricCall:
    """A :class:`bench.load.call.Call`."""

    def __init__(self, channel: grpc.aio.Channel, stream: "_Stream", hear: Hear) -> None:
        self._channel = channel
        self._stream = stream
        self._hear = hear
        self._acks = AckPolicy()
        self._seq = 0
        self.failure = ""
        self._reader = asyncio.create_task(self._read())

    async def send(self, frame: bytes) -> None:
        """The frame, then the ack if one is due: never before it, for its clock runs."""
        self._seq += 1
        await self._stream.write(pb.ConverseRequest(seq=self._seq, audio=pb.AudioInput(frames=[frame])))
        await self.idle()

    async def idle(self) -> None:
        """Acks what was heard."""
        due = self._acks.due_at()
        if due is not None and due <= time.monotonic():
            await self._stream.write(pb.ConverseRequest(ack=pb.Ack(seq=self._acks.take())))

    async def _read(self) -> None:
        try:
            while True:
                response = await self._stream.read()
                if response.HasField("audio"):
                    seconds = 0.0
                    for pcm in response.audio.frames:
                        self._hear(pcm)
                        seconds += len(pcm) / 2 / (response.audio.sample_rate_hertz or 24_000)
                    self._acks.consumed(response.seq, seconds, time.monotonic())
                elif response.HasField("gap"):
                    self.failure = f"gap: {' '.join(str(response.gap).split())}"
        except CallOverError as error:
            self.failure = self.failure or str(error)

    async def close(self) -> None:
        """`end`, and the stream's own end."""
        try:
            async with asyncio.timeout(_CLOSE_LIMIT):
                await self._stream.write(pb.ConverseRequest(seq=self._seq + 1, end=pb.End(reason="bench")))
                await self._reader
        except (CallOverError, TimeoutError):
            self._stream.cancel()
        await asyncio.wait([self._reader])
        await self._channel.close()


class _Stream:
    """A gRPC stream whose end is always a CallOverError with what the gateway said."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._first_status = FirstStatus(call)

    async def write(self, request: pb.ConverseRequest) -> None:
        try:
            await self._call.write(request)
        except (grpc.RpcError, asyncio.InvalidStateError) as error:
            raise await self._over() from error

    async def read(self) -> pb.ConverseResponse:
        try:
            response = await self._call.read()
        except grpc.RpcError as error:
            raise await self._over() from error
        if not isinstance(response, pb.ConverseResponse):  # the end, and no error
            raise await self._over()
        return response

    async def _over(self) -> CallOverError:
        await self._call.code()  # waits for the end
        status = await self._first_status.settled()
        assert status is not None
        return CallOverError(f"the gateway ended the call: {status.code.name} {status.message}".rstrip())

    def cancel(self) -> None:
        self._call.cancel()
