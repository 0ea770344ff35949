"""What was understood of utterances heard before: whoever plays a recording to many connections waits for it once."""

import hashlib
from collections import OrderedDict


class Remembered:
    """Outcomes of the recogniser, by every sample of what it heard. A bounded number: the oldest is forgotten first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._outcomes: OrderedDict[bytes, str | None] = OrderedDict()

    def key(self, grammar: str, pcm: bytes, *, free: bool) -> bytes:
        """What an outcome is kept under; it holds nothing of what was said."""
        digest = hashlib.sha256(f"{grammar} {free} ".encode())
        digest.update(pcm)
        return digest.digest()

    def __contains__(self, key: bytes) -> bool:
        return key in self._outcomes

    def __getitem__(self, key: bytes) -> str | None:
        self._outcomes.move_to_end(key)
        return self._outcomes[key]

    def keep(self, key: bytes, text: str | None) -> None:
        """The recogniser's answer."""
        self._outcomes[key] = text
        if len(self._outcomes) > self._limit:
            self._outcomes.popitem(last=False)
