"""Resampling: the same sound at another rate, whatever the pieces; and what happens without the extra."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.audio import Resampler
from parley.errors import MissingExtra
from tests.support.hearing import hear
from tests.support.speech import TEXTS, question

TO_SESSION = [(rate, 16_000) for rate in (8_000, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)]
TO_CARD = [(24_000, rate) for rate in (16_000, 44_100, 48_000, 96_000)]
LEVEL = 20_000


def sine(hertz, rate, seconds=1.0, level=LEVEL):
    time = np.arange(round(rate * seconds)) / rate
    return np.rint(np.sin(2 * np.pi * hertz * time) * level).astype("<i2").tobytes()


def resampled(pcm, source, target, sizes=(1 << 30,)):
    """The whole stream in pieces of these numbers of samples, again and again."""
    resampler, out, at, turn = Resampler(source, target), [], 0, 0
    while at < len(pcm):
        size = sizes[turn % len(sizes)] * 2
        out.append(resampler.push(pcm[at : at + size]))
        at += size
        turn += 1
    return b"".join(out) + resampler.flush()


def middle(pcm, rate):
    """Without the ends, where a filter sees the silence before and after."""
    return np.frombuffer(pcm, "<i2")[rate // 10 : -rate // 10].astype(float)


def fitted(pcm, rate, hertz):
    """Level of the sine of `hertz`, and level of everything else, both in dB of what went in."""
    samples = middle(pcm, rate)
    time = np.arange(len(samples)) / rate
    basis = np.stack([np.sin(2 * np.pi * hertz * time), np.cos(2 * np.pi * hertz * time)], axis=1)
    found = np.linalg.lstsq(basis, samples, rcond=None)[0]
    rest = samples - basis @ found
    return 20 * np.log10(np.hypot(*found) / LEVEL), 20 * np.log10(rest.std() * np.sqrt(2) / LEVEL)


@pytest.mark.parametrize(("source", "target"), TO_SESSION + TO_CARD)
def test_a_sine_keeps_frequency_and_level_and_nothing_is_added(source, target):
    for hertz in (300, 0.42 * min(source, target)):
        level, noise = fitted(resampled(sine(hertz, source), source, target), target, hertz)
        assert abs(level) < 0.05
        assert noise < -85  # 16 bit rounding alone is at -96


@pytest.mark.parametrize(("source", "target"), [(48_000, 16_000), (44_100, 16_000), (24_000, 16_000)])
def test_what_the_lower_rate_cannot_carry_is_gone_and_not_folded_back(source, target):
    out = middle(resampled(sine(0.6 * target, source), source, target), target)
    assert 20 * np.log10(out.std() * np.sqrt(2) / LEVEL + 1e-9) < -80


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(TO_SESSION + TO_CARD), st.lists(st.integers(1, 3000), min_size=1, max_size=6))
def test_pieces_of_any_size_give_what_the_whole_gives(rates, sizes):
    source, target = rates
    noise = np.random.default_rng(1).integers(-20_000, 20_000, source // 4).astype("<i2").tobytes()
    assert resampled(noise, source, target, sizes) == resampled(noise, source, target)


@pytest.mark.parametrize(("source", "target"), TO_SESSION + TO_CARD)
@pytest.mark.parametrize("samples", [0, 1, 7, 320, 12_345])
def test_the_length_is_right(source, target, samples):
    out = resampled(bytes(2 * samples), source, target, (100,))
    assert abs(len(out) / 2 - samples * target / source) < 2


@pytest.mark.parametrize(("source", "target"), TO_SESSION + TO_CARD)
def test_it_is_a_few_hundredths_of_a_second_behind(source, target):
    resampler = Resampler(source, target)
    out = len(resampler.push(bytes(2 * source))) / 2 / target
    assert 1 - out <= (0.031 if source < 11_000 else 0.025 if source < 16_000 else 0.016)


def test_a_stream_that_was_flushed_or_reset_leaves_nothing_to_the_next():
    loud, quiet = sine(440, 48_000), sine(440, 48_000, level=100)
    alone = resampled(quiet, 48_000, 16_000)
    resampler = Resampler(48_000, 16_000)
    resampler.push(loud)
    resampler.flush()
    assert resampler.push(quiet) + resampler.flush() == alone
    resampler.push(loud)
    resampler.reset()
    assert resampler.push(quiet) + resampler.flush() == alone


def test_full_scale_is_clipped_and_not_turned_over():
    square = np.tile(np.repeat(np.array([32_767, -32_768], "<i2"), 60), 200).tobytes()
    out = np.frombuffer(resampled(square, 48_000, 16_000), "<i2").astype(int)
    assert (out.max(), out.min()) == (32_767, -32_768)
    assert np.abs(np.diff(out)).max() < 65_535


@pytest.mark.parametrize("rate", [44_100, 48_000])
@pytest.mark.parametrize("name", ["order_4711", "weather_paris"])
def test_speech_of_a_sound_card_is_understood_at_the_session_s_rate(rate, name):
    words = "where is my order (one | two | three | four | seven)+ | what is the weather in (paris | london)"
    at_card = resampled(question(name), 16_000, rate)
    frame = rate // 50
    assert hear(resampled(at_card, rate, 16_000, (frame,)), 16_000, words) == TEXTS[name]


def test_equal_rates_are_handed_on():
    resampler = Resampler(16_000, 16_000)
    assert resampler.push(b"abcd") == b"abcd"
    assert resampler.flush() == b""
    resampler.reset()


@pytest.mark.parametrize("rates", [(7_999, 16_000), (16_000, 192_001), (0, 16_000)])
def test_impossible_rates_are_refused(rates):
    with pytest.raises(ValueError, match="8000 to 192000 Hz"):
        Resampler(*rates)


@pytest.mark.parametrize("rates", [(48_000, 16_000), (16_000, 16_000)])
def test_half_a_sample_is_refused(rates):
    with pytest.raises(ValueError, match="whole 16 bit samples"):
        Resampler(*rates).push(b"abc")


def test_without_the_extra_the_error_says_what_to_install():
    probe = (
        "import sys; sys.modules['soxr'] = None\n"
        "import parley\n"
        "parley.PlayoutQueue().read(2); parley.audio.Resampler(16000, 16000)\n"
        "try: parley.PlayoutQueue(rate=48000)\n"
        "except ImportError as error: print(type(error).__name__, '|', error, '|', error.what_to_do)\n"
    )
    out = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    name, message, advice = out.stdout.strip().split(" | ")
    assert (name, advice) == ("MissingExtra", "Install parley[audio].")
    assert message == "resampling needs more than the bare client: pip install 'parley[audio]'"
    assert issubclass(MissingExtra, ImportError)
