"""Marks in audio: found whatever the pieces, never where there are none, and not in the way of hearing."""

import base64
import random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emulator.hearing.vad import RATE, Detector, Sensitivity, SpeechEnded
from emulator.marks import FRAMES, SHORTEST, STREAMS, Mark, Reader, mark
from tests.emulator.behaviour import behaviour, patched
from tests.support.hearing import hear
from tests.support.speech import TEXTS, question
from tests.support.stories import FRAME

SPEECH = question("weather_paris")


def read(pcm: bytes, pieces: list[int]) -> list[Mark]:
    """``pcm`` in pieces of these sizes, over and over."""
    reader, found, at, turn = Reader(), [], 0, 0
    while at < len(pcm):
        size = pieces[turn % len(pieces)]
        found += reader.feed(pcm[at : at + size])
        at, turn = at + size, turn + 1
    return found


def numbers(marks: list[Mark]) -> list[tuple[int, int]]:
    return [(one.stream, one.frame) for one in marks]


@behaviour("record.marks", off=patched("emulator.marks._marked", lambda frame, *_: frame))
@pytest.mark.parametrize("milliseconds", [10, 20, 40, 100])
@pytest.mark.parametrize("rate", [16000, 24000, 48000])
def test_every_frame_has_its_mark(milliseconds: int, rate: int) -> None:
    size = rate * milliseconds // 1000 * 2
    pcm = SPEECH[: len(SPEECH) // size * size]
    marked = mark(pcm, stream=7, first=1000, frame_ms=milliseconds, rate=rate)
    found = read(marked, [640])
    assert found == [Mark(7, 1000 + n, n * size, size) for n in range(len(pcm) // size)]


@settings(max_examples=200, deadline=None)
@given(
    frames=st.integers(1, 12),
    stream=st.integers(0, STREAMS - 1),
    first=st.integers(0, FRAMES - 12),
    pieces=st.lists(st.integers(1, 4000), min_size=1, max_size=12),
    before=st.integers(0, 700),
)
@example(frames=3, stream=STREAMS - 1, first=FRAMES - 3, pieces=[1], before=0)
def test_pieces_of_any_size_change_nothing(
    frames: int, stream: int, first: int, pieces: list[int], before: int
) -> None:
    marked = mark(SPEECH[32000 : 32000 + frames * FRAME], stream=stream, first=first)
    found = read(bytes(2 * before) + marked, pieces)
    assert found == [Mark(stream, first + n, 2 * before + n * FRAME, FRAME) for n in range(frames)]


def test_a_mark_changes_lowest_bits_only_and_survives_base64() -> None:
    marked = mark(SPEECH, stream=1, first=0)
    assert len(marked) == len(SPEECH)
    apart = np.frombuffer(marked, "<i2").astype(int) - np.frombuffer(SPEECH, "<i2")
    assert np.abs(apart).max() == 1
    sent = base64.b64decode(base64.urlsafe_b64encode(marked), altchars=b"-_")
    assert len(read(sent, [1280])) == -(-len(SPEECH) // FRAME)


def test_a_rest_is_a_frame_of_its_own_if_it_is_long_enough() -> None:
    assert [one.size for one in read(mark(bytes(FRAME + 2 * SHORTEST), stream=1, first=0), [64])] == [
        FRAME,
        2 * SHORTEST,
    ]
    rest = mark(bytes(FRAME + 2 * SHORTEST - 2), stream=1, first=0)[FRAME:]
    assert rest == bytes(2 * SHORTEST - 2)


@behaviour("record.marks", off=patched("emulator.marks._check", lambda *_: 0))
def test_a_frame_that_is_not_whole_has_no_mark_and_does_not_hide_its_neighbours() -> None:
    whole = mark(SPEECH[: 5 * FRAME], stream=1, first=0)
    third = slice(2 * FRAME, 3 * FRAME)
    for damage in (b"", whole[third][:400], whole[third][300:], whole[third][2:], whole[third][:-2] + b"\x55\x55"):
        damaged = whole[: third.start] + damage + whole[third.stop :]
        assert numbers(read(damaged, [640])) == [(1, 0), (1, 1), (1, 3), (1, 4)], len(damage)


@settings(max_examples=150, deadline=None)
@given(where=st.integers(0, 3 * FRAME * 8 - 1))
def test_one_flipped_bit_takes_one_mark_away(where: int) -> None:
    marked = bytearray(mark(SPEECH[40000 : 40000 + 3 * FRAME], stream=3, first=5))
    marked[where // 8] ^= 1 << where % 8
    expected = [(3, 5), (3, 6), (3, 7)]
    del expected[where // (8 * FRAME)]
    assert numbers(read(bytes(marked), [640])) == expected


def test_audio_that_nobody_marked_has_none() -> None:
    noise = random.Random(1).randbytes(16000 * 2 * 120)
    tone = (np.sin(np.arange(16000 * 10) * 0.3) * 9000).astype("<i2").tobytes()
    for pcm in (*map(question, TEXTS), noise, tone, bytes(64000), b"\xff" * 64000, b"\x01\x00" * 32000):
        assert read(pcm, [640]) == []


@settings(max_examples=150, deadline=None)
@given(pcm=st.binary(max_size=4000), pieces=st.lists(st.integers(1, 900), min_size=1, max_size=5))
def test_no_bytes_at_all_make_the_reader_see_marks_or_fail(pcm: bytes, pieces: list[int]) -> None:
    assert read(pcm, pieces) == []


def test_a_frame_that_breaks_off_hides_others_for_its_own_length_at_most() -> None:
    beginning = mark(SPEECH[:64000], stream=1, first=0, frame_ms=1000)[:600]
    later = mark(SPEECH[: 60 * FRAME], stream=2, first=0)
    reader = Reader()
    assert reader.feed(beginning + later[: 49 * FRAME]) == []
    assert numbers(reader.feed(later[49 * FRAME :])) == [(2, n) for n in range(60)]


def test_marked_speech_is_heard_as_before() -> None:
    grammar = " | ".join(sorted({f"({text})" for text in TEXTS.values()}))
    for name, text in TEXTS.items():
        marked = mark(bytes(9600) + question(name) + bytes(40000), stream=1, first=0)
        detector = Detector(Sensitivity(), 150.0)
        boundaries = [
            one for at in range(0, len(marked), FRAME) for one in detector.feed(marked[at : at + FRAME], RATE)
        ]
        spoken = [one.pcm for one in boundaries if isinstance(one, SpeechEnded)]
        assert [hear(pcm, RATE, grammar) for pcm in spoken] == [text], name


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"stream": STREAMS, "first": 0}, "streams are numbered from 0 to 65535"),
        ({"stream": -1, "first": 0}, "streams"),
        ({"stream": 0, "first": FRAMES}, "frames from 0 to 4294967295"),
        ({"stream": 0, "first": -1}, "frames"),
        ({"stream": 0, "first": 0, "frame_ms": 7}, "160 to 48000 samples; 7 ms at 16000 Hz are 112"),
        ({"stream": 0, "first": 0, "frame_ms": 4000}, "160 to 48000 samples"),
    ],
)
def test_what_cannot_be_marked_is_refused(arguments: dict[str, int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        mark(bytes(FRAME), **arguments)
