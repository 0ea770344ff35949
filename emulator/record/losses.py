"""What other links of a conversation heard and its lineage does not hold."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from emulator.api.protojson import camel
from emulator.record.journal import Entry
from emulator.record.lineage import Lineage, frames_by_stream
from emulator.record.link import LinkRecord
from emulator.record.ranges import Range, Ranges
from emulator.record.things import Frames, Thing, canonical

INSTRUCTIONS = "instructions"
TOOLS = "tools"


def things(lineage: Lineage) -> list[Thing]:
    """Texts, turns, utterances, outcomes, pictures and answers that it does not hold in any form."""
    return [
        thing
        for thing in lineage.things.all
        if lineage.holds_whole(thing) is None and lineage.holds_as_audio(thing) is None
    ]


class LostAudio:
    """Audio that the lineage neither heard nor was told, each frame under the first link that heard it."""

    def __init__(self, lineage: Lineage) -> None:
        self._lineage = lineage
        self.speech: list[tuple[int, Frames]] = []
        """Link, and marked frames."""
        self.silence: list[tuple[int, Frames]] = []
        self.unmarked_speech: list[tuple[int, Range]] = []
        """Link, and bytes of its audio."""
        self.unmarked_silence: list[tuple[int, Range]] = []
        reported: defaultdict[int, Ranges] = defaultdict(Ranges)
        links = lineage.record.links
        spoken = [frames_by_stream(self._spoken(link)) for link in links]
        for link, speech in zip(links, spoken, strict=True):
            for stream, frames in self._lost(link):
                for part in speech[stream].within(*frames):
                    self.speech += self._fresh(link, stream, part, reported)
        for link in links:
            for stream, frames in self._lost(link):
                self.silence += self._fresh(link, stream, frames, reported)
            self._sort_unmarked(link)

    def _fresh(
        self, link: LinkRecord, stream: int, frames: Range, reported: dict[int, Ranges]
    ) -> list[tuple[int, Frames]]:
        fresh = reported[stream].missing(*frames)
        reported[stream].add(*frames)
        return [(link.facts.index, (stream, part)) for part in fresh]

    def _held(self, link: LinkRecord) -> int:
        """Bytes of a link's audio that the lineage holds."""
        segment = self._lineage.held.get(link.facts.index)
        return segment.audio if segment else 0

    def _spoken(self, link: LinkRecord) -> Iterator[Frames]:
        for utterance in link.journal.utterances:
            yield from link.frames_of(utterance)

    def _lost(self, link: LinkRecord) -> Iterator[Frames]:
        """Marked frames that this link heard and the lineage did not."""
        for run in link.audio.runs:
            _, held = run.frames(0, self._held(link))
            for part in self._lineage.frames[run.stream].missing(held, run.first + run.count):
                for untold in self._lineage.told[run.stream].missing(*part):
                    yield run.stream, untold

    def _sort_unmarked(self, link: LinkRecord) -> None:
        marked = Ranges((run.start, run.end) for run in link.audio.runs)
        speech, given = Ranges(), Ranges()
        for utterance in link.journal.utterances:
            end = link.end_of(utterance)
            speech.add(utterance.start, end)
            entry = None if utterance.entry is None else link.journal.entry(utterance.entry)
            if entry is not None and any(thing in self._lineage.given for thing in self._of(link, entry)):
                given.add(utterance.start, end)
        for part in marked.missing(self._held(link), link.audio.heard.size):
            for lost in given.missing(*part):
                self.unmarked_speech += ((link.facts.index, found) for found in speech.within(*lost))
                self.unmarked_silence += ((link.facts.index, found) for found in speech.missing(*lost))

    def _of(self, link: LinkRecord, entry: Entry) -> tuple[Thing, ...]:
        return self._lineage.things.of(link.facts.index, entry)


def updates(lineage: Lineage) -> Iterator[tuple[int, Entry, str]]:
    """Context updates that the head does not know of, each with the part that it set.

    A resumed link is set up anew, so what an earlier one was told in between must be in the new setup or told again.
    """
    last: dict[str, tuple[int, Entry, str]] = {}
    links = lineage.record.links
    for link in links:
        for entry in link.journal.entries:
            if entry.kind == "context_updates":
                for part, value in _parts(entry.item).items():
                    last[part] = (link.facts.index, entry, value)
    if not links:
        return
    head = links[-1]
    setup = {INSTRUCTIONS: "", TOOLS: "[]", **_parts(head.facts.setup)}
    for part, (link_index, entry, value) in sorted(last.items()):
        if link_index != head.facts.index and setup[part] != value:
            yield link_index, entry, part


def _parts(body: Any) -> dict[str, str]:
    """What a setup or an update sets, in a form that can be compared."""
    named = {camel(name): value for name, value in body.items()} if isinstance(body, dict) else {}
    found: dict[str, str] = {}
    if isinstance(instructions := named.get("systemInstruction"), dict):
        found[INSTRUCTIONS] = " ".join(str(part.get("text", "")) for part in instructions.get("parts", ()))
    if (tools := named.get("tools")) is not None:
        found[TOOLS] = canonical(_camel(tools.get("tools", []) if isinstance(tools, dict) else tools))
    return found


def _camel(value: Any) -> Any:
    if isinstance(value, dict):
        return {camel(name): _camel(inner) for name, inner in value.items()}
    return [_camel(inner) for inner in value] if isinstance(value, list) else value
