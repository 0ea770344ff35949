"""One session: the thin shell that connects a link, the caller's uplink and downlink, tools and records.

What decides is elsewhere and plain: `turns`, `coverage`, `input_queue`, `downlink`, fabric's `sequence`. This module
performs: it owns the tasks of the session and ends them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import structlog
from google.genai import types
from opentelemetry.context import Context

from parley.v1 import errors_pb2, fabric_pb2, live_pb2
from services.fabric import telemetry
from services.fabric.bus import Bus, Writer
from services.fabric.catalog import Catalog
from services.fabric.conversation_log import ConversationLog
from services.fabric.errors import ServiceError
from services.fabric.process import stop_tasks
from services.fabric.records import FencedError, SessionRecords
from services.session_worker import events, live_config, responses
from services.session_worker.answer_in_progress import AnswerInProgress, Begun
from services.session_worker.attachment import Attachment, Shell
from services.session_worker.callertools import Answered, CallerTools
from services.session_worker.checkpoints import Checkpoints, Sources
from services.session_worker.conversation import Conversation
from services.session_worker.downlink import Downlink
from services.session_worker.feeder import Feeder, Feeds
from services.session_worker.journal import Journal
from services.session_worker.kept_words import is_kept, without_words
from services.session_worker.leftovers import Leftovers
from services.session_worker.lifeline import Lifeline
from services.session_worker.link import Dialer
from services.session_worker.link_keeper import Keeps, LinkKeeper
from services.session_worker.ownership import FIRST_EPOCH, Ownership
from services.session_worker.recorder import Recorder
from services.session_worker.session_context import SessionContext
from services.session_worker.settings import WorkerSettings
from services.session_worker.standby import Standby
from services.session_worker.takeover import Inherited
from services.session_worker.toolcalls import ToolCalls
from services.session_worker.turn_span import TurnSpans
from services.session_worker.turns import RepeatedTranscript, Turn, TurnState
from services.session_worker.uplink import Taken, Uplink

log = structlog.get_logger()

_NACK_INTERVAL = 0.05
_LINGER = 3.0
"""Seconds that an ended session waits for a slow gateway to take its last messages."""


@dataclass(frozen=True)
class Services:
    """What sessions of one worker share."""

    worker: str
    bus: Bus
    writer: Writer
    records: SessionRecords
    catalog: Catalog
    dialer: Dialer
    leftovers: Leftovers
    lifeline: Lifeline
    settings: WorkerSettings


class Session:
    """A conversation that this worker owns."""

    def __init__(self, spec: fabric_pb2.OpenSession, services: Services, inherited: Inherited | None = None) -> None:
        """`inherited`: it was another worker's."""
        self.spec = spec
        self.id = spec.session_id
        self._inherited = inherited
        self._taken_over = inherited is not None
        self.epoch = FIRST_EPOCH if inherited is None else inherited.ownership.epoch
        self.ending: EndCause | None = None
        """Set once: why the session ends. The worker then calls `close`."""
        self._services = services
        settings = services.settings
        ahead = round(settings.gateway_audio_ahead.total_seconds() * 1000)
        last_seq = 0 if inherited is None else inherited.last_downlink_seq
        self._downlink = Downlink(self.id, self.epoch, settings.downlink_buffer_bytes, ahead, last_seq=last_seq)
        rate = live_config.input_rate(spec.config)
        self._context = SessionContext(spec, services.catalog, settings.backend)
        self._logged = not spec.config.conversation_log.disabled
        self._uplink = Uplink(
            int(settings.input_audio_buffer.total_seconds() * rate * 2),
            picture_interval=1 / self._context.model.pictures_per_second,
            log=self._logged,
        )
        self._turns = TurnState()
        if inherited is None:
            stored = ConversationLog(services.bus.js, self.id, self.epoch)
            self._ownership = Ownership(spec, services.worker, services.records, stored)
            self._conversation = Conversation(self._context.model, words=self._logged)
        else:
            stored, self._ownership = inherited.log, inherited.ownership
            self._conversation = inherited.state.conversation
        self._recorder = Recorder(services.records, stored, self.id, self._stored, self._checkpointed)
        self._spans = TurnSpans(spec, Context())
        self._tools = ToolCalls(
            services.bus,
            spec,
            self.epoch,
            own=lambda: self._ownership.revision,
            tool=self._context.tool,
            respond=self._respond,
            emit=self._say,
            record=self._log,
            fenced=lambda: self._fail(FencedError(self.id)),
        )
        self._caller_tools = CallerTools(spec.config, self._context.model, settings.caller_tool_timeout.total_seconds())
        self._journal = Journal(rate, words=self._logged)
        self._answering = AnswerInProgress(
            self._journal,
            self._conversation,
            self._turns,
            handles_cover_typed_turns=self._context.model.handles_cover_typed_turns,
        )
        self._feeder = Feeder(
            self.id,
            Feeds(
                self._uplink,
                self._journal,
                self._turns,
                self._recorder,
                self._caller_tools,
                self._context,
                answer=lambda answered: self._supervise(self._answer(answered), "answer a call"),
                changed=lambda: self._checkpoints.write(),  # noqa: PLW0108 - made later, of what this is part of
                refuse=lambda error: self._attachment.let_go(time.monotonic(), error),
                end=lambda reason: self.finish(live_pb2.END_REASON_CALLER, reason),
            ),
        )
        self._links = LinkKeeper(
            Keeps(
                spec,
                settings,
                services.dialer,
                self._context,
                self._turns,
                self._journal,
                self._conversation,
                self._answering,
                self._feeder,
                on_event=self._on_event,
                say=self._say,
                restart=self._restart_turn,
                generated_anew=self._tools.turn_restarted,
                handle_came=lambda: self._checkpoints.write(),  # noqa: PLW0108
                keep=self._supervise,
            )
        )
        self._standby = Standby(
            self._links,
            self._ownership,
            self._downlink,
            park_after=settings.park_after.total_seconds(),
            keep=self._supervise,
            wake=lambda: services.writer.wake(self._downlink),
        )
        self._repeated = RepeatedTranscript("")
        self._tasks: set[asyncio.Task[None]] = set()
        self._verifying: asyncio.Task[None] | None = None
        self._end_recorded = False
        """It was ours when it ended, and nobody can take it any more."""
        self._asked_again = 0.0
        self._checkpoints = Checkpoints(
            Sources(
                spec,
                self.epoch,
                self._links,
                self._answering,
                self._journal,
                self._conversation,
                self._turns,
                self._uplink,
                self._downlink,
                self._caller_tools,
            ),
            self._recorder,
        )
        self._attachment = Attachment(
            spec,
            settings,
            Shell(
                self._ownership,
                self._downlink,
                wake=lambda: services.writer.wake(self._downlink),
                keep=lambda work, name: self._supervise(work, name, optional=True),
                fenced=lambda: self._fail(FencedError(self.id)),
            ),
        )
        self.stale_uplink = 0

    # Opening and attaching

    async def open(self, parent: Context, session_context: Context) -> fabric_pb2.Attached:
        """Write the ownership, connect the link, attach the stream. ServiceError; nothing is left behind then."""
        self._trace(session_context)
        try:
            await self._ownership.take()
            self._record()  # while the link is dialled: without a checkpoint nobody could take the session over
            await self._links.open(parent, session_context)
            attached = self._attached(await self._attachment.open())
        except BaseException:
            await self._undo_open()
            raise
        self._links.start()
        self._standby.start(self._links.run())
        self._supervise(self._feeder.run(), "feed")
        return attached

    def _trace(self, session_context: Context) -> None:
        self._checkpoints.session_context = session_context
        self._spans = TurnSpans(self.spec, session_context)

    def _record(self) -> None:
        self._recorder.own_revision = self._ownership.revision
        self._supervise(self._recorder.run(), "record")
        self._checkpoints.write()

    async def take_over(self) -> fabric_pb2.Attached:
        """Go on where another worker ended; the link follows. ServiceError; `own` names this worker all the same."""
        assert self._inherited is not None
        inherited, self._inherited = self._inherited, None
        state, request, now = inherited.state, inherited.request, time.monotonic()
        session_context = telemetry.context_from({telemetry.TRACEPARENT: state.checkpoint.traceparent})
        self._trace(session_context)
        calls = await self._tools.recover(state.told_claims)
        self._turns.count = state.turns
        self._journal.restore(state.received, state.checkpoint.handle_position, self._conversation.settled)
        self._uplink.restore(
            state.received, state.stored, state.to_give, numbered=bool(request.attach_generation), now=now
        )
        self._downlink.uplink.received = self._uplink.received
        self._downlink.uplink.acked = self._uplink.coverage.acked
        self._repeated = RepeatedTranscript(state.heard)
        attached = self._attached(await self._attachment.inherit(inherited.generation, request.floor))
        for response in state.responses():
            self._say(response)
        ended = state.finished is not None or state.undelivered is not None
        self._checkpoints.turn_ended(self._downlink.last_seq if ended else request.floor)
        if state.finished is not None:
            self._recorder.log(fabric_pb2.LogEntry(model_said=state.finished))
        begun = state.answering
        if begun is not None:
            turn, first_seq = self._turns.count + 1, self._downlink.last_seq + 1
            self._answering.begun = Begun(now, begun.given_seq, begun.position, turn, first_seq)
        self._links.restore(
            state.checkpoint.handle,
            [*state.lost_calls, *(owed.call for owed in calls.owed)],
            exact=state.checkpoint.exact,
            session_context=session_context,
        )
        self._caller_tools.restore(state.caller_calls, now)
        if state.begins_anew:
            self._tell_cancelled(self._caller_tools.cancel(tuple(call.id for call in state.caller_calls)))
        for call in self._caller_tools.pending:
            self._links.adopt(call)
        for owed in calls.owed:
            if owed.identity.turn <= self._turns.count:  # else it comes again
                self._links.adopt(owed.call)
                self._supervise(self._tools.finish(owed, self._respond), "finish a call")
        self._record()
        silence = request.silence.ToTimedelta().total_seconds()
        proven = request.proof != fabric_pb2.PROOF_OF_DEATH_SILENT
        self._standby.start(self._links.take_over(silence, inherited.replayed, proven=proven))
        self._supervise(self._feeder.run(), "feed")
        self._feeder.wake()
        return attached

    @property
    def recovering(self) -> bool:
        """It was taken over, and its link is not there yet."""
        return self._taken_over and self._links.number == 0

    async def _undo_open(self) -> None:
        self._services.writer.forget(self._downlink)

        async def undo() -> None:
            await stop_tasks(self._tasks)
            await self._links.close()
            try:
                await self._ownership.undo()
            except ServiceError as error:
                log.warning("a failed open left records behind", session=self.id, error=str(error))
                self._services.leftovers.again(self.id, self._ownership.undo)

        # Also when the process is told to stop again and again meanwhile; bounded by JetStream's time limits.
        undoing = asyncio.create_task(undo(), name="session undo")
        while not undoing.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(undoing)

    async def attach(self, request: fabric_pb2.AttachSession) -> fabric_pb2.Attached:
        """Let a stream take the session over. ServiceError when it may not."""
        if self.ending is not None:
            raise ServiceError(errors_pb2.ERROR_REASON_SESSION_ENDED, f"session {self.id} is over")
        attached = self._attached(await self._attachment.take_over(request))
        self._feeder.attached()
        return attached

    def _attached(self, first_downlink_seq: int) -> fabric_pb2.Attached:
        return fabric_pb2.Attached(
            epoch=self.epoch,
            attach_generation=self._attachment.generation,
            next_uplink_seq=self._uplink.received + 1,
            next_downlink_seq=first_downlink_seq,
            resume_window=responses.duration(self._attachment.window),
        )

    # Uplink: gateway -> link

    def on_uplink(self, envelope: fabric_pb2.UplinkEnvelope, now: float) -> None:
        """Take what the gateway sent. Called from the NATS callback: never waits."""
        stale = envelope.epoch != self.epoch or envelope.attach_generation != self._attachment.generation
        if stale or self.ending is not None:
            self.stale_uplink += 1
            return
        self._attachment.heard(now, leaving=envelope.detached)
        self._downlink.passed_on(envelope.downlink_received_seq)
        self._downlink.acknowledge(envelope.downlink_acked_seq)
        if envelope.downlink_missing:
            self._downlink.resend([(item.from_seq, item.to_seq) for item in envelope.downlink_missing])
        if not self._downlink.drained:
            self._services.writer.wake(self._downlink)  # the window may have opened
        self._act_on(self._uplink.take(envelope, now))
        everything = self._uplink.received >= envelope.last_seq
        if envelope.half_closed and everything and self._attachment.half_close(now):
            self._feeder.half_closed()
        if envelope.detached:
            self._attachment.detach(now)

    def _act_on(self, taken: Taken) -> None:
        for request in taken.to_store:
            self._log(fabric_pb2.LogEntry(request=request), request.seq)
        for gap in taken.lost:
            self._say(live_pb2.ConverseResponse(gap=gap))
        if taken.input_waits:
            self._feeder.wake()
        self._downlink.uplink.received = self._uplink.received
        if taken.lost:
            self._tell_stored()

    def _stored(self, seq: int) -> None:
        self._uplink.coverage.stored(seq)
        self._tell_stored()

    def _tell_stored(self) -> None:
        told = self._downlink.uplink
        told.acked = self._uplink.coverage.acked
        told.stored = self._uplink.coverage.settled_beyond()
        if told.stored:
            self._downlink.tell()
            self._services.writer.wake(self._downlink)

    # Downlink: link -> gateway

    def _on_event(self, event: events.Event, now: float) -> None:
        if isinstance(event, events.InputTranscript):
            event = self._repeated.news(event)
            if not event.text:
                return
        ended = self._turns.on_event(event, now)
        turn = self._turns.current
        answers = turn is not None and turn.first_output is not None
        if turn is not None and answers and self._answering.begins(now, turn.number, self._downlink.last_seq + 1):
            self._checkpoints.write()
        self._spans.on_event(event, ended or self._turns.current, now)
        match event:
            case events.Interrupted():
                self._downlink.interrupt(live_pb2.INTERRUPTION_REASON_BARGE_IN)
                self._services.writer.wake(self._downlink)
            case events.FunctionCall() if event.name in self._caller_tools:
                self._call_caller(event, now)
            case events.FunctionCall():
                self._tools.start(event, self._turns.count, self._spans.context)
            case events.CallsCancelled(ids=ids):
                self._tools.cancel(ids)
                self._tell_cancelled(self._caller_tools.cancel(ids))
            case events.HandleUpdate() | events.GoAway():
                pass  # the keeper of links follows them
            case _:
                response = responses.response_for(event, self.spec.config)
                if response is not None:
                    self._say(response, responses.audio_milliseconds(event) if isinstance(event, events.Audio) else 0)
        if isinstance(event, events.GenerationComplete) and turn is not None and not self._turns.pending_calls:
            self._answering.generated(turn.said, self._downlink.last_seq)
            self._checkpoints.write()
        if isinstance(event, events.InputTranscript):
            transcript = live_pb2.Transcript(text=event.text, finished=event.finished, language=event.language)
            self._log(fabric_pb2.LogEntry(input_transcript=transcript))
        if ended is not None:
            self._on_turn_end(ended, now)

    def _on_turn_end(self, turn: Turn, now: float) -> None:
        self._feeder.turn_ended()
        self._spans.finish(turn)
        if turn.tool_calls and not turn.said and turn.first_audio is None:
            return  # the answer is still to come
        said = fabric_pb2.ModelSaid(
            text=turn.said, interrupted=turn.interrupted, given_seq=self._answering.given_seq, turn=turn.number
        )
        self._log(fabric_pb2.LogEntry(model_said=said))
        began = now if turn.first_output is None else turn.first_output
        self._journal.turn_ended(now, began, self._conversation.settled, self._links.round_trip)
        self._answering.over()
        self._checkpoints.turn_ended(self._downlink.last_seq)
        self._checkpoints.write()

    def _checkpointed(self, record: fabric_pb2.CheckpointRecord) -> None:
        """Only now can another worker do without what it covers, and so can the caller."""
        if self._uplink.coverage.cover(record.covered_uplink_seq) > self._downlink.uplink.acked:
            self._tell_stored()

    def _restart_turn(self, turn: Turn) -> None:
        """The link was lost in the middle of a turn: what was heard of the answer is void."""
        self._spans.finish(turn, "the link was lost in the middle of the turn")
        self._repeated = RepeatedTranscript(turn.heard)
        if turn.said or turn.first_audio is not None:
            self._downlink.interrupt(live_pb2.INTERRUPTION_REASON_RESTARTED)
            self._services.writer.wake(self._downlink)

    def _log(self, entry: fabric_pb2.LogEntry, seq: int = 0) -> None:
        """Part of the conversation: remembered here, and stored for whoever comes after this worker."""
        self._conversation.add(entry)
        if self._logged or is_kept(entry):
            self._recorder.log(entry, seq)
        else:
            self._recorder.log(without_words(entry))

    def _call_caller(self, call: events.FunctionCall, now: float) -> None:
        match self._caller_tools.call(call, now):
            case live_pb2.ToolCall() as told:
                self._say(live_pb2.ConverseResponse(tool_call=told))
                self._checkpoints.write()
            case Answered() as answered:
                self._supervise(self._answer(answered), "answer a call")
            case None:
                pass

    def _tell_cancelled(self, call_ids: list[str]) -> None:
        if call_ids:
            cancelled = live_pb2.ToolCallCancelled(call_ids=call_ids)
            self._say(live_pb2.ConverseResponse(tool_call_cancelled=cancelled))

    async def _respond(self, response: types.FunctionResponse) -> None:
        await self._links.answer(response)

    async def _answer(self, answered: Answered) -> None:
        """Give the model the result of a call that the caller ran, or did not."""
        call, response = answered.call, answered.response
        record = responses.tool_record(call, response.response or {}, answered.outcome)
        self._log(fabric_pb2.LogEntry(tool=record))
        await self._links.answer(response, final=answered.final)

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
        if self.ending is not None or self._standby.lapsed:
            return
        self._act_on(self._uplink.give_up(now))
        # Silence needs no answer, and what is too old is given to nobody: they are acked although no turn ends.
        self._checkpoints.tick(now)
        self._links.tick(now)
        self._standby.tick(now, detached_since=self._attachment.detached_since, busy=self._busy)
        for answered in self._caller_tools.expire(now):
            self._tell_cancelled([answered.call.id])
            self._supervise(self._answer(answered), "answer a call")
        if self._downlink.attached:
            self._tick_attached(now)
        elif self._attachment.abandoned(now):
            self.finish(live_pb2.END_REASON_ABANDONED, "nobody came back within the resume window")

    def _tick_attached(self, now: float) -> None:
        missing = self._uplink.missing()
        if missing and now - self._asked_again >= _NACK_INTERVAL:
            self._asked_again = now
            self._downlink.ask_for(missing)
            self._services.writer.wake(self._downlink)
        self._attachment.tick(
            now,
            connected=self._services.bus.connected.is_set(),
            busy=self._busy,
            last_event=now if len(self._uplink.queue) else self._turns.last_event,
        )

    @property
    def _busy(self) -> bool:
        """Something is in progress, or owed. What waits for the link comes before anything else that is owed."""
        return bool(len(self._uplink.queue)) or self._turns.busy

    # Out of touch

    def lapse(self, since: float) -> None:
        """The process has been out of touch with NATS since then (monotonic seconds): have no effect from here on."""
        if self.ending is not None:
            self._downlink.muted = not self._end_recorded
            return
        if self._verifying is not None:
            self._verifying.cancel()
        self._standby.lapse(since)

    def verify(self, at_once: asyncio.Semaphore) -> None:
        """In touch again: go on if the session is still ours, else end it without a word."""
        if self.ending is not None:
            return
        if self._verifying is not None:
            self._verifying.cancel()
        self._verifying = self._supervise(self._verify(at_once), "verify")

    async def _verify(self, at_once: asyncio.Semaphore) -> None:
        async with at_once:
            self._attachment.stood_still(await self._standby.verify(), time.monotonic())

    @property
    def lost(self) -> bool:
        """It is somebody else's: its records are, too."""
        return self._ownership.lost or (
            self.ending is not None and self.ending.reason == live_pb2.END_REASON_UNSPECIFIED
        )

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
        if isinstance(error, ServiceError) and not isinstance(error, FencedError):
            self.finish(live_pb2.END_REASON_BACKEND, error.message, error)
        elif isinstance(error, FencedError):
            # In silence: whoever has the session now speaks for it.
            if self.ending is None:
                log.warning("ownership lost", session=self.id)
                self.ending = EndCause(live_pb2.END_REASON_UNSPECIFIED, "fenced", time.monotonic())
            self._downlink.detach()
        else:
            log.error("session failed", session=self.id, exc_info=error)
            failure = ServiceError(errors_pb2.ERROR_REASON_INTERNAL, f"the session failed ({type(error).__name__})")
            self.finish(live_pb2.END_REASON_BACKEND, failure.message, failure)

    async def close(self) -> None:
        """Stop every task, close the link, replace the record by a tombstone. Never raises."""
        cause = self.ending
        assert cause is not None
        # Who has the session now wants what its tools run.
        await self._tools.close(hand_over=cause.reason == live_pb2.END_REASON_UNSPECIFIED)
        if cause.reason != live_pb2.END_REASON_UNSPECIFIED:
            await self._recorder.flush(timeout=2)
        await stop_tasks(self._tasks)
        self._spans.finish(self._turns.current, "the session ended in the middle of the turn")
        await self._links.close()
        if cause.reason != live_pb2.END_REASON_UNSPECIFIED:
            await self._record_end(cause)

    async def _record_end(self, cause: EndCause) -> None:
        retention = self._services.settings.record_retention

        async def record() -> None:
            await self._ownership.end(cause.reason, self._attachment.generation, retention)
            self._end_recorded = not self._ownership.lost
            self._downlink.muted = not self._end_recorded
            self._services.writer.wake(self._downlink)

        try:
            await record()
        except ServiceError as error:
            log.warning("the end of a session is not recorded yet", session=self.id, error=str(error))
            self._services.leftovers.again(self.id, record)

    def lingers(self, now: float) -> bool:
        """The end is not yet with the gateway, and there is still reason to wait for that."""
        assert self.ending is not None
        since = now - self.ending.since
        if since > _LINGER / 2:
            self._downlink.drop_queued_audio()
            self._services.writer.wake(self._downlink)
        return not self._downlink.drained and since < _LINGER

    def dispose(self) -> None:
        """Nothing of this session is sent any more: let go of its media now, not when it is collected."""
        self._services.writer.forget(self._downlink)
        self._downlink.clear()
        # Each of them knows this session by what it calls: without that, counting references is enough to free them.
        del self._links, self._feeder, self._tools, self._attachment, self._recorder, self._checkpoints, self._standby

    def _supervise(self, work: Coroutine[Any, Any, None], name: str, *, optional: bool = False) -> asyncio.Task[None]:
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
        return task


@dataclass(frozen=True)
class EndCause:
    """Why and when a session ended."""

    reason: live_pb2.EndReason
    message: str
    since: float
    """Monotonic seconds."""
