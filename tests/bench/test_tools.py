"""bench.tools on real processes: it measures what it says, and a call that fails or runs twice is no figure."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bench.load.tally import Times
from bench.rig import LoadError
from bench.tools.__main__ import BARE, CALLS, CANCELLATIONS, figures, measure
from bench.tools.course import Course

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def course() -> AsyncIterator[Course]:
    async with Course() as running:
        yield running


def times(*milliseconds: float) -> Times:
    found = Times()
    for one in milliseconds:
        found.add(round(one * 1e6))
    return found


async def test_figures_stand_beside_the_bare_request_of_the_same_run() -> None:
    lines = figures({BARE: times(0.5, 0.5, 2.0), "call": times(1.0, 1.0, 8.0)})
    assert [str(line) for line in lines] == [
        '{"figure": "call_p50", "value": 1.0, "unit": "ms", "n": 3, "baseline": 0.5, "ratio": 2.0}',
        '{"figure": "call_p99", "value": 8.0, "unit": "ms", "n": 3, "baseline": 2.0, "ratio": 4.0}',
    ]


async def test_everything_is_measured_as_often_as_wanted(course: Course) -> None:
    found = await measure(course, 4, 3)
    assert {name: len(one) for name, one in found.items()} == {
        BARE: 4 * len(CALLS),
        **dict.fromkeys(CALLS, 4),
        **dict.fromkeys(CANCELLATIONS, 3),
    }
    assert all(figure.value and figure.baseline and figure.ratio for figure in figures(found))


async def test_a_call_of_a_session_that_is_another_owners_is_no_figure(course: Course) -> None:
    own, course._own = course._own, course._own + 1000
    try:
        with pytest.raises(LoadError, match="another owner"):
            await measure(course, 1, 1)
    finally:
        course._own = own


async def test_calls_that_do_not_run_once_are_no_figure(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    call = course.call

    async def twice(tool: str, *, claimed: bool = False) -> int:
        await call(tool, claimed=claimed)
        return await call(tool, claimed=claimed)

    monkeypatch.setattr(course, "call", twice)
    with pytest.raises(LoadError, match="3 calls ran 6 times"):
        await measure(course, 1, 1)
