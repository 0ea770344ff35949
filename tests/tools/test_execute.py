import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from parley.v1 import live_pb2
from services.tools import ToolContext, execute, tool
from services.tools.declare import declare
from services.tools.execute import Call, Execution, Executor, Refusal, Result
from services.tools.loops import ToolLoop
from services.tools.registry import Offer, Registry
from services.tools.tool import Tool
from tests.support.eventually import eventually
from tests.tools import functions

SUCCEEDED = live_pb2.TOOL_OUTCOME_SUCCEEDED
FAILED = live_pb2.TOOL_OUTCOME_FAILED
TIMED_OUT = live_pb2.TOOL_OUTCOME_TIMED_OUT
CANCELLED = live_pb2.TOOL_OUTCOME_CANCELLED
UNKNOWN = live_pb2.TOOL_OUTCOME_UNKNOWN


class Bench:
    """An executor and whatever a test declares."""

    def __init__(self, max_concurrency: int = 4, **limits: Any) -> None:
        self.registry = Registry()
        everything = {"max_concurrency_per_tool": max_concurrency, "max_concurrency_per_tenant": max_concurrency}
        self.executor = Executor(
            self.registry,
            max_concurrency=max_concurrency,
            default_timeout=timedelta(seconds=5),
            max_result_bytes=10_000,
            **{**everything, **limits},
        )
        self._number = 0
        self._functions: list[Tool] = []

    def add(self, function: Callable[..., Any]) -> None:
        self._functions.append(declare(function))
        self.registry.offer("bench", Offer(self._functions))
        assert not self.registry.problems

    def admit(self, name: str, **values: Any) -> Execution | Result:
        self._number += 1
        values = {"arguments_json": "{}", "execution_id": f"e{self._number}"} | values
        return self.executor.admit(Call(name=name, **values))

    async def call(self, name: str, arguments: dict[str, Any] | None = None, **values: Any) -> Result:
        admitted = self.admit(name, arguments_json=json.dumps(arguments or {}), **values)
        return admitted if isinstance(admitted, Result) else await self.executor.run(admitted)

    def start(self, name: str, **values: Any) -> asyncio.Task[Result]:
        admitted = self.admit(name, **values)
        assert isinstance(admitted, Execution)
        return asyncio.create_task(self.executor.run(admitted))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    for value in vars(functions).values():
        if callable(value) and hasattr(value, "__parley_tool__") and value is not functions.no_hint:
            bench.add(value)
    functions._release.clear()
    functions.SEEN.clear()
    tasks = asyncio.all_tasks()
    yield bench
    functions._release.set()
    await eventually(lambda: bench.executor.running == 0 and bench.executor.overrunning == 0)
    await eventually(lambda: asyncio.all_tasks() <= tasks | {asyncio.current_task()})


@pytest.mark.parametrize(
    ("name", "kind", "error"),
    [
        ("raises", "value", "ValueError: secret is not the problem"),
        ("raises", "tool", "no such table; say so"),
        ("raises", "exit", "SystemExit: 3"),
        ("raises", "interrupt", "KeyboardInterrupt"),
        ("raises_async", "value", "ValueError: secret is not the problem"),
        ("raises_async", "tool", "no such table; say so"),
        ("raises_async", "exit", "SystemExit: 3"),
        ("raises_async", "interrupt", "KeyboardInterrupt"),
        ("raises_async", "cancel", "the function cancelled itself"),
    ],
)
async def test_function_that_raises_fails_with_type_and_message(bench: Bench, name: str, kind: str, error: str) -> None:
    with capture_logs() as logs:
        result = await bench.call(name, {"kind": kind})
    assert (result.outcome, result.error, result.output_json) == (FAILED, error, "")
    assert "Traceback" not in result.error
    # The operator gets the cause, unless the function said all there is to say.
    assert bool([entry for entry in logs if entry.get("exc_info")]) == (kind not in ("tool", "cancel"))
    assert (await bench.call("seen", {"what": "x"})).outcome == SUCCEEDED


async def test_exception_that_cannot_be_printed_or_is_endless(bench: Bench) -> None:
    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    @tool
    def unprintable() -> None:
        """Raises."""
        raise UnprintableError

    @tool
    def endless() -> None:
        """Raises."""
        raise ValueError("x\n" * 100_000)

    bench.add(unprintable)
    bench.add(endless)
    with capture_logs():
        assert (await bench.call("unprintable")).error == "UnprintableError"
        result = await bench.call("endless")
    assert len(result.error) < 600
    assert "\n" not in result.error


async def test_wrong_arguments_never_reach_the_function(bench: Bench) -> None:
    result = await bench.call("raises", {"kind": 3})
    assert result.outcome == FAILED
    assert result.refusal is Refusal.WRONG_ARGUMENTS
    assert set(result.violations) == {"kind"}
    assert result.error == "wrong arguments: kind: input should be a valid string, got 3"


