"""Conversations told link by link, straight into the emulator's record: what was heard, and what a handle restored."""

from dataclasses import replace
from typing import Any

from emulator.marks import mark
from emulator.record import ConversationRecord, LinkFacts, LinkRecord, Position
from emulator.record.report import view
from emulator.record.room import Room

FRAME = 640
"""Bytes of 20 ms at 16 kHz."""
STREAM = 1


class Link:
    """One link, fed in whole frames of 20 ms that are marked with the numbers given."""

    def __init__(self, record: LinkRecord, *, marked: bool = True) -> None:
        self.record = record
        self.marked = marked
        self.index = record.facts.index
        self._utterances = 0

    def hear(self, first: int, last: int, *, stream: int = STREAM) -> None:
        """Frames that nobody takes for speech."""
        for number in range(first, last + 1):
            frame = bytes(FRAME)
            self.record.heard_audio(mark(frame, stream=stream, first=number) if self.marked else frame, 16000, now=0)

    def begin(self, first: int, last: int) -> None:
        """Speech that goes on."""
        self.record.speech_began(self.seconds, now=0)
        self.hear(first, last)

    def end(self, text: str | None = None) -> None:
        """It is over, and understood where there is a text."""
        self._utterances += 1
        self.record.speech_ended(self._utterances, self.seconds, now=0, length=1)
        if text is not None:
            self.record.understood(self._utterances, text, at=0)

    def say(self, first: int, last: int, text: str) -> None:
        """A whole utterance."""
        self.begin(first, last)
        self.end(text)

    def type(self, *texts: str) -> None:
        """Realtime text."""
        for text in texts:
            self.record.add("texts", text, at=0)

    def turns(self, *turns: str) -> None:
        """client_content: ``user: hello``, ``model: hello, how can I help``; `` | `` stands between parts."""
        for turn in turns:
            role, _, text = turn.partition(": ")
            parts = text.split(" | ")
            entry = {"role": role, "text": " ".join(parts)} | ({"parts": parts} if len(parts) > 1 else {})
            self.record.add("turns", entry, at=0)

    def answer(self, text: str) -> None:
        """What the model said."""
        self.record.add("said", {"text": text, "interrupted": False}, at=0)

    def call(self, number: str, name: str = "get_order") -> None:
        """What the model asked for."""
        self.record.add("tool_calls", {"id": number, "name": name, "args": {}, "blocking": True}, at=0)

    def respond(self, number: str, response: Any, *, ignored: bool = False) -> None:
        """What it was told."""
        self.record.add("tool_responses", {"id": number, "name": "get_order", "response": response}, at=0)
        if not ignored:
            self.record.acted_on()

    def see(self, picture: str) -> None:
        """A video frame, by its digest."""
        self.record.add("video", {"bytes": 1, "mime": "image/jpeg", "sha256": picture}, at=0)

    def handle(self, *, hearing: bool = False, said: str = "") -> Position:
        """Issued now, for what is known now."""
        position = self.record.position(said=said)
        self.record.handle_issued(position, at=0)
        return replace(position, hearing=hearing)

    def close(self, *, covering: bool = False) -> Position:
        """The link is lost; ``covering``: its newest handle restores what it was then."""
        self.record.facts.closed = 1.0
        position = self.record.position()
        if covering:
            self.record.handle_covers(position)
        return position

    @property
    def seconds(self) -> float:
        """Audio so far."""
        return self.record.audio.heard.seconds


class Story:
    """One conversation."""

    handle: Position
    """Whatever a story wants to keep for later."""
    end: Position

    def __init__(self, *, limit: int = 1000) -> None:
        self.record = ConversationRecord("c", "support", limit=limit, audio_limit=0, room=Room(2**24))

    def open(self, restored: Position | None = None, *, marked: bool = True, setup: Any = None) -> Link:
        """A link that starts from nothing or from a handle's position."""
        facts = LinkFacts(self.record.next_link_index(), "m", "/", "v1beta", setup or {}, 0.0, restored)
        return Link(self.record.add_link(facts), marked=marked)

    @property
    def view(self) -> dict[str, Any]:
        """The lineage of the newest link."""
        return view(self.record)

    def losses(self) -> dict[str, list[str]]:
        """What is forgotten, in short."""
        return short(self.view["forgotten"])

    def repeats(self) -> dict[str, list[str]]:
        """What is held twice, in short."""
        return short(self.view["duplicates"])

    def context(self) -> list[str]:
        """What the model knows: link, kind and words."""
        return [f"{entry['link']} {entry['kind']} {_words(entry)}" for entry in self.view["context"]]


def short(lists: dict[str, list[dict[str, Any]]]) -> dict[str, list[str]]:
    """Only what is there, each item as a few words: ``0: 10-19``, ``0: hello``, ``1: 10-19 as audio of 0``."""
    return {kind: [_item(item) for item in items] for kind, items in lists.items() if items}


def _item(item: dict[str, Any]) -> str:
    again = f" as {item['as']} of {item['earlier']}" if "as" in item else ""
    return f"{item['link']}: {_words(item)}{again}"


def _words(item: dict[str, Any]) -> str:
    if "stream" in item:
        return f"{item['first']}-{item['last']}"
    if "bytes" in item and isinstance(item["bytes"], list):
        start, end = item["bytes"]
        return f"bytes {start}-{end}"
    for name in ("text", "sha256", "part", "response", "name"):
        if name in item:
            return str(item[name])
    return ""
