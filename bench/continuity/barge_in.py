"""A caller that plays what it hears, and speaks up while much of the answer is queued for it. The API's stubs alone."""

import asyncio
import time
import uuid
import wave
from collections import deque
from typing import Any, Final

import grpc

from bench.continuity.figures import moments
from parley.cli.stack import Stack
from parley.v1 import live_pb2 as pb
from parley.v1.live_pb2_grpc import LiveServiceStub
from tests.support.counts import heard
from tests.support.talks import speech

QUEUED: Final = 5.0
"""Seconds of the answer that the service has at least, and the caller has not."""
_FRAME: Final = 1280
_FRAME_SECONDS: Final = 0.04
_LIMIT: Final = 30.0
_GENERATION_SPEED: Final = 4.0
"""Of the emulator, by default: seconds of speech in a second."""


class BargeInError(Exception):
    """It did not come to a barge-in, so nothing was measured."""


async def barge_in(stack: Stack) -> float:
    """Seconds from when the link delivered `interrupted` until the caller had it. BargeInError."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with (
        grpc.aio.insecure_channel(str(stack.gateways[0].ready["address"]), options=options) as channel,
        asyncio.timeout(_LIMIT),
    ):
        return await _Caller(stack, LiveServiceStub(channel).Converse()).interrupt()


class _Caller:
    """One stream. All that it says, acks included, leaves from one task, at the pace of frames."""

    def __init__(self, stack: Stack, stream: Any) -> None:
        self._stack = stack
        self._stream = stream
        self._seq = 0
        self._got = 0.0
        """Seconds of the answer that have come."""
        self._began = 0.0
        """When its first audio came."""
        self._to_play: deque[tuple[float, int]] = deque()
        """When each message has been played, and its number."""

    async def interrupt(self) -> float:
        """The measurement; see `barge_in`."""
        await self._stream.write(
            pb.ConverseRequest(open=pb.Open(request_id=f"req_{uuid.uuid4().hex}", profile="plain"))
        )
        session = (await self._read()).opened.session_id
        parts = [pb.Part(text="tell me about your service")]
        turn = pb.TurnInput(content=[pb.Content(role=pb.ROLE_USER, parts=parts)], turn_complete=True)
        await self._send(turn=turn)
        talking = asyncio.create_task(self._talk())
        try:
            at = await self._until_interrupted()
        finally:
            talking.cancel()
            await asyncio.wait([talking])
            self._stream.cancel()
        assert self._stack.emulator is not None
        record = await heard(self._stack, session)
        (delivered,) = moments(record["events"], "interrupted", float(self._stack.emulator.ready["began"]))
        queued = _GENERATION_SPEED * (delivered - self._began) - self._got
        if queued < QUEUED:
            raise BargeInError(f"only {queued:.1f} s of the answer were queued when the model was interrupted")
        return at - delivered

    async def _until_interrupted(self) -> float:
        played_until = 0.0
        while True:
            response = await self._read()
            if response.HasField("interrupted"):
                return time.monotonic()
            if response.HasField("audio"):
                now = time.monotonic()
                self._began = self._began or now
                seconds = sum(map(len, response.audio.frames)) / 2 / (response.audio.sample_rate_hertz or 24_000)
                self._got += seconds
                played_until = max(now, played_until) + seconds
            if response.seq:
                self._to_play.append((played_until, response.seq))

    async def _talk(self) -> None:
        """Ack what was played, and speak up once the emulator is ahead by more than what is asked for."""
        with wave.open(str(speech("weather_paris"))) as wav:
            pcm = wav.readframes(wav.getnframes())
        frames = [pcm[at : at + _FRAME] for at in range(0, len(pcm), _FRAME)]
        ahead = (QUEUED + 1.0) / (_GENERATION_SPEED - 1)
        due = time.monotonic()
        while True:
            now, played = time.monotonic(), 0
            while self._to_play and self._to_play[0][0] <= now:
                played = self._to_play.popleft()[1]
            if played:
                await self._stream.write(pb.ConverseRequest(ack=pb.Ack(seq=played)))
            if self._began and now > self._began + ahead and frames:
                await self._send(audio=pb.AudioInput(frames=[frames.pop(0)]))
            due += _FRAME_SECONDS
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _send(self, **payload: Any) -> None:
        self._seq += 1
        await self._stream.write(pb.ConverseRequest(seq=self._seq, **payload))

    async def _read(self) -> pb.ConverseResponse:
        response = await self._stream.read()
        if not isinstance(response, pb.ConverseResponse):
            raise BargeInError("the gateway ended the stream")
        return response
