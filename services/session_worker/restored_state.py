"""What another owner left of a session, as its records say: what the new owner begins with. Plain code.

The records are written one after another, so the old owner's end may lie between any two of them: the log may be ahead
of the checkpoint, the claims ahead of both, and what the caller has may be behind or ahead. What is newest counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from parley.v1 import fabric_pb2, live_pb2
from services.session_worker import events
from services.session_worker.conversation import Conversation
from services.session_worker.seq_ranges import Range
from services.session_worker.too_old import TOO_OLD


@dataclass(frozen=True, slots=True)
class Answering:
    """The answer that was cut off, whose question is asked again in words."""

    given_seq: int
    """Input up to here led to it."""
    position: int
    """Entries of the conversation that led to it."""


class Number(Enum):
    """What the number of a request in the log is."""

    ITS_OWN = auto()
    GONE = auto()
    """Of a stream that is gone; if the request comes again, it has this one or a lower."""
    OF_WHAT_IT_PRECEDES = auto()
    """Its caller went on without it."""


@dataclass(frozen=True, slots=True)
class Numbering:
    """Since when the caller's stream numbers what it sends, as its attachment record says."""

    first: int = 0
    """From this number on ..."""
    position: int = 0
    """... after this entry of the log; 0: from the session's beginning on."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A request that is in the log."""

    position: int
    """Of its entry."""
    request: live_pb2.ConverseRequest
    number: Number = Number.ITS_OWN


@dataclass(frozen=True, slots=True)
class RestoredState:
    """Of the conversation; who owns it and who is attached is none of it."""

    conversation: Conversation
    checkpoint: fabric_pb2.CheckpointRecord
    received: int
    """Uplink up to here must not be asked for again."""
    stored: list[Stored]
    """Requests that are in the log and may not be covered, in order."""
    to_give: set[int]
    """Positions of those of them that the link is to be given: they are not answered."""
    answering: Answering | None
    turns: int
    """Number of the newest turn that is over. What is generated anew is the one after it: its calls have claims."""
    heard: str
    """What the caller was heard to say and has no answer to; the audio is given again."""
    void: Range | None
    """Downlink that the caller has of the answer that was cut off; None when it has nothing of any."""
    finished: fabric_pb2.ModelSaid | None
    """An answer that the caller has, and whose turn has not ended: it is over. Not in the log yet."""
    begins_anew: bool
    """The model generates an answer that was cut off anew, and makes its calls again."""
    undelivered: Range | None
    """Downlink that ended an answer and that nobody has any more."""
    handle_position: int
    """Entries of the conversation that the handle restores for sure."""
    told_claims: frozenset[str]
    """Claims whose outcomes the model was told."""
    lost_calls: list[events.FunctionCall]
    """Calls since the handle, answered or not: in the state that it restores they may wait for their results for ever.
    """
    caller_calls: list[fabric_pb2.CallerCall]
    """Calls that the caller runs, whose outcomes the model was not told."""
    losses: list[live_pb2.Gap]
    """Losses up to `received` that the caller was not told of."""

    @property
    def given_from_the_log(self) -> list[int]:
        """Numbers of the requests that the link is given and nobody sends again."""
        given = [each for each in self.stored if each.position in self.to_give and each.number is Number.ITS_OWN]
        return [each.request.seq for each in given if each.request.seq <= self.received]

    def responses(self, cause: str = "WORKER_LOST") -> list[live_pb2.ConverseResponse]:
        """What the caller is told, in order. Of what is undelivered its gateway tells it, in a gap."""
        rotating = live_pb2.Rotating(cause=cause)
        told = [live_pb2.ConverseResponse(link_state=live_pb2.LinkState(rotating=rotating))]
        if self.finished is not None or self.undelivered is not None:
            told.append(live_pb2.ConverseResponse(turn_complete=live_pb2.TurnComplete()))
        if self.void is not None:
            cut_off = live_pb2.Interrupted(
                reason=live_pb2.INTERRUPTION_REASON_RESTARTED, void_from_seq=self.void[0], void_to_seq=self.void[1]
            )
            told.append(live_pb2.ConverseResponse(interrupted=cut_off))
        return told