@pytest.mark.parametrize(("idempotent", "outcome"), [(True, FAILED), (False, UNKNOWN)])
async def test_bad_result_is_told_with_its_place_and_is_no_failure_without_effect(
    bench: Bench, idempotent: bool, outcome: live_pb2.ToolOutcome
) -> None:
    @tool(idempotent=idempotent)
    async def bad() -> dict[str, Any]:
        """Returns bytes."""
        return {"picture": b"\x89PNG"}

    bench.add(bad)
    result = await bench.call("bad")
    assert result.outcome == outcome
    assert result.error == "the tool ran, but result.picture is of type bytes, which JSON cannot say"


async def test_error_as_long_as_a_book_is_cut_for_the_model_and_the_log(bench: Bench) -> None:
    @tool
    async def verbose() -> None:
        """Tells all."""
        raise ValueError("word " * 1_000_000)

    bench.add(verbose)
    with capture_logs() as logs:
        result = await bench.call("verbose")
    assert result.error.startswith("ValueError: word word")
    assert len(result.error) < 600
    assert [entry["event"] for entry in logs] == ["tool raised"]
    assert len(repr(logs)) < 20_000


async def test_function_is_told_who_calls(bench: Bench) -> None:
    result = await bench.call(
        "whoami",
        session="ses_1",
        tenant="acme",
        caller="cron",
        idempotency_key="k1",
        execution_id="x1",
        labels={"channel": "phone"},
    )
    assert json.loads(result.output_json) == {
        "tool": "whoami",
        "session": "ses_1",
        "tenant": "acme",
        "caller": "cron",
        "key": "k1",
        "execution": "x1",
        "labels": {"channel": "phone"},
        "cancelled": False,
        "thread": "tool",
    }
    assert result.duration > timedelta(0)


async def test_synchronous_function_that_overruns_is_answered_at_once_and_keeps_its_slot(bench: Bench) -> None:
    result = await bench.call("block", timeout=timedelta(milliseconds=50))
    assert result.outcome == TIMED_OUT
    assert result.error == "no result within 0.05 s"
    assert result.duration < timedelta(seconds=10)  # it blocks for 15
    assert (bench.executor.running, bench.executor.overrunning) == (0, 1)
    await eventually(lambda: functions.SEEN["block cancelled"] == 1)
    functions._release.set()
    await eventually(lambda: bench.executor.overrunning == 0)


async def test_overrunning_threads_use_the_slots_up_and_give_them_back(bench: Bench) -> None:
    results = await asyncio.gather(*(bench.call("block", timeout=timedelta(milliseconds=20)) for _ in range(4)))
    assert {result.outcome for result in results} == {TIMED_OUT}
    refused = await bench.call("whoami")
    assert refused.refusal is Refusal.BUSY
    assert "try again" in refused.error
    functions._release.set()
    await eventually(lambda: bench.executor.overrunning == 0)
    assert (await bench.call("whoami")).outcome == SUCCEEDED


@pytest.mark.parametrize(("own", "asked", "limit"), [(0.05, 5, "0.05"), (5, 0.05, "0.05"), (0.05, None, "0.05")])
async def test_deadline_is_the_shorter_of_the_tools_and_the_calls(
    bench: Bench, own: float, asked: float | None, limit: str
) -> None:
    @tool(timeout=own)
    async def slow() -> None:
        """Hangs."""
        await asyncio.Event().wait()

    bench.add(slow)
    result = await bench.call("slow", timeout=None if asked is None else timedelta(seconds=asked))
    assert result.outcome == TIMED_OUT
    assert result.error == f"no result within {limit} s"


async def test_call_whose_time_is_up_is_not_begun(bench: Bench) -> None:
    for spent in (timedelta(0), timedelta(seconds=-3)):
        assert (await bench.call("hang", timeout=spent)).outcome == TIMED_OUT
    assert functions.SEEN["hang started"] == 0


async def test_cancellation_reaches_a_coroutine(bench: Bench) -> None:
    task = bench.start("hang", execution_id="mine")
    await eventually(lambda: functions.SEEN["hang started"] == 1)
    assert not bench.executor.cancel("somebody else's")
    assert bench.executor.cancel("mine")
    assert not bench.executor.cancel("mine")
    assert (await task).outcome == CANCELLED
    await eventually(lambda: functions.SEEN["hang cancelled"] == 1)


async def test_cancellation_reaches_a_thread_as_a_flag(bench: Bench) -> None:
    task = bench.start("block", execution_id="mine")
    await eventually(lambda: functions.SEEN["block started"] == 1)
    bench.executor.cancel("mine")
    assert (await task).outcome == CANCELLED
    await eventually(lambda: functions.SEEN["block cancelled"] == 1)


