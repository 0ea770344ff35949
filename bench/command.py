"""What the benchmarks' commands have in common."""

import argparse
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from bench.rig import LoadError
from parley.cli._failures import CliError


def parser(description: str | None) -> argparse.ArgumentParser:
    """With the options of all."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--load-processes", type=count, default=1, help="that the fabric's calls come from")
    return made


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


def say_load() -> None:
    """How busy the machine is: figures of a busy one are worth little."""
    average = ", ".join(f"{one:.2f}" for one in os.getloadavg())
    say(f"load average {average} on {os.cpu_count()} CPUs")


def run(main: Callable[[], Coroutine[Any, Any, int]]) -> None:
    """Runs a benchmark and ends the process: with its status, 1 when it could not be done, 130 on Ctrl-C."""
    try:
        sys.exit(uvloop.run(main()))
    except (LoadError, CliError) as error:
        sys.exit(f"the bench cannot be done: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
