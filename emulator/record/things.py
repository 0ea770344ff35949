"""What was given to the model, told apart from how often it was given: which entries of a conversation's links are the
same thing again.

Only across links: what a caller says twice on one link is two things. Text is compared by its normalised words, so
tests that look for replays give each text words of its own. An utterance whose audio is marked is known by its frames,
any other by what was understood.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from emulator.record.journal import Entry, Utterance
from emulator.record.link import LinkRecord
from emulator.record.ranges import Range, Ranges
from emulator.scenarios.language import normalise

Side = Literal["user", "model"]
Frames = tuple[int, Range]
"""Stream, and frames of it."""

_BUCKET = 64  # frames


@dataclass(eq=False, slots=True)
class Thing:
    """Something said, typed, shown or returned, however often the model was given it."""

    kind: str
    """Of the first entry that gave it."""
    link: int
    entry: Entry
    """The first that gave it, and its link."""
    frames: list[Frames] = field(default_factory=list)
    """Marked frames of speech, of every utterance that gave it."""


class Things:
    """The things of all links, which must come in order."""

    def __init__(self) -> None:
        self.all: list[Thing] = []
        self._of: dict[tuple[int, int], tuple[Thing, ...]] = {}
        self._known: defaultdict[tuple[str, str], list[Thing]] = defaultdict(list)
        """By side or kind, and words; of the links before the one that is being added."""
        self._framed: defaultdict[tuple[int, int], list[Thing]] = defaultdict(list)
        """By stream and bucket of frames."""
        self._longest = 0
        """Words of the longest."""
        self._returned: list[tuple[Thing, tuple[str, ...]]] = []
        """Tool responses, each with the words of what it returned."""
        self._fresh: list[tuple[Thing, tuple[str, str]]] = []
        """Given first by the link that is being added, each with what it will be known by."""

    def of(self, link: int, entry: Entry) -> tuple[Thing, ...]:
        """What an entry gave: nothing where it says nothing, several where it joins what was given one by one."""
        return self._of.get((link, entry.index), ())

    def add(self, link: LinkRecord, held: set[Thing]) -> None:
        """A link's entries; ``held``: what the model knew when the link began."""
        here = set(held)
        for entry in link.journal.entries:
            key = _key(entry)
            if key is None or (entry.kind == "tool_responses" and entry.index not in link.journal.acted_on):
                continue
            frames = list(link.frames_of(entry.item)) if isinstance(entry.item, Utterance) else []
            found = self._again(link.facts.index, entry, key, frames, here)
            if not found or (entry.kind != "tool_responses" and all(one.kind == "tool_responses" for one in found)):
                # A text that tells an outcome is something of its own as well.
                found = (self._new(link.facts.index, entry, key), *found)
            _share(frames, found)
            here.update(found)
            self._of[link.facts.index, entry.index] = found
        for thing, key in self._fresh:
            self._remember(thing, key)
        self._fresh.clear()

    def _new(self, link: int, entry: Entry, key: tuple[str, str]) -> Thing:
        thing = Thing(entry.kind, link, entry)
        self.all.append(thing)
        self._fresh.append((thing, key))
        return thing

    def _remember(self, thing: Thing, key: tuple[str, str]) -> None:
        for stream, (first, after) in thing.frames:
            for bucket in range(first // _BUCKET, (after - 1) // _BUCKET + 1):
                self._framed[stream, bucket].append(thing)
        self._known[key].append(thing)
        self._longest = max(self._longest, key[1].count(" ") + 1)
        if thing.kind == "tool_responses":
            self._returned.append((thing, tuple(_returned(thing.entry.item["response"]))))

    def _again(
        self, link: int, entry: Entry, key: tuple[str, str], frames: list[Frames], here: set[Thing]
    ) -> tuple[Thing, ...]:
        """What earlier links were given that this entry gives again."""
        if frames:
            overlapping = self._overlapping(frames)
            # One utterance may give several again that were heard apart; a few frames of a neighbour are not it.
            whole = tuple(thing for thing in overlapping if 2 * _overlap(thing.frames, frames) > _overlap(thing.frames))
            return whole or tuple(_choice(overlapping, here))
        if entry.kind == "tool_responses":
            return tuple(self._same_response(entry, key, here))
        known = self._known.get(key, ())
        if entry.kind == "said":
            # The model may say the same again: only an answer that was lost comes back.
            return tuple(_choice([thing for thing in known if thing not in here], here))
        side, words = key
        if known:
            return self._known_text(side, words, here)
        if side not in ("user", "model"):
            return ()
        if joined := self._joined(side, words.split(), here):
            return joined
        if side == "model":
            return tuple(self._cut_short(words, here))
        if entry.kind == "turns" and (parts := self._by_parts(link, entry, side, here)):
            return parts
        return tuple(self._reported(words, here))

    def _known_text(self, side: str, words: str, here: set[Thing]) -> tuple[Thing, ...]:
        """A text that was given in these words, with the outcomes that it tells: each link of a handle needs them."""
        told = (thing for thing in self._reported(words, here) if thing not in here) if side == "user" else ()
        return (*_choice(self._known[side, words], here), *told)

    def _by_parts(self, link: int, entry: Entry, side: str, here: set[Thing]) -> tuple[Thing, ...]:
        """What the parts of one turn give again, each by itself: known texts, and outcomes of tools beside them.

        A part that is new among them is something of its own. Nothing where all are new: then the turn is.
        """
        parts = [(part, words) for part in entry.item.get("parts", ()) if (words := normalise(part))]
        again: list[tuple[Thing, ...]] = []
        for _, words in parts:
            if (side, words) in self._known:
                found = self._known_text(side, words, here)
            else:
                found = self._joined(side, words.split(), here) or tuple(self._reported(words, here))
            again.append(found)
            here = here | set(found)
        if not any(again):
            return ()
        things: list[Thing] = []
        for (part, words), found in zip(parts, again, strict=True):
            alone = replace(entry, item={"role": entry.item["role"], "text": part})
            things += found or (self._new(link, alone, (side, words)),)
        return tuple(things)

    def _overlapping(self, frames: Iterable[Frames]) -> list[Thing]:
        found: dict[Thing, None] = {}
        for stream, (first, after) in frames:
            for bucket in range(first // _BUCKET, (after - 1) // _BUCKET + 1):
                for thing in self._framed.get((stream, bucket), ()):
                    if any(s == stream and a < after and first < b for s, (a, b) in thing.frames):
                        found[thing] = None
        return list(found)

    def _same_response(self, entry: Entry, key: tuple[str, str], here: set[Thing]) -> Iterator[Thing]:
        """A response is the same by its id; under another id only where the earlier one was lost: the model has asked
        again and is told the stored outcome."""
        known = self._known.get(key, ())
        same = [thing for thing in known if thing.entry.item["id"] == entry.item["id"]]
        return _choice(same or [thing for thing in known if thing not in here], here)

    def _joined(self, side: str, words: list[str], here: set[Thing]) -> tuple[Thing, ...]:
        """Several known texts one behind the other, as turns of one role are joined."""
        # Where a known text ends, and where it began.
        began: dict[int, int] = {0: 0}
        starts = [0]
        while starts and len(words) not in began:
            start = starts.pop()
            for end in range(start + 1, min(len(words), start + self._longest) + 1):
                if end not in began and (side, " ".join(words[start:end])) in self._known:
                    began[end] = start
                    starts.append(end)
        if len(words) not in began:
            return ()
        pieces: list[str] = []
        end = len(words)
        while end:
            pieces.append(" ".join(words[began[end] : end]))
            end = began[end]
        found: list[Thing] = []
        for piece in reversed(pieces):
            found += _choice(self._known[side, piece], here | set(found))
        return tuple(found)

    def _cut_short(self, words: str, here: set[Thing]) -> Iterator[Thing]:
        """The beginning of an answer that was lost: as much of it as the caller got."""
        lost = (
            thing
            for (side, known), things in self._known.items()
            if side == "model" and known.startswith(f"{words} ")
            for thing in things
            if thing.kind == "said" and thing not in here
        )
        return _choice(list(lost), here)

    def _reported(self, words: str, here: set[Thing]) -> Iterator[Thing]:
        """Outcomes of tools that a text tells. A word or two may be there by chance: then the tool is named as well."""
        told = f" {words} "
        for thing, returned in self._returned:
            named = f" {normalise(thing.entry.item['name'])} " in told
            if any(f" {one} " in told and (named or one.count(" ") > 1) for one in returned):
                yield thing


def _overlap(one: Sequence[Frames], other: Sequence[Frames] | None = None) -> int:
    """How many frames ``one`` has, or has in common with ``other``; each counts once."""
    count = 0
    for stream in {stream for stream, _ in one}:
        held = Ranges(part for number, part in one if number == stream)
        if other is None:
            count += sum(after - first for first, after in held)
            continue
        for first, after in Ranges(part for number, part in other if number == stream):
            count += sum(b - a for a, b in held.within(first, after))
    return count


def _share(frames: Sequence[Frames], things: Sequence[Thing]) -> None:
    """Give each thing its frames of an utterance: what lies between two of them was neither, when they were apart."""
    for stream, part in frames:
        spans = sorted(
            (min(first for first, _ in own), max(after for _, after in own), number)
            for number, thing in enumerate(things)
            if (own := [known for at, known in thing.frames if at == stream])
        )
        if not spans:
            things[0].frames.append((stream, part))
        for place, (first, after, number) in enumerate(spans):
            start = part[0] if place == 0 else max(part[0], first)
            end = part[1] if place == len(spans) - 1 else min(part[1], after)
            if start < end:
                things[number].frames.append((stream, (start, end)))


def _choice(candidates: Sequence[Thing], here: set[Thing]) -> Iterator[Thing]:
    """The one that is given again: the first that was lost, else the latest that was not."""
    lost = next((thing for thing in candidates if thing not in here), None)
    if lost is not None:
        yield lost
    elif candidates:
        yield candidates[-1]


def canonical(value: Any) -> str:
    """JSON that is equal where the values are."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _key(entry: Entry) -> tuple[str, str] | None:
    """Side, or kind, and words; None for what is nothing by itself."""
    item = entry.item
    match entry.kind:
        case "texts":
            side, words = "user", normalise(item)
        case "turns":
            side, words = "model" if item["role"] == "model" else "user", normalise(item["text"])
        case "heard":
            side, words = "user", normalise(item.text)
        case "said":
            side, words = "model", normalise(item["text"])
        case "tool_responses":
            side, words = "tool", f"{item['name']} {canonical(item['response'])}"
        case "video":
            side, words = "video", item.get("sha256", "") if item.get("seen", True) else ""
        case _:
            return None
    return (side, words) if words else None


def _returned(response: Any) -> Iterator[str]:
    """The words of what a tool returned: the whole response, and what stands under ``output`` or ``error``."""
    values = [response]
    if isinstance(response, dict):
        values += [response[name] for name in ("output", "error", "result") if name in response]
    for value in values:
        if words := normalise(value if isinstance(value, str) else canonical(value)):
            yield words
