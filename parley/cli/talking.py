"""A conversation in real time: the shell round `Conversation` that `parley talk`, the demo and tests run."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import parley
from parley import errors, events
from parley.cli.conversation import Conversation, Step
from parley.cli.report import TalkReport
from parley.cli.tracing import caller_span
from parley.playout import Playout

INPUT_RATE = 16_000
END_TIMEOUT = 10.0
"""Seconds that the service may take to confirm the end."""
VIDEO_INTERVAL = 1.0
"""Seconds between pictures; no more than one a second reaches the model."""


@dataclass(frozen=True)
class TalkOptions:
    """One conversation."""

    target: str
    steps: Sequence[Step]
    profile: str = "support"
    config: parley.SessionConfig | None = None
    """Settings of the session itself, instead of `profile`."""
    api_key: str = ""
    video: Sequence[bytes] = ()
    """JPEG pictures, sent one a second from the start."""
    frame_ms: int = 40
    otlp_endpoint: str = ""
    """OTLP/gRPC address for the caller's own span; empty: a trace id without a span."""
    timeout: float = 300.0
    """Seconds for everything."""
    turn_timeout: float = 30.0
    """Seconds without any progress after which the model counts as silent."""
    labels: dict[str, str] = field(default_factory=dict)


class Observer(Protocol):
    """Whoever looks on; called from the event loop, so quickly."""

    def on_step(self, step: Step) -> None:
        """The caller begins to say something."""

    def on_event(self, event: events.Event) -> None:
        """The service said something."""


class Silent:
    """An observer that does nothing."""

    def on_step(self, step: Step) -> None:
        """Nothing."""

    def on_event(self, event: events.Event) -> None:
        """Nothing."""


async def talk(options: TalkOptions, observer: Observer | None = None) -> TalkReport:
    """Holds a conversation and reports on it. What goes wrong is in the report; ValueError for options that fit none.

    Cancelling it cancels the call.
    """
    loop = asyncio.get_running_loop()
    report = TalkReport()
    playout = Playout(now=loop.time())
    frame_bytes = INPUT_RATE * options.frame_ms // 1000 * 2
    conversation = Conversation(options.steps, frame_bytes=frame_bytes, playout=playout)
    caller = _Caller(options, conversation, playout, report, observer or Silent())
    try:
        async with asyncio.timeout(options.timeout) as limit:
            async with caller_span(options.otlp_endpoint, options.profile) as span:
                report.trace_id = span.trace_id
                await caller.call(span.traceparent)
                span.set("session.id", report.session_id)
    except (TimeoutError, asyncio.CancelledError) as error:
        # CPython 3.11.2 lets the timeout's own cancellation escape once a TaskGroup of the same task has failed.
        if isinstance(error, asyncio.CancelledError) and not limit.expired():
            raise
        report.fail("timeout", f"the conversation took longer than {options.timeout:g} s", "Allow more with --timeout.")
    except errors.ParleyError as error:
        report.failed_by(error)
    except BaseExceptionGroup as group:
        found, rest = group.split(errors.ParleyError)
        if rest is not None or found is None:
            raise
        report.failed_by(_first(found))
    report.exchanges = conversation.exchanges
    report.played_seconds = playout.played_seconds(loop.time())
    report.reply = playout.rendered(loop.time())
    if report.sequence is not None and not report.sequence.whole:
        report.fail("failed", "the sequence numbers of the service are not whole", "See `sequence`; report it.")
    return report


