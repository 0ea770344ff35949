"""Stories of tests/faults fail where a promise is taken away: without that they would prove nothing.

These are cheap to tell; `make test-sabotage` (`tests.faults.sabotage`) tells, under each sabotage, all stories of the
file that has the one about it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from parley.cli.stack import Stack, StackConfig
from tests.faults import sabotage as command
from tests.faults.call import Call
from tests.faults.log_off import nothing_said_is_stored
from tests.faults.stories import chosen, long
from tests.faults.test_links import (
    a_link_that_ends_while_the_caller_speaks,
    a_typed_question_and_a_link_that_ends,
    an_answer_that_is_cut_off_again_and_again,
)
from tests.support.sabotage_stack import Sabotaged


async def speaks(stack: Stack) -> None:
    await a_link_that_ends_while_the_caller_speaks(stack, "reset")


async def was_answered(stack: Stack) -> None:
    await a_typed_question_and_a_link_that_ends(stack, "turn_complete")


async def is_asked_again(stack: Stack) -> None:
    await an_answer_that_is_cut_off_again_and_again(stack, "turn")


async def has_no_log(stack: Stack) -> None:
    await nothing_said_is_stored(stack, "reset")


SEEN_BY: dict[str, Callable[[Stack], Awaitable[None]]] = {
    "no_replay": speaks,
    "double_replay": speaks,
    "no_words": was_answered,
    "words_kept": has_no_log,
    "asked_in_words": is_asked_again,
}

QUICK = ("no_replay", "no_words")


@pytest.fixture(scope="module")
def told(request: pytest.FixtureRequest) -> dict[str, BaseException | None]:
    """What went wrong with each sabotage, all at once."""
    sabotages = [sabotage for sabotage in SEEN_BY if sabotage in chosen(request, "sabotage")]

    async def tell(sabotage: str) -> None:
        async with Sabotaged(StackConfig(), sabotage) as stack:
            stack.failed = False
            await SEEN_BY[sabotage](stack)

    async def all_of_them() -> list[BaseException | None]:
        # What must fail mostly fails by never coming.
        Call.LIMIT = 15.0
        return await asyncio.gather(*map(tell, sabotages), return_exceptions=True)

    limit = Call.LIMIT
    try:
        return dict(zip(sabotages, asyncio.run(all_of_them()), strict=True))
    finally:
        Call.LIMIT = limit


@pytest.mark.parametrize("sabotage", [*QUICK, *long(sabotage for sabotage in SEEN_BY if sabotage not in QUICK)])
def test_a_story_fails(told: dict[str, BaseException | None], sabotage: str) -> None:
    assert isinstance(told[sabotage], AssertionError), told[sabotage]


SUMMARY = """\
=========================== short test summary info ============================
FAILED tests/faults/test_x.py::test_it[a_wait] - AssertionError: not within 15 s; got since then: ['[]', 'Audio']
FAILED tests/faults/test_x.py::test_it[a_look[reset on=x,1]] - assert [1] == []
FAILED tests/faults/test_x.py::test_it[a_bare_one] - AssertionError
FAILED tests/faults/test_x.py::test_it[a_worker_that_ends] - parley.cli._failures.CliError: worker-1: exit 1
FAILED tests/faults/test_x.py::test_it[a_limit] - TimeoutError
FAILED tests/faults/test_x.py::test_it[no_word]
ERROR tests/faults/test_x.py::test_it[a_stack] - AssertionError: it is up
6 failed, 1 error in 30.00s
"""


def test_only_a_broken_promise_counts_as_noticed() -> None:
    told = command.read(SUMMARY)
    assert told.failed == ["a_wait", "a_look[reset on=x,1]", "a_bare_one"]
    assert told.wrong == [
        "a_worker_that_ends: FAILED parley.cli._failures.CliError: worker-1: exit 1",
        "a_limit: FAILED TimeoutError",
        "no_word: FAILED",
        "a_stack: ERROR AssertionError: it is up",
    ]


def test_a_worker_that_does_not_start_is_not_noticed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    story = "a_link_that_ends_while_the_caller_speaks"
    error = f"ERROR tests/faults/test_links.py::test_it[{story}[reset]] - parley.cli._failures.CliError: exit 1\n"
    monkeypatch.setattr(command, "SABOTAGES", {"no_replay": None})
    monkeypatch.setattr(command, "SEEN_BY", {"no_replay": ("test_links.py", story)})
    monkeypatch.setattr(command, "tell", lambda _: (command.read(error), 9.0))
    assert command.main() == 1
    said = capsys.readouterr().out
    assert "NOT NOTICED" in said
    assert f"proves nothing: {story}[reset]: ERROR parley.cli._failures.CliError" in said
