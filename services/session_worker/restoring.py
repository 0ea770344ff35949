"""Puts what another owner left of a session into one that is made anew, so that it goes on there."""

from __future__ import annotations

import time

from parley.v1 import fabric_pb2
from services.fabric import telemetry
from services.session_worker.answer_in_progress import Begun
from services.session_worker.parts import Parts
from services.session_worker.sent_input import Extent
from services.session_worker.takeover import Inherited


async def restore(parts: Parts, inherited: Inherited) -> int:
    """Everything but the link, which `bring_link` is for; return the first downlink `seq`. ServiceError; `own` names
    this worker all the same."""
    state, request, now = inherited.state, inherited.request, time.monotonic()
    session_context = telemetry.context_from({telemetry.TRACEPARENT: state.checkpoint.traceparent})
    parts.trace(session_context)
    calls = await parts.tools.recover(state.told_claims)
    parts.turns.count = state.turns
    parts.journal.restore(state.received, state.handle_position, parts.conversation.settled)
    parts.uplink.restore(state.received, state.stored, state.to_give, numbered=bool(request.attach_generation), now=now)
    parts.downlink.uplink.received = parts.uplink.received
    parts.downlink.uplink.acked = parts.uplink.coverage.acked
    parts.dialogue.was_heard(state.heard)
    first_downlink_seq = await parts.attachment.inherit(
        inherited.generation, acked=request.downlink_acked_seq, passed_on=request.floor
    )
    for response in state.responses(inherited.cause):
        parts.say(response)
    ended = state.finished is not None or state.undelivered is not None
    parts.checkpoints.turn_ended(parts.downlink.last_seq if ended else request.floor)
    if state.finished is not None:
        parts.recorder.log(fabric_pb2.LogEntry(model_said=state.finished))
    begun = state.answering
    if begun is not None:
        turn, first_seq = parts.turns.count + 1, parts.downlink.last_seq + 1
        parts.answering.begun = Begun(Extent(now, begun.given_seq), begun.position, turn, first_seq)
    parts.links.restore(
        state.checkpoint.handle,
        [*state.lost_calls, *(owed.call for owed in calls.owed)],
        exact=state.checkpoint.exact,
        session_context=session_context,
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


def bring_link(parts: Parts, inherited: Inherited) -> None:
    """Begin to bring the link, and to feed it."""
    request = inherited.request
    silence = request.silence.ToTimedelta().total_seconds()
    proven = request.proof != fabric_pb2.PROOF_OF_DEATH_SILENT
    parts.standby.start(parts.links.take_over(inherited.cause, silence, inherited.replayed, proven=proven))
    parts.tasks.keep(parts.feeder.run(), "feed")
    parts.feeder.wake()