@pytest.mark.parametrize("how", ["coroutine", "thread", "loop"])
@pytest.mark.parametrize("outcome", [CANCELLED, TIMED_OUT])
async def test_whoever_has_the_answer_to_a_call_that_was_cut_off_finds_its_place_free(
    how: str, outcome: live_pb2.ToolOutcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the function heeds it, though that takes it some turns of its loop."""
    monkeypatch.setattr(execute, "_HEEDED_WITHIN", 10.0)  # whatever else the machine does meanwhile
    bench, loop = Bench(max_concurrency=1), ToolLoop("bench")
    started = threading.Event()

    async def wait() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            for _ in range(5):
                await asyncio.sleep(0)
            raise

    @tool
    async def on_the_services_loop() -> None:
        """Waits."""
        await wait()

    @tool
    async def on_a_loop_of_its_own() -> None:
        """Waits."""
        await loop.run(wait, "on_a_loop_of_its_own")

    @tool
    def in_a_thread(context: ToolContext) -> None:
        """Waits."""
        started.set()
        context.cancellation.wait()

    function = {"coroutine": on_the_services_loop, "loop": on_a_loop_of_its_own, "thread": in_a_thread}[how]
    bench.add(function)
    try:
        limit = timedelta(milliseconds=50) if outcome == TIMED_OUT else timedelta(seconds=60)
        running = bench.start(function.__name__, execution_id="mine", timeout=limit)
        if outcome == CANCELLED:
            await eventually(started.is_set)
            bench.executor.cancel("mine")
        assert (await running).outcome == outcome
        assert bench.executor.overrunning == 0
        assert isinstance(bench.admit(function.__name__), Execution)
    finally:
        await loop.close()


async def test_coroutine_that_ignores_cancellation_is_answered_and_counted(bench: Bench) -> None:
    task = bench.start("stubborn", execution_id="mine")
    await eventually(lambda: functions.SEEN["stubborn started"] == 1)
    bench.executor.cancel("mine")
    assert (await task).outcome == CANCELLED
    assert bench.executor.overrunning == 1


async def test_cancelling_the_task_that_runs_a_call_ends_the_call(bench: Bench) -> None:
    task = bench.start("hang")
    await eventually(lambda: functions.SEEN["hang started"] == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: functions.SEEN["hang cancelled"] == 1)
    assert bench.executor.running == 0


async def test_finished_function_wins_over_a_late_cancellation(bench: Bench) -> None:
    started = asyncio.Event()

    @tool
    async def quick() -> str:
        """Ends in the same step in which it is cancelled."""
        started.set()
        bench.executor.cancel("mine")
        return "did it"

    bench.add(quick)
    result = await bench.call("quick", execution_id="mine")
    assert result.outcome == SUCCEEDED


async def test_same_execution_twice_is_refused_while_it_runs(bench: Bench) -> None:
    task = bench.start("hang", execution_id="mine")
    again = bench.admit("hang", execution_id="mine")
    assert isinstance(again, Result)
    assert again.refusal is Refusal.RUNNING_ALREADY
    await eventually(lambda: functions.SEEN["hang started"] == 1)
    bench.executor.cancel("mine")
    await task


async def test_unknown_tool_is_refused(bench: Bench) -> None:
    result = await bench.call("nothing")
    assert result.refusal is Refusal.UNKNOWN_TOOL
    assert result.error == "there is no tool 'nothing'"


async def test_drain_lets_calls_finish_and_takes_no_more(bench: Bench) -> None:
    task = bench.start("block")
    await eventually(lambda: functions.SEEN["block started"] == 1)
    draining = asyncio.create_task(bench.executor.drain(timedelta(seconds=5)))
    await eventually(lambda: bench.executor.draining)
    assert (await bench.call("whoami")).refusal is Refusal.DRAINING
    assert not draining.done()
    bench.executor.cancel("e1")
    await task
    await draining


async def test_drain_cuts_off_what_does_not_finish_and_says_that_it_is_unknown(bench: Bench) -> None:
    tasks = [bench.start("hang"), bench.start("block")]
    await eventually(lambda: functions.SEEN["hang started"] and functions.SEEN["block started"])
    await bench.executor.drain(timedelta(milliseconds=20))
    results = await asyncio.gather(*tasks)
    assert {result.outcome for result in results} == {UNKNOWN}
    assert "may or may not" in results[0].error


async def test_threads_are_reused_and_bounded(bench: Bench) -> None:
    before = sum(thread.name == "tool" for thread in threading.enumerate())
    for _ in range(20):
        assert (await bench.call("whoami")).outcome == SUCCEEDED
    assert sum(thread.name == "tool" for thread in threading.enumerate()) <= before + 4


async def test_context_variables_reach_threads(bench: Bench) -> None:
    import contextvars

    variable = contextvars.ContextVar("variable", default="")

    @tool
    def read(context: ToolContext) -> str:
        """Reads."""
        return variable.get()

    bench.add(read)
    variable.set("here")
    assert (await bench.call("read")).output_json == '{"result":"here"}'
