"""What is silence. Plain code."""

from __future__ import annotations

from array import array
from typing import Final

_VOICE: Final = 300
"""Amplitude above which audio is not silence; of 32768. A quiet room stays below."""


def has_voice(pcm: bytes) -> bool:
    """It is not silence, as far as its loudness tells."""
    samples = array("h", pcm[: len(pcm) & ~1])[::4]
    return bool(samples) and (max(samples) > _VOICE or min(samples) < -_VOICE)