def restored(
    request: fabric_pb2.TakeOver,
    checkpoint: fabric_pb2.CheckpointRecord,
    entries: Sequence[fabric_pb2.LogEntry],
    conversation: Conversation,
    numbering: Numbering,
) -> RestoredState:
    """`conversation` is empty; `entries` are all there are of the log, in order."""
    for at, entry in enumerate(entries):
        conversation.add(entry)
        if _ends(numbering, entries, at):
            conversation.unnumber(numbering.first)
    said = _said_since(checkpoint, entries)
    finished = None if said is not None else _finished(request, checkpoint)
    if finished is not None:
        conversation.add(fabric_pb2.LogEntry(model_said=finished))
        said = finished
    untold_losses = (checkpoint if said is None else said).untold_losses
    answering = None if said is not None else _answering(checkpoint, conversation)
    begins_anew = said is None and checkpoint.HasField("begun")
    called_again = checkpoint.begun.turn if begins_anew and answering is None else 0
    if called_again:
        conversation.forget_outcomes(called_again)
    covered = checkpoint.covered_uplink_seq
    if said is not None:
        covered = max(covered, said.given_seq)
    if answering is not None:
        covered = max(covered, answering.given_seq)
    given = -1 if answering is None else answering.given_seq
    stored = _stored(entries, numbering)
    received = max(_contiguous(covered, stored), request.uplink_acked_seq)
    ended = checkpoint.turn_end_downlink_seq if said is None else said.last_downlink_seq
    tools = [entry.tool for entry in entries if entry.HasField("tool")]
    untold = {call.call_id: _untold(call, entries, called_again) for call in checkpoint.caller_calls}
    return RestoredState(
        conversation=conversation,
        checkpoint=checkpoint,
        received=received,
        stored=stored,
        to_give=_to_give(entries, conversation, checkpoint, given).union(*filter(None, untold.values())),
        answering=answering,
        turns=_turns(checkpoint, said),
        heard="" if answering is not None else _heard(entries, conversation),
        void=_void(request, checkpoint, said),
        finished=finished,
        begins_anew=begins_anew,
        undelivered=(request.floor + 1, ended) if ended > request.floor else None,
        handle_position=_handle_position(request, checkpoint, over=said is not None),
        told_claims=frozenset(tool.claim_key for tool in tools if tool.claim_key),
        lost_calls=_lost_calls(checkpoint, entries),
        caller_calls=[call for call in checkpoint.caller_calls if untold[call.call_id] is not None],
        losses=_losses(untold_losses, request.floor, received),
    )


def _said_since(
    checkpoint: fabric_pb2.CheckpointRecord, entries: Sequence[fabric_pb2.LogEntry]
) -> fabric_pb2.ModelSaid | None:
    """The newest answer, when the checkpoint does not know of it."""
    later = [entry for entry in entries if entry.HasField("model_said") and entry.position > checkpoint.log_position]
    return later[-1].model_said if later else None


def _finished(request: fabric_pb2.TakeOver, checkpoint: fabric_pb2.CheckpointRecord) -> fabric_pb2.ModelSaid | None:
    begun = checkpoint.begun
    if not 0 < begun.generated_downlink_seq <= request.floor:
        return None
    return fabric_pb2.ModelSaid(
        text=begun.said,
        given_seq=begun.given_seq,
        turn=begun.turn,
        given_position=begun.log_position,
        last_downlink_seq=begun.generated_downlink_seq,
        untold_losses=[loss for loss in checkpoint.untold_losses if not _is_answered(loss, begun.given_seq)],
    )


def _is_answered(loss: fabric_pb2.UntoldLoss, given_seq: int) -> bool:
    """It is no loss: it was too old to be given again before an answer came that is about it."""
    return loss.gap.reason == TOO_OLD and not loss.downlink_seq and loss.gap.to_seq <= given_seq


def _answering(checkpoint: fabric_pb2.CheckpointRecord, conversation: Conversation) -> Answering | None:
    if not checkpoint.HasField("begun"):
        return None
    begun = checkpoint.begun
    if not conversation.unanswered(begun.given_seq, begun.log_position):
        return None  # its question is known as audio alone, which is given again
    if not conversation.words and checkpoint.covered_uplink_seq < begun.given_seq:
        return None  # what functions returned is part of it: they are called again
    return Answering(begun.given_seq, begun.log_position)


def _stored(entries: Sequence[fabric_pb2.LogEntry], numbering: Numbering) -> list[Stored]:
    found: dict[int, Stored] = {}
    for index, entry in enumerate(entries):
        if _has_request(entry):
            found[entry.position] = Stored(entry.position, entry.request)
        elif (again := found.get(entry.renumbered.position)) is not None:
            found[again.position] = _renumbered(again, entry.renumbered)
        if _ends(numbering, entries, index):
            for at, stored in found.items():
                if stored.request.seq >= numbering.first:
                    found[at] = replace(stored, number=Number.GONE)
    # An older release did not say when a caller that came back gave a number to something else: the newest counts.
    newest = {stored.request.seq: stored for stored in found.values() if stored.number is Number.ITS_OWN}
    others = [stored for stored in found.values() if stored.number is not Number.ITS_OWN]
    return sorted([*newest.values(), *others], key=_order)


def _order(stored: Stored) -> tuple[int, int]:
    # What has the number of the message that it precedes was stored before that.
    return stored.request.seq, stored.position


def _ends(numbering: Numbering, entries: Sequence[fabric_pb2.LogEntry], at: int) -> bool:
    """Whether this entry is the last that came before the stream that numbers so. There may be none."""
    after = at + 1 == len(entries) or entries[at + 1].position > numbering.position
    return entries[at].position <= numbering.position and after


