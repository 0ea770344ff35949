"""The queue between a session and a sound card: exact reads, a bound, prefill, interruption, another rate, threads."""

import array
import dataclasses
import itertools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import PlayoutQueue, PlayoutStats, events
from parley.audio import Resampler

RATE = 24_000
MS = RATE // 1000 * 2
"""Bytes."""


def audio(seq, milliseconds, value=1, rate=RATE):
    return events.Audio(seq, array.array("h", [value] * (milliseconds * rate // 1000)).tobytes(), rate)


def interrupted(seq, first=1, last=0):
    return events.Interrupted(seq, "BARGE_IN", first, last)


def plain(**more):
    return PlayoutQueue(**{"prefill_seconds": 0.0, **more})


def heard(queue, milliseconds):
    """Runs of equal samples, as (value, milliseconds)."""
    samples = np.frombuffer(queue.read(milliseconds * MS), "<i2")
    edges = [0, *(np.flatnonzero(np.diff(samples)) + 1), len(samples)]
    return [(int(samples[a]), (b - a) / 24) for a, b in itertools.pairwise(edges)]


# -- reading ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 300), max_size=10), st.lists(st.integers(0, 400).map(lambda n: n * 2), max_size=20))
def test_a_read_gives_exactly_what_was_asked_for_in_order_with_silence_after(lengths, reads):
    queue, fed = plain(), b""
    for seq, length in enumerate(lengths, 1):
        pcm = bytes([seq, seq]) * length
        queue.feed(events.Audio(seq, pcm, RATE))
        fed += pcm
    got = [queue.read(size) for size in reads]
    assert [len(pcm) for pcm in got] == reads
    total = sum(reads)
    assert b"".join(got) == (fed + bytes(total))[:total]
    assert queue.stats.played == pytest.approx(min(total, len(fed)) / 2 / RATE)
    assert queue.stats.queued == pytest.approx(max(0, len(fed) - total) / 2 / RATE)


@pytest.mark.parametrize("size", [-2, 1, 3])
def test_half_a_sample_cannot_be_read(size):
    with pytest.raises(ValueError, match="whole 16 bit samples"):
        PlayoutQueue().read(size)


def test_other_events_play_nothing():
    queue = plain()
    for event in (events.Text(1, "x"), events.TurnComplete(2), events.Ended(3, "CALLER")):
        queue.feed(event)
    assert queue.stats == PlayoutStats(0, 0, 0, 0)


# -- the bound -------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_dropped_as_it_arrives_and_counted():
    queue = plain(max_seconds=0.1)
    queue.feed(audio(1, 60))
    queue.feed(audio(2, 60, 2))
    queue.feed(audio(3, 40, 3))
    assert queue.stats == PlayoutStats(queued=pytest.approx(0.1), played=0, voided=0, dropped=pytest.approx(0.06))
    assert heard(queue, 110) == [(1, 60), (3, 40), (0, 10)]
    queue.feed(audio(4, 60, 4))
    assert heard(queue, 60) == [(4, 60)]


# -- prefill ---------------------------------------------------------------------------------------------------------


def test_speech_starts_when_enough_is_queued():
    queue = PlayoutQueue(prefill_seconds=0.06)
    assert heard(queue, 20) == [(0, 20)]
    queue.feed(audio(1, 40))
    assert heard(queue, 20) == [(0, 20)]
    queue.feed(audio(2, 40))
    assert heard(queue, 20) == [(1, 20)]
    assert queue.stats.queued == pytest.approx(0.06)


def test_an_answer_shorter_than_the_prefill_is_heard_all_the_same():
    queue = PlayoutQueue(prefill_seconds=0.06)
    queue.feed(audio(1, 20))
    assert heard(queue, 100) == [(0, 100)]
    assert heard(queue, 40) == [(1, 20), (0, 20)]


def test_after_a_gap_one_silence_and_not_a_crackle():
    queue = PlayoutQueue(prefill_seconds=0.06)
    queue.feed(audio(1, 80))
    assert heard(queue, 100) == [(1, 80), (0, 20)]
    played = []
    for seq in range(2, 8):  # each piece comes a little too late
        played += heard(queue, 20)
        queue.feed(audio(seq, 20, 5))
        played += heard(queue, 10)
    silences = [value for value, _ in played]
    assert silences == sorted(silences), played


def test_what_waits_when_it_runs_dry_without_a_gap_plays_on():
    queue = PlayoutQueue(prefill_seconds=0.06)
    queue.feed(audio(1, 60))
    assert heard(queue, 60) == [(1, 60)]
    queue.feed(audio(2, 10, 2))
    assert heard(queue, 20) == [(2, 10), (0, 10)]


@pytest.mark.parametrize("prefill", [-0.1, 1.0])
def test_an_impossible_prefill_is_refused(prefill):
    with pytest.raises(ValueError, match="prefill_seconds must be"):
        PlayoutQueue(prefill_seconds=prefill, max_seconds=1.0)


# -- interruption ----------------------------------------------------------------------------------------------------


def test_an_interruption_empties_the_queue_at_once_and_is_counted():
    queue = plain()
    for seq in range(1, 6):
        queue.feed(audio(seq, 100, seq))
    assert heard(queue, 150) == [(1, 100), (2, 50)]
    queue.feed(interrupted(6, 3, 9))
    assert heard(queue, 20) == [(0, 20)]
    assert queue.stats.voided == pytest.approx(0.35)
    queue.feed(audio(10, 20, 7))
    assert heard(queue, 20) == [(7, 20)]


def test_the_next_answer_survives_a_late_interruption():
    queue = plain()
    queue.feed(audio(8, 20))
    queue.feed(interrupted(5, 2, 4))
    assert heard(queue, 20) == [(1, 20)]


def silences(queue):
    """How many reads of 20 ms pass until something is heard."""
    return next(count for count in range(100) if heard(queue, 20) != [(0, 20)])


def test_the_prefill_begins_anew_after_an_interruption_and_after_a_gap():
    queue = PlayoutQueue(prefill_seconds=0.06)
    queue.feed(audio(1, 20))
    assert heard(queue, 20) + heard(queue, 20) == [(0, 20), (0, 20)]
    queue.feed(interrupted(2))
    assert heard(queue, 20) == [(0, 20)]
    for seq in (3, 4):
        queue.feed(audio(seq, 20))
        assert silences(queue) == 3
        assert heard(queue, 20) == [(0, 20)]


def test_a_listener_may_press_stop():
    queue = plain()
    queue.feed(audio(1, 100))
    queue.clear()
    assert queue.stats == PlayoutStats(queued=0, played=0, voided=pytest.approx(0.1), dropped=0)


# -- another rate ----------------------------------------------------------------------------------------------------


def noise(seconds, rate=RATE, seed=1):
    return np.random.default_rng(seed).integers(-9000, 9000, int(seconds * rate)).astype("<i2").tobytes()


def feed_in_pieces(queue, pcm, first_seq, rate=RATE):
    for number, at in enumerate(range(0, len(pcm), 1920)):
        queue.feed(events.Audio(first_seq + number, pcm[at : at + 1920], rate))


@pytest.mark.parametrize("end", [events.GenerationComplete, events.TurnComplete])
@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_a_card_at_another_rate_gets_the_whole_answer(rate, end):
    queue, pcm = plain(rate=rate), noise(0.5)
    feed_in_pieces(queue, pcm, 1)
    assert queue.stats.queued < 0.5
    queue.feed(end(99))
    assert queue.stats.queued == pytest.approx(0.5, abs=1e-4)
    resampler = Resampler(RATE, rate)
    assert queue.read(rate // 2 * 2) == resampler.push(pcm) + resampler.flush()


def test_nothing_of_an_interrupted_answer_is_in_the_next():
    queue, first, second = plain(rate=48_000), noise(0.2), noise(0.2, seed=2)
    feed_in_pieces(queue, first, 1)
    queue.feed(interrupted(50))
    feed_in_pieces(queue, second, 51)
    queue.feed(events.GenerationComplete(80))
    resampler = Resampler(RATE, 48_000)
    whole = resampler.push(second) + resampler.flush()
    assert queue.read(len(whole)) == whole


def test_a_late_interruption_takes_nothing_of_the_next_answer_from_between_the_rates():
    queue, answer = plain(rate=48_000), noise(0.2)
    feed_in_pieces(queue, answer[:4800], 10)
    queue.feed(interrupted(5, 2, 4))
    feed_in_pieces(queue, answer[4800:], 20)
    queue.feed(events.GenerationComplete(80))
    resampler = Resampler(RATE, 48_000)
    whole = resampler.push(answer) + resampler.flush()
    assert queue.read(len(whole)) == whole


def test_a_session_that_changes_its_rate_is_followed():
    queue = plain(rate=48_000)
    feed_in_pieces(queue, noise(0.2), 1)
    feed_in_pieces(queue, noise(0.2, 16_000), 20, rate=16_000)
    queue.feed(events.TurnComplete(99))
    assert queue.stats.queued == pytest.approx(0.4, abs=1e-3)


# -- threads ---------------------------------------------------------------------------------------------------------


def test_a_card_in_another_thread_hears_everything_once_in_order_and_nothing_after_an_interruption():
    queue, rounds, pieces = plain(), 40, 25
    taken, stop = bytearray(), threading.Event()

    def card():
        while not stop.is_set():
            taken.extend(queue.read(96))

    thread = threading.Thread(target=card)
    thread.start()
    seq, marks = 0, []
    try:
        for turn in range(1, rounds + 1):
            for _ in range(pieces):
                seq += 1
                queue.feed(audio(seq, 20, turn))
            seq += 1
            queue.feed(interrupted(seq))
            marks.append((turn, len(taken)))
    finally:
        stop.set()
        thread.join()
    samples = np.frombuffer(bytes(taken), "<i2")
    for turn, mark in marks:
        # One read may have been under way, between the queue and this list, when the interruption came.
        assert not (samples[(mark + 96) // 2 :] == turn).any()
    spoken = samples[samples > 0]
    assert (np.diff(spoken) >= 0).all()
    stats = queue.stats
    assert len(spoken) / RATE == pytest.approx(stats.played)
    assert sum(dataclasses.astuple(stats)) == pytest.approx(rounds * pieces * 0.02)
