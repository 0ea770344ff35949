"""The recogniser in its real process, on recorded questions."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from emulator import scenario
from emulator.hearing.ears import Ears, HearingError
from emulator.hearing.grammar import jsgf
from emulator.vad import RATE, Detector, Sensitivity, SpeechEnded
from tests.support.eventually import eventually
from tests.support.speech import TEXTS, question

SUPPORT = scenario.named("support")


@pytest.fixture
async def ears() -> AsyncIterator[Ears]:
    ears = Ears({"support": jsgf(SUPPORT)}, doubt=3.6, queue=32, timeout=20)
    await ears.start()
    yield ears
    await ears.stop()


def utterances(pcm: bytes, piece: int) -> list[bytes]:
    detector = Detector(Sensitivity(), 150.0)
    found = [one for at in range(0, len(pcm), piece) for one in detector.feed(pcm[at : at + piece], RATE)]
    return [one.pcm for one in found if isinstance(one, SpeechEnded)]


async def test_every_recorded_question_is_heard_right_however_it_is_streamed(ears: Ears) -> None:
    wrong = []
    for name, text in TEXTS.items():
        expected = text if name != "pizza" else None
        for around, piece in ((0.3, 640), (1.1, 1280)):
            silence = bytes(int(RATE * around) * 2)
            spoken = utterances(silence + question(name) + silence + bytes(RATE), piece)
            heard = [await ears.hear("support", pcm) for pcm in spoken]
            if heard != [expected]:
                wrong.append((name, piece, heard))
    assert wrong == []


async def test_noise_is_not_understood(ears: Ears) -> None:
    noise = np.random.default_rng(1).normal(0, 1500, RATE).astype("<i2").tobytes()
    assert await ears.hear("support", noise) is None
    assert await ears.hear("support", b"") is None


async def test_many_at_once_are_answered_each_with_its_own(ears: Ears) -> None:
    names = ["weather_paris", "weather_london", "hello", "order_1234", "goodbye"] * 4
    heard = await asyncio.gather(*(ears.hear("support", question(name)) for name in names))
    assert heard == [TEXTS[name] for name in names]


async def test_a_full_queue_drops_and_counts(ears: Ears) -> None:
    heard = await asyncio.gather(*(ears.hear("support", question("hello")) for _ in range(40)))
    assert heard == ["hello"] * 32 + [None] * 8
    assert ears.counters.dropped == 8
    assert ears.counters.dropped_bytes == 8 * len(question("hello"))


async def test_a_recogniser_that_dies_is_replaced(ears: Ears) -> None:
    assert ears.pid is not None
    os.kill(ears.pid, signal.SIGKILL)
    await eventually(lambda: ears.pid is None)
    assert await ears.hear("support", question("hello")) == "hello"
    assert ears.counters.restarts == 1


async def test_words_that_the_recogniser_does_not_know_are_named(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("name: odd\nrules: [{name: a, hear: [hello frobnicator]}]\n")
    ears = Ears({"odd": jsgf(scenario.load(path))}, doubt=3.6, queue=1, timeout=1)
    with pytest.raises(HearingError, match="scenario odd: the recogniser does not know frobnicator"):
        await ears.start()
    await ears.stop()
