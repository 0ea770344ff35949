"""What a test hears in the audio it got: pocketsphinx with the test's own grammar."""

from functools import cache

import numpy as np
from pocketsphinx import Decoder

from emulator.audio import resample

RATE = 16000
_SILENCE = bytes(RATE * 2 * 3 // 10)


@cache
def _decoder() -> Decoder:
    return Decoder(lm=None, samprate=RATE, loglevel="FATAL")


@cache
def _search(phrases_jsgf: str) -> str:
    name = f"search{_search.cache_info().misses}"
    _decoder().add_jsgf_string(name, f"#JSGF V1.0; grammar {name}; public <top> = {phrases_jsgf};")
    return name


def hear(pcm: bytes, rate: int, phrases_jsgf: str) -> str:
    """The sentence in ``pcm`` (mono PCM16) by a JSGF expression such as ``order (one | two)+ is (late | here)``.

    Empty when none of the grammar's sentences fits. Synchronous: 30 to 150 ms for a sentence.
    """
    decoder = _decoder()
    decoder.activate_search(_search(phrases_jsgf))
    decoder.start_utt()
    decoder.process_raw(_SILENCE + resample(pcm, rate, RATE) + _SILENCE, full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return str(hypothesis.hypstr) if hypothesis else ""


def seconds(pcm: bytes, rate: int) -> float:
    """Length of mono PCM16."""
    return len(pcm) / (2 * rate)


def silence(length: float, rate: int = RATE) -> bytes:
    """Digital silence."""
    return np.zeros(round(length * rate), dtype="<i2").tobytes()
