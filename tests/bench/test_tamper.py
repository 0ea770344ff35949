"""What the self-test does to a stream of frames."""

from __future__ import annotations

import pytest

from bench.load.tamper import KINDS, Kind, Tamper


@pytest.mark.parametrize(("kind", "expected"), [("drop", "abde"), ("double", "abccde"), ("swap", "abdce")])
def test_one_frame_is_tampered_with_and_the_others_pass(kind: Kind, expected: str) -> None:
    tamper = Tamper(kind, at=3)
    passed = [frame for letter in "abcde" for frame in tamper.pass_on(letter.encode())]
    assert b"".join(passed).decode() == expected


def test_there_are_three_kinds() -> None:
    assert KINDS == ("drop", "double", "swap")
