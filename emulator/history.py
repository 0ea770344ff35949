"""What the model remembers of a conversation, in text."""

from collections import deque

from emulator.handles import Snapshot
from emulator.usage import Meter, text_tokens

# A conversation longer than this forgets its beginning, as any context does.
_MAX_ENTRIES = 1000
_MAX_UNANSWERED = 50


class History:
    """Entries in order, and which of the user's are not answered yet."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._entries: deque[tuple[str, str]] = deque(snapshot.history, maxlen=_MAX_ENTRIES)
        self._unanswered: deque[str] = deque(snapshot.unanswered, maxlen=_MAX_UNANSWERED)
        self.pictures = snapshot.pictures
        """Pictures seen so far, streamed or in turns."""
        self.meter: Meter = snapshot.meter.context()

    def user(self, text: str, *, spoken: bool = False) -> None:
        """The user said or typed something. Speech is paid for as audio."""
        self._entries.append(("user", text))
        self._unanswered.append(text)
        self.meter.text += 0 if spoken else text_tokens(text)

    def told(self, text: str) -> None:
        """The client says that the model said so; that answers what came before."""
        self.model(text)
        self._unanswered.clear()
        self.meter.text += text_tokens(text)

    def model(self, text: str) -> None:
        """The model said something."""
        if text:
            self._entries.append(("model", text))

    def result(self, text: str) -> None:
        """A function's outcome that is remembered but not spoken about."""
        self._entries.append(("tool", text))
        self.meter.text += text_tokens(text)

    @property
    def asks(self) -> bool:
        """Whether something of the user's waits for an answer."""
        return bool(self._unanswered)

    def take_question(self) -> tuple[str, ...]:
        """The user's entries that wait for an answer, oldest first; they wait no longer."""
        question = tuple(self._unanswered)
        self._unanswered.clear()
        return question

    def snapshot(self) -> Snapshot:
        """As it is now."""
        return Snapshot(tuple(self._entries), self.pictures, tuple(self._unanswered), self.meter.context())
