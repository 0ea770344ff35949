"""Recorded questions, for environments that have nothing but the standard library."""

import wave
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (ROOT / "tests" / "data" / "speech", ROOT / "parley" / "cli" / "demo_data")
RATE = 16000
SILENCE = bytes(2 * RATE)
"""A second of it: it ends what was said."""


def pcm(name: str) -> bytes:
    """A question, 16 kHz mono PCM16."""
    path = next(path for folder in FOLDERS if (path := folder / f"{name}.wav").is_file())
    with wave.open(str(path), "rb") as source:
        return source.readframes(source.getnframes())


def pieces(name: str, size: int = 1280) -> Iterator[bytes]:
    """A question and the silence that ends it, in pieces of 40 ms."""
    audio = pcm(name) + SILENCE
    return (audio[at : at + size] for at in range(0, len(audio), size))
