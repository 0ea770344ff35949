"""The lineage of a conversation, and one link of it, as JSON."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from emulator.record import losses
from emulator.record.conversation import ConversationRecord
from emulator.record.journal import UTTERANCE, Entry, Position, Utterance
from emulator.record.lineage import AUDIO, Lineage
from emulator.record.link import HandleIssued, LinkRecord
from emulator.record.ranges import Range
from emulator.record.things import Frames
from emulator.scenarios.language import normalise

INPUT = ("texts", "turns", "tool_responses", "context_updates", "video", UTTERANCE)
"""Lists of what comes in."""
_SINGULAR = {
    "texts": "text",
    "turns": "turn",
    "tool_responses": "tool_response",
    "tool_calls": "tool_call",
    "context_updates": "context_update",
    UTTERANCE: "utterance",
    "said": "said",
    "video": "video",
}
"""What one entry of a list is called; cancelled calls are no part of a context."""
_WORDED = ("text", "turn", "utterance", "said")


def view(record: ConversationRecord) -> dict[str, Any]:
    """All of it."""
    lineage = Lineage(record)
    head = record.links[-1] if record.links else None
    context = _context(lineage)
    return {
        "id": record.id,
        "complete": lineage.complete,
        "head": head and {"link": head.facts.index, "open": head.facts.closed is None},
        "lineage": [
            {
                "link": segment.link.facts.index,
                "entries": segment.entries,
                "audio_bytes": segment.audio,
                "audio_seconds": round(segment.link.audio.seconds(segment.audio), 3),
            }
            for segment in lineage.path
        ],
        "context": context.held,
        "cut": context.cut,
        "ignored": context.ignored,
        "unanswered_speech": list(_unknown(head)) if head else [],
        "marks": [_frames(stream, part) for stream, ranges in sorted(lineage.frames.items()) for part in ranges],
        "holes": [_frames(*hole) for hole in lineage.holes],
        "out_of_order": [_frames(*frames) for frames in lineage.out_of_order],
        "forgotten": _forgotten(lineage),
        "duplicates": _duplicates(lineage),
        "handles": list(_handles(record)),
    }


def link_view(link: LinkRecord) -> dict[str, Any]:
    """One link: its record, and its history in order."""
    return {
        **link.view(),
        "restored": link.facts.restored and asdict(link.facts.restored),
        "history": [_entry(link, entry) for entry in link.journal.entries if entry.kind in _SINGULAR],
        "utterances": [
            {"text": utterance.text, "over": utterance.end is not None, **_spoken(link, utterance)}
            for utterance in link.journal.utterances
        ],
        "marks": [_frames(run.stream, (run.first, run.first + run.count)) for run in link.audio.runs],
        "complete": not link.dropped,
    }


@dataclass
class _Context:
    """What a lineage was given, in three parts."""

    held: list[dict[str, Any]] = field(default_factory=list)
    ignored: list[dict[str, Any]] = field(default_factory=list)
    """The model took no notice of it."""
    cut: list[dict[str, Any]] = field(default_factory=list)
    """It was forgotten as the oldest, to make room."""

    def make_room(self, *, seeds: int, kept: int) -> None:
        """Of what has words the first and the latest so many stay; the rest goes, with what stands between."""
        worded = [at for at, shown in enumerate(self.held) if shown["kind"] in _WORDED and normalise(shown["text"])]
        start = worded[seeds - 1] + 1 if seeds else 0
        end = worded[-kept] if kept else len(self.held)
        self.cut += self.held[start:end]
        del self.held[start:end]


def _context(lineage: Lineage) -> _Context:
    context = _Context()
    for segment in lineage.path:
        link = segment.link
        for entry in segment.held:
            if entry.kind == "context_cut":
                context.make_room(**entry.item)
            elif entry.kind in _SINGULAR:
                shown = _entry(link, entry)
                things = lineage.things.of(link.facts.index, entry)
                first = min((thing.link for thing in things), default=link.facts.index)
                if first != link.facts.index:
                    shown["first_given_to"] = first
                (context.ignored if _ignored(link, entry) else context.held).append(shown)
    return context


def _ignored(link: LinkRecord, entry: Entry) -> bool:
    """Whether the model takes no notice of it: a result that no call waits for, a picture that it does not look at."""
    if entry.kind == "tool_responses":
        return entry.index not in link.journal.acted_on
    return entry.kind == "video" and not entry.item.get("seen", True)


def _unknown(link: LinkRecord) -> Iterator[dict[str, Any]]:
    """Speech that the newest link has begun to hear."""
    for utterance in link.journal.unknown(link.position()):
        yield {"link": link.facts.index, "over": utterance.end is not None, **_spoken(link, utterance)}


def _entry(link: LinkRecord, entry: Entry) -> dict[str, Any]:
    shown = {"kind": _SINGULAR[entry.kind], "link": link.facts.index, "at": round(entry.at, 3)}
    match entry.kind:
        case "texts":
            return {**shown, "text": entry.item}
        case "context_updates":
            return {**shown, "update": entry.item}
        case "heard":
            return {**shown, "text": entry.item.text, **_spoken(link, entry.item)}
        case _:
            return {**shown, **entry.item}


def _spoken(link: LinkRecord, utterance: Utterance) -> dict[str, Any]:
    end = link.end_of(utterance)
    return {
        "audio_seconds": [round(link.audio.seconds(size), 3) for size in (utterance.start, end)],
        "marks": [_frames(*frames) for frames in link.frames_of(utterance)],
    }


def _forgotten(lineage: Lineage) -> dict[str, list[dict[str, Any]]]:
    audio = losses.LostAudio(lineage)
    record = lineage.record
    found: dict[str, list[dict[str, Any]]] = {
        "speech": [*_marked(audio.speech), *_unmarked(record, audio.unmarked_speech)],
        "silence": [*_marked(audio.silence), *_unmarked(record, audio.unmarked_silence)],
        "utterances": [],
        "texts": [],
        "turns": [],
        "tool_responses": [],
        "video": [],
        "said": [],
        "context_updates": [
            {"link": link, "at": round(entry.at, 3), "part": part, "update": entry.item}
            for link, entry, part in losses.updates(lineage)
        ],
    }
    for thing in losses.things(lineage):
        link = record.link(thing.link)
        assert link is not None  # things are read from the links that are kept
        found["utterances" if thing.kind == UTTERANCE else thing.kind].append(_entry(link, thing.entry))
    return found


def _duplicates(lineage: Lineage) -> dict[str, list[dict[str, Any]]]:
    """Each with the link that gave it again, the one that gave it before, and how."""
    found: dict[str, list[dict[str, Any]]] = {
        "audio": [
            {**_frames(repeat.heard.stream, repeat.frames), "link": repeat.heard.link}
            | {"earlier": repeat.earlier, "as": repeat.form}
            for repeat in lineage.repeated
        ],
        "utterances": [],
        "texts": [],
        "turns": [],
        "tool_responses": [],
        "video": [],
    }
    for thing, given in lineage.given.items():
        whole = lineage.holds_whole(thing)
        heard = lineage.holds_as_audio(thing)
        if whole is not None and thing.frames and (heard is None or whole.place <= heard):
            found["audio"] += (
                {**_frames(one.stream, one.frames), "link": one.link, "earlier": whole.link, "as": whole.form}
                for one in lineage.hearings(thing)
            )
        # Marked audio is told frame by frame; anything else that comes again is told as a whole.
        counted = [one for one in given if not one.marked]
        first = given[0]
        for one in counted:
            if heard is not None and thing.frames and heard < one.place:
                earlier = {"earlier": first.link, "as": AUDIO}
            elif one is not first:
                earlier = {"earlier": first.link, "as": first.form}
            else:
                continue
            link = lineage.record.link(one.link)
            assert link is not None
            kind = "utterances" if one.entry.kind == UTTERANCE else one.entry.kind
            found[kind].append({**_entry(link, one.entry), **earlier})
    return found


def _handles(record: ConversationRecord) -> Iterator[dict[str, Any]]:
    users: defaultdict[Position | None, list[int]] = defaultdict(list)
    for link in record.links:
        users[link.facts.restored].append(link.facts.index)
    for link in record.links:
        # Of several handles that stand for one position, the newest is taken for the one that was used.
        newest = {handle.restores: handle for handle in link.handles}
        for handle in link.handles:
            used_by = users.get(handle.restores, []) if newest[handle.restores] is handle else []
            yield {**_handle(link, handle), "used_by": used_by}


def _handle(link: LinkRecord, handle: HandleIssued) -> dict[str, Any]:
    after = Counter(entry.kind for entry in link.journal.entries[handle.position.entries :])
    heard = link.journal.heard_until(handle.position)
    position = _position(link, handle.position, heard)
    covers = handle.restores != handle.position
    return {
        "link": link.facts.index,
        "at": handle.at,
        "position": position,
        "restores": _position(link, handle.restores, link.journal.heard_until(handle.restores)) if covers else position,
        "later_input": {
            **{kind: after[kind] for kind in INPUT},
            "audio_seconds": abs(round(link.audio.heard.seconds - link.audio.seconds(heard), 3)),
            "marks": [
                _frames(run.stream, (later, run.first + run.count))
                for run in link.audio.runs
                if (later := run.frames(0, heard)[1]) < run.first + run.count
            ],
        },
        "covers_later_input": covers,
    }


def _position(link: LinkRecord, position: Position, heard: int) -> dict[str, Any]:
    return {"entries": position.entries, "audio_bytes": heard, "audio_seconds": round(link.audio.seconds(heard), 3)}


def _frames(stream: int, frames: Range) -> dict[str, int]:
    """A range of marked frames; both ends belong to it."""
    return {"stream": stream, "first": frames[0], "last": frames[1] - 1}


def _marked(lost: Iterable[tuple[int, Frames]]) -> Iterator[dict[str, Any]]:
    for link, frames in lost:
        yield {"link": link, **_frames(*frames)}


def _unmarked(record: ConversationRecord, lost: Iterable[tuple[int, Range]]) -> Iterator[dict[str, Any]]:
    for index, (start, end) in lost:
        link = record.link(index)
        assert link is not None
        seconds = link.audio.seconds(end) - link.audio.seconds(start)
        yield {"link": index, "bytes": [start, end], "seconds": round(seconds, 3)}
