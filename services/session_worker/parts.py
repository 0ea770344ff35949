"""What a session is made of, and how its parts are wired to each other."""

from __future__ import annotations

import time

from parley.v1 import fabric_pb2, live_pb2
from services.fabric.conversation_log import ConversationLog
from services.fabric.records import FencedError
from services.session_worker import live_config, measured
from services.session_worker.answer_in_progress import AnswerInProgress
from services.session_worker.attachment import Attachment, Shell
from services.session_worker.callertools import CallerTools
from services.session_worker.checkpoints import Checkpoints, Sources
from services.session_worker.conversation import Conversation
from services.session_worker.dialogue import Dialogue
from services.session_worker.downlink import Downlink
from services.session_worker.ending import Ending
from services.session_worker.feeder import Feeder, Feeds
from services.session_worker.intake import Intake
from services.session_worker.journal import Journal
from services.session_worker.kept_words import is_kept, without_words
from services.session_worker.link_keeper import Keeps, LinkKeeper
from services.session_worker.ownership import FIRST_EPOCH, Ownership
from services.session_worker.recorder import Recorder
from services.session_worker.restored_state import Numbering
from services.session_worker.session_context import SessionContext
from services.session_worker.session_timeline import SessionTimeline
from services.session_worker.session_trace import SessionTrace
from services.session_worker.shared import Services
from services.session_worker.standby import Standby
from services.session_worker.takeover import Inherited
from services.session_worker.tasks import Tasks
from services.session_worker.toolcalls import ToolCalls
from services.session_worker.turn_span import TurnSpans
from services.session_worker.turns import TurnState
from services.session_worker.uplink import Uplink


