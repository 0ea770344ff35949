"""What is said, cut into frames of speech. Scenarios say the same again and again: what was cut lately is kept."""

import base64
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emulator.actions import Send
from emulator.api import protocol, server_content
from emulator.audio import BYTES_PER_SAMPLE
from emulator.voice import MIME_TYPE, RATE, Piece, Voice

_KEPT_SECONDS = 200.0
"""Of speech, for all conversations together: some 10 MB that grow to 39 MB at most as it is sent in frames of 40 ms."""


class Chunk:
    """One frame of speech, encoded when it is first sent. Conversations that say the same share it."""

    __slots__ = ("_alone", "_pcms", "_turn", "seconds", "words")

    def __init__(self, pcms: tuple[bytes, ...], words: tuple[str, ...]) -> None:
        self.words = words
        """Words that begin in it."""
        self.seconds = sum(map(len, pcms)) / (RATE * BYTES_PER_SAMPLE)
        self._pcms = pcms
        self._turn: dict[str, Any] | None = None
        self._alone: Send | None = None

    @property
    def turn(self) -> dict[str, Any]:
        """``modelTurn``: where one text ends and another begins, the end of the one and the beginning of the other."""
        if self._turn is None:
            blobs = [
                {"inlineData": {"mimeType": MIME_TYPE, "data": base64.b64encode(pcm).decode()}} for pcm in self._pcms
            ]
            self._turn, self._pcms = server_content.model_turn(blobs), ()
        return self._turn

    @property
    def alone(self) -> Send:
        """The message where the words are told elsewhere or not at all."""
        if self._alone is None:
            message = server_content.content(modelTurn=self.turn)
            self._alone = Send(message, protocol.encode(message))
        return self._alone


@dataclass(frozen=True, slots=True)
class Cut:
    """The texts of one answer in their chunks."""

    chunks: tuple[Chunk, ...]
    words: tuple[str, ...]
    """All that it says, piece by piece."""
    seconds: float


class Cutter:
    """One voice, for all conversations."""

    def __init__(self, voice: Voice, kept: float = _KEPT_SECONDS) -> None:
        """``kept``: seconds of speech."""
        self._voice = voice
        self._limit = kept
        self._kept: OrderedDict[tuple[tuple[str, ...], int], Cut] = OrderedDict()
        self._seconds = 0.0

    def cut(self, texts: Sequence[str], seconds: float) -> Cut:
        """``texts``, one after another, in chunks of ``seconds``; without chunks where there is nothing to be said."""
        size = max(1, round(seconds * RATE)) * BYTES_PER_SAMPLE
        key = tuple(texts), size
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        made = _cut([self._voice.say(text) for text in texts], size)
        if made.seconds <= self._limit:
            self._kept[key] = made
            self._seconds += made.seconds
            while self._seconds > self._limit:
                self._seconds -= self._kept.popitem(last=False)[1].seconds
        return made


Part = tuple[tuple[bytes, ...], tuple[str, ...]]
"""PCM of a chunk, in as many pieces as texts, and its words."""


def _cut(texts: Sequence[Sequence[Piece]], size: int) -> Cut:
    parts: list[Part] = []
    for pieces in texts:
        cut = _parts(pieces, size)
        if parts and cut:
            cut[:1] = _joined(parts.pop(), cut[0])
        parts += cut
    chunks = tuple(Chunk(*part) for part in parts)
    words = tuple(piece.text for pieces in texts for piece in pieces)
    return Cut(chunks, words, sum(chunk.seconds for chunk in chunks))


def _parts(pieces: Sequence[Piece], size: int) -> list[Part]:
    pcm = b"".join(piece.pcm for piece in pieces)
    words: dict[int, list[str]] = {}
    at = 0
    for piece in pieces:
        words.setdefault(at // size, []).append(piece.text)
        at += len(piece.pcm)
    return [((pcm[start : start + size],), tuple(words.get(start // size, ()))) for start in range(0, len(pcm), size)]


def _joined(end: Part, beginning: Part) -> list[Part]:
    """The end of one text and the beginning of the next, in one frame."""
    return [(end[0] + beginning[0], end[1] + beginning[1])]
