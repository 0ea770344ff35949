"""Hands a session's input to its link: in order, one thing after another, and what the caller asked of the session."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog
from google.genai import types

from parley.v1 import live_pb2
from services.fabric.errors import ServiceError
from services.fabric.hops import Hop
from services.session_worker import live_config
from services.session_worker.callertools import Answered, CallerTools
from services.session_worker.input_queue import AudioBatch
from services.session_worker.journal import Journal
from services.session_worker.link import Link, LinkClosedError
from services.session_worker.recorder import Recorder
from services.session_worker.replay_span import ReplaySpan
from services.session_worker.sent_input import Item
from services.session_worker.session_context import SessionContext
from services.session_worker.turns import TurnState
from services.session_worker.uplink import Uplink

log = structlog.get_logger()

_HOP = Hop("worker_uplink")
_CATCH_UP = 4.0
"""Times real time at which audio that waited for a link is given to it, at most."""


@dataclass(frozen=True)
class Feeds:
    """What a feeder hands things to, and asks."""

    uplink: Uplink
    journal: Journal
    turns: TurnState
    recorder: Recorder
    calls: CallerTools
    context: SessionContext
    answer: Callable[[Answered], object]
    """A call of the caller's has its result."""
    changed: Callable[[], None]
    """The effective settings are other ones now."""
    refuse: Callable[[ServiceError], None]
    """The caller sent what cannot be taken."""
    end: Callable[[str], None]
    """The caller ends the session, for this reason."""


