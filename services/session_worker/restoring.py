"""Puts what another owner left of a session into one that is made anew, so that it goes on there."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from opentelemetry.context import Context

from parley.v1 import fabric_pb2
from services.fabric import names, telemetry
from services.session_worker.answer_in_progress import Begun
from services.session_worker.call_recovery import Owed
from services.session_worker.parts import Parts
from services.session_worker.sent_input import Extent
from services.session_worker.takeover import WORKER_LOST, Inherited

_DEAD: Final = frozenset({fabric_pb2.PROOF_OF_DEATH_DEAD, fabric_pb2.PROOF_OF_DEATH_NOT_HELD})
"""Of an owner before that will end none of its spans any more."""


async def restore(parts: Parts, inherited: Inherited, stream: Context) -> int:
    """Everything but the link, which `bring_link` is for; return the first downlink `seq`. ServiceError; `own` names
    this worker all the same. `stream`: context of the open of the stream, where that is news."""
    state, request, now = inherited.state, inherited.request, time.monotonic()
    checkpoint = state.checkpoint
    carrier = {telemetry.TRACEPARENT: checkpoint.traceparent, telemetry.TRACESTATE: checkpoint.tracestate}
    age = checkpoint.trace_age.ToTimedelta().total_seconds()
    parts.trace.begin(telemetry.context_from(carrier), part=checkpoint.trace_part, age=age)
    calls = await parts.tools.recover(state.told_claims)
    if inherited.cause == WORKER_LOST and request.proof in _DEAD:
        _stand_in(parts, checkpoint, calls.owed)
    parts.trace.attached(stream)
    parts.turns.count = state.turns
    parts.journal.restore(state.received, state.handle_position, parts.conversation.settled)
    parts.feeder.release()  # until there is a link
    numbered = bool(request.attach_generation)
    taken = parts.uplink.restore(state.received, state.stored, state.to_give, numbered=numbered, now=now)
    if not numbered:
        parts.conversation.unnumber(state.received + 1)
    parts.downlink.uplink.received = parts.uplink.received
    parts.downlink.uplink.acked = parts.uplink.coverage.acked
    parts.dialogue.was_heard(state.heard)
    first_downlink_seq = await parts.attachment.inherit(
        inherited.generation,
        inherited.numbering if numbered else parts.numbering,
        acked=request.downlink_acked_seq,
        passed_on=request.floor,
    )
    # The records may have taken their time, in which nobody could send anything.
    parts.uplink.wait_anew(time.monotonic())
    for gap in state.losses:
        parts.downlink.losses.add(gap, now)
    for response in state.responses(inherited.cause):
        parts.say(response)
    ended = state.finished is not None or state.undelivered is not None
    parts.checkpoints.turn_ended(parts.downlink.last_seq if ended else request.floor)
    if state.finished is not None:
        parts.recorder.log(fabric_pb2.LogEntry(model_said=state.finished))
    parts.intake.act_on(taken, now)
    begun = state.answering
    if begun is not None:
        turn, first_seq = parts.turns.count + 1, parts.downlink.last_seq + 1
        parts.answering.begun = Begun(Extent(now, begun.given_seq), begun.position, turn, first_seq)
    parts.links.restore(
        state.checkpoint.handle,
        [*state.lost_calls, *(owed.call for owed in calls.owed)],
        exact=state.checkpoint.exact,
    )
    parts.caller_tools.restore(state.caller_calls, now)
    if state.begins_anew:
        parts.caller_tools.answer_restarted(state.checkpoint.begun.turn)
    for call in parts.caller_tools.pending:
        parts.links.adopt(call)
    for owed in calls.owed:
        if owed.identity.turn <= parts.turns.count:
            parts.dialogue.finish_call(owed)
        else:
            parts.tools.comes_again(owed)
    parts.record()
    return first_downlink_seq


def _stand_in(parts: Parts, checkpoint: fabric_pb2.CheckpointRecord, calls: Iterable[Owed]) -> None:
    """The spans that were in progress when the worker before died: of its turn, and of the calls that had no end."""
    turn = checkpoint.turns + 1
    number = {names.TURN_NUMBER: turn}
    of_turn = parts.trace.stand_in(names.SPAN_TURN, checkpoint.turn_traceparent, parts.trace.context, number)
    for owed in calls:
        parent = of_turn if owed.identity.turn == turn else parts.trace.context
        tool = {names.GEN_AI_TOOL_NAME: owed.call.name, names.GEN_AI_TOOL_CALL_ID: owed.call.id}
        parts.trace.stand_in(f"{names.SPAN_TOOL_CALL} {owed.call.name}", owed.traceparent, parent, tool)


def bring_link(parts: Parts, inherited: Inherited, asked: Context) -> None:
    """Begin to bring the link, and to feed it. `asked`: context of the request to take the session over."""
    request = inherited.request
    silence = request.silence.ToTimedelta().total_seconds()
    proven = request.proof != fabric_pb2.PROOF_OF_DEATH_SILENT
    bringing = parts.links.take_over(inherited.cause, silence, inherited.replayed, proven=proven, asked=asked)
    parts.standby.start(bringing)
    parts.tasks.keep(parts.feeder.run(), "feed")
    parts.feeder.wake()
