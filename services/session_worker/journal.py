"""What a link was given and nothing else is known to restore. Plain code: the time is an argument.

When a link is lost, the newest resumption handle restores the conversation as it was at the end of some turn.
Exchanges that ended after that are told to the next link as text, from the log. What the model had not answered yet is
given again as it was given the first time; it is kept here. Three things take input out of the journal: the turn that
answers it is over, or an exact handle (Vertex) says that it was consumed, or it is media older than what is replayed,
whatever comes before that and stays.

What a turn answers was sent before its first output, one round trip ago. A handle holds no half utterance: what is
being said when the model begins to speak, or is cut off before it does, is no part of its question
(`Journal.question`). It is open from the first sound on, and given to the next link.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from parley.v1 import live_pb2
from services.session_worker.input_queue import AudioBatch
from services.session_worker.sent_input import (
    Extent,
    Item,
    Sent,
    ends_speech,
    is_input,
    is_logged,
    is_picture,
    is_question,
    is_sound,
    is_speech,
    seqs_of,
    starts_speech,
)
from services.session_worker.seq_ranges import Range, merged
from services.session_worker.too_old import Dropped, TooOld
from services.session_worker.utterances import AT_ONCE, BREATH, LEAD, Utterances

HORIZON: Final = 15.0
"""Seconds of audio that a new link is given at most: what was sent before is not kept."""
_LAG: Final = 3.0
"""Seconds after the end of a turn in which its handle comes. Later than that, a handle counts for every turn before."""
_QUIET: Final = 5.0
"""Seconds for which silence is kept that nothing came before. Of a link that goes on exactly where the last one was, it
ends what was said there; more of it would only delay what is said now."""
_LINK_LOST: Final = "LINK_LOST"
_MOST_REQUESTS: Final = 1024
"""Unanswered texts and the like that are kept; older ones are named in a gap."""


@dataclass(frozen=True, slots=True)
class _TurnEnd:
    at: float
    position: int
    open_from: int


@dataclass(slots=True)
class Replay:
    """What the next link is given again."""

    items: list[Item] = field(default_factory=list)
    """In order."""
    replayed: list[Range] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    """What the model has not answered and will not be given."""


class Journal:
    """The unanswered input of one session, and how far its newest handle reaches."""

    def __init__(self, rate: int, *, words: bool = True) -> None:
        """`rate`: hertz of the caller's audio. `words`: what is answered is known in words, too, and can be asked again
        in them; False where the log is off."""
        self._utterances = Utterances(rate)
        self._words = words
        self._open: deque[Sent] = deque()
        self._asked: deque[Sent] = deque()
        """Without words: what the answer in progress is about, as long as that takes."""
        self._too_old = TooOld()
        self._newest_request = 0
        """Number of the newest input that is no audio."""
        self._ended: deque[_TurnEnd] = deque()
        self.last_seq = 0
        """Newest input that a link was given."""
        self.position = 0
        """Entries of the conversation that the newest handle restores."""
        self.issued_position = 0
        """The same without what it restores only as long as it is the newest."""
        self.answered_position = 0
        """Entries of the conversation that belong to turns that are over."""
        self.covered = 0
        """Input up to here is restored without being given again."""

    def restore(self, received: int, position: int, answered_position: int) -> None:
        """Begin where another worker's ended: input up to `received` needs no giving, `position` is the handle's."""
        self.last_seq = self.covered = received
        self.position = self.issued_position = position
        self.answered_position = answered_position

    def settled(self, *, exact: bool) -> int:
        """Input up to here need not be given to a link that begins now and is told in words what was answered.

        `exact`: the newest handle says itself how far it reaches. Takes a millisecond for a long utterance.
        """
        if exact and self.position >= self.answered_position:
            return self.covered
        return max(self.covered, self._open_from() - 1)

    def sent(self, item: Item, now: float, number: int) -> None:
        """A link was given this, as its message number `number`."""
        sent = Sent(item, now, number)
        self.last_seq = max(self.last_seq, sent.seqs[1])
        if not is_input(item):
            return
        self._open.append(sent)
        if not isinstance(item, AudioBatch):
            self._newest_request = max(self._newest_request, item.seq)
            self._bound_requests()

    def seconds(self, audio: AudioBatch) -> float:
        """How long it sounds."""
        return self._utterances.seconds(audio)

    def spoke_since(self, then: float) -> bool:
        """Whether the link was given sounds after that time which are not answered yet."""
        return any(
            isinstance(sent.item, AudioBatch) and is_sound(sent) for sent in reversed(self._open) if sent.at > then
        )

    def was_sent_since(self, then: float) -> bool:
        """Whether the link was given anything after that time which is not answered yet."""
        return bool(self._open) and self._open[-1].at > then

    def speaking(self, now: float) -> bool:
        """Whether the caller may be in the middle of what it says."""
        return self._utterances.goes_on(reversed(self._open), now)

    def answer_begins(self, question: Extent) -> None:
        """What it is about. Without words that is given again as it was, however long the answer takes."""
        self._too_old.answer_begins(question.at)
        # A later turn of it may be about nothing else: what is kept so long must not grow with each.
        asks = any((is_sound(sent) or is_question(sent.item)) and question.has(sent) for sent in self._open)
        if not self._words and (asks or not self._asked):
            self._asked.extend(self._open)
            self._open.clear()

    def typed_turn_taken_up(self, position: int) -> None:
        """The model begins to answer ordered content, after so many entries of the conversation: the newest handle
        restores them, too, from now on (a capability). Not where another handle is still due."""
        if not self._ended:
            self.position = max(self.position, position)

    def may_lack_newest_handle(self) -> None:
        """The service may have issued a handle that did not come: the one there is restores what it was issued for."""
        self.position = self.issued_position

    def question(
        self, now: float, round_trip: float = 0.0, *, cut_off: bool = False, on_outcome: bool = False
    ) -> Extent:
        """What the model answers that begins to speak now, or, `cut_off`, that ends a turn in which it said nothing.

        Without what is being said, from a little before its first sound: of what the model knew of that, a round trip
        ago, it awaits the end. `on_outcome`: the answer may be about what a function returned.
        """
        sent = self._waiting
        # However late a ping came, a question has ended longer ago than that.
        then = now - min(round_trip, AT_ONCE - BREATH)
        speech = self._utterances.under_way(sent, then, cut_off=cut_off, spoken=not (on_outcome or self.asks))
        first = self._utterances.lead(sent, len(sent) if speech is None else speech)
        at = math.nextafter(sent[first].at, 0.0) if first < len(sent) else now
        return Extent(at, self.last_seq if speech is None else sent[first].seqs[0] - 1)

    def turn_ended(self, now: float, answered: Extent, position: int) -> None:
        """A turn is over that answered this; the conversation has so many entries now."""
        self._open = deque(sent for sent in self._waiting if not answered.has(sent))
        self._asked.clear()
        self._too_old.clear()
        self.answered_position = position
        self.may_lack_newest_handle()
        self._ended.append(_TurnEnd(now, position, self._open_from()))

    def handle(self, now: float, consumed: int | None = None, round_trip: float = 0.0) -> None:
        """A handle came. `consumed`: number of the last message that it restores, where the service tells."""
        if self._ended:
            self._credit(self._ended.popleft())
        while self._ended and self._ended[0].at <= now - _LAG:
            self._credit(self._ended.popleft())
        if consumed is not None:
            for given in (self._asked, self._open):
                while given and given[0].number <= consumed:
                    self.covered = max(self.covered, given.popleft().seqs[1])
            self._too_old.consumed(consumed)
        elif self.position >= self.answered_position and not self._asked:
            if not any(is_sound(sent) for sent in self._open):
                # Silence that had arrived is in it, too; the end of it may be how something begins.
                waiting = list(self._open)
                for sent in waiting[: self._utterances.lead(waiting, len(waiting))]:
                    if sent.at > now - round_trip or not isinstance(sent.item, AudioBatch):
                        break
                    self._open.popleft()
            self.covered = max(self.covered, self._open_from() - 1)

    def expire(self, now: float) -> None:
        """Forget media that are too old to be given again; requests stay until they are answered."""
        last = self._forget_media(now - HORIZON)
        if not self._asked:
            last = self._forget_silence(now) or last
        if last:
            self._cover(last)

    def _forget_media(self, until: float) -> int:
        """Forget those that were sent until then; return the number of the newest, or 0."""
        kept: list[Sent] = []
        last = stays = 0
        while self._open and self._open[0].at <= until:
            sent = self._open.popleft()
            if is_logged(sent.item) or starts_speech(sent.item):  # what it begins may go on
                kept.append(sent)
                stays = sent.seqs[1] if is_logged(sent.item) else stays
                continue
            last = max(last, sent.seqs[1])
            speaks = any(starts_speech(each.item) for each in kept)
            if ends_speech(sent.item):
                kept = [each for each in kept if not starts_speech(each.item)]
            elif is_picture(sent.item) or is_sound(sent) or (speaks and isinstance(sent.item, AudioBatch)):
                self._too_old.add(sent, stays)
        self._open.extendleft(reversed(kept))
        return last

    def _forget_silence(self, now: float) -> int:
        """Forget that in the beginning which is old and leads to no sound; return the number of the newest, or 0."""
        silence: list[Sent] = []
        old, ahead = 0, 0.0
        for sent in self._open:
            if is_sound(sent):
                old = min(old, self._utterances.lead(silence, len(silence)))
                break
            if not isinstance(sent.item, AudioBatch):
                break
            if sent.at <= now - _QUIET:
                old += 1
            else:
                ahead += self.seconds(sent.item)
                if not old or ahead > LEAD:
                    break
            silence.append(sent)
        last = 0
        for _ in range(old):
            last = self._open.popleft().seqs[1]
        return last

    def _cover(self, last: int) -> None:
        """Nothing up to this is to be given again, but what is still here."""
        if self._asked:
            return
        if self._newest_request > self.covered:
            last = min([last, *(sent.seqs[0] - 1 for sent in self._open if self._is_here_alone(sent.item))])
        self.covered = max(self.covered, last)

    def _is_here_alone(self, item: Item) -> bool:
        """A request that whoever comes after this worker finds nowhere else."""
        return not isinstance(item, AudioBatch) and not (self._words and is_logged(item))

    def asked_until(self, then: float, seq: int) -> int:
        """Number of the last request, up to `seq`, that an answer can be about which began then: not what was typed
        later while something else waited for its answer."""
        waited = False
        for sent in self._waiting:
            if waited and sent.at > then and is_question(sent.item):
                return min(seq, max(0, sent.seqs[0] - 1))
            waited = waited or is_sound(sent) or is_question(sent.item)
        return seq

    def typed_until(self, then: float) -> int:
        """Number of the newest text or turn that was sent until then and is not answered; 0: there is none."""
        return max((sent.seqs[1] for sent in self._waiting if is_question(sent.item) and sent.at <= then), default=0)

    @property
    def awaits_handle(self) -> bool:
        """The newest handle does not restore all that was answered."""
        return self.position < self.answered_position

    @property
    def asks(self) -> bool:
        """Something was typed that is not answered."""
        return any(is_question(sent.item) for sent in self._waiting)

    def was_typed(self, known: Extent) -> bool:
        """Something of this was typed that is not answered."""
        return any(is_question(sent.item) and known.has(sent) for sent in self._waiting)

    def was_said(self, then: float, until: float) -> bool:
        """Something was said until `then`, nothing since, and it has ended by `until`, that is not answered."""
        sounds = [sent.at for sent in self._waiting if is_sound(sent)]
        if not sounds or sounds[-1] > then:
            return False
        waiting = [sent for sent in self._waiting if sent.at <= until]
        return self._utterances.under_way(waiting, until, cut_off=True, spoken=False) is None

    def asked_before(self, then: float) -> bool:
        """Something that waits for an answer was sent until then."""
        return any(is_sound(sent) or is_question(sent.item) for sent in self._waiting if sent.at <= then)

    def sent_until(self, then: float, known: Extent | None) -> Extent:
        """All that was sent until then, and what is known besides."""
        # Audio tells nothing of requests: it passes a picture that waits.
        seqs = [sent.seqs[1] for sent in self._waiting if sent.at <= then and not is_speech(sent.item)]
        at, seq = (0.0, 0) if known is None else (known.at, known.seq)
        return Extent(max(at, then), max([seq, *seqs]))

    @property
    def _waiting(self) -> list[Sent]:
        return [*self._asked, *self._open]

    def replay(self, now: float, *, known: Extent | None = None, exact: bool = False) -> Replay:
        """What a link that begins now is to be given again; it stays here, to be marked as sent again.

        `known`: to the link, in words or by its handle. `exact`: silence in the beginning is given, too.
        """
        self.expire(now)
        waiting = [sent for sent in self._waiting if known is None or not known.has(sent)]
        result = Replay()
        newest_picture = max((sent.seqs[0] for sent in waiting if is_picture(sent.item)), default=0)
        given: list[Range] = []
        left_out: list[Range] = []
        for sent in waiting if exact else self._utterances.from_first_sound(waiting):
            if is_picture(sent.item) and sent.seqs[0] != newest_picture:
                left_out.append(sent.seqs)
                continue
            result.items.append(sent.item)
            given.append(sent.seqs)
        result.replayed = merged(given)  # audio may have passed a picture
        behind = (Dropped(seqs, live_pb2.MEDIA_CLASS_VIDEO, _LINK_LOST) for seqs in merged(left_out))
        result.dropped = [*self._too_old.besides(known), *behind]
        return result

    def too_old(self, known: Extent | None) -> list[Dropped]:
        """What whoever goes on after this worker finds nowhere. `known`: in words."""
        return self._too_old.besides(known)

    def restart(self, again: Sequence[Item], *, told: bool) -> None:
        """Another link has been told, or is about to be given, all that is here; `again` is given to it.

        `told`: it began from nothing and was told every turn that is over, or the caller was told that it was not; else
        its handle covers what it did before.
        """
        if again:
            # It is handed over piece by piece. Until then nobody has it: neither a checkpoint nor a handle covers it.
            self.last_seq = max(0, min(seqs_of(item)[0] for item in again) - 1)
        self._asked.clear()
        self._open.clear()
        self._too_old.clear()
        # Handles of the turns of the link before will not come any more.
        self._ended.clear()
        if told:
            self.position = self.issued_position = self.answered_position

    # How far

    def _credit(self, end: _TurnEnd) -> None:
        self.position = max(self.position, end.position)
        self.issued_position = max(self.issued_position, end.position)
        self.covered = max(self.covered, end.open_from - 1)

    def _open_from(self) -> int:
        """First `seq` that may be part of something unanswered, be it of a sound to come; silence before it is not."""
        waiting = self._waiting
        kept = self._utterances.from_first_sound(waiting) or waiting[self._utterances.lead(waiting, len(waiting)) :]
        return min((sent.seqs[0] for sent in kept), default=self.last_seq + 1)

    def _bound_requests(self) -> None:
        requests = [sent for sent in self._open if not isinstance(sent.item, AudioBatch)]
        if len(requests) > _MOST_REQUESTS:
            self._open.remove(requests[0])
            self._too_old.add(requests[0])
