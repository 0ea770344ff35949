"""What the model heard and did, per conversation and per link: the tests' witness.

A conversation is a series of links (connections). Each list is kept twice, for the conversation and for the link, by
reference; every list is bounded, and what no longer fits is counted.
"""

import hashlib
import struct
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Any

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
class AudioHeard:
    """All PCM heard, in order."""

    size: int = 0
    """Bytes."""
    chunks: int = 0
    seconds: float = 0.0
    digest: Any = field(default_factory=hashlib.sha256)

    def add(self, pcm: bytes, rate: int) -> None:
        """One piece."""
        self.size += len(pcm)
        self.chunks += 1
        self.seconds += len(pcm) / (2 * rate)
        self.digest.update(pcm)

    def view(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "bytes": self.size,
            "chunks": self.chunks,
            "seconds": round(self.seconds, 3),
            "sha256": self.digest.hexdigest(),
        }


class _Lists:
    """The bounded lists of one view."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.lists: dict[str, list[Any]] = {name: [] for name in LISTS}
        self.dropped: Counter[str] = Counter()

    def add(self, name: str, item: Any) -> None:
        if len(self.lists[name]) < self._limit:
            self.lists[name].append(item)
        else:
            self.dropped[name] += 1


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
    resumed_from: int | None = None
    """Index of the link that issued the handle it resumed by, if it did."""
    closed: float | None = None
    close_code: int | None = None


class LinkRecord:
    """What one link heard and did. Everything goes into the conversation's record as well."""

    def __init__(self, conversation: "ConversationRecord", facts: LinkFacts) -> None:
        self.facts = facts
        self.audio = AudioHeard()
        self._conversation = conversation
        self._lists = _Lists(conversation.limit)

    def heard_audio(self, pcm: bytes, rate: int) -> None:
        """A piece of the caller's audio."""
        self.audio.add(pcm, rate)
        self._conversation.add_audio(self.facts.index, pcm, rate)

    def add(self, kind: str, item: Any, *, at: float) -> None:
        """An entry of one of :data:`LISTS`, also noted among the events."""
        self._lists.add(kind, item)
        self._conversation.add(self.facts.index, kind, item, at)

    def event(self, kind: str, *, at: float, **facts: Any) -> None:
        """Something that belongs to no list."""
        self._conversation.add_event(self.facts.index, kind, at, facts)

    def used(self, metadata: dict[str, Any]) -> None:
        """A turn's usage."""
        self._conversation.usage.update({key: value for key, value in metadata.items() if isinstance(value, int)})
        self._conversation.usage["turns"] += 1

    def view(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self.facts), "audio": self.audio.view(), **self._lists.lists}


class ConversationRecord:
    """One conversation."""

    def __init__(self, conversation_id: str, scenario: str, *, limit: int, audio_limit: int) -> None:
        self.id = conversation_id
        self.scenario = scenario
        self.limit = limit
        self.links: list[LinkRecord] = []
        self.links_dropped = 0
        self.audio = AudioHeard()
        self.usage: Counter[str] = Counter()
        self._lists = _Lists(limit)
        self._events: list[dict[str, Any]] = []
        self._events_dropped = 0
        self._audio_limit = audio_limit
        self._kept = bytearray()
        self._rate = 16000

    @property
    def open(self) -> int:
        """Links that are open."""
        return sum(link.facts.closed is None for link in self.links)

    def add_link(self, facts: LinkFacts) -> LinkRecord:
        """A new connection; of very many only the latest are kept."""
        link = LinkRecord(self, facts)
        self.links.append(link)
        if len(self.links) > self.limit:
            self.links.pop(0)
            self.links_dropped += 1
        return link

    def next_link_index(self) -> int:
        """The index of the link to come."""
        return self.links_dropped + len(self.links)

    def add_audio(self, link: int, pcm: bytes, rate: int) -> None:
        """A piece of audio; pieces in a row are one event."""
        self.audio.add(pcm, rate)
        self._rate = rate
        if room := max(0, self._audio_limit - len(self._kept)):
            self._kept += pcm[:room]
        last = self._events[-1] if self._events else None
        if last is not None and last["kind"] == "audio" and last["link"] == link:
            last["chunks"] += 1
            last["bytes"] += len(pcm)
        else:
            self.add_event(link, "audio", None, {"chunks": 1, "bytes": len(pcm)})

    def add(self, link: int, kind: str, item: Any, at: float) -> None:
        """An entry of a list, and its event."""
        self._lists.add(kind, item)
        self.add_event(link, kind, at, {"item": item})

    def add_event(self, link: int, kind: str, at: float | None, facts: dict[str, Any]) -> None:
        """An event, if there is room."""
        if len(self._events) >= self.limit:
            self._events_dropped += 1
            return
        event = {"link": link, "kind": kind, **facts}
        if at is not None:
            event["at"] = round(at, 3)
        self._events.append(event)

    def wav(self) -> bytes:
        """The audio kept, as a WAV file."""
        pcm = bytes(self._kept)
        layout = (1, 1, self._rate, self._rate * 2, 2, 16)
        header = struct.pack("<4sI8sIHHIIHH", b"RIFF", 36 + len(pcm), b"WAVEfmt ", 16, *layout)
        return header + struct.pack("<4sI", b"data", len(pcm)) + pcm

    def summary(self) -> dict[str, Any]:
        """A line of the list of conversations."""
        return {
            "id": self.id,
            "scenario": self.scenario,
            "links": self.next_link_index(),
            "open": self.open,
            "started": self.links[0].facts.opened if self.links else None,
        }

    def view(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            **self.summary(),
            "links": [link.view() for link in self.links],
            "audio": self.audio.view(),
            **self._lists.lists,
            "usage": dict(self.usage),
            "events": self._events,
            "dropped": {**self._lists.dropped, "events": self._events_dropped, "links": self.links_dropped},
        }


class Archive:
    """All conversations: those under way, and the latest that ended."""

    def __init__(self, *, kept: int, items: int, audio_limit: int) -> None:
        self._kept = kept
        self._items = items
        self._audio_limit = audio_limit
        self._records: OrderedDict[str, ConversationRecord] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def open(self, conversation_id: str, scenario: str) -> ConversationRecord:
        """The record of that id, new or continued."""
        record = self._records.get(conversation_id)
        if record is None:
            record = ConversationRecord(conversation_id, scenario, limit=self._items, audio_limit=self._audio_limit)
            self._records[conversation_id] = record
        self._records.move_to_end(conversation_id)
        return record

    def trim(self) -> None:
        """Forget the oldest that ended, beyond the number kept."""
        excess = sum(not record.open for record in self._records.values()) - self._kept
        if excess > 0:
            for record in [record for record in self._records.values() if not record.open][:excess]:
                del self._records[record.id]

    def get(self, conversation_id: str) -> ConversationRecord | None:
        """The record, if it is known."""
        return self._records.get(conversation_id)

    def all(self) -> list[ConversationRecord]:
        """All, the latest last."""
        return list(self._records.values())

    def clear(self) -> None:
        """Forget those that are not under way."""
        for record in self.all():
            if not record.open:
                del self._records[record.id]
