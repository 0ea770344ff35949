"""What the benchmarks' command lines have in common."""

import argparse
import sys


def count(text: str) -> int:
    """An argument of 1 or more."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of 1 or more, not {text}")
    return int(text)


def positive(text: str) -> float:
    """An argument above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


def say(line: str) -> None:
    """Progress, for people: stdout has figures only."""
    print(line, file=sys.stderr, flush=True)
