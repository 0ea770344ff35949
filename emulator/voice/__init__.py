"""The model's voice: recorded words and phrases put one after another, at 24 kHz.

The recordings are in ``words/``; ``record.py`` beside them made them.
"""

import wave
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from emulator.audio import resample
from emulator.scenarios import language

RATE = 24000
MIME_TYPE = f"audio/pcm;rate={RATE}"
MOST_WORDS = 500
"""Spoken at once: more than anybody wants to hear, and a bound to what a result can make the model say."""
WORDS = Path(__file__).with_name("words")
# Between pieces: short enough to sound like a sentence, long enough that the sounds of two words do not merge.
_GAP = bytes(RATE * 60 // 1000 * 2)
# Spoken for a word that nobody recorded: soft, so that it is not taken for speech.
_TONE_SECONDS = 0.12
_TONE_HERTZ = 440
_TONE_LEVEL = 600


@dataclass(frozen=True, slots=True)
class Piece:
    """One recorded word or phrase of an answer."""

    text: str
    pcm: bytes
    """24 kHz PCM16, with the gap that follows it."""


class Voice:
    """Speaks what has been recorded, and a soft tone for what has not."""

    def __init__(self, recordings: dict[str, bytes]) -> None:
        self._recordings = {tuple(text.split()): pcm for text, pcm in recordings.items()}
        self._longest = max((len(words) for words in self._recordings), default=0)
        times = np.arange(int(RATE * _TONE_SECONDS)) / RATE
        fade = np.sin(np.pi * times / _TONE_SECONDS)
        tone = _TONE_LEVEL * fade * np.sin(2 * np.pi * _TONE_HERTZ * times)
        self._tone = tone.astype("<i2").tobytes()

    def say(self, text: str) -> list[Piece]:
        """``text`` in pieces, the longest recorded phrases first. Any text will do; none gives no pieces.

        Only the first :data:`MOST_WORDS` are spoken.
        """
        words = tuple(language.normalise(text).split())[:MOST_WORDS]
        pieces = []
        at = 0
        while at < len(words):
            for length in range(min(self._longest, len(words) - at), 0, -1):
                if pcm := self._recordings.get(words[at : at + length]):
                    break
            else:
                length, pcm = 1, self._tone
            pieces.append(Piece(" ".join(words[at : at + length]), pcm + _GAP))
            at += length
        return pieces


@cache
def recorded() -> Voice:
    """The voice in ``words/``, at 24 kHz."""
    recordings = {}
    for path in sorted(WORDS.glob("*.wav")):
        with wave.open(str(path), "rb") as source:
            pcm = source.readframes(source.getnframes())
            recordings[path.stem.replace("_", " ")] = resample(pcm, source.getframerate(), RATE)
    return Voice(recordings)
