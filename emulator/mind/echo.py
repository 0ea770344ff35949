"""The echo scenario: audio goes straight back, frame by frame; whatever asks for an answer gets an empty turn."""

import base64

from emulator.actions import Action, Disturbance, IssueHandle, Send
from emulator.api.protocol import Audio, ClientContent, Event, Text, Video
from emulator.hearing.listening import check
from emulator.record import LinkRecord
from emulator.session.handles import Snapshot
from emulator.voice import MIME_TYPE


class Echo:
    """A :class:`emulator.actions.Mind` without one."""

    deadline: float | None = None

    def __init__(self, record: LinkRecord) -> None:
        self._record = record

    def apply(self, event: Event, now: float) -> list[Action]:
        """The audio again, byte for byte, whatever its rate was. Raises a refusal for what is no PCM."""
        match event:
            case Audio(data, mime_type):
                self._record.heard_audio(data, check(mime_type), now=now)
                blob = {"mimeType": MIME_TYPE, "data": base64.b64encode(data).decode()}
                return [Send({"serverContent": {"modelTurn": {"parts": [{"inlineData": blob}]}}})]
            case Text(text):
                self._record.add("texts", text, at=now)
                return self._turn()
            case ClientContent(turns, complete):
                for turn in turns:
                    self._record.add("turns", {"role": turn.role, "text": turn.text}, at=now)
                return self._turn() if complete else []
            case Video(data, mime_type):
                self._record.add("video", {"bytes": len(data), "mime": mime_type}, at=now)
        return []

    def _turn(self) -> list[Action]:
        return [Send({"serverContent": {"turnComplete": True}}), IssueHandle(self.snapshot(hearing=False))]

    def heard(self, number: int, text: str | None, now: float) -> list[Action]:
        """Never happens: nothing is listened to."""
        return []

    def guessed(self, number: int, text: str | None, now: float) -> list[Action]:
        """Never happens either."""
        return []

    def tick(self, now: float) -> list[Action]:
        """Never happens: nothing is pending."""
        return []

    def disturb(self, how: Disturbance, now: float) -> list[Action]:
        """There is nothing to disturb."""
        return []

    def start(self, now: float) -> list[Action]:
        """There is nothing to go on with."""
        return []

    settled = True
    """Nothing is ever under way."""

    def snapshot(self, *, hearing: bool) -> Snapshot:
        """It remembers nothing."""
        return Snapshot(position=self._record.position())
