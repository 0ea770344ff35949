import array

import pytest

from parley import Playout, events

RATE = 1000


def audio(seq, seconds, value=1):
    return events.Audio(seq, array.array("h", [value] * int(seconds * RATE)).tobytes(), RATE)


def interrupted(seq, first=1, last=0):
    return events.Interrupted(seq, "BARGE_IN", first, last)


def values(playout, now):
    samples = array.array("h")
    samples.frombytes(playout.rendered(now))
    return samples.tolist()


def test_audio_plays_in_real_time_after_what_is_before_it():
    playout = Playout(now=100.0, rate=RATE)
    playout.add(audio(1, 0.5), 100.0)
    playout.add(audio(2, 0.5, 2), 100.1)
    assert playout.played_seconds(100.25) == pytest.approx(0.25)
    assert playout.queued_seconds(100.25) == pytest.approx(0.75)
    assert playout.played_seconds(200.0) == pytest.approx(1.0)
    assert playout.queued_seconds(200.0) == 0


def test_silence_is_where_nothing_plays():
    playout = Playout(now=0.0, rate=RATE)
    playout.add(audio(1, 0.1), 0.2)
    playout.add(audio(2, 0.1, 2), 0.5)
    heard = values(playout, 0.7)
    assert heard == [0] * 200 + [1] * 100 + [0] * 200 + [2] * 100 + [0] * 100


def test_an_interruption_cuts_off_what_plays_and_empties_the_queue():
    playout = Playout(now=0.0, rate=RATE)
    for seq in range(1, 6):
        playout.add(audio(seq, 1.0, seq), 0.0)
    playout.interrupted(interrupted(6, 3, 9), 1.5)
    assert playout.queued_seconds(1.5) == 0
    assert playout.voided_seconds() == pytest.approx(3.5)
    playout.add(audio(10, 0.5, 10), 2.0)
    assert values(playout, 3.0) == [1] * 1000 + [2] * 500 + [0] * 500 + [10] * 500 + [0] * 500
    assert playout.played_seconds(3.0) == pytest.approx(2.0)


def test_audio_that_was_acked_before_the_interruption_is_not_heard_either():
    """The service names as void only what it has not delivered; the listener hears nothing of the rest all the same."""
    playout = Playout(now=0.0, rate=RATE)
    playout.add(audio(1, 2.0), 0.0)
    playout.interrupted(interrupted(2, 2, 1), 0.5)
    assert playout.played_seconds(10) == pytest.approx(0.5)


def test_audio_of_the_next_answer_survives_a_late_interruption():
    playout = Playout(now=0.0, rate=RATE)
    playout.add(audio(8, 1.0), 0.0)
    playout.interrupted(interrupted(5, 2, 4), 0.0)
    assert playout.queued_seconds(0.0) == pytest.approx(1.0)


def test_rounding_to_samples_does_not_add_up():
    playout = Playout(now=0.0, rate=24_000)
    playout.add(events.Audio(1, bytes(48_000 * 20), 24_000), 0.0)
    for step in range(1, 3000):
        playout.advance(step * 0.0033337)
    assert playout.played_seconds(10.0) == pytest.approx(10.0, abs=1e-4)
    assert len(playout.rendered(10.0)) == 480_000


def test_the_recording_is_bounded_and_playing_goes_on():
    playout = Playout(now=0.0, rate=RATE, max_seconds=1.0)
    playout.add(audio(1, 3.0), 0.0)
    assert playout.played_seconds(3.0) == pytest.approx(3.0)
    assert len(playout.rendered(99.0)) == 2 * RATE


def test_another_sample_rate_is_refused():
    with pytest.raises(ValueError, match="24000 Hz on a playout of 1000 Hz"):
        Playout(now=0.0, rate=RATE).add(events.Audio(1, b"", 24_000), 0.0)
