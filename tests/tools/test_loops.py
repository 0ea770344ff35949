"""The event loop that a module's coroutine functions have for themselves: what happens on it stays on it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.tools.loops import ToolLoop, tasks_outlive_call
from tests.support.eventually import eventually


@pytest.fixture
async def loop() -> AsyncIterator[ToolLoop]:
    loop = ToolLoop("source", blocked_after=0.1)
    yield loop
    await loop.close()
    await eventually(lambda: not loop._thread.is_alive())


async def test_it_is_another_thread_with_the_callers_context(loop: ToolLoop) -> None:
    variable = contextvars.ContextVar("variable", default="")

    async def where() -> tuple[str, str]:
        return threading.current_thread().name, variable.get()

    variable.set("here")
    assert await loop.run(where, "where") == ("loop of source", "here")


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
async def test_what_a_function_raises_is_raised_and_ends_no_loop(loop: ToolLoop, error: BaseException) -> None:
    async def fails() -> None:
        raise error

    async def fine() -> str:
        return "fine"

    for _ in range(2):
        with pytest.raises(type(error)):
            await loop.run(fails, "fails")
        assert await loop.run(fine, "fine") == "fine"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
async def test_task_left_behind_that_exits_ends_no_loop(loop: ToolLoop, error: BaseException) -> None:
    kept = []

    async def leaves() -> None:
        async def later() -> None:
            raise error

        kept.append(asyncio.get_running_loop().create_task(later()))

    async def fine() -> str:
        return "fine"

    with capture_logs() as logs:
        await loop.run(leaves, "leaves")
        assert await loop.run(fine, "fine") == "fine"
        await eventually(lambda: any("raised out of its event loop" in entry["event"] for entry in logs))
    assert kept[0].done()
    kept[0].exception()


async def test_function_that_is_cancelled_is_waited_for_however_often_it_is_told(loop: ToolLoop) -> None:
    told: list[int] = []
    release = threading.Event()

    started = threading.Event()

    async def deaf() -> str:
        started.set()
        while not release.is_set():
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                told.append(1)
        return "at last"

    running = asyncio.create_task(loop.run(deaf, "deaf"))
    await eventually(started.is_set)
    for count in range(1, 4):
        running.cancel()
        await eventually(lambda count=count: len(told) == count)  # type: ignore[misc]
    assert not running.done()
    release.set()
    assert await running == "at last"


async def test_function_that_cancels_itself_and_one_that_is_cancelled_before_it_began(loop: ToolLoop) -> None:
    async def itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(60)

    with pytest.raises(asyncio.CancelledError):
        await loop.run(itself, "itself")
    running = asyncio.create_task(loop.run(lambda: asyncio.sleep(60), "sleeps"))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_loop_that_is_blocked_is_noticed_with_tool_and_line_and_comes_back(loop: ToolLoop) -> None:
    release = threading.Event()
    changes: list[Any] = []

    async def follow() -> None:
        async for change in loop.changes():
            changes.append(change)

    async def blocks() -> None:
        release.wait(60)

    async def waits() -> None:
        await asyncio.Event().wait()

    following = asyncio.create_task(follow())
    try:
        neighbour = asyncio.create_task(loop.run(waits, "waits"))
        blocking = asyncio.create_task(loop.run(blocks, "blocks"))
        with capture_logs() as logs:
            await eventually(lambda: changes)
            assert loop.blocked is not None
            assert loop.blocked.tool == "blocks"
            assert "threading.py" in loop.blocked.at or "test_loops.py" in loop.blocked.at
            [entry] = [entry for entry in logs if entry["log_level"] == "error"]
            assert (entry["source"], entry["tool"]) == ("source", "blocks")
            # Whoever waits for it here is not held up: neither by the call nor by one that is taken back.
            neighbour.cancel()
            await asyncio.sleep(0)
            release.set()
            await blocking
            await eventually(lambda: len(changes) == 2)
        assert loop.blocked is None
        assert loop.counts.blocks == 1
        with contextlib.suppress(asyncio.CancelledError):
            await neighbour
    finally:
        following.cancel()
        await asyncio.wait({following})


async def test_loop_that_is_used_and_a_service_that_is_late_itself_are_not_blocked(loop: ToolLoop) -> None:
    async def follow() -> None:
        async for change in loop.changes():
            raise AssertionError(change)

    following = asyncio.create_task(follow())
    running = asyncio.create_task(loop.run(lambda: asyncio.sleep(0.6), "sleeps"))
    await asyncio.sleep(0.3)  # a look is under way
    time.sleep(0.3)  # noqa: ASYNC251 - our own loop is the one that is late
    await running
    assert not following.done()
    following.cancel()
    await asyncio.wait({following})


@pytest.mark.parametrize("ends", ["returns", "raises", "is cancelled"])
async def test_tasks_left_running_end_with_their_call_and_are_named_once(loop: ToolLoop, ends: str) -> None:
    ended: list[str] = []
    kept: list[asyncio.Task[None]] = []  # a task that nobody holds may be collected while it waits

    async def forever(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)
            if name == "child":  # what it makes while it ends is ended as well
                kept.append(asyncio.get_running_loop().create_task(forever("grandchild")))
                await asyncio.sleep(0)

    async def leaks() -> str:
        for name in ("child", "sibling"):
            kept.append(asyncio.get_running_loop().create_task(forever(name)))
        await asyncio.sleep(0)
        if ends == "raises":
            raise ValueError
        if ends == "is cancelled":
            await asyncio.Event().wait()
        return "done"

    async def tidy() -> None:
        await asyncio.gather(*(asyncio.sleep(0) for _ in range(3)))
        task = asyncio.get_running_loop().create_task(asyncio.sleep(3600))
        task.cancel()

    with capture_logs() as logs:
        await loop.run(tidy, "tidy")
        for count in (3, 6):
            running = asyncio.create_task(loop.run(leaks, "leaks"))
            if ends == "is cancelled":
                await eventually(lambda: len(asyncio.all_tasks(loop._loop)) == 3)
                running.cancel()
            [outcome] = await asyncio.gather(running, return_exceptions=True)
            assert (outcome == "done") == (ends == "returns"), outcome
            await eventually(lambda count=count: len(ended) == count)  # type: ignore[misc]
    assert Counter(ended) == dict.fromkeys(("child", "sibling", "grandchild"), 2)
    assert loop.counts.cancelled_tasks == 6
    await eventually(lambda: loop.counts.left_tasks == 0)
    [entry] = [entry for entry in logs if entry["event"].startswith("function left tasks running")]
    assert entry["tool"] == "leaks"
    assert all(name.endswith("forever") for name in entry["tasks"])


async def test_task_that_does_not_let_itself_be_ended_holds_up_nobody_and_is_counted(
    loop: ToolLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.tools.loops._GOODBYE", 0.05)
    release = threading.Event()
    asked: list[int] = []

    async def deaf() -> None:
        while not release.is_set():
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                asked.append(1)

    async def breeds() -> None:
        """Each that is ended begins another one."""
        try:
            await asyncio.Event().wait()
        finally:
            if not release.is_set():
                asyncio.get_running_loop().create_task(breeds())

    async def leaves(what: Any) -> str:
        asyncio.get_running_loop().create_task(what())
        await asyncio.sleep(0)
        return "done"

    assert await loop.run(lambda: leaves(deaf), "leaves") == "done"
    await eventually(lambda: loop.counts.left_tasks == 1)
    assert await loop.run(lambda: leaves(breeds), "leaves") == "done"
    await eventually(lambda: loop.counts.left_tasks == 2)
    assert len(asked) == 1
    release.set()


async def test_what_is_made_to_outlive_its_call_does(loop: ToolLoop) -> None:
    kept: list[asyncio.Task[None]] = []

    async def reads() -> None:
        # What it begins later is not the call's either.
        await asyncio.get_running_loop().create_task(asyncio.sleep(3600))

    async def connects() -> str:
        with tasks_outlive_call():
            kept.append(asyncio.get_running_loop().create_task(reads()))
        asyncio.get_running_loop().create_task(asyncio.sleep(3600))
        return "connected"

    assert await loop.run(connects, "connects") == "connected"
    await eventually(lambda: loop.counts.left_tasks == 2)
    assert loop.counts.cancelled_tasks == 1
    assert not kept[0].done()


async def test_closing_ends_what_can_be_ended_and_waits_for_nothing_else() -> None:
    release = threading.Event()
    loops = [ToolLoop("polite"), ToolLoop("stuck")]
    ended = []

    async def polite() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("polite")

    async def stuck() -> None:
        release.wait(60)

    running = [asyncio.create_task(loops[0].run(polite, "polite")), asyncio.create_task(loops[1].run(stuck, "stuck"))]
    await asyncio.sleep(0.05)
    await asyncio.gather(*(loop.close() for loop in loops))
    for task in running:
        with pytest.raises(asyncio.CancelledError):
            await task
    assert ended == ["polite"]
    with pytest.raises(RuntimeError):
        await loops[0].run(polite, "polite")
    release.set()
    await eventually(lambda: not any(loop._thread.is_alive() for loop in loops))


async def test_subprocesses_and_contexts_work_on_it(loop: ToolLoop) -> None:
    """What functions are likely to do, and what some event loops allow in the main thread only."""

    async def echo() -> bytes:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print('hello')", stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        return out

    assert await loop.run(echo, "echo") == b"hello\n"
