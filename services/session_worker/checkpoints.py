"""What another worker would need to carry on, and when it is written down."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from parley.v1 import fabric_pb2
from services.fabric import telemetry
from services.session_worker import responses
from services.session_worker.answer_in_progress import AnswerInProgress
from services.session_worker.callertools import CallerTools
from services.session_worker.conversation import Conversation
from services.session_worker.downlink import Downlink
from services.session_worker.journal import Journal
from services.session_worker.link_keeper import LinkKeeper
from services.session_worker.recorder import Recorder
from services.session_worker.restoration import gap
from services.session_worker.session_trace import SessionTrace
from services.session_worker.turn_span import TurnSpans
from services.session_worker.turns import TurnState
from services.session_worker.uplink import Uplink

_MOST_TOO_OLD: Final = 256
"""Stretches of unanswered input that a checkpoint names; older ones are not."""
_INTERVAL: Final = 5.0
"""Seconds without a turn after which a checkpoint is written if it covers more than the one before."""


@dataclass(frozen=True)
class Sources:
    """What there is to remember."""

    spec: fabric_pb2.OpenSession
    epoch: int
    links: LinkKeeper
    answering: AnswerInProgress
    journal: Journal
    conversation: Conversation
    turns: TurnState
    uplink: Uplink
    downlink: Downlink
    caller_tools: CallerTools
    trace: SessionTrace
    spans: TurnSpans


class Checkpoints:
    """The checkpoints of one session."""

    def __init__(self, sources: Sources, recorder: Recorder) -> None:
        self._sources = sources
        self._recorder = recorder
        self._looked_at = 0.0
        self._covered = 0
        """Input that the newest one covers."""
        self._turn_end_seq = 0

    def turn_ended(self, downlink_seq: int) -> None:
        """With this downlink, or before it."""
        self._turn_end_seq = downlink_seq

    def write(self) -> None:
        """Now, and soon to be stored."""
        self._recorder.checkpoint(self.record())

    def record(self) -> fabric_pb2.CheckpointRecord:
        """As of now."""
        of = self._sources
        self._looked_at, self._covered = time.monotonic(), self._restorable
        carrier = telemetry.headers(of.trace.context)
        return fabric_pb2.CheckpointRecord(
            schema_version=1,
            epoch=of.epoch,
            handle=of.links.handle,
            covered_uplink_seq=self._covered,
            config=of.spec.config,
            tools=of.spec.tools,
            traceparent=carrier.get(telemetry.TRACEPARENT, ""),
            tracestate=carrier.get(telemetry.TRACESTATE, ""),
            trace_part=of.trace.part,
            trace_age=responses.duration(of.trace.age),
            turn_traceparent=of.spans.traceparent,
            handle_position=of.journal.position,
            issued_position=of.journal.issued_position,
            exact=of.links.exact,
            log_position=of.conversation.position,
            turns=of.turns.over,
            turn_end_downlink_seq=self._turn_end_seq,
            begun=of.answering.record,
            caller_calls=of.caller_tools.records,
            waiting_calls=[fabric_pb2.WaitingCall(call_id=call.id, name=call.name) for call in of.links.waiting_calls],
            untold_losses=[*of.downlink.untold_losses, *self._too_old()],
        )

    def tick(self, now: float) -> None:
        """Silence needs no answer, and what is too old is given to nobody: they are covered although no turn ends."""
        if now - self._looked_at >= _INTERVAL:
            self._looked_at = now
            if self._restorable > self._covered:
                self.write()

    def _too_old(self) -> Iterator[fabric_pb2.UntoldLoss]:
        """What is unanswered, covered and kept nowhere. If this worker dies, its caller is told; if not, it may still
        be answered."""
        of = self._sources
        begun, known = of.answering.begun, None
        if begun is not None and of.conversation.words:
            asked = of.conversation.unanswered(begun.question.seq, begun.position)
            known = begun.question if asked else None  # is asked again in words
        for lost in of.journal.too_old(known)[-_MOST_TOO_OLD:]:
            yield fabric_pb2.UntoldLoss(gap=gap(lost).gap)

    @property
    def _restorable(self) -> int:
        """Input up to here need not be given again to anybody; a picture that waits is not with the link yet."""
        of = self._sources
        given = of.uplink.queue.handed_over(of.journal.settled(exact=of.links.exact))
        return of.uplink.coverage.restorable(given)