class Feeder:
    """The one task of a session that sends to its link what the caller sent.

    It outlives links. What it hands over is in the journal before it is sent, so that nothing is lost with a link.
    """

    def __init__(self, session: str, feeds: Feeds) -> None:
        self._session = session
        self._feeds = feeds
        self._input = asyncio.Event()
        self._link: Link | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._again: deque[Item] = deque()
        """What a link that is gone was given, for the next one."""
        self._replay: ReplaySpan | None = None
        self._catching_up = False
        """What waited for the link comes before what the caller says now."""
        self._unanswered = False
        """There was speech that the model has not answered."""
        self._flush_audio = False
        self._speaking = False
        """The caller marked the beginning of its speech, and not the end."""

    @property
    def behind(self) -> bool:
        """The link has not been given all that the one before had."""
        return bool(self._again)

    def wake(self) -> None:
        """There is input."""
        if not self._catching_up:
            _HOP.entered(self)
        self._input.set()

    def turn_ended(self) -> None:
        """The model has answered what it heard."""
        if not self._speaking:
            self._unanswered = False

    def half_closed(self) -> None:
        """Nothing more will be said: let the model answer what it has heard."""
        self._flush_audio = True
        self._input.set()

    def attached(self) -> None:
        """The caller is back."""
        self._flush_audio = False

    def give(self, link: Link, again: Iterable[Item] = (), replay: ReplaySpan | None = None) -> None:
        """Feed this link from here on; first `again`, which `replay` is told the end of."""
        self._replayed(complete=False)
        self._replay = replay
        self._again.extendleft(reversed(list(again)))
        self._link, self._feeds.uplink.queue.has_link = link, True
        self._catching_up = True
        self._input.set()

    def release(self) -> None:
        """The link is closed, or about to be: nothing more is given to it. Its buffers are not held here."""
        self._link, self._feeds.uplink.queue.has_link = None, False
        self._replayed(complete=False)

    def _replayed(self, *, complete: bool) -> None:
        replay, self._replay = self._replay, None
        if replay is not None:
            replay.end(complete=complete)

    async def let_go(self) -> None:
        """The same; returns when nothing is on its way to it any more."""
        self.release()
        await self._idle.wait()

    async def run(self) -> None:
        """Feed until the caller ends the session."""
        queue = self._feeds.uplink.queue
        while True:
            link = self._link
            if link is None:
                _HOP.dropped(self)
                if queue.end is not None:  # there is nobody to whom it matters what the caller sent before
                    self._feeds.end(queue.end.end.reason)
                    return
                await self._wait(None)
                continue
            try:
                if await self._feed(link):
                    return
            except LinkClosedError:
                # Whoever reads the link sees it, too, and brings another one.
                if self._link is link:
                    self.release()

    async def _feed(self, link: Link) -> bool:
        """Until the session ends (True), or the link is another one (False)."""
        queue = self._feeds.uplink.queue
        while self._link is link:
            await self._feeds.recorder.room()
            if self._link is not link:
                break
            item = self._again.popleft() if self._again else queue.pop(time.monotonic())
            if item is not None:
                await self._hand_over(link, item)
                if not self._again:
                    self._replayed(complete=True)
                if not isinstance(item, AudioBatch) and item.HasField("end"):
                    return True  # what the caller sent after it is not for the model
                continue
            self._catching_up = False
            _HOP.dropped(self)
            if self._flush_audio:
                await self._flush(link)
            await self._wait(queue.due)
        return False

    async def _flush(self, link: Link) -> None:
        """Whoever closed its side has finished speaking, whether it said so or not."""
        if not self._unanswered:
            return
        speaking, self._unanswered, self._speaking = self._speaking, False, False
        if speaking:
            await link.send_realtime(activity_end=types.ActivityEnd())
        elif not self._manual:
            await link.send_realtime(audio_stream_end=True)
        self._feeds.turns.asked(time.monotonic())

    @property
    def _manual(self) -> bool:
        """The caller marks its speech itself."""
        return self._feeds.context.config.voice_activity_detection.disabled

    async def _wait(self, due: float | None) -> None:
        """Until there is input, or a picture that waits may go, or the link is another one."""
        if due is None:
            # By far the most frequent: no timer for each piece of audio.
            await self._input.wait()
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - time.monotonic())):
                    await self._input.wait()
        self._input.clear()

    async def _hand_over(self, link: Link, item: Item) -> None:
        """The journal first: what is on its way when the link goes is given to the next one."""
        now = time.monotonic()
        self._feeds.journal.sent(item, now, link.sent)
        self._idle.clear()
        try:
            if isinstance(item, AudioBatch):
                await link.send_audio(item.pcm)
                _HOP.left(self)
                self._unanswered = self._unanswered or self._speaking or not self._manual
            else:
                await self._request(link, item, now)
                _HOP.dropped(self)
        finally:
            self._idle.set()
        if self._catching_up and isinstance(item, AudioBatch):
            await asyncio.sleep(self._feeds.journal.seconds(item) / _CATCH_UP)

    async def _request(self, link: Link, item: live_pb2.ConverseRequest, now: float) -> None:
        turns = self._feeds.turns
        match item.WhichOneof("payload"):
            case "video":
                image = item.video.image
                await link.send_realtime(video=types.Blob(data=image.data, mime_type=image.mime_type))
            case "text":
                self._unanswered = self._unanswered or self._speaking
                turns.asked(now)
                await link.send_realtime(text=item.text.text)
            case "turn":
                if item.turn.turn_complete:
                    turns.asked(now, typed=True)
                await link.send_turn([live_config.content(part) for part in item.turn.content], item.turn.turn_complete)
            case "activity_start":
                self._speaking = True
                await link.send_realtime(activity_start=types.ActivityStart())
            case "activity_end":
                self._speaking = False
                await link.send_realtime(activity_end=types.ActivityEnd())
            case "audio_stream_end":
                await link.send_realtime(audio_stream_end=True)
            case "tool_result":
                self._take_result(item.tool_result, now)
            case "context_update":
                await self._update(link, item.context_update)
            case "end":
                self._feeds.end(item.end.reason)
            case other:
                log.error("request that the gateway should have refused", session=self._session, payload=other)

    def _take_result(self, result: live_pb2.ToolResult, now: float) -> None:
        try:
            answered = self._feeds.calls.result(result, now)
        except ServiceError as error:
            self._feeds.refuse(error)
            return
        if answered is not None:
            self._feeds.answer(answered)

    async def _update(self, link: Link, update: live_pb2.ContextUpdate) -> None:
        try:
            instructions, tools = await self._feeds.context.update(update)
        except ServiceError as error:
            self._feeds.refuse(error)
            return
        await link.send_context_update(instructions, tools)
        self._feeds.changed()