def _renumbered(stored: Stored, renumbered: fabric_pb2.Renumbered) -> Stored:
    request = live_pb2.ConverseRequest()
    request.CopyFrom(stored.request)
    request.seq = renumbered.seq
    return Stored(stored.position, request, Number.OF_WHAT_IT_PRECEDES if renumbered.left_out else Number.ITS_OWN)


def _has_request(entry: fabric_pb2.LogEntry) -> bool:
    """With the log off there may be its number alone."""
    return entry.request.WhichOneof("payload") is not None


def _to_give(
    entries: Sequence[fabric_pb2.LogEntry],
    conversation: Conversation,
    checkpoint: fabric_pb2.CheckpointRecord,
    given_seq: int,
) -> set[int]:
    opened = {position for position, seq in conversation.unanswered_requests.items() if seq > given_seq}
    # Whether these are in the settings is not known; twice is as good as once.
    updates = {
        entry.position
        for entry in entries
        if entry.request.HasField("context_update") and entry.position > checkpoint.log_position
    }
    return opened | updates


def _untold(call: fabric_pb2.CallerCall, entries: Sequence[fabric_pb2.LogEntry], called_again: int) -> set[int] | None:
    """Positions of the results of a call of the caller's that the model was not told; None when it knows the outcome.

    The log has each result as it came, and then, once the model was told, as the model was. One that did not come in
    time is in it as that alone. `called_again`: what the model was told of calls of this turn and later ones is
    forgotten, and the calls come again; 0: of none.
    """
    results = [entry for entry in entries if entry.request.tool_result.call_id == call.call_id]
    told = sum((entry.tool.told_as or entry.tool.call_id) == call.call_id for entry in entries)
    if called_again and not 0 < call.turn < called_again:
        told = 0
    over = told > len(results) or (told > 0 and not results[told - 1].request.tool_result.will_continue)
    return None if over else {result.position for result in results[told:]}


def _losses(untold: Iterable[fabric_pb2.UntoldLoss], floor: int, received: int) -> list[live_pb2.Gap]:
    """What is beyond `received` is asked for again, and comes, or is lost again."""
    found: list[live_pb2.Gap] = []
    for loss in untold:
        if not 0 < loss.downlink_seq <= floor and loss.gap.from_seq <= received:
            found.append(live_pb2.Gap())
            found[-1].CopyFrom(loss.gap)
            found[-1].to_seq = min(loss.gap.to_seq, received)
    return found


def _contiguous(covered: int, stored: Iterable[Stored]) -> int:
    """How far everything is covered or stored: no more was acked."""
    numbers = {each.request.seq for each in stored if each.number is Number.ITS_OWN}
    while covered + 1 in numbers:
        covered += 1
    return covered


def _handle_position(request: fabric_pb2.TakeOver, checkpoint: fabric_pb2.CheckpointRecord, *, over: bool) -> int:
    """`over`: the answer is. Most likely a newer handle came then, and this one restores what it was issued for. So it
    may be wherever the owner did not hand the session over: what came after its last checkpoint nobody knows, and a
    text that is told twice is better than one that is lost."""
    known = request.proof == fabric_pb2.PROOF_OF_DEATH_RELEASED and not checkpoint.begun.generated_downlink_seq
    if over or not known:
        return checkpoint.issued_position if checkpoint.HasField("issued_position") else checkpoint.handle_position
    return checkpoint.handle_position


def _lost_calls(
    checkpoint: fabric_pb2.CheckpointRecord, entries: Sequence[fabric_pb2.LogEntry]
) -> list[events.FunctionCall]:
    since = [entry.tool for entry in entries if entry.HasField("tool") and entry.position > checkpoint.handle_position]
    names = {tool.call_id: tool.name for tool in since} | {call.call_id: call.name for call in checkpoint.waiting_calls}
    return [events.FunctionCall(call_id, name, {}) for call_id, name in names.items()]


def _turns(checkpoint: fabric_pb2.CheckpointRecord, said: fabric_pb2.ModelSaid | None) -> int:
    if said is not None:
        return max(checkpoint.turns, said.turn)
    if checkpoint.HasField("begun"):
        return checkpoint.begun.turn - 1
    return checkpoint.turns


def _heard(entries: Sequence[fabric_pb2.LogEntry], conversation: Conversation) -> str:
    return "".join(
        entry.input_transcript.text
        for entry in entries
        if entry.HasField("input_transcript") and entry.position > conversation.settled
    )


def _void(
    request: fabric_pb2.TakeOver, checkpoint: fabric_pb2.CheckpointRecord, said: fabric_pb2.ModelSaid | None
) -> Range | None:
    """`said`: the newest answer, when the checkpoint does not know that it is over."""
    if said is None and checkpoint.HasField("begun"):
        first = checkpoint.begun.first_downlink_seq
        if first > request.floor:
            return None
    else:
        # Of the answer after it there was no time to say that it had begun.
        ended = checkpoint.turn_end_downlink_seq if said is None else said.last_downlink_seq
        if request.last_audio_seq <= ended or (said is not None and not ended):
            return None
        first = ended + 1
    return max(first, request.downlink_acked_seq + 1), request.floor