class Parts:
    """Of one session. What several of them do (say something, write it down) is here."""

    def __init__(self, spec: fabric_pb2.OpenSession, services: Services, inherited: Inherited | None) -> None:
        """`inherited`: it was another worker's."""
        self.spec = spec
        self.services = services
        self.epoch = FIRST_EPOCH if inherited is None else inherited.ownership.epoch
        self.ending = Ending(self)
        self.tasks = Tasks(spec.session_id, self.ending.fail)
        self.intake = Intake(self)
        self.dialogue = Dialogue(self)
        self.trace = SessionTrace(spec, services.settings.trace_length.total_seconds())
        self.spans = TurnSpans(self.trace)
        self.timeline = SessionTimeline(
            services.timeline, spec, services.worker, self.epoch, lambda: self.trace.context
        )
        self._make_records(inherited)
        self._make_ends(inherited)
        self._make_middle()

    def _make_records(self, inherited: Inherited | None) -> None:
        """What is known of the conversation, and written down."""
        spec, services = self.spec, self.services
        self._logged = not spec.config.conversation_log.disabled
        self.context = SessionContext(spec, services.catalog, services.settings.backend)
        if inherited is None:
            stored = ConversationLog(services.bus.js, spec.session_id, self.epoch)
            self.ownership = Ownership(spec, services.worker, services.records, stored)
            self.conversation = Conversation(self.context.model, words=self._logged)
        else:
            stored, self.ownership = inherited.log, inherited.ownership
            self.conversation = inherited.state.conversation
        self.recorder = Recorder(
            services.records, stored, spec.session_id, self.intake.stored, self.intake.checkpointed
        )

    def _make_ends(self, inherited: Inherited | None) -> None:
        """The caller's side."""
        spec, settings = self.spec, self.services.settings
        ahead = round(settings.gateway_audio_ahead.total_seconds() * 1000)
        last_seq = 0 if inherited is None else inherited.last_downlink_seq
        self.downlink = Downlink(
            spec.session_id,
            self.epoch,
            settings.downlink_buffer_bytes,
            ahead,
            last_seq=last_seq,
            told=self._told_of_loss,
        )
        self.uplink = Uplink(
            int(settings.input_audio_buffer.total_seconds() * live_config.input_rate(spec.config) * 2),
            picture_interval=1 / self.context.model.pictures_per_second,
            log=self._logged,
        )
        self.attachment = Attachment(
            spec,
            settings,
            Shell(
                self.ownership,
                self.downlink,
                wake=self.wake,
                keep=lambda work, name: self.tasks.keep(work, name, optional=True),
                fenced=self._fenced,
                silent=lambda gateway, since: self.look_for_gateway(gateway, since, elsewhere=False),
                back=self.timeline.gateway_back,
            ),
        )

    def _make_middle(self) -> None:
        """What stands between the caller's side and the model."""
        spec, services, settings = self.spec, self.services, self.services.settings
        dialogue = self.dialogue
        self.turns = TurnState(completes_turns=self.context.model.completes_turns)
        self.journal = Journal(live_config.input_rate(spec.config), words=self._logged)
        self.answering = AnswerInProgress(
            self.journal,
            self.conversation,
            self.turns,
            handles_cover_typed_turns=self.context.model.handles_cover_typed_turns,
        )
        self.tools = ToolCalls(
            services.bus,
            spec,
            self.epoch,
            own=lambda: self.ownership.revision,
            model=self.context.model,
            trace=self.trace,
            tool=self.context.tool,
            respond=dialogue.respond,
            respond_partly=dialogue.respond_partly,
            emit=self.say,
            emit_news=lambda response: self.say(response) if self.downlink.attached else None,
            record=self.log,
            fenced=self._fenced,
            trouble=self.timeline.tool_trouble,
        )
        self.caller_tools = CallerTools(spec.config, self.context.model, settings.caller_tool_timeout.total_seconds())
        self.feeder = Feeder(
            spec.session_id,
            Feeds(
                self.uplink,
                self.journal,
                self.turns,
                self.recorder,
                self.caller_tools,
                self.context,
                answer=dialogue.answer,
                changed=lambda: self.checkpoints.write(),  # noqa: PLW0108 - made later, of what this is part of
                refuse=lambda error: self.attachment.let_go(time.monotonic(), error),
                end=lambda reason: self.ending.finish(live_pb2.END_REASON_CALLER, reason),
            ),
        )
        self.links = LinkKeeper(
            Keeps(
                spec,
                settings,
                services.dialer,
                self.context,
                self.turns,
                self.journal,
                self.conversation,
                self.answering,
                self.feeder,
                self.trace,
                on_event=dialogue.on_event,
                say=self.say,
                restart=dialogue.restart,
                generated_anew=dialogue.generated_anew,
                note=lambda: self.checkpoints.write(),  # noqa: PLW0108
                keep=self.tasks.keep,
                timeline=self.timeline,
            )
        )
        self.standby = Standby(
            self.links,
            self.ownership,
            self.downlink,
            park_after=settings.park_after.total_seconds(),
            keep=self.tasks.keep,
            wake=self.wake,
        )
        self.checkpoints = Checkpoints(
            Sources(
                spec,
                self.epoch,
                self.links,
                self.answering,
                self.journal,
                self.conversation,
                self.turns,
                self.uplink,
                self.downlink,
                self.caller_tools,
                self.trace,
                self.spans,
            ),
            self.recorder,
        )

    def _fenced(self) -> None:
        self.ending.fail(FencedError(self.spec.session_id))

    # What several of them do

    def wake(self) -> None:
        """There is something for the gateway."""
        self.services.writer.wake(self.downlink)

    def say(self, response: live_pb2.ConverseResponse, audio_ms: int = 0) -> None:
        """Tell the caller. Nothing comes after the end, not even of tools that are cut off for it."""
        if self.ending.told:
            return
        shed = self.downlink.shed_items
        self.downlink.emit(response, audio_ms=audio_ms)
        if not audio_ms:
            self.timeline.told(response)
        if self.downlink.shed_items != shed:
            measured.shed(self.downlink.shed_items - shed)
        self.wake()

    def _told_of_loss(self, response: live_pb2.ConverseResponse) -> None:
        """Counted here, a burst at a time: of a camera most pictures give way to newer ones."""
        self.timeline.told(response)
        if response.gap.direction == live_pb2.DIRECTION_UPLINK:  # else it goes on, and is counted as it does (`shed`)
            measured.lost(response.gap)

    @property
    def numbering(self) -> Numbering:
        """Of a stream that begins now to send what was not received."""
        return Numbering(self.uplink.received + 1, self.conversation.position)

    def look_for_gateway(self, gateway: str, since: float, *, elsewhere: bool) -> None:
        """Note what became of the gateway of a stream; see `SessionTimeline`."""
        looking = self.timeline.look_for_gateway(self.services.bus, gateway, since, elsewhere=elsewhere)
        self.tasks.keep(looking, "look for a gateway", optional=True)

    def log(self, entry: fabric_pb2.LogEntry, seq: int = 0) -> None:
        """Part of the conversation: remembered here, and stored for whoever comes after this worker."""
        self.conversation.add(entry)
        if self._logged or is_kept(entry):
            self.recorder.log(entry, seq)
        else:
            self.recorder.log(without_words(entry))

    def record(self) -> None:
        """Begin to write: the session is ours."""
        self.recorder.own_revision = self.ownership.revision
        self.recorder.task = self.tasks.keep(self.recorder.run(), "record")
        self.checkpoints.write()

    @property
    def busy(self) -> bool:
        """Something is in progress, or owed. What waits for the link comes before anything else that is owed."""
        return bool(len(self.uplink.queue)) or self.turns.busy

    def dissolve(self) -> None:
        """Nothing of this session is sent any more: let go of its media now, not when it is collected."""
        self.services.writer.forget(self.downlink)
        self.downlink.clear()
        # Each of them knows the others by what it calls: without that, counting references is enough to free them.
        vars(self).clear()
