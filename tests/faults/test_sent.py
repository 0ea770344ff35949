"""What a gap excuses: the frames of the messages that it names, and nothing else; and what `replayed` does."""

from __future__ import annotations

import re
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from emulator.marks import mark
from emulator.record.ranges import Ranges
from parley import events
from parley.v1 import live_pb2
from tests.faults.call import Call, repeated_untold
from tests.faults.sent import Sent, both, by_stream, has_voice, without

FRAME = 1280
LOUD = b"\x00\x20" * (FRAME // 2)


def message(seq: int, first: int, frames: int = 1) -> live_pb2.ConverseRequest:
    pcm = [mark(bytes(FRAME), stream=1, first=first + 2 * number) for number in range(frames)]
    return live_pb2.ConverseRequest(seq=seq, audio=live_pb2.AudioInput(frames=pcm))


def gap(first: int, last: int, *, direction: str = "UPLINK", media_class: str = "AUDIO") -> events.Gap:
    return events.Gap(7, direction, first, last, media_class, "LINK_LOST")


def resumed(first: int, last: int, media_class: str = "AUDIO") -> events.StreamResumed:
    lost = events.Undelivered(media_class, "TOO_OLD", 1, timedelta(), first, last)
    return events.StreamResumed(0, timedelta(), (), (lost,))


def frames(sent: Sent, *got: events.Event) -> list[tuple[int, int]]:
    return list(sent.excused(got))


def speaker() -> Sent:
    """Five messages of two marked frames each have left."""
    sent = Sent()
    for number in range(5):
        sent.said(LOUD if number in (1, 2) else bytes(FRAME), 2 * number, 2)
        sent.left(message(number + 1, 2 * number))
    return sent


def test_a_gap_excuses_the_frames_of_its_messages() -> None:
    sent = speaker()
    assert frames(sent) == []
    assert frames(sent, gap(2, 3)) == [(2, 6)]
    assert frames(sent, gap(1, 1), gap(5, 9)) == [(0, 2), (8, 10)]


def test_a_gap_of_something_else_excuses_nothing() -> None:
    sent = speaker()
    assert frames(sent, gap(2, 3, direction="DOWNLINK")) == []
    assert frames(sent, gap(2, 3, media_class="VITAL")) == []
    assert frames(sent, resumed(2, 3, "VIDEO")) == []


def test_a_number_means_what_it_was_given_to_last() -> None:
    sent = speaker()
    sent.left(message(3, 8))
    assert frames(sent, gap(3, 3)) == [(8, 10)]


def test_what_the_client_gave_up_is_named_by_the_numbers_it_had() -> None:
    sent = speaker()
    assert frames(sent, resumed(3, 3)) == [(4, 6)]
    sent.left(message(3, 8))  # which another message has from now on
    assert frames(sent, resumed(3, 3)) == [(4, 6)]
    sent.left(message(4, 4))  # nor what leaves after all
    assert frames(sent, resumed(3, 3)) == []


def test_or_by_none_where_it_had_not_left() -> None:
    sent = speaker()
    sent.said(bytes(FRAME), 10, 2)
    assert frames(sent, resumed(0, 0)) == [(10, 12)]


def test_what_was_sent_by_whoever_had_the_session_before_excuses_nothing() -> None:
    sent = Sent()
    sent.said(LOUD, 0, 4)
    sent.left(message(9, 0, 2))
    sent.left(message(6, 0, 2))  # it asked for 6 to 8, too, which were another stream's
    assert frames(sent, resumed(6, 8, "UNKNOWN")) == []
    assert frames(sent, resumed(6, 9, "UNKNOWN")) == [(0, 4)]


def test_voice_is_told_from_silence() -> None:
    assert list(speaker().voiced) == [(2, 6)]
    assert not has_voice(b"")
    assert has_voice(b"\x00\xe0")


def test_frames_of_a_record_are_sets() -> None:
    found = by_stream([{"stream": 1, "first": 3, "last": 5}, {"stream": 2, "first": 0, "last": 0}])
    assert {stream: list(runs) for stream, runs in found.items()} == {1: [(3, 6)], 2: [(0, 1)]}
    assert list(without(Ranges([(0, 10)]), found[1], Ranges([(8, 9)]))) == [(0, 3), (6, 8), (9, 10)]
    assert list(both(Ranges([(0, 4), (5, 9)]), found[1])) == [(3, 4), (5, 6)]


@pytest.mark.parametrize(
    ("again", "told", "found"),
    [
        ([], [], []),
        (["where is my order 7"], [((3, 3),)], []),
        (["Where is my order 7? It said: no."], [], [3]),
        (["where is my order 7"] * 2, [((3, 4),)], [3]),
        (["where is my order 7"] * 2, [((8, 8),), ((1, 3),)], []),
        (["where is my order 71"], [((3, 8),)], [9]),
    ],
)
def test_a_text_that_the_model_is_told_again_is_told_to_the_caller(
    again: list[str], told: list[Any], found: list[int]
) -> None:
    sent = Sent()
    for seq, text in ((8, "where is my order 7"), (9, "where is my order 71"), (3, "where is my order 7")):
        sent.left(live_pb2.ConverseRequest(seq=seq, text=live_pb2.TextInput(text=text)))
    recovered = [SimpleNamespace(replayed=replayed) for replayed in told]
    caller = SimpleNamespace(of=lambda _: recovered, sent=sent)
    call = cast(Call, SimpleNamespace(callers=[caller]))
    assert [int(re.findall(r"number \[([0-9]+)", line)[0]) for line in repeated_untold(call, again)] == found
