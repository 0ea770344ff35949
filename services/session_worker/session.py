"""One session: the thin shell that connects a link, the caller's uplink and downlink, tools and records.

What decides is elsewhere and plain: `turns`, `coverage`, `input_queue`, `downlink`, fabric's `sequence`. This module
performs: it owns the tasks of the session and ends them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import structlog
from google.genai import types
from opentelemetry import trace
from opentelemetry.context import Context

from parley.v1 import errors_pb2, fabric_pb2, live_pb2, sessions_pb2
from services.fabric import names, telemetry
from services.fabric.bus import Bus, Writer
from services.fabric.conversation_log import ConversationLog
from services.fabric.errors import ServiceError
from services.fabric.records import FencedError, SessionRecords
from services.fabric.sequence import SequenceReceiver
from services.session_worker import events, live_config, responses
from services.session_worker.coverage import Coverage
from services.session_worker.downlink import Downlink
from services.session_worker.input_queue import AudioBatch, InputQueue
from services.session_worker.link import Dialer, Link, LinkClosedError
from services.session_worker.recorder import Recorder
from services.session_worker.settings import WorkerSettings
from services.session_worker.toolcalls import ToolCalls
from services.session_worker.turn_span import TurnSpans
from services.session_worker.turns import Turn, TurnState

log = structlog.get_logger()

_STATUS_INTERVAL = 0.5
_NACK_INTERVAL = 0.05
_LINGER = 3.0
"""Seconds that an ended session waits for a slow gateway to take its last messages."""
_VITAL = frozenset({"text", "turn"})


@dataclass(frozen=True)
class Services:
    """What sessions of one worker share."""

    worker: str
    bus: Bus
    writer: Writer
    records: SessionRecords
    dialer: Dialer
    settings: WorkerSettings


class Session:
    """A conversation that this worker owns."""

    def __init__(self, spec: fabric_pb2.OpenSession, services: Services) -> None:
        self.spec = spec
        self.id = spec.session_id
        self.epoch = 1
        self.generation = 0
        self.ending: EndCause | None = None
        """Set once: why the session ends. The worker then calls `close`."""
        self._services = services
        settings = services.settings
        ahead = round(settings.gateway_audio_ahead.total_seconds() * 1000)
        self._downlink = Downlink(self.id, self.epoch, settings.downlink_buffer_bytes, ahead)
        rate = live_config.input_rate(spec.config)
        self._queue = InputQueue(int(settings.input_audio_buffer.total_seconds() * rate * 2))
        self._receiver: SequenceReceiver[live_pb2.ConverseRequest] = SequenceReceiver()
        self._coverage = Coverage()
        self._turns = TurnState()
        self._conversation = ConversationLog(services.bus.js, self.id, self.epoch)
        self._recorder = Recorder(services.records, self._conversation, self.id, self._stored)
        self._own = fabric_pb2.OwnRecord()
        self._own_revision = 0
        self._token = spec.resume_token_sha256
        self._link: Link | None = None
        self._handle = ""
        self._session_context = Context()
        self._spans = TurnSpans(spec, self._session_context)
        self._tools = ToolCalls(
            services.bus, spec, self.epoch, respond=self._respond, emit=self._say, record=self._recorder.log
        )
        self._input = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._heard_gateway = 0.0
        self._said_status = 0.0
        self._asked_again = 0.0
        self._detached_since: float | None = None
        self._half_closed_since: float | None = None
        self._audio_since_turn = False
        self.stale_uplink = 0

    # Opening and attaching

    async def open(self, parent: Context, session_context: Context) -> fabric_pb2.Attached:
        """Write the ownership, connect the link, attach the stream. ServiceError; nothing is left behind then."""
        spec, services = self.spec, self._services
        self._session_context = session_context
        self._spans = TurnSpans(spec, session_context)
        self._own = self._own_record()
        try:
            self._own_revision = await services.records.create_own(self.id, self._own)
        except FencedError:
            raise ServiceError(
                errors_pb2.ERROR_REASON_NO_CAPACITY, f"session {self.id} is being opened elsewhere"
            ) from None
        self._recorder.own_revision = self._own_revision
        try:
            await self._conversation.begin(services.worker)
            await self._connect(parent)
            attached = await self._attach(spec.gateway, 0)
        except BaseException:
            await asyncio.shield(self._undo_open())
            raise
        self._supervise(self._read(), "read")
        self._supervise(self._feed(), "feed")
        self._supervise(self._recorder.run(), "record")
        return attached

    def _own_record(self) -> fabric_pb2.OwnRecord:
        spec = self.spec
        session = sessions_pb2.Session(
            session_id=self.id,
            tenant=spec.tenant,
            principal=spec.principal,
            profile=spec.profile,
            model=spec.config.model,
            state=sessions_pb2.SESSION_STATE_ATTACHED,
            worker=self._services.worker,
            epoch=self.epoch,
            labels=dict(spec.labels),
        )
        session.open_time.GetCurrentTime()
        epochs = [fabric_pb2.EpochRange(epoch=self.epoch, first_downlink_seq=1)]
        return fabric_pb2.OwnRecord(schema_version=1, session=session, request_key=spec.request_key, epochs=epochs)

    async def _undo_open(self) -> None:
        self._services.writer.forget(self._downlink)
        if self._link is not None:
            await self._link.close()
        try:
            await self._conversation.forget()
            await self._services.records.forget(self.id)
        except ServiceError as error:
            log.warning("a failed open left records behind", session=self.id, error=str(error))

    async def _connect(self, parent: Context) -> None:
        spec, settings = self.spec, self._services.settings
        fill = {"session": self.id, "tenant": spec.tenant, "profile": spec.profile}
        headers = {name: value.format_map(fill) for name, value in settings.link_headers.items()}
        with telemetry.tracer().start_as_current_span(names.SPAN_CONNECT, parent, trace.SpanKind.CLIENT) as span:
            span.set_attributes({names.SESSION_ID: self.id, names.GEN_AI_MODEL: spec.config.model, names.LINK: 1})
            config = live_config.live_config(spec.config, list(spec.tools), self._handle, headers)
            rate = live_config.input_rate(spec.config)
            self._link = await self._services.dialer.dial(spec.config.model, config, rate)

    async def attach(self, request: fabric_pb2.AttachSession) -> fabric_pb2.Attached:
        """Let a stream take the session over. ServiceError when it may not."""
        if self.ending is not None:
            raise ServiceError(errors_pb2.ERROR_REASON_SESSION_ENDED, f"session {self.id} is over")
        if (request.tenant, request.principal) != (self.spec.tenant, self.spec.principal):
            raise ServiceError(errors_pb2.ERROR_REASON_SESSION_UNKNOWN, f"there is no session {request.session_id}")
        if request.presented_token_sha256 and request.presented_token_sha256 != self._token:
            raise ServiceError(errors_pb2.ERROR_REASON_RESUME_REFUSED, "the resume token is not this session's")
        if request.new_token_sha256:
            self._token = request.new_token_sha256
        return await self._attach(request.gateway, request.last_received_seq)

    async def _attach(self, gateway: str, last_received: int) -> fabric_pb2.Attached:
        self.generation += 1
        generation = self.generation
        await self._write_attachment(gateway)
        if generation != self.generation:
            raise ServiceError(errors_pb2.ERROR_REASON_SUPERSEDED, "a newer stream attached meanwhile")
        superseded = ServiceError(errors_pb2.ERROR_REASON_SUPERSEDED, "another stream took this session over")
        first = self._downlink.attach(gateway, generation, last_received, superseded.to_failure())
        now = time.monotonic()
        self._heard_gateway, self._said_status = now, now
        self._detached_since = self._half_closed_since = None
        self._services.writer.wake(self._downlink)
        return fabric_pb2.Attached(
            epoch=self.epoch,
            attach_generation=generation,
            next_uplink_seq=self._receiver.received + 1,
            next_downlink_seq=first,
            resume_window=responses.duration(self._services.settings.resume_window.total_seconds()),
        )

    async def _write_attachment(self, gateway: str) -> None:
        record = fabric_pb2.AttachmentRecord(
            schema_version=1, attach_generation=self.generation, gateway=gateway, resume_token_sha256=self._token
        )
        try:
            await self._services.records.write_attachment(self.id, self._own_revision, record)
        except FencedError:
            self._fail(FencedError(self.id))
            raise ServiceError(errors_pb2.ERROR_REASON_WORKER_LOST, "the session moved to another worker") from None

    # Uplink: gateway -> link

    def on_uplink(self, envelope: fabric_pb2.UplinkEnvelope, now: float) -> None:
        """Take what the gateway sent. Called from the NATS callback: never waits."""
        if envelope.epoch != self.epoch or envelope.attach_generation != self.generation or self.ending is not None:
            self.stale_uplink += 1
            return
        self._heard_gateway = now
        self._downlink.passed_on(envelope.downlink_received_seq)
        self._downlink.acknowledge(envelope.downlink_acked_seq)
        if envelope.downlink_missing:
            self._downlink.resend([(item.from_seq, item.to_seq) for item in envelope.downlink_missing])
        self._services.writer.wake(self._downlink)
        for raw in envelope.requests:
            request = live_pb2.ConverseRequest.FromString(raw)
            audio = request.WhichOneof("payload") == "audio"
            self._take(self._receiver.message(request.seq, request, now, audio=audio))
        for skip in envelope.skips:
            self._lost(skip.range.from_seq, skip.range.to_seq, skip.media_class, skip.reason)
            self._take(self._receiver.skip(skip.range.from_seq, skip.range.to_seq, now))
        self._receiver.sender_is_at(envelope.last_seq, now)
        self._downlink.uplink.received = self._receiver.received
        if envelope.half_closed and self._half_closed_since is None and self._receiver.received >= envelope.last_seq:
            self._half_closed_since = now
            self._input.set()
        if envelope.detached:
            self._detach(now)

    def _take(self, requests: list[live_pb2.ConverseRequest]) -> None:
        for request in requests:
            if request.WhichOneof("payload") in _VITAL:
                self._coverage.vital(request.seq)
                self._recorder.log(fabric_pb2.LogEntry(request=request), request.seq)
            for shed in self._queue.append(request):
                self._lost(shed.first_seq, shed.last_seq, shed.media_class, "OVERLOAD")
        if requests:
            self._input.set()

    def _lost(self, first: int, last: int, media_class: live_pb2.MediaClass, reason: str) -> None:
        """Name what will not reach the model: nothing is lost in silence."""
        for seq in range(first, last + 1):
            self._stored(seq)
        self._say(
            live_pb2.ConverseResponse(
                gap=live_pb2.Gap(
                    direction=live_pb2.DIRECTION_UPLINK,
                    from_seq=first,
                    to_seq=last,
                    media_class=media_class,
                    reason=reason,
                )
            )
        )

    def _stored(self, seq: int) -> None:
        self._downlink.uplink.acked = self._coverage.stored(seq)

    async def _feed(self) -> None:
        """Hand the caller's input to the link, in order."""
        while True:
            await self._input.wait()
            self._input.clear()
            while (item := self._queue.pop()) is not None:
                await self._recorder.room()
                await self._send(item)
            if self._half_closed_since is not None and self._audio_since_turn:
                # Nothing more will be said: let the model answer what it has heard.
                self._audio_since_turn = False
                await self._connected().send_realtime(audio_stream_end=True)
                self._turns.asked()

    async def _send(self, item: AudioBatch | live_pb2.ConverseRequest) -> None:
        link = self._connected()
        if isinstance(item, AudioBatch):
            await link.send_audio(item.pcm)
            self._audio_since_turn = True
            self._coverage.sent(item.last_seq, time.monotonic())
            return
        match item.WhichOneof("payload"):
            case "video":
                image = item.video.image
                await link.send_realtime(video=types.Blob(data=image.data, mime_type=image.mime_type))
            case "text":
                self._turns.asked()
                await link.send_realtime(text=item.text.text)
            case "turn":
                if item.turn.turn_complete:
                    self._turns.asked()
                await link.send_turn([live_config.content(part) for part in item.turn.content], item.turn.turn_complete)
            case "activity_start":
                await link.send_realtime(activity_start=types.ActivityStart())
            case "activity_end":
                await link.send_realtime(activity_end=types.ActivityEnd())
            case "audio_stream_end":
                await link.send_realtime(audio_stream_end=True)
            case "end":
                self.finish(live_pb2.END_REASON_CALLER, item.end.reason)
            case other:
                log.error("request that the gateway should have refused", session=self.id, payload=other)
        self._coverage.sent(item.seq, time.monotonic())

    def _connected(self) -> Link:
        if self._link is None:
            raise LinkClosedError(1006, "not connected")
        return self._link

    # Downlink: link -> gateway

    async def _read(self) -> None:
        """Follow the link for ever; reading never waits for anything but the link."""
        link = self._connected()
        while True:
            for event in await link.receive():
                self._on_event(event, time.monotonic())

    def _on_event(self, event: events.Event, now: float) -> None:
        ended = self._turns.on_event(event, now)
        self._spans.on_event(event, ended or self._turns.current)
        match event:
            case events.Interrupted():
                self._downlink.interrupt(live_pb2.INTERRUPTION_REASON_BARGE_IN)
                self._services.writer.wake(self._downlink)
            case events.FunctionCall():
                self._tools.start(event, self._turns.count, self._spans.context)
            case events.CallsCancelled(ids=ids):
                self._tools.cancel(ids)
            case events.HandleUpdate():
                self._on_handle(event)
            case events.GoAway():
                log.info("go away", session=self.id, seconds_left=event.seconds_left)
            case _:
                response = responses.response_for(event, self.spec.config)
                if response is not None:
                    self._say(response, responses.audio_milliseconds(event) if isinstance(event, events.Audio) else 0)
        if isinstance(event, events.InputTranscript):
            transcript = live_pb2.Transcript(text=event.text, finished=event.finished, language=event.language)
            self._recorder.log(fabric_pb2.LogEntry(input_transcript=transcript))
        if ended is not None:
            self._on_turn_end(ended, now)

    def _on_turn_end(self, turn: Turn, now: float) -> None:
        self._audio_since_turn = False
        self._coverage.turn_ended(now, 0.0)
        self._spans.finish(turn)
        if turn.said:
            said = fabric_pb2.ModelSaid(text=turn.said, interrupted=turn.interrupted)
            self._recorder.log(fabric_pb2.LogEntry(model_said=said))

    def _on_handle(self, update: events.HandleUpdate) -> None:
        if not (update.resumable and update.handle):
            return  # the last good handle stays good
        self._handle = update.handle
        self._downlink.uplink.acked = self._coverage.handle_arrived()
        self._recorder.checkpoint(
            fabric_pb2.CheckpointRecord(
                schema_version=1,
                epoch=self.epoch,
                handle=self._handle,
                covered_uplink_seq=self._coverage.covered,
                config=self.spec.config,
                tools=self.spec.tools,
                traceparent=telemetry.traceparent(self._session_context),
            )
        )

    async def _respond(self, response: types.FunctionResponse) -> None:
        self._turns.call_settled(response.id or "")
        try:
            await self._connected().send_tool_response(response)
        except LinkClosedError:
            log.warning("the link was gone before the tool's result", session=self.id, tool=response.name)

    def _say(self, response: live_pb2.ConverseResponse, audio_ms: int = 0) -> None:
        self._downlink.emit(response, audio_ms=audio_ms)
        for gone in self._downlink.shed_over_bound():
            self._downlink.emit(
                live_pb2.ConverseResponse(
                    gap=live_pb2.Gap(
                        direction=live_pb2.DIRECTION_DOWNLINK,
                        from_seq=gone.from_seq,
                        to_seq=gone.to_seq,
                        media_class=live_pb2.MEDIA_CLASS_AUDIO,
                        reason="OVERLOAD",
                    )
                )
            )
        self._services.writer.wake(self._downlink)

    # Time

    def tick(self, now: float) -> None:
        """What is due: holes, status, a silent gateway, the resume window. Called every 50 ms for every session."""
        if self.ending is not None:
            return
        settings = self._services.settings
        lost, released = self._receiver.give_up(now)
        for hole in lost:
            self._lost(hole.first, hole.last, live_pb2.MEDIA_CLASS_UNSPECIFIED, "LOST")
        self._take(released)
        if self._downlink.attached:
            self._tick_attached(now, settings)
        elif self._detached_since is not None and now - self._detached_since > settings.resume_window.total_seconds():
            self.finish(live_pb2.END_REASON_ABANDONED, "nobody came back within the resume window")

    def _tick_attached(self, now: float, settings: WorkerSettings) -> None:
        missing = self._receiver.missing()
        if missing and now - self._asked_again >= _NACK_INTERVAL:
            self._asked_again = now
            self._downlink.ask_for([live_pb2.SeqRange(from_seq=hole.first, to_seq=hole.last) for hole in missing])
            self._services.writer.wake(self._downlink)
        if now - self._said_status >= _STATUS_INTERVAL:
            self._said_status = now
            self._downlink.status()
            self._services.writer.wake(self._downlink)
        if now - self._heard_gateway > settings.attachment_timeout.total_seconds():
            self._detach(now)
        elif self._half_closed_since is not None and not len(self._queue):
            quiet_since = max(self._half_closed_since, self._turns.last_event)
            if not self._turns.busy or now - quiet_since > settings.half_close_wait.total_seconds():
                self._let_go(now)

    def _let_go(self, now: float) -> None:
        """The caller half-closed and has its answer: end the stream, keep the session."""
        self._half_closed_since = None
        self._detached_since = now
        self._downlink.end_stream()
        self._services.writer.wake(self._downlink)
        self._supervise(self._write_attachment(""), "detach", optional=True)

    def _detach(self, now: float) -> None:
        """The stream is gone; the session waits for its caller."""
        if self._detached_since is not None:
            return
        self._detached_since = now
        self._half_closed_since = None
        self._downlink.detach()
        self._supervise(self._write_attachment(""), "detach", optional=True)

    # Ending

    def finish(self, reason: live_pb2.EndReason, message: str, failure: ServiceError | None = None) -> None:
        """Begin to end the session: tell the caller, stop the work. The worker then calls `close`."""
        if self.ending is not None:
            return
        self._say(live_pb2.ConverseResponse(ended=live_pb2.Ended(reason=reason, message=message)))
        self._downlink.end_stream(None if failure is None else failure.to_failure())
        self.ending = EndCause(reason, message, time.monotonic())
        self._services.writer.wake(self._downlink)

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, LinkClosedError):
            text = f"the model's link closed: {error}"
            self.finish(
                live_pb2.END_REASON_BACKEND,
                text,
                ServiceError(errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE, text),
            )
        elif isinstance(error, FencedError):
            log.warning("ownership lost", session=self.id)
            self.ending = self.ending or EndCause(live_pb2.END_REASON_UNSPECIFIED, "fenced", time.monotonic())
            self._downlink.detach()
        else:
            log.error("session failed", session=self.id, exc_info=error)
            failure = ServiceError(errors_pb2.ERROR_REASON_INTERNAL, f"the session failed ({type(error).__name__})")
            self.finish(live_pb2.END_REASON_BACKEND, failure.message, failure)

    async def close(self) -> None:
        """Stop every task, close the link, replace the record by a tombstone. Never raises."""
        cause = self.ending
        assert cause is not None
        await self._tools.close()
        tasks = list(self._tasks)
        if cause.reason != live_pb2.END_REASON_UNSPECIFIED:
            await self._recorder.flush(timeout=2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._spans.finish(self._turns.current, "the session ended in the middle of the turn")
        if self._link is not None:
            await self._link.close()
        if cause.reason != live_pb2.END_REASON_UNSPECIFIED:
            await self._write_tombstone(cause)

    async def _write_tombstone(self, cause: EndCause) -> None:
        session = self._own.session
        session.state = sessions_pb2.SESSION_STATE_ENDED
        session.end_reason = cause.reason
        session.attach_generation = self.generation
        session.end_time.GetCurrentTime()
        records = self._services.records
        try:
            await records.end_own(self.id, self._own_revision, self._own, self._services.settings.record_retention)
            await records.forget_work(self.id)
        except FencedError:
            log.warning("ownership lost before the end", session=self.id)
        except ServiceError as error:
            log.warning("the end of a session was not recorded", session=self.id, error=str(error))

    async def forget(self) -> None:
        """Remove what the retention kept: the log and the request id. Never raises."""
        try:
            await self._conversation.forget()
            if self.spec.request_key:
                await self._services.records.forget_request(self.spec.request_key)
        except ServiceError as error:
            log.warning("records of an ended session stay until they age out", session=self.id, error=str(error))

    def lingers(self, now: float) -> bool:
        """The end is not yet with the gateway, and there is still reason to wait for that."""
        assert self.ending is not None
        since = now - self.ending.since
        if since > _LINGER / 2:
            self._downlink.drop_queued_audio()
            self._services.writer.wake(self._downlink)
        return not self._downlink.drained and since < _LINGER

    def dispose(self) -> None:
        """Nothing of this session is sent any more."""
        self._services.writer.forget(self._downlink)

    def _supervise(self, work: Coroutine[Any, Any, None], name: str, *, optional: bool = False) -> None:
        task = asyncio.create_task(work, name=f"session {name}")
        self._tasks.add(task)

        def done(finished: asyncio.Task[None]) -> None:
            self._tasks.discard(finished)
            if finished.cancelled() or (error := finished.exception()) is None:
                return
            if optional and isinstance(error, ServiceError):
                log.warning("not done", what=name, session=self.id, error=str(error))
            else:
                self._fail(error)

        task.add_done_callback(done)


@dataclass(frozen=True)
class EndCause:
    """Why and when a session ended."""

    reason: live_pb2.EndReason
    message: str
    since: float
    """Monotonic seconds."""
