"""What a new link is given before anything else, so that its model goes on where the one before ended. Plain code.

What the newest handle restores is not told again; what came after it is told in words and not to be answered; what was
being answered is asked again; what the model had not begun to answer is given as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from google.genai import types

from parley.v1 import live_pb2
from services.session_worker import events, responses
from services.session_worker.answer_in_progress import Begun
from services.session_worker.conversation import Conversation, Seed
from services.session_worker.journal import Journal, Replay
from services.session_worker.seq_ranges import Range, merged, ranges_of, spans
from services.session_worker.too_old import Dropped

_LOST_CALL: Final = "the connection was lost before the result; what it was is told in words"


@dataclass(frozen=True, slots=True)
class Situation:
    """Where a session stands that needs a link."""

    journal: Journal
    conversation: Conversation
    begun: Begun | None
    """The answer in progress."""
    history: list[types.Content]
    """As configured."""
    calls: Sequence[events.FunctionCall]
    """That the model may wait for in vain in the state that the handle restores."""
    now: float
    """The journal's time, in monotonic seconds."""
    exact: bool
    """The newest handle says itself how far it reaches."""
    heard_until: float | None
    """The handle covers what its link had heard, not only what came before the handle, and its link has heard what was
    sent until then; None: it does not."""
    ended_until: float
    """What was sent until then the link seems to have heard: enough to tell whether an utterance was over for it, and
    not to leave anything out."""


@dataclass(frozen=True, slots=True)
class Restoration:
    """What a new link is given, in this order."""

    closes: list[types.FunctionResponse]
    """Errors for calls whose results the model would wait for."""
    seed: Seed | None
    """To one that begins from nothing."""
    told: list[types.Content]
    """What happened since the handle, in words."""
    question: list[types.Content]
    """What was being answered, in words, to be answered again."""
    asks: bool
    """An answer is to be asked for."""
    replay: Replay
    """What had not begun to be answered, as it was."""
    told_again: list[Range]
    """Requests of the caller among what is told in words: an earlier link had them."""
    untold: Range | None
    """What was answered and is not known to the model: there are no words for it."""
    outcomes_until: int
    """Position up to which what functions returned is among what is told."""
    state_restored: bool
    """The model knows the conversation then, by the handle or in words."""

    @property
    def answered(self) -> bool:
        """The model answers before it is given anything else."""
        return self.asks or (self.seed is not None and self.seed.answered)

    @property
    def owed(self) -> bool:
        """The link before was given something that it had not answered when it ended."""
        return self.asks or bool(self.replay.items)

    @property
    def method(self) -> str:
        """As callers are told."""
        return "RESUMED" if self.seed is None else "RESEEDED"

    def responses(self, seconds: float, replayed: Sequence[Range]) -> list[live_pb2.ConverseResponse]:
        """What the caller is told, in order. `seconds`: for so long the model did not hear it; `replayed`: uplink that
        the model may have heard before, beside what is given here."""
        recovered = live_pb2.Recovered(
            method=self.method,
            state_restored=self.state_restored,
            gap=responses.duration(seconds),
            replayed=spans(merged(replayed, self.told_again, self.replay.replayed)),
            dropped=spans(merged(lost.seqs for lost in self.replay.dropped)),
        )
        told = [live_pb2.ConverseResponse(link_state=live_pb2.LinkState(recovered=recovered))]
        told += [gap(lost) for lost in self.replay.dropped]
        if self.untold is not None:
            told.append(gap(Dropped(self.untold, live_pb2.MEDIA_CLASS_UNSPECIFIED, "LOG_DISABLED")))
        return told


def restoration(of: Situation, *, resumed: bool) -> Restoration:
    """`resumed`: by the newest handle; else the link begins from nothing. Changes nothing: it may be asked again."""
    begun, journal, conversation = of.begun, of.journal, of.conversation
    known = journal.position if resumed and of.heard_until is None else 0
    seq, end = (0, 0) if begun is None else (begun.question.seq, begun.position)
    asks = bool(conversation.unanswered(seq, end)) if begun is not None else conversation.has_outcomes
    if begun is not None and not conversation.words and journal.asked_before(begun.question.at):
        asks = False  # what functions returned is part of it: they are called again
    question = conversation.unanswered(seq, end, known=known) if asks else []
    heard = begun.question if begun is not None and asks else None
    untold = conversation.untold(journal.position if resumed else 0)
    told: list[types.Content] = []
    seed: Seed | None = None
    if not resumed:
        seed = conversation.seed(of.history)
    elif of.heard_until is not None:
        # All that the link had heard is in its state; what may not have arrived is given again, silence too: it may be
        # what ends an utterance. One that has ended nobody answers by itself.
        heard = journal.sent_until(of.heard_until, heard)
        # Results tell nothing of what arrived; those that are not answered are in the question.
        told = conversation.silent_since(journal.position)
        asks = asks or journal.was_typed(heard) or journal.was_said(of.heard_until, of.ended_until)
    else:
        told = conversation.since(known)
    return Restoration(
        closes=[_closed(call) for call in of.calls] if resumed else [],
        seed=seed,
        told=told,
        question=question,
        asks=asks,
        replay=journal.replay(of.now, known=heard, exact=of.exact or of.heard_until is not None),
        told_again=_told_again(of, told=bool(told) and of.heard_until is None, asked=bool(question), known=known),
        untold=untold,
        outcomes_until=conversation.position if question or ((told or seed) and not conversation.has_outcomes) else 0,
        state_restored=untold is None and (resumed or _is_told(of, seed, question)),
    )


def _is_told(of: Situation, seed: Seed | None, question: list[types.Content]) -> bool:
    """A link that begins from nothing knows the conversation. Models that only translate take no words."""
    conversation = of.conversation
    return not conversation.position or (conversation.words and bool(question or (seed and seed.turns)))


def _told_again(of: Situation, *, told: bool, asked: bool, known: int) -> list[Range]:
    conversation, begun = of.conversation, of.begun
    seq, end = (0, 0) if begun is None else (begun.question.seq, begun.position)
    since = known if told else max(known, conversation.settled)
    return ranges_of(conversation.told_requests(since, seq, end)) if told or asked else []


def asked_again(replayed: Sequence[Range], dropped: Sequence[Dropped] = ()) -> list[live_pb2.ConverseResponse]:
    """What the caller is told where a link that is there is given this once more."""
    recovered = live_pb2.Recovered(
        method="RESUMED",
        state_restored=True,
        gap=responses.duration(0.0),
        replayed=spans(replayed),
        dropped=spans(merged(lost.seqs for lost in dropped)),
    )
    told = [live_pb2.ConverseResponse(link_state=live_pb2.LinkState(recovered=recovered))]
    return told + [gap(lost) for lost in dropped]


def gap(lost: Dropped) -> live_pb2.ConverseResponse:
    """As the caller is told."""
    first, last = lost.seqs
    named = live_pb2.Gap(
        direction=live_pb2.DIRECTION_UPLINK,
        from_seq=first,
        to_seq=last,
        media_class=lost.media_class,
        reason=lost.reason,
    )
    return live_pb2.ConverseResponse(gap=named)


def _closed(call: events.FunctionCall) -> types.FunctionResponse:
    return types.FunctionResponse(id=call.id, name=call.name, response={"error": _LOST_CALL})
