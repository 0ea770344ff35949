"""One conversation's record: its links, and what they heard and did all together.

Each list is kept for the conversation and for the link, by reference; every list is bounded, and what no longer fits
is counted.
"""

import itertools
import struct
from collections import Counter
from collections.abc import Callable
from typing import Any

from emulator.record.audio import AudioHeard
from emulator.record.journal import Origin, Position
from emulator.record.link import LISTS, LinkFacts, LinkRecord
from emulator.record.room import Room, weigh

_SERIALS = itertools.count()


class ConversationRecord:
    """One conversation."""

    def __init__(self, conversation_id: str, scenario: str, *, limit: int, audio_limit: int, room: Room) -> None:
        self.id = conversation_id
        self.serial = next(_SERIALS)
        """No other record has it, not even one of the same id."""
        self.scenario = scenario
        self.limit = limit
        self.room = room
        self.links: list[LinkRecord] = []
        self.links_dropped = 0
        self.audio = AudioHeard()
        self.usage: Counter[str] = Counter()
        self.events: list[dict[str, Any]] = []
        self.events_dropped = 0
        self.watchers: set[Callable[[], None]] = set()
        """Called after each new event."""
        self._lists: dict[str, list[Any]] = {name: [] for name in LISTS}
        self._dropped: Counter[str] = Counter()
        self._audio_limit = audio_limit
        self._kept = bytearray()
        self._rate = 16000

    @property
    def open(self) -> int:
        """Links that are open."""
        return sum(link.facts.closed is None for link in self.links)

    def add_link(self, facts: LinkFacts) -> LinkRecord:
        """A new connection; of very many only the latest are kept."""
        if not self.room.take(weigh(facts.setup)):
            facts.setup = None
            self._dropped["setups"] += 1
        link = LinkRecord(self, facts)
        if (restored := facts.restored) and restored.hearing and (parent := self.link_at(restored)):
            for utterance in parent.journal.unknown(restored):
                link.journal.inherit(Origin(restored.link, utterance, restored.audio))
        self.links.append(link)
        link.event("opened", at=facts.opened, resumed_from=facts.restored.link if facts.restored else None)
        if len(self.links) > self.limit:
            self.links.pop(0)
            self.links_dropped += 1
        return link

    def next_link_index(self) -> int:
        """The index of the link to come."""
        return self.links_dropped + len(self.links)

    def link(self, index: int) -> LinkRecord | None:
        """The link of that index, if it is kept."""
        position = index - self.links_dropped
        return self.links[position] if 0 <= position < len(self.links) else None

    def link_at(self, position: Position) -> LinkRecord | None:
        """The link in whose history ``position`` is, if it is kept."""
        return self.link(position.link) if position.record == self.serial else None

    def add_audio(self, link: int, pcm: bytes, rate: int) -> None:
        """A piece of audio; pieces in a row are one event."""
        self.audio.add(pcm, rate)
        self._rate = rate
        if room := max(0, self._audio_limit - len(self._kept)):
            self._kept += pcm[:room]
        last = self.events[-1] if self.events else None
        if last is not None and last["kind"] == "audio" and last["link"] == link:
            last["chunks"] += 1
            last["bytes"] += len(pcm)
        else:
            self.add_event(link, "audio", None, {"chunks": 1, "bytes": len(pcm)})

    def not_kept(self, kind: str) -> None:
        """There was no room for an entry of a list."""
        self._dropped[kind] += 1
        self.events_dropped += 1

    def add(self, link: int, kind: str, item: Any, at: float) -> None:
        """An entry of a list, and its event."""
        if len(self._lists[kind]) < self.limit:
            self._lists[kind].append(item)
        else:
            self._dropped[kind] += 1
        self.add_event(link, kind, at, {"item": item})

    def add_event(self, link: int, kind: str, at: float | None, facts: dict[str, Any]) -> None:
        """An event, if there is room."""
        if len(self.events) >= self.limit:
            self.events_dropped += 1
            return
        event = {"link": link, "kind": kind, **facts}
        if at is not None:
            event["at"] = round(at, 3)
        self.events.append(event)
        for watcher in tuple(self.watchers):
            watcher()

    def settled_events(self) -> int:
        """How many of the events change no more: the last one may be audio that goes on."""
        growing = self.events and self.events[-1]["kind"] == "audio" and self.open
        return len(self.events) - bool(growing)

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

    def dropped(self) -> dict[str, int]:
        """What no longer fitted, by kind."""
        return {**self._dropped, "events": self.events_dropped, "links": self.links_dropped}

    def view(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            **self.summary(),
            "links": [link.view() for link in self.links],
            "audio": self.audio.view(),
            **self._lists,
            "usage": dict(self.usage),
            "events": self.events,
            "dropped": self.dropped(),
        }
