"""Generators as tools, and functions that say how far they are: through the executor, as the service runs them."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest

from parley.v1 import fabric_pb2, live_pb2
from services.tools import ToolContext, ToolError, tool
from services.tools.declare import declare
from services.tools.execute import Execution, Result
from services.tools.outbox import HELD_BACK, MAX_PARTIAL, MAX_REPORTS
from tests.support.eventually import eventually
from tests.tools.test_execute import CANCELLED, FAILED, SUCCEEDED, TIMED_OUT, UNKNOWN, Bench

SILENT = live_pb2.RESPONSE_SCHEDULING_SILENT


class Stage(Bench):
    """A bench whose executions are listened to."""

    def __init__(self) -> None:
        super().__init__()
        self.reports: list[fabric_pb2.ToolReport] = []
        self.execution: Execution | None = None

    async def _keep(self, report: fabric_pb2.ToolReport) -> None:
        self.reports.append(report)

    async def perform(self, name: str, arguments: dict[str, Any] | None = None, **values: Any) -> Result:
        execution = self.admit(name, arguments_json=json.dumps(arguments or {}), **values)
        assert isinstance(execution, Execution)
        self.execution = execution
        execution.context.reports.listen(self._keep)
        try:
            return await self.executor.run(execution)
        finally:
            await execution.context.reports.close()

    @property
    def partials(self) -> list[Any]:
        return [json.loads(report.partial.output_json) for report in self.reports if report.HasField("partial")]

    @property
    def progress(self) -> list[tuple[str, float]]:
        told = [report.progress for report in self.reports if report.HasField("progress")]
        return [(one.message, round(one.fraction, 3)) for one in told]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    tasks = asyncio.all_tasks()
    stage = Stage()
    yield stage
    await eventually(lambda: stage.executor.running == 0 and stage.executor.overrunning == 0)
    await eventually(lambda: asyncio.all_tasks() <= tasks | {asyncio.current_task()})


PAUSE = 3 * HELD_BACK


@tool(behavior="non_blocking", scheduling="when_idle")
async def steps(last: str) -> AsyncIterator[dict[str, Any]]:
    """Says what it has, three times."""
    yield {"step": 1}
    await asyncio.sleep(PAUSE)
    yield {"step": 2}
    await asyncio.sleep(2 * PAUSE)
    yield {"step": last}


@tool
def steps_in_a_thread(context: ToolContext, last: str) -> Iterator[dict[str, Any]]:
    """Says what it has, three times, from a thread."""
    assert threading.current_thread() is not threading.main_thread()
    yield {"step": 1}
    time.sleep(PAUSE)
    yield {"step": 2}
    time.sleep(2 * PAUSE)
    yield {"step": last}


@pytest.mark.parametrize("function", [steps, steps_in_a_thread])
async def test_every_value_is_a_result_and_the_last_one_the_answer(stage: Stage, function: Any) -> None:
    stage.add(function)
    result = await stage.perform(function.__name__, {"last": "three"})
    assert (result.outcome, json.loads(result.output_json)) == (SUCCEEDED, {"step": "three"})
    # The last one is not told twice: the function ended with it.
    assert stage.partials == [{"step": 1}, {"step": 2}]
    assert [report.number for report in stage.reports] == [1, 2]


async def test_what_a_plain_generator_returns_is_its_answer(stage: Stage) -> None:
    @tool
    def report() -> Iterator[str]:
        """Reports."""
        yield "working"
        time.sleep(PAUSE)
        return {"done": True}

    stage.add(report)
    result = await stage.perform("report")
    assert json.loads(result.output_json) == {"done": True}
    assert stage.partials == [{"result": "working"}]


async def test_a_generator_that_yields_nothing_answers_with_nothing(stage: Stage) -> None:
    @tool
    async def nothing() -> AsyncIterator[str]:
        """Says nothing."""
        for word in ():
            yield word

    stage.add(nothing)
    assert json.loads((await stage.perform("nothing")).output_json) == {"result": None}


async def test_a_flood_of_values_is_a_few_and_the_last_one_counts(stage: Stage) -> None:
    @tool
    async def flood(count: int) -> AsyncIterator[int]:
        """Never awaits anything."""
        for number in range(count):
            yield number

    stage.add(flood)
    result = await stage.perform("flood", {"count": 20_000})
    assert json.loads(result.output_json) == {"result": 19_999}
    numbers = [partial["result"] for partial in stage.partials]
    assert numbers == sorted(set(numbers))
    assert len(numbers) < 100


async def test_values_that_cannot_be_told_are_dropped_unless_they_are_the_answer(stage: Stage) -> None:
    @tool
    async def odd(last: str) -> AsyncIterator[Any]:
        """Yields what JSON cannot say, and what is too large for a partial result."""
        yield b"bytes"
        yield ["x" * MAX_PARTIAL]
        await asyncio.sleep(PAUSE)
        yield b"bytes" if last == "bytes" else "y" * 9_000

    stage.add(odd)
    assert len((await stage.perform("odd", {"last": "text"})).output_json) > 9_000
    result = await stage.perform("odd", {"last": "bytes"})
    assert result.outcome == UNKNOWN
    assert result.error == "the tool ran, but result is of type bytes, which JSON cannot say"
    assert stage.partials == []


async def test_a_generator_that_raises_fails_whatever_it_said_before(stage: Stage) -> None:
    @tool
    async def gives_up() -> AsyncIterator[str]:
        """Raises."""
        yield "so far"
        await asyncio.sleep(PAUSE)
        raise ToolError("no more")

    stage.add(gives_up)
    result = await stage.perform("gives_up")
    assert (result.outcome, result.error, result.output_json) == (FAILED, "no more", "")
    assert stage.partials == [{"result": "so far"}]


closed: list[str] = []


@tool(timeout=20)
async def endless(awaits: bool) -> AsyncIterator[int]:
    """Never ends."""
    try:
        number = 0
        while True:
            number += 1
            yield number
            if awaits:
                await asyncio.sleep(0.01)
    finally:
        closed.append("endless")


@tool(timeout=20)
def endless_in_a_thread(awaits: bool) -> Iterator[int]:
    """Never ends."""
    try:
        number = 0
        while True:
            number += 1
            yield number
            if awaits:
                time.sleep(0.01)
    finally:
        closed.append("endless_in_a_thread")


@pytest.mark.parametrize("awaits", [True, False])
@pytest.mark.parametrize("function", [endless, endless_in_a_thread])
async def test_a_generator_that_nobody_wants_any_more_is_closed(stage: Stage, function: Any, awaits: bool) -> None:
    closed.clear()
    stage.add(function)
    task = asyncio.create_task(stage.perform(function.__name__, {"awaits": awaits}, execution_id="x"))
    await eventually(lambda: stage.partials)
    assert stage.executor.cancel("x")
    assert (await task).outcome == CANCELLED
    await eventually(lambda: closed == [function.__name__])
    told = len(stage.reports)
    await asyncio.sleep(2 * PAUSE)  # whatever it still said would be here by now
    assert len(stage.reports) == told


async def test_a_generator_out_of_time_is_closed(stage: Stage) -> None:
    closed.clear()
    stage.add(endless)
    assert (await stage.perform("endless", {"awaits": True}, timeout=timedelta(seconds=0.2))).outcome == TIMED_OUT
    await eventually(lambda: closed == ["endless"])


# How far it is


@tool
async def far(context: ToolContext) -> str:
    """Says how far it is."""
    context.progress("begun", 0)
    await asyncio.sleep(0.3)
    context.progress(fraction=0.5)
    await asyncio.sleep(0.3)
    context.schedule("silent")
    return "there"


@tool
def far_in_a_thread(context: ToolContext) -> str:
    """Says how far it is, from a thread and from one of its own."""
    context.progress("begun", 0)
    time.sleep(0.3)
    other = threading.Thread(target=context.progress, kwargs={"fraction": 0.5})
    other.start()
    other.join()
    time.sleep(0.3)
    context.schedule("silent")
    return "there"


@pytest.mark.parametrize("function", [far, far_in_a_thread])
async def test_any_function_says_how_far_it_is_and_when_to_speak_of_it(stage: Stage, function: Any) -> None:
    stage.add(function)
    result = await stage.perform(function.__name__)
    assert json.loads(result.output_json) == {"result": "there"}
    assert stage.progress == [("begun", 0.0), ("", 0.5)]
    assert stage.execution is not None
    assert stage.execution.context.reports.scheduling == SILENT


async def test_a_flood_of_progress_from_a_thread_is_a_few_and_holds_nobody_up(stage: Stage) -> None:
    @tool
    def chatter(context: ToolContext) -> str:
        """Says too much."""
        for number in range(100_000):
            context.progress(str(number))
        return "done"

    stage.add(chatter)
    assert (await stage.perform("chatter")).outcome == SUCCEEDED
    assert 0 < len(stage.reports) < MAX_REPORTS / 10


async def test_progress_that_cannot_leave_harms_nobody(stage: Stage) -> None:
    async def stuck(_: fabric_pb2.ToolReport) -> None:
        await asyncio.Event().wait()

    stage.add(far)
    execution = stage.admit("far")
    assert isinstance(execution, Execution)
    execution.context.reports.listen(stuck)
    result = await stage.executor.run(execution)
    await execution.context.reports.close()
    assert result.outcome == SUCCEEDED


async def test_after_the_answer_nothing_is_said(stage: Stage) -> None:
    go_on = threading.Event()

    @tool(timeout=0.1)
    def late(context: ToolContext) -> None:
        """Overruns."""
        go_on.wait(5)
        context.progress("too late")
        context.reports.partial("{}")

    stage.add(late)
    assert (await stage.perform("late")).outcome == TIMED_OUT
    go_on.set()
    await eventually(lambda: stage.executor.overrunning == 0)
    await asyncio.sleep(PAUSE)
    assert stage.reports == []


async def test_a_function_that_asks_for_an_unknown_scheduling_fails(stage: Stage) -> None:
    @tool
    async def confused(context: ToolContext) -> None:
        """Asks for what there is not."""
        context.schedule("later")  # type: ignore[arg-type]

    stage.add(confused)
    assert "'later' is no scheduling" in (await stage.perform("confused")).error


def test_the_catalog_is_told_of_scheduling_and_reports() -> None:
    told = declare(steps).declaration(timedelta(seconds=1))
    assert (told.scheduling, told.reports) == (live_pb2.RESPONSE_SCHEDULING_WHEN_IDLE, True)
    assert not declare(plain).declaration(timedelta(seconds=1)).reports
    assert declare(far).declaration(timedelta(seconds=1)).reports


@tool
async def plain() -> None:
    """Says nothing before its end."""
