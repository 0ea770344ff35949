"""A frame is read back exactly, or not at all."""

from __future__ import annotations

import pytest

from bench.load.stamps import Stamp, Stamper

STAMP = Stamp(call=3, seq=2**40, due=-5, sent=2**62)


@pytest.mark.parametrize(("frame_ms", "size"), [(20, 640), (40, 1280)])
def test_a_frame_is_as_long_as_its_audio_and_reads_as_it_was_stamped(frame_ms: int, size: int) -> None:
    stamper = Stamper(frame_ms)
    frame = stamper.frame(STAMP)
    assert len(frame) == size
    assert stamper.read(frame) == STAMP


def test_two_processes_make_the_same_frame() -> None:
    assert Stamper(20).frame(STAMP) == Stamper(20).frame(STAMP)


@pytest.mark.parametrize("at", [0, 3, 32, 639])
def test_a_changed_byte_of_magic_or_sound_makes_it_unreadable(at: int) -> None:
    stamper = Stamper(20)
    frame = bytearray(stamper.frame(STAMP))
    frame[at] ^= 1
    assert stamper.read(bytes(frame)) is None


def test_a_frame_that_is_cut_or_too_long_is_unreadable() -> None:
    stamper = Stamper(20)
    frame = stamper.frame(STAMP)
    for wrong in (b"", frame[:-2], frame[2:], frame + b"\0\0", frame[:32]):
        assert stamper.read(wrong) is None


def test_joined_frames_come_apart_and_a_rest_stays_visible() -> None:
    stamper = Stamper(20)
    frames = [stamper.frame(STAMP._replace(seq=seq)) for seq in (1, 2, 3)]
    assert stamper.split(frames[0]) == frames[:1]
    assert stamper.split(b"".join(frames)) == frames
    assert stamper.split(b"".join(frames)[:-2]) == [*frames[:2], frames[2][:-2]]
    assert stamper.split(b"") == []
