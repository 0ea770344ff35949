"""The benchmarks' command lines."""

from __future__ import annotations

import argparse

import pytest

from bench import command
from bench.rig import LoadError


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "x", "\u0661"])
def test_a_count_is_a_whole_number_of_one_or_more(text: str) -> None:
    assert command.count("12") == 12
    with pytest.raises(argparse.ArgumentTypeError):
        command.count(text)


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "x"])
def test_a_time_is_above_zero_and_finite(text: str) -> None:
    assert command.positive("0.5") == 0.5
    with pytest.raises((argparse.ArgumentTypeError, ValueError)):
        command.positive(text)


@pytest.mark.parametrize(
    ("raised", "status"), [(None, 7), (LoadError("why"), "the bench cannot be done: why"), (KeyboardInterrupt(), 130)]
)
def test_how_a_benchmark_ends(raised: BaseException | None, status: int | str) -> None:
    async def main() -> int:
        if raised is not None:
            raise raised
        return 7

    with pytest.raises(SystemExit) as ended:
        command.run(main)
    assert ended.value.code == status
