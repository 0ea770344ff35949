"""What the model's context holds now, and how that came: read from a conversation's record.

The **head** is the newest link. Its **lineage** is the chain of links behind it, each up to the position that the
handle restored, and the head itself. What other links heard, or these after that position, is **forgotten** unless it
was given again, as audio or as text. What the lineage was given twice is a **duplicate**. Of an utterance that was
given again in part, more than half counts as given.
"""

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from emulator.record.conversation import ConversationRecord
from emulator.record.journal import Entry, Utterance
from emulator.record.link import LinkRecord
from emulator.record.ranges import Range, Ranges
from emulator.record.things import Frames, Thing, Things

AUDIO = "audio"
TEXT = "text"


class Place(NamedTuple):
    """A point in a lineage; places compare as they came."""

    segment: int
    audio: int
    """Bytes of the link's audio before it."""


@dataclass(frozen=True)
class Segment:
    """A link as far as it belongs to a lineage."""

    link: LinkRecord
    entries: int
    """Entries of its journal."""
    audio: int
    """Bytes of its audio."""
    said: str = ""
    """What it holds of an answer that has no entry yet."""

    @cached_property
    def held(self) -> list[Entry]:
        """The entries."""
        entries = self.link.journal.entries
        held = entries[: self.entries]
        if self.said:
            whole = next((entry for entry in entries[self.entries :] if entry.kind == "said"), None)
            index, at = (whole.index, whole.at) if whole else (-1, held[-1].at if held else 0.0)
            held.append(Entry(index, "said", {"text": self.said, "interrupted": True}, at, self.audio))
        return held


@dataclass(frozen=True)
class Heard:
    """Marked frames as a link of the lineage heard them."""

    link: int
    stream: int
    frames: Range
    place: Place


@dataclass(frozen=True)
class Given:
    """An entry of the lineage."""

    link: int
    entry: Entry
    place: Place
    marked: bool = False
    """Whether it is speech that is known frame by frame; anything else is given as a whole."""

    @property
    def form(self) -> str:
        """How it was given."""
        return AUDIO if isinstance(self.entry.item, Utterance) else TEXT


@dataclass(frozen=True)
class Repeat:
    """Marked frames that the lineage holds already."""

    heard: Heard
    frames: Range
    earlier: int
    """The link that held them before."""
    form: str
    """How."""


class _Pieces:
    """What was heard of one stream; no frame twice."""

    def __init__(self) -> None:
        self._pieces: list[Heard] = []

    def add(self, piece: Heard) -> None:
        """Another piece."""
        insort(self._pieces, piece, key=_first)

    def within(self, frames: Range) -> Iterator[Heard]:
        """What was heard of these frames."""
        first, after = frames
        for at in range(max(0, bisect_right(self._pieces, first, key=_first) - 1), len(self._pieces)):
            piece = self._pieces[at]
            start, end = max(first, piece.frames[0]), min(after, piece.frames[1])
            if start < end:
                yield replace(piece, frames=(start, end))
            elif piece.frames[0] >= after:
                return


