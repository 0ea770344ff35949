"""A conversation as its caller holds it: a thin shell round the queues, one task that reads and one that writes."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import grpc

from parley import errors, events
from parley._acks import AckPolicy
from parley._decode import decode
from parley._framing import Framer
from parley._inbox import Inbox
from parley._outbox import Outbox, Outgoing
from parley._ring import MediaClass, UplinkRing
from parley._status import FirstStatus
from parley.audit import SequenceAudit
from parley.v1 import live_pb2 as pb

_SCHEDULING = {
    "SILENT": pb.RESPONSE_SCHEDULING_SILENT,
    "WHEN_IDLE": pb.RESPONSE_SCHEDULING_WHEN_IDLE,
    "INTERRUPT": pb.RESPONSE_SCHEDULING_INTERRUPT,
}


@dataclass(frozen=True, slots=True)
class Resume:
    """Where to take an existing session up again."""

    session_id: str
    resume_token: str = field(repr=False)
    last_received_seq: int = 0
    """Highest downlink number that the caller has."""


@dataclass(frozen=True, slots=True)
class SessionStats:
    """Counters of a session, from this caller's side."""

    sent_messages: int
    """Numbered messages handed to gRPC."""
    waiting_messages: int
    """Messages that wait to be sent."""
    unacked_messages: int
    """Messages that the service may still ask for."""
    unacked_bytes: int
    dropped_messages: int
    """Sent media that is no longer kept for a resume, because too much was unacked. It was sent all the same."""
    dropped_bytes: int
    voided_audio_messages: int
    """Speech of the model that was interrupted before the application took it."""
    voided_audio_bytes: int


