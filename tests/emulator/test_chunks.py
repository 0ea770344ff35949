"""Answers cut into frames: what was cut lately is kept, for all conversations and never without bound."""

import base64
import binascii
import json

import pytest

from emulator.mind.chunks import Cutter
from emulator.voice import RATE
from tests.emulator.caller import VOICE


def test_who_says_the_same_shares_what_was_cut() -> None:
    cutter = Cutter(VOICE)
    cut = cutter.cut(["hello", "how can i help you"], 0.5)
    assert cutter.cut(("hello", "how can i help you"), 0.5) is cut
    assert cutter.cut(["hello how can i help you"], 0.5) is not cut
    # One frame has the end of the one text and the beginning of the other.
    assert [len(cutter.cut(["hello", "how can i help you"], size).chunks) for size in (0.5, 0.25)] == [11, 23]


def test_a_chunk_is_encoded_as_it_is() -> None:
    for chunk in Cutter(VOICE).cut(["hello", "sorry"], 0.3).chunks:
        assert chunk.alone.frame is not None
        message = json.loads(chunk.alone.frame)
        assert message == chunk.alone.message == {"serverContent": {"modelTurn": chunk.turn}}
        blobs = [part["inlineData"]["data"] for part in message["serverContent"]["modelTurn"]["parts"]]
        assert sum(len(base64.b64decode(blob)) for blob in blobs) == pytest.approx(chunk.seconds * RATE * 2)


def test_a_chunk_is_encoded_once_when_it_is_first_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[bytes] = []

    def encode(pcm: bytes) -> bytes:
        encoded.append(pcm)
        return binascii.b2a_base64(pcm, newline=False)

    monkeypatch.setattr("emulator.mind.chunks.base64.b64encode", encode)
    first, *rest = Cutter(VOICE).cut(["hello how can i help you"], 0.5).chunks
    assert encoded == []
    assert first.alone is first.alone and first.turn is first.turn
    # What waits is held as it sounds; what has been encoded is not held as sound, too.
    assert (len(encoded), first._pcms) == (1, ())
    assert all(chunk._turn is None and chunk._alone is None for chunk in rest)


def test_what_was_not_said_for_longest_is_forgotten() -> None:
    cutter = Cutter(VOICE, kept=3.0)
    cuts = {word: cutter.cut([word], 0.5) for word in ("hello", "sorry", "sunny")}
    assert all(cut.seconds == 1.0 for cut in cuts.values())
    assert cutter.cut(["hello"], 0.5) is cuts["hello"]
    cutter.cut(["paris"], 0.5)
    assert cutter.cut(["hello"], 0.5) is cuts["hello"]
    assert cutter.cut(["sorry"], 0.5) is not cuts["sorry"]


def test_what_is_longer_than_all_that_may_be_kept_is_said_and_not_kept() -> None:
    cutter = Cutter(VOICE, kept=3.0)
    hello = cutter.cut(["hello"], 0.5)
    assert cutter.cut(["how can i help you"], 0.5).seconds == 5.0
    assert cutter.cut(["hello"], 0.5) is hello
    assert cutter._seconds == 1.0
