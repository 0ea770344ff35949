"""A conversation as its caller holds it: what may be said and asked, and how it begins and ends."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from parley import errors, events
from parley._framing import Framer
from parley._sender import Sender
from parley._stream import Dial
from parley._streams import Streams
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
    unsent_messages: int
    """Messages, a frame of audio counts as one, that were queued here when the session was lost, and never left."""
    unsent_bytes: int
    resumes: int
    """How often another stream took the place of one before it."""
    undelivered_messages: int
    """Messages that the service did not have then, and did not get: `StreamResumed.dropped`."""
    undelivered_bytes: int
    repeated_messages: int
    """Messages of the service that came again after a resume, and were dropped."""


class Session:
    """One conversation. Made by `parley.connect`; iterate over it for events.

    Sending. A `send_*` (and `activity_*`, `audio_stream_end`, `update_context`, `end`) returns when its message is
    queued here, not when the service has it. Messages leave in the order of the calls. The queue holds 64 messages or
    256 KiB, while there is no stream 1024 messages or 1 MiB, a single message of any size besides; while it is full,
    sends wait. It empties as fast as the service reads, and stops while text, turns and tool results of more than 2 MiB
    or 4096 messages are unacked. A wait ends with room, with the typed error of a session that is lost, or by
    cancelling: a host that is gone ends the stream after 30 s, one that only reads nothing does not, so put
    `asyncio.timeout` round a send that may not wait.

    Cancelling a send or the iteration leaves the session intact. A message that was still waiting is not sent; of a
    long piece of audio the frames queued so far are. No event is lost, nor anything of an earlier send. One task may
    iterate; any number may send.

    What was sent is kept until it is acked, up to 2 MiB or 4096 messages: beyond that the oldest pictures are
    forgotten, then the oldest audio (`stats.dropped_messages`). They were sent all the same. After a stream was lost,
    what the service does not have is sent again, but for sound and pictures of more than 15 s ago; `StreamResumed` says
    what it will not get.

    Receiving. Events are acked as the iteration takes them, and the service sends little beyond the last ack: a caller
    that does not iterate gets nothing new, by design.
    """

    def __init__(
        self,
        dial: Dial,
        opening: pb.Open,
        *,
        rate: int,
        frame_ms: int,
        after: int = 0,
        open_timeout: timedelta = timedelta(seconds=30),
        close_timeout: timedelta = timedelta(seconds=5),
        max_outage: timedelta | None = None,
    ) -> None:
        """Not public: use `parley.connect`. `after`: the downlink number that a resumed caller already has."""
        framer = Framer(rate=rate, frame_ms=frame_ms)
        self._streams = Streams(dial, opening, rate=rate, after=after, open_timeout=open_timeout, max_outage=max_outage)
        self._sender = Sender(self._streams.uplink.outbox, framer)
        self._close_timeout = close_timeout
        self._half_closed = False
        self._end_sent = False

    # -- what the application asks -------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Id of the session, `ses_...`."""
        return self.opened.session_id

    @property
    def opened(self) -> events.Opened:
        """What the service said when it opened the session, or attached the newest stream to it."""
        if self._streams.opened is None:
            raise RuntimeError("the session is not open; use `async with parley.connect(...)`")
        return self._streams.opened

    @property
    def ended(self) -> events.Ended | None:
        """Why the session is over; None while it is not, or when only the stream ended."""
        return self._streams.downlink.ended

    @property
    def resume_point(self) -> Resume:
        """Where another process can take the session up, behind the last event that was taken here. Secret."""
        opened = self.opened
        return Resume(opened.session_id, opened.resume_token, self._streams.downlink.acks.taken)

    @property
    def audit(self) -> SequenceAudit:
        """Verdict over the downlink numbers as they came from the wire, without what came again after a resume."""
        return self._streams.downlink.audit

    @property
    def stats(self) -> SessionStats:
        """Counters as they are now."""
        uplink, downlink = self._streams.uplink, self._streams.downlink
        return SessionStats(
            sent_messages=uplink.next_seq - 1,
            waiting_messages=len(uplink.outbox),
            unacked_messages=len(uplink.ring),
            unacked_bytes=uplink.ring.size,
            dropped_messages=uplink.ring.dropped_items,
            dropped_bytes=uplink.ring.dropped_bytes,
            voided_audio_messages=downlink.inbox.voided_items,
            voided_audio_bytes=downlink.inbox.voided_bytes,
            unsent_messages=uplink.outbox.discarded_items,
            unsent_bytes=uplink.outbox.discarded_bytes,
            resumes=self._streams.resumed,
            undelivered_messages=uplink.lost_messages,
            undelivered_bytes=uplink.lost_bytes,
            repeated_messages=downlink.repeated,
        )

    # -- sending -------------------------------------------------------------------------------------------------

    async def send_audio(self, pcm: bytes) -> None:
        """Speech of the caller: 16 bit signed little endian mono PCM at the session's input rate, any length.

        It is cut into frames; a rest shorter than a frame waits for the next call, and leaves before anything else
        that is sent, a picture excepted. ValueError: an odd number of bytes.
        """
        await self._sender.audio(pcm)

    async def send_video(self, image: bytes, mime_type: str = "image/jpeg") -> None:
        """One picture of the camera or screen, at most 1 MiB; at most one a second reaches the model."""
        message = pb.VideoInput(image=pb.Blob(mime_type=mime_type, data=image))
        await self._sender.video(message, len(image))

    async def send_text(self, text: str) -> None:
        """Text as realtime input; the model may answer at once."""
        await self._sender.vital("text", pb.TextInput(text=text))

    async def send_turn(
        self, content: str | pb.Content | Sequence[pb.Content] = (), *, turn_complete: bool = True
    ) -> None:
        """Ordered content; a plain string is one text of the caller. With `turn_complete` the model answers now."""
        if isinstance(content, str):
            content = [pb.Content(role=pb.ROLE_USER, parts=[pb.Part(text=content)])]
        elif isinstance(content, pb.Content):
            content = [content]
        await self._sender.vital("turn", pb.TurnInput(content=content, turn_complete=turn_complete))

    async def activity_start(self) -> None:
        """Marks that the caller began to speak; only where automatic voice activity detection is off."""
        await self._sender.vital("activity_start", pb.ActivityStart())

    async def activity_end(self) -> None:
        """Marks that the caller stopped speaking."""
        await self._sender.vital("activity_end", pb.ActivityEnd())

    async def audio_stream_end(self) -> None:
        """Marks that the microphone is off for more than a second."""
        await self._sender.vital("audio_stream_end", pb.AudioStreamEnd())

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
        await self._sender.vital("tool_result", message)

    async def update_context(self, *, instructions: str | None = None, tools: Sequence[str] | None = None) -> None:
        """New instructions or tools (names of the catalog) from here on; None leaves them as they are."""
        selection = None if tools is None else pb.ToolSelection(names=tools)
        await self._sender.vital("context_update", pb.ContextUpdate(instructions=instructions, tools=selection))

    async def end(self, reason: str = "") -> None:
        """Ends the session after everything before was handed to the model; `Ended` follows. Nothing can be sent after
        it. `reason`: for the record, up to 256 characters.
        """
        if self._end_sent:
            return
        await self._sender.last(lambda: _closed_here("end()"), "end", pb.End(reason=reason))
        self._end_sent = True

    async def half_close(self) -> None:
        """Says that nothing more comes: the turn in progress finishes, then the stream ends and the session waits for
        a resume. Returns when everything sent before has left.
        """
        if self._half_closed or self._end_sent:
            return
        await self._sender.last(lambda: _closed_here("half_close()"))
        self._half_closed = True
        await self._streams.half_close()

    # -- receiving -----------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> events.Event:
        event = await self._streams.downlink.inbox.get()
        if event is None:
            self._streams.raise_failure()
            raise StopAsyncIteration
        self._streams.took(event)
        return event

    # -- life: called by `connect` -------------------------------------------------------------------------------

    async def start(self, addresses: int) -> None:
        """Not public. Opens the first stream, at one of so many addresses."""
        await self._streams.open(addresses)

    async def leave(self) -> None:
        """Not public. Normal end of the `async with` block."""
        if self._streams.finished:
            self._streams.raise_failure(unseen=True)
            return
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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self.leave()
        finally:
            await self._streams.abort()


def _closed_here(what: str) -> Exception:
    return errors.SessionEnded(f"nothing can be sent after {what}", code="FAILED_PRECONDITION", reason="SESSION_ENDED")
