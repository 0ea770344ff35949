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
"""Of speech, for all conversations together: some 26 MB at most."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One frame of speech. Conversations that say the same share it: nobody changes what it holds."""

    words: tuple[str, ...]
    """Words that begin in it."""
    seconds: float
    turn: dict[str, Any]
    """``modelTurn``: where one text ends and another begins, the end of the one and the beginning of the other."""
    alone: Send
    """The message where the words are told elsewhere or not at all."""


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
    chunks = tuple(_chunk(*part) for part in parts)
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


def _chunk(pcms: Sequence[bytes], words: tuple[str, ...]) -> Chunk:
    blobs = [{"inlineData": {"mimeType": MIME_TYPE, "data": base64.b64encode(pcm).decode()}} for pcm in pcms]
    turn = server_content.model_turn(blobs)
    message = server_content.content(modelTurn=turn)
    seconds = sum(map(len, pcms)) / (RATE * BYTES_PER_SAMPLE)
    return Chunk(words, seconds, turn, Send(message, protocol.encode(message)))