class Session:
    """One conversation. Made by `parley.connect`; iterate over it for events.

    Sends wait when the service cannot take more, and raise the typed error when the stream has ended. Cancelling a
    send or the iteration (a timeout, for instance) leaves the session intact: what was not queued yet is not sent, and
    no event is lost. One task may iterate; any number may send.

    Events are acked as the iteration takes them, and the service sends little beyond the last ack: a caller that does
    not iterate gets nothing new, by design.
    """

    JOIN_SECONDS = 0.5
    """Frames that wait behind a slow stream leave together, up to this much audio (the service takes at most 1 s)."""

    def __init__(
        self,
        call: Any,
        open_request: pb.ConverseRequest,
        *,
        rate: int,
        frame_ms: int,
        after: int = 0,
        close_timeout: timedelta = timedelta(seconds=5),
    ) -> None:
        """Not public: use `parley.connect`. `after`: the downlink number that a resumed caller already has."""
        self._call = call
        self._first_status = FirstStatus(call)
        self._open_request: pb.ConverseRequest | None = open_request
        self._framer = Framer(rate=rate, frame_ms=frame_ms)
        self._join_bytes = int(rate * self.JOIN_SECONDS) * 2
        self._close_timeout = close_timeout
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._outbox = Outbox(self._wake.set)
        self._inbox = Inbox()
        self._ring = UplinkRing()
        self._acks = AckPolicy(after=after)
        self._ack_timer: asyncio.TimerHandle | None = None
        self._next_seq = 1
        self._opened: asyncio.Future[events.Opened] = self._loop.create_future()
        self._half_closed = False
        self._end_sent = False
        self._ended: events.Ended | None = None
        self._finished = False
        self._failure: Callable[[], Exception] | None = None
        self._failure_seen = False
        self._tasks: list[asyncio.Task[None]] = []
        self.audit = SequenceAudit(after=after)
        """Verdict over the downlink numbers as they came from the wire."""

    # -- what the application asks -------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Id of the session, `ses_...`."""
        return self.opened.session_id

    @property
    def opened(self) -> events.Opened:
        """What the service said when it opened or attached the session."""
        return self._opened.result()

    @property
    def ended(self) -> events.Ended | None:
        """Why the session is over; None while it is not, or when only the stream ended."""
        return self._ended

    @property
    def stats(self) -> SessionStats:
        """Counters as they are now."""
        return SessionStats(
            sent_messages=self._next_seq - 1,
            waiting_messages=len(self._outbox),
            unacked_messages=len(self._ring),
            unacked_bytes=self._ring.size,
            dropped_messages=self._ring.dropped_items,
            dropped_bytes=self._ring.dropped_bytes,
            voided_audio_messages=self._inbox.voided_items,
            voided_audio_bytes=self._inbox.voided_bytes,
        )

    # -- sending -------------------------------------------------------------------------------------------------

    async def send_audio(self, pcm: bytes) -> None:
        """Speech of the caller: 16 bit signed little endian mono PCM at the session's input rate, any length.

        It is cut into frames; a rest shorter than a frame waits for the next call, and leaves before anything else
        that is sent, a picture excepted. ValueError: an odd number of bytes.
        """
        self._outbox.raise_if_closed()
        for frame in self._framer.push(pcm):
            await self._put("audio", frame, MediaClass.AUDIO, len(frame))

    async def send_video(self, image: bytes, mime_type: str = "image/jpeg") -> None:
        """One picture of the camera or screen, at most 1 MiB; at most one a second reaches the model."""
        message = pb.VideoInput(image=pb.Blob(mime_type=mime_type, data=image))
        await self._put("video", message, MediaClass.VIDEO, len(image))

    async def send_text(self, text: str) -> None:
        """Text as realtime input; the model may answer at once."""
        await self._put_vital("text", pb.TextInput(text=text))

    async def send_turn(
        self, content: str | pb.Content | Sequence[pb.Content] = (), *, turn_complete: bool = True
    ) -> None:
        """Ordered content; a plain string is one text of the caller. With `turn_complete` the model answers now."""
        if isinstance(content, str):
            content = [pb.Content(role=pb.ROLE_USER, parts=[pb.Part(text=content)])]
        elif isinstance(content, pb.Content):
            content = [content]
        await self._put_vital("turn", pb.TurnInput(content=content, turn_complete=turn_complete))

    async def activity_start(self) -> None:
        """Marks that the caller began to speak; only where automatic voice activity detection is off."""
        await self._put_vital("activity_start", pb.ActivityStart())

    async def activity_end(self) -> None:
        """Marks that the caller stopped speaking."""
        await self._put_vital("activity_end", pb.ActivityEnd())

    async def audio_stream_end(self) -> None:
        """Marks that the microphone is off for more than a second."""
        await self._put_vital("audio_stream_end", pb.AudioStreamEnd())

    async def send_tool_result(
        self,
        call_id: str,
        output: Mapping[str, Any] | None = None,
        *,
        error: str | None = None,
        scheduling: str = "",
        will_continue: bool = False,
    ) -> None:
        """Result (`output`, JSON values) or failure (`error`) of a function that the caller ran for a `ToolCall`.

        `scheduling` is `SILENT`, `WHEN_IDLE` or `INTERRUPT`, for functions that do not block the model.
        """
        if (output is None) == (error is None):
            raise ValueError("give either output or error")
        if scheduling and scheduling not in _SCHEDULING:
            raise ValueError(f"scheduling must be one of {', '.join(_SCHEDULING)}, not {scheduling}")
        message = pb.ToolResult(call_id=call_id, will_continue=will_continue)
        if scheduling:
            message.scheduling = _SCHEDULING[scheduling]
        if output is not None:
            message.output.update(dict(output))
        else:
            message.error = error or ""
        await self._put_vital("tool_result", message)

    async def update_context(self, *, instructions: str | None = None, tools: Sequence[str] | None = None) -> None:
        """New instructions or tools (names of the catalog) from here on; None leaves them as they are."""
        selection = None if tools is None else pb.ToolSelection(names=tools)
        await self._put_vital("context_update", pb.ContextUpdate(instructions=instructions, tools=selection))

    async def end(self, reason: str = "") -> None:
        """Ends the session after everything before was handed to the model; `Ended` follows. Nothing can be sent after
        it. `reason`: for the record, up to 256 characters.
        """
        if self._end_sent:
            return
        await self._put_vital("end", pb.End(reason=reason))
        self._end_sent = True
        self._outbox.close(lambda: _closed_here("end()"), discard=False)

    async def half_close(self) -> None:
        """Says that nothing more comes: the turn in progress finishes, then the stream ends and the session waits for
        a resume. Returns when everything sent before has left.
        """
        if self._half_closed or self._end_sent:
            return
        await self._flush_rest()
        self._half_closed = True
        self._outbox.close(lambda: _closed_here("half_close()"), discard=False)
        self._wake.set()
        await asyncio.wait([self._writer])

    # -- receiving -----------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> events.Event:
        event = await self._inbox.get()
        if event is None:
            if self._failure is not None:
                self._failure_seen = True
                raise self._failure()
            raise StopAsyncIteration
        seconds = event.seconds if isinstance(event, events.Audio) else 0.0
        self._acks.consumed(event.seq, seconds, self._loop.time())
        self._arm_ack()
        return event

    # -- life: called by `connect` -------------------------------------------------------------------------------

    async def start(self, open_timeout: timedelta) -> None:
        """Not public. Sends `open` and waits for `opened`."""
        self._tasks = [
            self._loop.create_task(self._read_all(), name="parley-read"),
            self._loop.create_task(self._write_all(), name="parley-write"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._on_task_done)
        self._wake.set()
        try:
            async with asyncio.timeout(open_timeout.total_seconds()):
                opened = await self._opened
        except TimeoutError:
            raise errors.DeadlineExceeded(
                f"the service did not open the session within {open_timeout.total_seconds():g} s",
                code="DEADLINE_EXCEEDED",
            ) from None
        self._next_seq = opened.next_uplink_seq or 1

    async def leave(self) -> None:
        """Not public. Normal end of the `async with` block."""
        if not self._finished:
            try:
                async with asyncio.timeout(self._close_timeout.total_seconds()):
                    if not self._half_closed:
                        await self.end()
                    async for _ in self:
                        pass
            except TimeoutError:
                if not self._half_closed:
                    raise errors.DeadlineExceeded(
                        f"the service did not confirm the end within {self._close_timeout.total_seconds():g} s",
                        code="DEADLINE_EXCEEDED",
                    ) from None
        elif self._failure is not None and not self._failure_seen:
            raise self._failure()

    async def abort(self) -> None:
        """Not public. Cancels the call and the tasks, and waits for them; safe to repeat."""
        if self._ack_timer is not None:
            self._ack_timer.cancel()
        self._call.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if not self._opened.done():
            self._opened.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self.leave()
        finally:
            await self.abort()

    async def __aenter__(self) -> Self:
        return self

    # -- the shell -----------------------------------------------------------------------------------------------

    @property
    def _writer(self) -> asyncio.Task[None]:
        return self._tasks[1]

    async def _put(self, payload: str, message: Any, media_class: MediaClass, size: int) -> None:
        try:
            await self._outbox.put(Outgoing(payload, message, media_class, size))
        except errors.ParleyError:
            self._failure_seen = True
            raise

    async def _put_vital(self, payload: str, message: Any) -> None:
        self._outbox.raise_if_closed()
        await self._flush_rest()
        await self._put(payload, message, MediaClass.VITAL, message.ByteSize())

    async def _flush_rest(self) -> None:
        if rest := self._framer.flush():
            await self._put("audio", rest, MediaClass.AUDIO, len(rest))

    async def _write_all(self) -> None:
        """Sends what is due, in order: `open`, acks, then the outbox; ends with the call."""
        try:
            while True:
                self._wake.clear()
                while (request := self._next_request()) is not None:
                    await self._call.write(request)
                if self._half_closed and not len(self._outbox):
                    await self._call.done_writing()
                    return
                await self._wake.wait()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The call is over. Its status is the reader's business.
            return

    def _next_request(self) -> pb.ConverseRequest | None:
        if self._open_request is not None:
            request, self._open_request = self._open_request, None
            return request
        due = self._acks.due_at()
        if due is not None and due <= self._loop.time():
            return pb.ConverseRequest(ack=pb.Ack(seq=self._acks.take()))
        if self._ring.full:
            return None
        taken = self._outbox.take(max_audio_bytes=self._join_bytes)
        if not taken:
            return None
        first = taken[0]
        request = pb.ConverseRequest(seq=self._next_seq)
        if first.media_class is MediaClass.AUDIO:
            request.audio.frames.extend(item.message for item in taken)
        else:
            getattr(request, first.payload).CopyFrom(first.message)
            # An empty message is a payload too; copying one does not make it present.
            getattr(request, first.payload).SetInParent()
        self._ring.add(self._next_seq, first.media_class, sum(item.size for item in taken), request)
        self._next_seq += 1
        return request

    async def _read_all(self) -> None:
        """Moves responses to the inbox until the call ends, and says how it ended."""
        try:
            # Not `read()`: once a write has failed, that one gives up what the service sent before it ended the call.
            async for response in self._call:
                if response is None:
                    self._finish(lambda: errors.InternalError("the service sent bytes that are no ConverseResponse"))
                    self._call.cancel()
                    return
                await self._receive(response)
        except grpc.aio.AioRpcError:
            pass
        self._finish(await self._failure_of_status())

    async def _receive(self, response: pb.ConverseResponse) -> None:
        if response.acked_seq and self._ring.acked(response.acked_seq):
            self._wake.set()
        event = decode(response)
        if event is None:
            return
        self.audit.feed_event(event)
        if isinstance(event, events.Interrupted):
            self._inbox.void(event.void_from, event.void_to)
        elif isinstance(event, events.Opened) and not self._opened.done():
            self._opened.set_result(event)
        elif isinstance(event, events.Ended):
            self._ended = event
        await self._inbox.put(event)

    async def _failure_of_status(self) -> Callable[[], Exception] | None:
        status = await self._first_status.settled()
        if status is not None and not status.ok:
            return status.error
        if not self._opened.done():
            return lambda: errors.InternalError("the stream ended before the session was opened", code="OK")
        return None

    def _finish(self, failure: Callable[[], Exception] | None) -> None:
        self._finished = True
        self._failure = failure
        if not self._opened.done() and failure is not None:
            self._failure_seen = True
            self._opened.set_exception(failure())
        self._outbox.close(failure or self._closed_by_service, discard=True)
        self._inbox.close()
        self._wake.set()

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        """A fault of this client must reach the application, not end as a silent stream."""
        if not task.cancelled() and (fault := task.exception()) is not None:
            message = f"the client failed: {fault!r}"
            self._finish(lambda: errors.InternalError(message))
            self._call.cancel()

    def _closed_by_service(self) -> Exception:
        why = f"the session has ended: {self._ended.reason}" if self._ended else "the stream has ended"
        return errors.SessionEnded(why, code="FAILED_PRECONDITION", reason="SESSION_ENDED")

    def _arm_ack(self) -> None:
        due = self._acks.due_at()
        if due is None or self._finished:
            return
        if due <= self._loop.time():
            self._wake.set()
        elif self._ack_timer is None:
            self._ack_timer = self._loop.call_at(due, self._on_ack_timer)

    def _on_ack_timer(self) -> None:
        self._ack_timer = None
        due = self._acks.due_at()
        if due is not None and due > self._loop.time():
            # An ack went out meanwhile and something newer waits: its own time has not come.
            self._arm_ack()
        else:
            self._wake.set()


def _closed_here(what: str) -> Exception:
    return errors.SessionEnded(f"nothing can be sent after {what}", code="FAILED_PRECONDITION", reason="SESSION_ENDED")