class _Caller:
    """The microphone, the camera and the ear of one call."""

    def __init__(
        self,
        options: TalkOptions,
        conversation: Conversation,
        playout: Playout,
        report: TalkReport,
        observer: Observer,
    ) -> None:
        self._options = options
        self._conversation = conversation
        self._playout = playout
        self._report = report
        self._observer = observer
        self._digest = hashlib.sha256()
        self._loop = asyncio.get_running_loop()

    async def call(self, traceparent: str | None) -> None:
        options = self._options
        asked_at = self._loop.time()
        connection = parley.connect(
            options.target,
            profile=None if options.config else options.profile,
            config=options.config,
            api_key=options.api_key or None,
            labels=options.labels,
            frame_ms=options.frame_ms,
            traceparent=traceparent,
        )
        async with connection as session:
            self._report.open_ms = (self._loop.time() - asked_at) * 1000
            self._report.session_id = session.id
            try:
                async with asyncio.TaskGroup() as group:
                    listening = group.create_task(self._listen(session))
                    group.create_task(self._speak(session, listening))
            finally:
                self._report.sequence = session.audit.result()
                self._report.sent.audio_sha256 = self._digest.hexdigest()

    async def _speak(self, session: parley.Session, listening: "asyncio.Task[None]") -> None:
        """Says everything, ends the session and waits for the service to confirm it."""
        try:
            await self._say_all(session, listening)
            if not listening.done():
                await session.end("conversation over")
        except errors.SessionEnded:
            self._ended_early(session)
        if not (await asyncio.wait([listening], timeout=END_TIMEOUT))[0]:
            self._report.fail("failed", f"the service did not confirm the end within {END_TIMEOUT:g} s")
            listening.cancel()

    async def _say_all(self, session: parley.Session, listening: "asyncio.Task[None]") -> None:
        """Sends a frame whenever one is due, until the conversation is done."""
        start = self._loop.time()
        frame_seconds = self._options.frame_ms / 1000
        count = 0
        while not listening.done():
            now = self._loop.time()
            pictures = await self._send_video(session, now - start)
            tick = self._conversation.tick(now)
            if tick.begun is not None:
                self._observer.on_step(tick.begun)
            if tick.frame is not None:
                await self._send_audio(session, tick.frame)
            if tick.text is not None:
                await session.send_text(tick.text)
                self._report.sent.texts.append(tick.text)
            if tick.done and pictures:
                self._report.outcome = "completed"
                return
            if self._conversation.stalled_for(now) > self._options.turn_timeout:
                self._report.fail("no_answer", f"no answer within {self._options.turn_timeout:g} s")
                return
            count += 1
            # From the start and not from the last frame, so that lateness never adds up.
            await asyncio.sleep(max(0.0, start + count * frame_seconds - self._loop.time()))
        self._ended_early(session)

    async def _send_audio(self, session: parley.Session, frame: bytes) -> None:
        await session.send_audio(frame)
        self._digest.update(frame)
        self._report.sent.audio_bytes += len(frame)
        self._report.sent.frames += 1

    async def _send_video(self, session: parley.Session, elapsed: float) -> bool:
        """Sends the picture that is due, if one is; true when all have been sent."""
        video, sent = self._options.video, self._report.sent.video
        if len(sent) < len(video) and elapsed >= len(sent) * VIDEO_INTERVAL:
            await session.send_video(video[len(sent)])
            sent.append(hashlib.sha256(video[len(sent)]).hexdigest())
        return len(sent) == len(video)

    async def _listen(self, session: parley.Session) -> None:
        async for event in session:
            now = self._loop.time()
            if isinstance(event, events.Audio):
                self._report.audio_seconds += event.seconds
                self._playout.add(event, now)
            elif isinstance(event, events.Interrupted):
                self._report.interrupted += 1
                self._playout.interrupted(event, now)
            elif isinstance(event, events.StreamResumed):
                self._report.resumes += 1
                self._report.undelivered += event.dropped
            elif isinstance(event, events.Ended):
                self._report.ended = event.reason
            self._conversation.on_event(event, now)
            self._observer.on_event(event)
        if session.ended is not None and session.ended.reason != "CALLER":
            self._ended_early(session)

    def _ended_early(self, session: parley.Session) -> None:
        why = f"the service ended the session: {session.ended.reason}" if session.ended else "the stream ended"
        message = session.ended.message if session.ended else ""
        self._report.fail("ended_early", f"{why}{': ' if message else ''}{message}")


def _first(group: BaseExceptionGroup[Any]) -> errors.ParleyError:
    error: Any = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, errors.ParleyError):
        raise TypeError(f"not an error of a call: {error!r}")
    return error
