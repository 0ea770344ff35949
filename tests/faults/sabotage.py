"""Do the stories of tests/faults notice broken promises? `make test-sabotage`.

Each sabotage takes away one thing that a promise stands on (tests/support/sabotage.py); then the stories of one file
are told as ever, and one must find its promise broken within two minutes. Prints which of them did, and exits with 1
where a sabotage was not noticed in time, or not by the story that is about it. What went wrong otherwise counts for
nothing, and is printed as such: a worker that does not start breaks no promise.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.sabotage import SABOTAGES
from tests.support.sabotage_stack import STORIES

LIMIT = 120.0
"""Seconds."""
_FOLDER = Path(__file__).parent
_LINKS, _WORKERS, _FENCE, _DRAIN, _TOOLS, _CAUSES = (
    str(_FOLDER / f"test_{name}.py") for name in ("links", "workers", "fence", "drain", "live_tools", "causes")
)
SEEN_BY = {
    "no_replay": (_LINKS, "a_link_that_ends_while_the_caller_speaks"),
    "double_replay": (_LINKS, "a_link_that_ends_while_the_caller_speaks"),
    "no_fence": (_FENCE, "an_owner_that_was_replaced_unawares"),
    "restarted_seq": (_WORKERS, "the_model_speaks"),
    "early_ack": (_WORKERS, "the_caller_speaks"),
    "no_words": (_LINKS, "a_typed_question_and_a_link_that_ends"),
    "words_kept": (_LINKS, "nothing_said_is_stored"),
    "asked_in_words": (_LINKS, "an_answer_that_is_cut_off_again_and_again"),
    "no_quiet_moment": (_DRAIN, "the_model_speaks"),
    "open_link": (_DRAIN, "an_operator_moves_and_drains"),
    "one_result": (_TOOLS, "every_result_reaches_the_model_as_it_is_scheduled"),
    "lost_outcome": (_TOOLS, "a_call_that_runs_while_a_later_answer_is_cut_off"),
    "no_cancellation": (_TOOLS, "a_stream_that_the_model_takes_back_ends"),
    "no_notes": (_CAUSES, "reset"),
}
"""Stories under each sabotage, and one that is about what it takes away."""
_FAILED = re.compile(r"^(FAILED|ERROR) \S+::\w+\[(.+?)\](?: - (.*))?$", re.MULTILINE)
_BROKEN = re.compile(r"AssertionError\b|assert ")
"""How the reason begins where a story found its promise broken; waits of stories end in it too."""


@dataclass
class Told:
    """What became of the stories."""

    failed: list[str] = field(default_factory=list)
    """Those that found their promise broken."""
    wrong: list[str] = field(default_factory=list)
    """Those that proved nothing, and why."""


def read(summary: str) -> Told:
    """What pytest says in the end."""
    told = Told()
    for how, name, why in _FAILED.findall(summary):
        if how == "FAILED" and _BROKEN.match(why):
            told.failed.append(name)
        else:
            told.wrong.append(f"{name}: {how} {why}".rstrip())
    return told


def tell(sabotage: str) -> tuple[Told, float]:
    """What became of the stories, and the seconds until it was known."""
    file, _ = SEEN_BY[sabotage]
    began = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "pytest",
        file,
        "-q",
        "--tb=no",
        "-rfE",
        "-m",
        "long or not long",
        "-p",
        "no:cacheprovider",
    ]
    try:
        told = subprocess.run(
            command,
            env={**os.environ, STORIES: sabotage, "COLUMNS": "500"},
            stdout=subprocess.PIPE,
            text=True,
            timeout=LIMIT,
            check=False,
        ).stdout
    except subprocess.TimeoutExpired:
        told = ""
    return read(told), time.monotonic() - began


def main() -> int:
    """The command."""
    assert set(SEEN_BY) == set(SABOTAGES)
    unnoticed = []
    for sabotage, (_, story) in SEEN_BY.items():
        told, seconds = tell(sabotage)
        noticed = any(name.split("[")[0] == story for name in told.failed)
        if not noticed:
            unnoticed.append(sabotage)
        how = f"{'noticed' if noticed else 'NOT NOTICED'} within {seconds:.0f} s by {len(told.failed)} stories"
        print(f"{sabotage:<16}{how}")
        for name in told.failed:
            print(f"{'':<16}{name}")
        for problem in told.wrong:
            print(f"{'':<16}proves nothing: {problem}")
        sys.stdout.flush()
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
