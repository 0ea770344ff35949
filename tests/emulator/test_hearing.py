"""The recogniser in its real process, on recorded questions."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from emulator.audio import resample
from emulator.hearing.ears import Bounds, Ears
from emulator.hearing.grammar import jsgf
from emulator.hearing.recogniser import HearingError
from emulator.hearing.vad import FRAME_BYTES, FRAME_SECONDS, RATE, Detector, Sensitivity, SpeechEnded
from emulator.marks import mark
from emulator.scenarios import scenario
from tests.emulator.behaviour import behaviour, patched
from tests.emulator.patience import Patience, in_time
from tests.support.speech import TEXTS, question

pytestmark = pytest.mark.asyncio(loop_scope="module")

SUPPORT = scenario.named("support")

# Questions of calls with a mark in each frame: the recording, the call's stream, the frame with which the recording
# began, and the frames that the utterance had. The first was heard as "be quiet", the other not at all.
FOUND_IN_LONG_RUNS = [
    ("weather_paris", 524, 296, range(298, 387)),
    ("order_4711", 811, 1942, range(1936, 2068)),
]


@contextlib.asynccontextmanager
async def listening(grammars: dict[str, str] | None = None, **options: Any) -> AsyncIterator[Ears]:
    bounds = options.pop("bounds", Bounds(utterances=16, size=10**7, timeout=20))
    ears = Ears(grammars or {"support": jsgf(SUPPORT)}, doubt=3.6, bounds=bounds, **options)
    await ears.start()
    try:
        yield ears
    finally:
        await ears.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ears() -> AsyncIterator[Ears]:
    async with listening() as ears:
        yield ears


def utterances(pcm: bytes, piece: int, rate: int = RATE) -> list[bytes]:
    detector = Detector(Sensitivity(), 150.0)
    found = [one for at in range(0, len(pcm), piece) for one in detector.feed(pcm[at : at + piece], rate)]
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


@behaviour("audio.resampling", off=patched("emulator.hearing.vad.Intake.feed", lambda self, pcm, rate: pcm))
@pytest.mark.parametrize("rate", [8000, 24000, 48000])
async def test_questions_are_heard_right_at_other_rates(ears: Ears, rate: int) -> None:
    heard = []
    for name in ("weather_london_noisy", "order_1234", "hello"):
        spoken = utterances(resample(question(name) + bytes(2 * RATE), RATE, rate), 1281, rate)
        heard.append([await ears.hear("support", pcm) for pcm in spoken])
    assert heard == [[TEXTS["weather_london_noisy"]], [TEXTS["order_1234"]], [TEXTS["hello"]]]


def louder(pcm: bytes, factor: float) -> bytes:
    return np.clip(np.frombuffer(pcm, "<i2") * factor, -32768, 32767).astype("<i2").tobytes()


async def test_what_was_heard_before_changes_nothing() -> None:
    cut_short = question("order_4711")[:38400]
    async with listening() as ears:
        for name in TEXTS:
            for factor in (0.05, 8.0):
                await ears.hear("support", louder(question(name), factor))
            assert await ears.hear("support", question("weather_london_noisy")) == TEXTS["weather_london_noisy"], name
            assert await ears.guess("support", cut_short) == "where is my order", name


@pytest.mark.parametrize(("name", "stream", "begins", "heard"), FOUND_IN_LONG_RUNS)
async def test_a_question_is_heard_whatever_is_in_the_lowest_bits(
    ears: Ears, name: str, stream: int, begins: int, heard: range
) -> None:
    before, after = bytes(FRAME_BYTES * begins), bytes(FRAME_BYTES * heard.stop)
    call = mark((before + question(name) + after)[: FRAME_BYTES * heard.stop], stream=stream, first=0)
    assert await ears.hear("support", call[FRAME_BYTES * heard.start :]) == TEXTS[name]


async def test_a_question_is_heard_wherever_its_utterance_begins(ears: Ears) -> None:
    wrong = []
    for name in ("weather_paris", "order_4711"):
        for shift in (0, FRAME_BYTES // 2):
            (spoken,) = utterances(bytes(RATE + shift) + question(name) + bytes(2 * RATE), FRAME_BYTES)
            for frames in range(round(Sensitivity().look_back / FRAME_SECONDS) + 1):
                heard = await ears.hear("support", spoken[frames * FRAME_BYTES :])
                if heard != TEXTS[name]:
                    wrong.append((name, shift, frames, heard))
    assert wrong == []


async def test_noise_is_not_understood(ears: Ears) -> None:
    noise = np.random.default_rng(1).normal(0, 1500, RATE).astype("<i2").tobytes()
    assert await ears.hear("support", noise) is None
    assert await ears.hear("support", b"") is None
    assert await ears.guess("support", b"") is None
    assert ears.counters.restarts == 0


async def test_many_at_once_are_answered_each_with_its_own(ears: Ears) -> None:
    names = ["weather_paris", "weather_london", "hello", "order_1234", "goodbye"] * 3
    heard = await asyncio.gather(*(ears.hear("support", question(name)) for name in names))
    assert heard == [TEXTS[name] for name in names]


async def test_a_full_queue_drops_and_counts(ears: Ears) -> None:
    before = replace(ears.counters)
    heard = await asyncio.gather(*(ears.hear("support", question("hello")) for _ in range(20)))
    assert heard == ["hello"] * 16 + [None] * 4
    assert ears.counters.dropped - before.dropped == 4
    assert ears.counters.dropped_bytes - before.dropped_bytes == 4 * len(question("hello"))


async def test_the_queue_is_bounded_in_bytes_too() -> None:
    async with listening(bounds=Bounds(utterances=32, size=2 * len(question("hello")), timeout=20)) as ears:
        heard = await asyncio.gather(*(ears.hear("support", question("hello")) for _ in range(3)))
        assert heard == ["hello", "hello", None]
        assert ears.counters.dropped_bytes == len(question("hello"))


@behaviour("hearing.dies", off=patched("emulator.hearing.recogniser.Recogniser._lost", lambda self, run: None))
async def test_a_recogniser_that_dies_is_replaced_and_what_it_was_asked_is_not_understood() -> None:
    async with listening(bounds=Bounds(utterances=32, size=10**7, timeout=Patience.seconds(in_vain=0.5))) as ears:
        (first,) = ears.pids
        os.kill(first, signal.SIGSTOP)
        asked = asyncio.create_task(ears.hear("support", question("hello")))
        await asyncio.sleep(0)
        os.kill(first, signal.SIGKILL)
        assert await asked is None
        assert ears.counters.dropped == 1
        assert await ears.hear("support", question("hello")) == "hello"
        assert ears.counters.restarts == 1
        assert ears.pids != [first]


@behaviour("hearing.stuck", off=patched("emulator.hearing.recogniser.Recogniser._lost", lambda self, run: None))
async def test_a_recogniser_that_is_stuck_is_replaced_too() -> None:
    async with listening(bounds=Bounds(utterances=32, size=10**7, timeout=1)) as ears:
        (stuck,) = ears.pids
        (recogniser,) = ears._recognisers
        os.kill(stuck, signal.SIGSTOP)
        try:
            assert await ears.hear("support", question("hello")) is None
            assert ears.counters.dropped == 1
            # Another one has to start now, on a machine that may be busy.
            recogniser._timeout = Patience.seconds(in_vain=1.0)
            assert await ears.hear("support", question("hello")) == "hello"
            assert ears.pids != [stuck]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(stuck, signal.SIGCONT)


async def test_one_that_is_only_slow_is_left_alone() -> None:
    # Many short ones: an answer comes within the timeout on a busy machine, too, and all of them do on none.
    async with listening(bounds=Bounds(utterances=500, size=10**9, timeout=1.0)) as ears:
        pids = ears.pids
        heard = await asyncio.gather(*(ears.hear("support", question("hello")) for _ in range(500)))
        assert heard[0] is not None and heard[-1] is None
        assert ears.pids == pids


@behaviour("hearing.processes", off=patched("emulator.hearing.ears._least_busy", lambda recognisers: recognisers[0]))
async def test_several_recognisers_share_the_work() -> None:
    async with listening(processes=2) as ears:
        slow, fast = ears.pids
        os.kill(slow, signal.SIGSTOP)
        try:
            waiting = asyncio.create_task(ears.hear("support", question("hello")))
            await asyncio.sleep(0)
            async with in_time(in_vain=0.7):
                assert await ears.hear("support", question("goodbye")) == TEXTS["goodbye"]
        finally:
            os.kill(slow, signal.SIGCONT)
        assert await waiting == "hello"
        assert len({slow, fast}) == 2


@behaviour(
    "hearing.remembered", off=patched("emulator.hearing.remembered.Remembered.keep", lambda self, key, text: None)
)
async def test_what_was_heard_before_is_understood_without_a_recogniser() -> None:
    async with listening(remembered=2) as ears:
        assert await ears.hear("support", question("hello")) == "hello"
        assert await ears.hear("support", question("pizza")) is None
        for pid in ears.pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            async with in_time(in_vain=1.0):
                assert await ears.hear("support", question("hello")) == "hello"
                assert await ears.hear("support", question("pizza")) is None
        finally:
            for pid in ears.pids:
                os.kill(pid, signal.SIGCONT)
        assert (ears.counters.heard, ears.counters.not_understood, ears.counters.remembered) == (2, 2, 2)
        # One sample, one grammar or one wish more makes it another question.
        assert await ears.hear("support", question("pizza"), free=True) == TEXTS["pizza"]
        assert await ears.hear("support", question("hello") + b"\1\0") == "hello"
        assert await ears.hear("nothing", question("hello")) is None
        assert ears.counters.remembered == 2
        # The oldest of all these is forgotten.
        assert await ears.hear("support", question("hello")) == "hello"
        assert ears.counters.remembered == 2


async def test_who_says_the_same_meanwhile_waits_for_the_same_answer() -> None:
    async with listening(remembered=10) as ears:
        first = asyncio.create_task(ears.hear("support", question("hello")))
        others = [asyncio.create_task(ears.hear("support", question("hello"))) for _ in range(30)]
        await asyncio.sleep(0)
        # Others than who asked first want to know it.
        first.cancel()
        assert await asyncio.gather(*others) == ["hello"] * 30
        assert (ears.counters.heard, ears.counters.remembered, ears.counters.dropped) == (30, 30, 0)
        assert (ears._waiting, ears._waiting_bytes, ears._asking) == (0, 0, {})


async def test_who_says_the_same_meanwhile_loses_the_same_recogniser() -> None:
    async with listening(remembered=10) as ears:
        (pid,) = ears.pids
        os.kill(pid, signal.SIGSTOP)
        asked = [asyncio.create_task(ears.hear("support", question("hello"))) for _ in range(3)]
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        assert await asyncio.gather(*asked) == [None] * 3
        assert (ears.counters.heard, ears.counters.not_understood, ears.counters.dropped) == (0, 0, 3)


async def test_what_was_not_answered_is_not_remembered() -> None:
    async with listening(remembered=10) as ears:
        (pid,) = ears.pids
        os.kill(pid, signal.SIGSTOP)
        asked = asyncio.create_task(ears.hear("support", question("hello")))
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        assert await asked is None
        assert await ears.hear("support", question("hello")) == "hello"


def switched_off(self: Ears, question: dict[str, Any], pcm: bytes) -> Coroutine[Any, Any, str | None]:
    """Asks as though nobody had wanted free speech or a guess."""
    return Ears_ask(self, {"grammar": question["grammar"], "free": False}, pcm)


Ears_ask = Ears._ask


@behaviour("hearing.open", off=patched("emulator.hearing.ears.Ears._ask", switched_off))
async def test_an_open_vocabulary_keeps_the_words_of_what_no_rule_knows(ears: Ears) -> None:
    assert await ears.hear("support", question("pizza"), free=True) == TEXTS["pizza"]
    assert await ears.hear("support", question("pizza")) is None
    # What the scenario knows is heard as the scenario has it: four, not for.
    assert await ears.hear("support", question("order_4711"), free=True) == TEXTS["order_4711"]


@behaviour("hearing.guess", off=patched("emulator.hearing.ears.Ears._ask", switched_off))
async def test_a_guess_has_the_words_that_have_been_said_so_far(ears: Ears) -> None:
    pcm, before = question("order_4711"), ears.counters.guesses
    guesses = [await ears.guess("support", pcm[: int(32000 * seconds)]) for seconds in (0.2, 1.2, 1.9)]
    assert guesses == [None, "where is my order", "where is my order four seven"]
    assert (await ears.guess("support", question("pizza")[:48000], free=True) or "").startswith("i would like")
    assert ears.counters.guesses - before == 4


async def test_whole_utterances_come_before_guesses(ears: Ears) -> None:
    before = ears.counters.guesses_dropped
    asked = [asyncio.create_task(ears.hear("support", question("hello"))) for _ in range(8)]
    await asyncio.sleep(0)
    assert await ears.guess("support", question("hello")) is None
    assert ears.counters.guesses_dropped - before == 1
    assert await asyncio.gather(*asked) == ["hello"] * 8


async def test_words_that_the_recogniser_does_not_know_are_named(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("name: odd\nrules: [{name: a, hear: [hello frobnicator]}]\n")
    ears = Ears({"odd": jsgf(scenario.load(path))}, doubt=3.6, bounds=Bounds(utterances=1, size=10**6, timeout=5))
    with pytest.raises(HearingError, match="scenario odd: the recogniser does not know frobnicator"):
        await ears.start()
    await ears.stop()


async def test_a_scenario_that_hears_nothing_understands_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("name: deaf\n")
    async with listening({"deaf": jsgf(scenario.load(path))}) as ears:
        assert await ears.hear("deaf", question("hello")) is None
        assert await ears.guess("deaf", question("hello")) is None
        assert await ears.hear("deaf", question("hello"), free=True) == "hello"
