"""One link's record: what it was set up with, what it heard and did, which handles it gave out."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from emulator.record.audio import MarkedAudio
from emulator.record.journal import UTTERANCE, Journal, Position, Utterance
from emulator.record.ranges import Range
from emulator.record.room import weigh

if TYPE_CHECKING:
    from emulator.record.conversation import ConversationRecord

LISTS = (
    "video",
    "texts",
    "turns",
    "context_updates",
    "tool_responses",
    "tool_calls",
    "cancelled_calls",
    "heard",
    "said",
)


@dataclass
class LinkFacts:
    """How a link came about and ended."""

    index: int
    model: str
    path: str
    api_version: str
    setup: Any
    opened: float
    """Seconds since the emulator started."""
    restored: Position | None = None
    """What the handle that it resumed by stood for; None for a link that starts from nothing."""
    closed: float | None = None
    close_code: int | None = None
    audio_from: float | None = None
    """When the first audio came; None while none has."""
    audio_until: float | None = None
    """When the latest audio came."""

    def view(self) -> dict[str, Any]:
        """As JSON."""
        facts = {name: value for name, value in vars(self).items() if name != "restored"}
        return {**facts, "resumed_from": self.restored.link if self.restored else None}


@dataclass
class HandleIssued:
    """A handle that the client was given."""

    position: Position
    """What it stood for when it was issued."""
    restores: Position
    """What it stands for now."""
    at: float


class LinkRecord:
    """What one link heard and did. Everything goes into the conversation's record as well."""

    def __init__(self, conversation: "ConversationRecord", facts: LinkFacts) -> None:
        self.facts = facts
        self.audio = MarkedAudio(conversation.limit)
        self.journal = Journal(conversation.limit)
        self.handles: list[HandleIssued] = []
        self.handles_dropped = 0
        self._conversation = conversation

    @property
    def dropped(self) -> int:
        """What no longer fitted, of all kinds."""
        return self.journal.dropped + self.audio.dropped + self.handles_dropped + (self.facts.setup is None)

    def heard_audio(self, pcm: bytes, rate: int, *, now: float) -> None:
        """A piece of the caller's audio."""
        self.audio.add(pcm, rate)
        self.facts.audio_until = round(now, 4)
        if self.facts.audio_from is None:
            self.facts.audio_from = self.facts.audio_until
        self._conversation.add_audio(self.facts.index, pcm, rate)

    def speech_began(self, audio_seconds: float, *, now: float) -> None:
        """Somebody speaks since that time of the link's audio."""
        self.journal.speech_began(self.audio.at(audio_seconds))
        self.event("speech_began", at=now, audio_seconds=round(audio_seconds, 3))

    def speech_sounded(self, audio_seconds: float) -> None:
        """They still do; the newest sound ended at that time."""
        self.journal.speech_sounded(self.audio.at(audio_seconds))

    def speech_ended(self, number: int | None, audio_seconds: float, *, now: float, length: float) -> None:
        """They spoke until that time. ``number`` is what :meth:`understood` will name it by; None is never listened to.

        ``length``: seconds of what is listened to, with what was kept around the speech.
        """
        self.journal.speech_ended(number, self.audio.at(audio_seconds))
        self.event("speech_ended", at=now, seconds=round(length, 3))

    def listening_again(self, number: int) -> None:
        """An utterance that the snapshot brought along is listened to, under this number; in order."""
        self.journal.listening_again(number)

    def understood(self, number: int, text: str, *, at: float) -> None:
        """What was said in that utterance; the model knows it from now on."""
        self.journal.understood(number, text, at=at, audio=self.audio.heard.size)
        self._conversation.add(self.facts.index, UTTERANCE, text, at)

    def add(self, kind: str, item: Any, *, at: float) -> None:
        """An entry of one of :data:`LISTS`, also noted among the events; what is heard comes by :meth:`understood`."""
        if not self._conversation.room.take(weigh(item)):
            self.journal.dropped += 1
            self._conversation.not_kept(kind)
            return
        self.journal.add(kind, item, at=at, audio=self.audio.heard.size)
        self._conversation.add(self.facts.index, kind, item, at)

    def acted_on(self) -> None:
        """The tool response that was added last was for a call that waited for it."""
        self.journal.acted_on.add(len(self.journal) - 1)

    def context_cut(self, *, seeds: int, kept: int) -> None:
        """The model forgot the oldest of what it was given. It keeps its ``seeds`` first texts, which are never cut,
        and the ``kept`` latest; texts are what was said or typed by either side and has words."""
        at = self.journal.entries[-1].at if self.journal.entries else self.facts.opened
        self.journal.add("context_cut", {"seeds": seeds, "kept": kept}, at=at, audio=self.audio.heard.size)
        self.event("context_cut", at=at, seeds=seeds, kept=kept)

    def event(self, kind: str, *, at: float, **facts: Any) -> None:
        """Something that belongs to no list."""
        self._conversation.add_event(self.facts.index, kind, at, facts)

    def position(self, *, said: str = "") -> Position:
        """Where the record is now; ``said``: as much of an answer under way as a snapshot of this moment holds."""
        return Position(self._conversation.serial, self.facts.index, len(self.journal), self.audio.heard.size, said)

    def handle_issued(self, position: Position, *, at: float) -> None:
        """The client was given a handle that stands for ``position``."""
        if len(self.handles) < self._conversation.limit:
            self.handles.append(HandleIssued(position, position, round(at, 3)))
        else:
            self.handles_dropped += 1
        self.event("handle_issued", at=at)

    def handle_covers(self, position: Position) -> None:
        """The newest handle stands for ``position`` from now on."""
        if self.handles:
            self.handles[-1].restores = position

    def end_of(self, utterance: Utterance) -> int:
        """Bytes of audio up to the end of an utterance, or up to its newest sound where it has none."""
        if utterance.end is not None:
            return utterance.end
        return self.audio.heard.size if utterance.sounded is None else utterance.sounded

    def frames_of(self, utterance: Utterance) -> Iterator[tuple[int, Range]]:
        """The marked frames of an utterance, by stream."""
        if (origin := utterance.origin) and (parent := self._conversation.link(origin.link)):
            begun = origin.utterance
            end = origin.until if begun.under_way(origin.until) else begun.end
            yield from parent.frames_of(replace(begun, end=end))
        end = self.end_of(utterance)
        for run in self.audio.runs:
            # A frame belongs to where its middle is.
            first, after = run.frames(utterance.start - run.size // 2, end + run.size // 2)
            if first < after:
                yield run.stream, (first, after)

    def closed(self, code: int | None, *, at: float) -> None:
        """The connection is over."""
        self.facts.closed, self.facts.close_code = round(at, 3), code
        self.event("closed", at=at, code=code)

    def used(self, metadata: dict[str, Any]) -> None:
        """A turn's usage."""
        self._conversation.usage.update({key: value for key, value in metadata.items() if isinstance(value, int)})
        self._conversation.usage["turns"] += 1

    def view(self) -> dict[str, Any]:
        """As JSON."""
        lists: dict[str, list[Any]] = {name: [] for name in LISTS}
        for entry in self.journal.entries:
            if entry.kind in lists:
                lists[entry.kind].append(entry.item.text if entry.kind == UTTERANCE else entry.item)
        return {**self.facts.view(), "audio": self.audio.heard.view(), **lists}