class Lineage:
    """The lineage of a conversation's newest link. Reads the record once; what comes later it does not know."""

    def __init__(self, record: ConversationRecord) -> None:
        self.record = record
        self.complete = not record.links_dropped and not any(link.dropped for link in record.links)
        """Whether nothing was left out for want of room."""
        self.things = Things()
        paths: dict[int, list[Segment]] = {}
        known: dict[int, set[Thing]] = {}
        for link in record.links:
            index = link.facts.index
            before = self._before(link, paths)
            held = set(known[before[-1].link.facts.index]) if before else set()
            for entry in before[-1].held if before else ():
                held.update(self.things.of(before[-1].link.facts.index, entry))
            known[index] = held
            self.things.add(link, held)
            paths[index] = [*before, Segment(link, len(link.journal), link.audio.heard.size)]
        self.path = paths[record.links[-1].facts.index] if record.links else []
        self.held = {segment.link.facts.index: segment for segment in self.path}
        self.frames: defaultdict[int, Ranges] = defaultdict(Ranges)
        """Marked frames that the lineage heard, by stream."""
        self._heard: defaultdict[int, _Pieces] = defaultdict(_Pieces)
        """The same, and when; each frame once."""
        self.repeated: list[Repeat] = []
        self.out_of_order: list[Frames] = []
        self.given: dict[Thing, list[Given]] = defaultdict(list)
        """What the lineage was given, each time in order."""
        for number, segment in enumerate(self.path):
            self._read(number, segment)

    def holds_whole(self, thing: Thing) -> Given | None:
        """Where the lineage was given it as text, or as speech that has lost its marks, first."""
        return next((given for given in self.given.get(thing, ()) if not given.marked), None)

    def holds_as_audio(self, thing: Thing) -> Place | None:
        """Where the lineage began to hear it; None when it did not hear more than half."""
        if not thing.frames:
            return next((given.place for given in self.given.get(thing, ()) if given.form == AUDIO), None)
        there = list(self.hearings(thing))
        if 2 * sum(length(heard.frames) for heard in there) <= sum(
            length(part) for ranges in frames_by_stream(thing.frames).values() for part in ranges
        ):
            return None
        return min(heard.place for heard in there)

    def hearings(self, thing: Thing) -> Iterator[Heard]:
        """What the lineage heard of its marked frames, each once."""
        for stream, ranges in frames_by_stream(thing.frames).items():
            for part in ranges:
                yield from self._heard[stream].within(part)

    @cached_property
    def told(self) -> dict[int, Ranges]:
        """Marked frames of speech that the lineage was given as a whole, by stream."""
        return frames_by_stream(frames for thing in self.given if self.holds_whole(thing) for frames in thing.frames)

    @cached_property
    def holes(self) -> list[Frames]:
        """Marked frames that the lineage lacks between the first and the last of their stream."""
        found: list[Frames] = []
        for stream, ranges in sorted(self.frames.items()):
            found += ((stream, missing) for missing in ranges.missing(ranges.start, ranges.end))
        return found

    def _before(self, link: LinkRecord, paths: dict[int, list[Segment]]) -> list[Segment]:
        """What a link was resumed from."""
        restored = link.facts.restored
        if restored is None:
            return []
        parent = self.record.link_at(restored)
        if parent is None:
            self.complete = False
            return []
        journal = parent.journal
        held = Segment(parent, restored.entries, journal.heard_until(restored), restored.said)
        path = [*paths[restored.link][:-1], held]
        if not restored.hearing:
            for utterance in journal.unknown(restored):
                path = _without_origin(path, utterance)
        return path

    def _read(self, number: int, segment: Segment) -> None:
        link = segment.link.facts.index
        for run in segment.link.audio.runs:
            frames = run.frames(0, segment.audio)
            seen = self.frames[run.stream]
            newest = seen.end
            for part in seen.missing(*frames):
                place = Place(number, run.bytes(part)[0])
                if part[0] < newest:
                    self.out_of_order.append((run.stream, (part[0], min(part[1], newest))))
                self._heard[run.stream].add(Heard(link, run.stream, part, place))
            for part in seen.within(*frames):
                heard = Heard(link, run.stream, part, Place(number, run.bytes(part)[0]))
                self.repeated += self._repeats(heard)
            seen.add(*frames)
        for entry in segment.held:
            marked = isinstance(entry.item, Utterance) and any(segment.link.frames_of(entry.item))
            for thing in self.things.of(link, entry):
                self.given[thing].append(Given(link, entry, Place(number, entry.audio), marked))

    def _repeats(self, again: Heard) -> Iterator[Repeat]:
        for heard in self._heard[again.stream].within(again.frames):
            yield Repeat(again, heard.frames, heard.link, AUDIO)


def _without_origin(path: list[Segment], utterance: Utterance) -> list[Segment]:
    """A lineage that does not hold the beginning of an utterance on earlier links."""
    while (origin := utterance.origin) is not None:
        utterance, start = origin.utterance, origin.utterance.start
        path = [
            replace(segment, audio=min(segment.audio, start)) if segment.link.facts.index == origin.link else segment
            for segment in path
        ]
    return path


def _first(piece: Heard) -> int:
    return piece.frames[0]


def length(part: Range) -> int:
    """How many numbers a range has."""
    return part[1] - part[0]


def frames_by_stream(frames: Iterable[Frames]) -> dict[int, Ranges]:
    """Frames of several streams as sets."""
    found: dict[int, Ranges] = defaultdict(Ranges)
    for stream, (first, after) in frames:
        found[stream].add(first, after)
    return found
