"""Hands a session's input to its link: in order, one thing after another, and what the caller asked of the session."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from google.genai import types

from parley.v1 import fabric_pb2, live_pb2
from services.fabric.errors import ServiceError
from services.session_worker import live_config, responses
from services.session_worker.callertools import Answered, CallerTools
from services.session_worker.input_queue import AudioBatch
from services.session_worker.link import Link, LinkClosedError
from services.session_worker.recorder import Recorder
from services.session_worker.session_context import SessionContext
from services.session_worker.turns import TurnState
from services.session_worker.uplink import Uplink

log = structlog.get_logger()


@dataclass(frozen=True)
class Feeds:
    """What a feeder hands things to, and asks."""

    uplink: Uplink
    turns: TurnState
    recorder: Recorder
    calls: CallerTools
    context: SessionContext
    changed: Callable[[], None]
    """The effective settings are other ones now."""
    refuse: Callable[[ServiceError], None]
    """The caller sent what cannot be taken."""
    end: Callable[[str], None]
    """The caller ends the session, for this reason."""


class Feeder:
    """The one task of a session that sends to its link what the caller sent."""

    def __init__(self, session: str, feeds: Feeds) -> None:
        self._session = session
        self._feeds = feeds
        self._input = asyncio.Event()
        self._link: Link | None = None
        self._highest = 0
        self._audio_since_turn = False
        self._flush_audio = False

    def wake(self) -> None:
        """There is input."""
        self._input.set()

    def turn_ended(self) -> None:
        """The model has answered what it heard."""
        self._audio_since_turn = False

    def half_closed(self) -> None:
        """Nothing more will be said: let the model answer what it has heard."""
        self._flush_audio = True
        self._input.set()

    def attached(self) -> None:
        """The caller is back."""
        self._flush_audio = False

    def let_go(self) -> None:
        """The link is closed: its buffers must not wait for whoever holds this."""
        self._link = None

    async def run(self, link: Link) -> None:
        """Feed until the caller ends the session. LinkClosedError."""
        self._link = link
        queue = self._feeds.uplink.queue
        while True:
            await self._wait(queue.due)
            while (item := queue.pop(time.monotonic())) is not None:
                await self._feeds.recorder.room()
                await self._send(link, item)
                if not isinstance(item, AudioBatch) and item.HasField("end"):
                    return  # what the caller sent after it is not for the model
            if self._flush_audio and self._audio_since_turn:
                self._audio_since_turn = False
                await link.send_realtime(audio_stream_end=True)
                self._feeds.turns.asked(time.monotonic())

    async def answer(self, answered: Answered) -> None:
        """Give the model the result of a call that the caller ran, or did not."""
        if self._link is None:
            raise LinkClosedError(1006, "not connected")
        call, response = answered.call, answered.response
        self._feeds.recorder.log(
            fabric_pb2.LogEntry(tool=responses.tool_record(call, response.response or {}, answered.outcome))
        )
        if answered.final:
            self._feeds.turns.call_settled(call.id, time.monotonic())
        await self._link.send_tool_response(response)

    async def _wait(self, due: float | None) -> None:
        """Until there is input, or a picture that waits may go."""
        if due is None:
            # By far the most frequent: no timer for each piece of audio.
            await self._input.wait()
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - time.monotonic())):
                    await self._input.wait()
        self._input.clear()

    async def _send(self, link: Link, item: AudioBatch | live_pb2.ConverseRequest) -> None:
        if isinstance(item, AudioBatch):
            await link.send_audio(item.pcm)
            self._audio_since_turn = True
            self._sent(item.last_seq)
            return
        turns = self._feeds.turns
        match item.WhichOneof("payload"):
            case "video":
                image = item.video.image
                await link.send_realtime(video=types.Blob(data=image.data, mime_type=image.mime_type))
            case "text":
                turns.asked(time.monotonic())
                await link.send_realtime(text=item.text.text)
            case "turn":
                if item.turn.turn_complete:
                    turns.asked(time.monotonic())
                await link.send_turn([live_config.content(part) for part in item.turn.content], item.turn.turn_complete)
            case "activity_start":
                await link.send_realtime(activity_start=types.ActivityStart())
            case "activity_end":
                await link.send_realtime(activity_end=types.ActivityEnd())
            case "audio_stream_end":
                await link.send_realtime(audio_stream_end=True)
            case "tool_result":
                await self._take_result(item.tool_result)
            case "context_update":
                await self._update(link, item.context_update)
            case "end":
                self._feeds.end(item.end.reason)
            case other:
                log.error("request that the gateway should have refused", session=self._session, payload=other)
        self._sent(item.seq)

    def _sent(self, seq: int) -> None:
        self._highest = max(self._highest, seq)
        uplink = self._feeds.uplink
        uplink.coverage.sent(uplink.queue.handed_over(self._highest), time.monotonic())

    async def _take_result(self, result: live_pb2.ToolResult) -> None:
        try:
            answered = self._feeds.calls.result(result, time.monotonic())
        except ServiceError as error:
            self._feeds.refuse(error)
            return
        if answered is not None:
            await self.answer(answered)

    async def _update(self, link: Link, update: live_pb2.ContextUpdate) -> None:
        try:
            instructions, tools = await self._feeds.context.update(update)
        except ServiceError as error:
            self._feeds.refuse(error)
            return
        await link.send_context_update(instructions, tools)
        self._feeds.changed()
