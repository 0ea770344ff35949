"""What one link heard and did, in order, and where in it a handle stands."""

from dataclasses import dataclass
from typing import Any

UTTERANCE = "heard"


@dataclass(frozen=True, slots=True)
class Position:
    """A point in what one link heard and did: what a snapshot taken there holds."""

    record: int
    """The conversation's record; one that was deleted and begun anew is another."""
    link: int
    entries: int
    """Entries of the journal before it."""
    audio: int
    """Bytes of audio before it."""
    said: str = ""
    """As much of an answer as was said by then and is held."""
    hearing: bool = False
    """Whether it holds what was heard and not understood by then; otherwise nothing of such an utterance."""


@dataclass(slots=True)
class Utterance:
    """Speech, from the onset; silence around it is not part of it."""

    start: int
    """Bytes of the link's audio before it."""
    end: int | None = None
    """Bytes up to its end; None while it lasts."""
    sounded: int | None = None
    """Bytes up to the newest sound of it while it lasts, be it for ever; None where that is not told."""
    text: str | None = None
    """What was understood; None until then, and for ever where nobody listened."""
    entry: int | None = None
    """Its index in the journal once it was understood."""
    unheard: bool = False
    """It ended and was not listened to."""
    origin: "Origin | None" = None
    """Its beginning, on the link that this one was resumed from."""

    def under_way(self, audio: int) -> bool:
        """Whether somebody still spoke when that much audio (bytes) was heard."""
        return self.end is None or self.end > audio


@dataclass(frozen=True, slots=True)
class Origin:
    """Speech that a snapshot brought along."""

    link: int
    utterance: Utterance
    """As it was recorded there."""
    until: int
    """Bytes of that link's audio before the snapshot."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that the model heard, saw or did."""

    index: int
    kind: str
    item: Any
    at: float
    audio: int
    """Bytes of audio that the link had heard by then."""


class Journal:
    """A bounded list of entries and of utterances; what comes later is counted only."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.entries: list[Entry] = []
        self.utterances: list[Utterance] = []
        self.dropped = 0
        self.acted_on: set[int] = set()
        """Indexes of the tool responses that belonged to a call of this link which waited for them."""
        self._open: Utterance | None = None
        self._listening: dict[int, Utterance] = {}
        self._waiting: list[Utterance] = []

    def __len__(self) -> int:
        return len(self.entries) + self.dropped

    def add(self, kind: str, item: Any, *, at: float, audio: int) -> None:
        """One entry; an utterance comes by :meth:`understood`."""
        if len(self.entries) < self._limit:
            self.entries.append(Entry(len(self.entries), kind, item, at, audio))
        else:
            self.dropped += 1

    def entry(self, index: int) -> Entry | None:
        """The entry of that index, if it is kept."""
        return self.entries[index] if index < len(self.entries) else None

    def inherit(self, origin: Origin) -> None:
        """Speech that was not understood when the snapshot was taken; in order."""
        if origin.utterance.under_way(origin.until):
            self._open = Utterance(0, origin=origin)
            self._keep(self._open)
        else:
            self._waiting.append(Utterance(0, 0, origin=origin))
            self._keep(self._waiting[-1])

    def listening_again(self, number: int) -> None:
        """The next of those that were over is listened to under this number."""
        if self._waiting:
            self._listening[number] = self._waiting.pop(0)

    def speech_began(self, start: int) -> None:
        """Somebody speaks since ``start`` (bytes)."""
        self.speech_ended(None, start)
        self._open = Utterance(start)
        self._keep(self._open)

    def speech_sounded(self, until: int) -> None:
        """They still do; what came after that (bytes) is silence which may end it."""
        if self._open is not None:
            self._open.sounded = until

    def speech_ended(self, number: int | None, end: int) -> None:
        """They do no longer; ``number`` is understood later, None never is."""
        if self._open is None:
            return
        self._open.end = end
        if number is None:
            self._open.unheard = True
        else:
            self._listening[number] = self._open
        self._open = None

    def understood(self, number: int, text: str, *, at: float, audio: int) -> None:
        """What was said in the utterance of that number."""
        utterance = self._listening.pop(number, None) or Utterance(audio, audio)
        utterance.text, utterance.entry = text, len(self)
        self.add(UTTERANCE, utterance, at=at, audio=audio)

    def unknown(self, position: Position) -> list[Utterance]:
        """The utterances that had begun by then and were not understood."""
        return [
            utterance
            for utterance in self.utterances
            if (utterance.start < position.audio or utterance.origin)
            and not utterance.unheard
            and (utterance.entry is None or utterance.entry >= position.entries)
        ]

    def heard_until(self, position: Position) -> int:
        """Bytes of audio that a snapshot taken there holds."""
        if position.hearing:
            return position.audio
        begun_here = (one.start for one in self.unknown(position) if one.end != one.start)
        return min(begun_here, default=position.audio)

    def _keep(self, utterance: Utterance) -> None:
        if len(self.utterances) < self._limit:
            self.utterances.append(utterance)
        else:
            self.dropped += 1
