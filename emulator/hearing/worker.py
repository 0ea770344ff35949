"""The recogniser's process: utterances in on stdin, one JSON line each out on stdout, until stdin ends.

Messages are those of :mod:`emulator.hearing.framing`. The first header is ``{"grammars": {name: jsgf}, "doubt":
x}``, answered by ``{"ready": true}`` or ``{"error": text}``; each further one is ``{"id": n, "grammar": name, "free":
whether other English is taken too, "guess": whether the utterance is still under way}``, answered by ``{"id": n,
"text": sentence or null}``.
"""

import json
import math
import os
import signal
import sys
from typing import Any

from pocketsphinx import Decoder, get_model_path

from emulator.hearing.framing import read

RATE = 16000
# The grammar wants a little silence on both sides, and utterances may be cut close. More of it makes what was said less
# likely, for no microphone is as silent.
_SILENCE = bytes(RATE * 2 // 40)
_NO_SPEECH = ("<sil>", "<s>", "</s>", "(NULL)")
# Stands for an acoustic probability too small for a double.
_WORST = -745.0
# Scenarios cannot be called so.
_FREE = "*"
_LANGUAGE_MODEL = "en-us/en-us.lm.bin"

# Scores from the two likeliest densities of each frame's mixtures, chosen anew for every other frame: together half the
# time. Such scores are off now and then, and with narrow beams the search loses what was said for good: of a thousand
# clear questions cut differently, or differing in their lowest bits, some became another sentence. With pocketsphinx's
# own beams, which take a sixth more time, none did.
_COARSE = {"topn": 2, "ds": 2}


class UnknownWordsError(Exception):
    """Words of a grammar that the recogniser cannot pronounce."""

    def __init__(self, grammar: str, words: list[str]) -> None:
        super().__init__(f"scenario {grammar}: the recogniser does not know {', '.join(words)}")
        self.grammar = grammar
        self.words = words


class Hearing:
    """One acoustic model, loaded once, with a search for each grammar and, once it is wanted, one for any English."""

    def __init__(self, grammars: dict[str, str], doubt: float) -> None:
        self._decoder = Decoder(lm=None, samprate=RATE, loglevel="FATAL", **_COARSE)
        self._doubt = doubt
        self._active = ""
        self._has_language_model = False
        self._grammars = {name for name, grammar in grammars.items() if grammar}
        for name in self._grammars:
            grammar = grammars[name]
            missing = sorted(word for word in _words(grammar) if self._decoder.lookup_word(word) is None)
            if missing:
                raise UnknownWordsError(name, missing)
            self._decoder.add_jsgf_string(name, grammar)

    def hear(self, grammar: str, pcm: bytes, *, free: bool) -> str | None:
        """The grammar's best sentence if it is hardly in doubt; else, where any English will do, what was said."""
        if grammar in self._grammars:
            text, doubt = self.sentence(grammar, pcm)
            if text is not None and doubt <= self._doubt:
                return text
        return self.sentence(self._free(), pcm)[0] if free else None

    def sentence(self, grammar: str, pcm: bytes) -> tuple[str | None, float]:
        """The best sentence and its doubt: the mean cost of a frame of speech, in nats."""
        decoder = self._started(grammar)
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

    def guess(self, grammar: str, pcm: bytes, *, free: bool) -> str | None:
        """The words so far of an utterance under way."""
        if not pcm or (not free and grammar not in self._grammars):
            return None
        decoder = self._started(self._free() if free else grammar)
        try:
            # No silence before it: behind none as perfect as that, half of the wrong first words are not heard.
            decoder.process_raw(pcm, full_utt=True)
            # Before the end is told, so that no whole sentence is made of it.
            hypothesis = decoder.hyp()
            return str(hypothesis.hypstr) or None if hypothesis is not None else None
        finally:
            decoder.end_utt()

    def _started(self, search: str) -> Decoder:
        """The decoder, ready for an utterance."""
        if search != self._active:
            self._decoder.activate_search(search)
            self._active = search
        # It goes on from the loudness and noise of what it heard before, whoever said that: what is understood must
        # depend on nothing but what is asked.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        return self._decoder

    def _free(self) -> str:
        if not self._has_language_model:
            # A third of a second and a hundred megabytes: for those who want it.
            self._decoder.add_lm_file(_FREE, get_model_path(_LANGUAGE_MODEL))
            self._has_language_model = True
        return _FREE


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
        hearing = Hearing(first[0]["grammars"], first[0]["doubt"])
    except UnknownWordsError as error:
        answer({"error": str(error), "grammar": error.grammar, "words": error.words})
        return
    except (ValueError, RuntimeError) as error:
        answer({"error": str(error)})
        return
    answer({"ready": True})
    while (message := read(sys.stdin.buffer)) is not None:
        header, pcm = message
        understand = hearing.guess if header.get("guess") else hearing.hear
        try:
            text = understand(header["grammar"], pcm, free=header["free"])
        except RuntimeError:
            # The decoder cannot make anything of it: the same as not having understood.
            text = None
        answer({"id": header["id"], "text": text})


if __name__ == "__main__":
    main()
