"""The recogniser's process: utterances in on stdin, one JSON line each out on stdout, until stdin ends.

Messages are those of :mod:`emulator.hearing.framing`. The first header is ``{"grammars": {name: jsgf}, "doubt":
x}``, answered by ``{"ready": true}`` or ``{"error": text}``; each further one is ``{"id": n, "grammar": name}``,
answered by ``{"id": n, "text": sentence or null, "doubt": x}``.
"""

import json
import math
import os
import signal
import sys
from typing import Any

from pocketsphinx import Decoder

from emulator.hearing.framing import read

RATE = 16000
# The grammar wants a little silence on both sides, and utterances may be cut close.
_SILENCE = bytes(RATE * 2 // 5)
_NO_SPEECH = ("<sil>", "<s>", "</s>", "(NULL)")
# Stands for an acoustic probability too small for a double.
_WORST = -745.0


class Recogniser:
    """One acoustic model, loaded once, with a search for each grammar."""

    def __init__(self, grammars: dict[str, str]) -> None:
        self._decoder = Decoder(lm=None, samprate=RATE, loglevel="FATAL")
        self._active = ""
        for name, grammar in grammars.items():
            missing = sorted(word for word in _words(grammar) if self._decoder.lookup_word(word) is None)
            if missing:
                raise ValueError(f"scenario {name}: the recogniser does not know {', '.join(missing)}")
            self._decoder.add_jsgf_string(name, grammar)

    def hear(self, grammar: str, pcm: bytes) -> tuple[str | None, float]:
        """The grammar's best sentence and its doubt: the mean cost of a frame of speech, in nats."""
        decoder = self._decoder
        if grammar != self._active:
            decoder.activate_search(grammar)
            self._active = grammar
        decoder.start_utt()
        try:
            decoder.process_raw(_SILENCE + pcm + _SILENCE, full_utt=True)
        finally:
            decoder.end_utt()
        hypothesis = decoder.hyp()
        if hypothesis is None or not hypothesis.hypstr:
            return None, math.inf
        spoken = [segment for segment in decoder.seg() if segment.word not in _NO_SPEECH]
        frames = sum(segment.end_frame - segment.start_frame + 1 for segment in spoken)
        cost = -sum(math.log(segment.ascore) if segment.ascore > 0 else _WORST for segment in spoken)
        return str(hypothesis.hypstr), cost / max(1, frames)


def _words(grammar: str) -> set[str]:
    words: set[str] = set()
    for line in grammar.splitlines():
        left, equals, right = line.partition("=")
        if equals and "<" in left:
            words.update(word for word in right.replace(";", " ").replace("|", " ").split() if not word.startswith("<"))
    return words


def main() -> None:
    """Serve until the parent closes the pipe or dies, which closes it too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(body: dict[str, Any]) -> None:
        answers.write(json.dumps(body) + "\n")
        answers.flush()

    first = read(sys.stdin.buffer)
    if first is None:
        return
    try:
        recogniser = Recogniser(first[0]["grammars"])
    except (ValueError, RuntimeError) as error:
        answer({"error": str(error)})
        return
    answer({"ready": True})
    while (message := read(sys.stdin.buffer)) is not None:
        header, pcm = message
        try:
            text, doubt = recogniser.hear(header["grammar"], pcm)
        except RuntimeError:
            # The decoder cannot make anything of it: the same as not having understood.
            text, doubt = None, math.inf
        if doubt > first[0]["doubt"]:
            text = None
        answer({"id": header["id"], "text": text, "doubt": doubt if math.isfinite(doubt) else None})


if __name__ == "__main__":
    main()
