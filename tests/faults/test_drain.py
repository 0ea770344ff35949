"""A worker that goes away in order: its conversations go on with others, and nobody notices more than a pause."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import grpc.aio
import pytest

from parley import events
from parley.cli._child import Child
from parley.cli.stack import Stack, StackConfig
from parley.v1 import fleet_pb2, fleet_pb2_grpc, live_pb2, sessions_pb2, sessions_pb2_grpc
from tests.faults.call import Call, calling, check
from tests.faults.scene import Scene, goes_on, in_the_scene, kill, owner, tell
from tests.faults.stories import Stories, chosen, long
from tests.support import order_ledger, sabotage_drain
from tests.support.counts import get_json, http_status
from tests.support.eventually import eventually
from tests.support.ports import reserved

drained, forced = Stories(), Stories()
WAITS = 30.0
"""Seconds, at most, for what takes a moment on a machine that has nothing else to do."""
ORDER = {"order_id": "4711", "status": "shipped", "arrives": "monday"}


async def numbers(child: Child) -> dict[str, Any]:
    """What a process counts."""
    found: dict[str, Any] = await get_json(child.ready["ops"] + "/debug/vars")
    return found


async def others_have_gone(scene: Scene) -> None:
    """The worker has let go of some session, so that it is not for want of time that it keeps another one."""

    async def some() -> bool:
        return bool((await numbers(scene.stack.workers[0]))["sessions_let_go"])

    await eventually(some, WAITS)


async def terminate(stack: Stack) -> None:
    """SIGTERM for the worker that has all the sessions. It lives, and is not to be given any more."""
    worker = stack.workers[0]
    worker.stopping = True
    worker.signal(signal.SIGTERM)

    async def not_ready() -> bool:
        return not worker.running or await http_status(worker.ready["ops"] + "/readyz") == 503

    await eventually(not_ready, WAITS)


async def moved(call: Call, since: int = 0, cause: str = "DRAIN") -> events.LinkRecovered:
    """The session is on a link of another worker, and its caller was told why."""
    await call.until(lambda event: isinstance(event, events.LinkRotating) and event.cause == cause, since)
    at = next(n for n, event in enumerate(call.got) if isinstance(event, events.LinkRotating) and n >= since)
    event = await call.until(lambda event: isinstance(event, events.LinkRecovered), at)
    assert isinstance(event, events.LinkRecovered)
    return event


def not_a_word_was_lost(call: Call, since: int) -> None:
    """The answer was not cut off for the move, which came after it, or before where speech was held up on its way."""
    assert not call.of(events.Interrupted, since)
    got = call.got[since:]
    told = next(n for n, event in enumerate(got) if isinstance(event, events.LinkRotating))
    assert len({n < told for n, event in enumerate(got) if isinstance(event, events.Audio)}) <= 1


# A worker that is told to end has time


@drained.add()
async def nobody_speaks(scene: Scene) -> None:
    async with in_the_scene(scene) as call:
        since = len(call.got)
        await scene.struck()
        new = await moved(call)
        assert (new.method, new.state_restored, new.dropped) == ("RESUMED", True, ())
        not_a_word_was_lost(call, since)
        await goes_on(call)


@drained.add()
async def the_caller_speaks(scene: Scene) -> None:
    async with in_the_scene(scene) as call:
        since = len(call.got)
        await call.speak("weather_paris", wait=False)
        await asyncio.sleep(1.2)  # the middle of the sentence
        await scene.struck()
        await call.answer(since, containing="degrees")
        await moved(call)
        assert [event.text for event in call.of(events.InputTranscript, since)] == ["what is the weather in paris"]
        not_a_word_was_lost(call, since)
        await goes_on(call)


@drained.add()
async def the_model_speaks(scene: Scene) -> None:
    async with in_the_scene(scene, microphone=False) as call:
        since = len(call.got)
        await call.session.send_text("where is my order 9876")
        await call.until(lambda event: isinstance(event, events.Audio), since)
        await scene.struck()
        said = await call.answer(since, containing="arrives")
        assert said.count("shipped") == 1
        await moved(call)
        not_a_word_was_lost(call, since)
        await goes_on(call)


@drained.add()
async def a_tool_runs(scene: Scene) -> None:
    async with in_the_scene(scene, microphone=False) as call:
        hold = scene.folder / "1234"
        hold.touch()
        since = len(call.got)
        await call.session.send_text("where is my order 1234")
        await eventually(lambda: order_ledger.runs(scene.folder, "1234") == 1, WAITS)
        await scene.struck()
        await others_have_gone(scene)
        hold.unlink()
        await call.answer(since, containing="shipped")
        await moved(call)
        not_a_word_was_lost(call, since)
        await goes_on(call)
        assert order_ledger.runs(scene.folder, "1234") == 1


def with_a_caller_tool(behavior: live_pb2.ToolBehavior) -> live_pb2.SessionConfig:
    declaration = live_pb2.FunctionDeclaration(name="lookup_order", description="Finds an order.", behavior=behavior)
    declaration.parameters.update(
        {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]}
    )
    return live_pb2.SessionConfig(
        model="gemini-3.8-live",
        tools=["get_weather"],
        caller_tools=[declaration],
        input_transcription=True,
        output_transcription=True,
    )


@drained.add(live_pb2.TOOL_BEHAVIOR_BLOCKING)
@drained.add(live_pb2.TOOL_BEHAVIOR_NON_BLOCKING)
async def the_caller_runs_a_tool(scene: Scene, behavior: live_pb2.ToolBehavior) -> None:
    async with in_the_scene(scene, microphone=False, config=with_a_caller_tool(behavior)) as call:
        since = len(call.got)
        await call.session.send_text("where is my order 4711")
        asked = await call.until(lambda event: isinstance(event, events.ToolCall), since)
        assert isinstance(asked, events.ToolCall)
        await scene.struck()
        await others_have_gone(scene)
        await call.session.send_tool_result(asked.call_id, ORDER)
        await call.answer(since, containing="shipped")
        await moved(call)
        assert len(call.of(events.ToolCall)) == 1
        not_a_word_was_lost(call, since)
        await goes_on(call)


class HungUpError(Exception):
    """The caller is gone without a word."""


@contextlib.asynccontextmanager
async def hanging_up(scene: Scene) -> AsyncIterator[Call]:
    """A call whose caller is gone at the end, and may come back."""
    with contextlib.suppress(HungUpError):
        async with in_the_scene(scene) as call:
            yield call
            raise HungUpError


async def comes_back(scene: Scene, before: Call) -> None:
    """The caller that has hung up goes on with another worker."""
    worker = scene.stack.workers[0]
    async with calling(scene.stack, resume=before.session.resume_point) as call:
        await moved(call)
        assert await owner(call) is not worker
        await goes_on(call)


@drained.add("just gone")
@drained.add("parked")
async def nobody_is_there(scene: Scene, state: str) -> None:
    async with hanging_up(scene) as call:
        pass

    async def is_parked() -> bool:
        return not (await call.lineage())["head"]["open"]

    if state == "parked":
        await eventually(is_parked, WAITS)
    await scene.struck()
    await others_have_gone(scene)
    await comes_back(scene, call)


@drained.add()
async def the_caller_hung_up_in_the_middle_of_an_answer(scene: Scene) -> None:
    async with hanging_up(scene) as call:
        await call.session.send_text("where is my order 2468")
        since = len(call.got)
        await call.until(lambda event: isinstance(event, events.Audio), since)
    await scene.struck()
    async with calling(scene.stack, resume=call.session.resume_point) as again:
        await again.answer(containing="shipped")  # what was not delivered has waited for the caller
        assert not again.of(events.Gap)
        await moved(again)
        await goes_on(again)
        assert order_ledger.runs(scene.folder, "2468") == 1


# There is no more time


@forced.add()
async def the_model_is_cut_off(scene: Scene) -> None:
    async with in_the_scene(scene, microphone=False) as call:
        since = len(call.got)
        await call.session.send_text("where is my order 6789")  # which takes longer than there is time
        await call.until(lambda event: isinstance(event, events.Audio), since)
        await scene.struck()
        said = await call.answer(since, containing="arrives")
        assert said.count("shipped") == 1
        await moved(call)
        assert [event.reason for event in call.of(events.Interrupted, since)] == ["RESTARTED"]
        await goes_on(call)


@forced.add()
async def a_tool_goes_on_for_the_next_worker(scene: Scene) -> None:
    async with in_the_scene(scene, microphone=False) as call:
        hold = scene.folder / "1357"
        hold.touch()
        since = len(call.got)
        await call.session.send_text("where is my order 1357")
        await eventually(lambda: order_ledger.runs(scene.folder, "1357") == 1, WAITS)
        await scene.struck()
        await moved(call)
        hold.unlink()
        await call.answer(since, containing="shipped")
        await goes_on(call, asked_again=True)
        assert order_ledger.runs(scene.folder, "1357") == 1


@forced.add()
async def the_callers_result_goes_to_the_next_worker(scene: Scene) -> None:
    config = with_a_caller_tool(live_pb2.TOOL_BEHAVIOR_BLOCKING)
    async with in_the_scene(scene, microphone=False, config=config) as call:
        since = len(call.got)
        await call.session.send_text("where is my order 4711")
        asked = await call.until(lambda event: isinstance(event, events.ToolCall), since)
        assert isinstance(asked, events.ToolCall)
        await scene.struck()
        await moved(call)
        await call.session.send_tool_result(asked.call_id, ORDER)
        await call.answer(since, containing="shipped")
        # The model asked again, for what the caller runs already.
        assert len(call.of(events.ToolCall, since)) == 1
        await goes_on(call, asked_again=True)


@drained.add("in order")
@forced.add("in time")
async def the_process_ends(scene: Scene, _how: str) -> None:
    await scene.prepared()
    await scene.struck()
    worker = scene.stack.workers[0]
    async with asyncio.timeout(WAITS):
        assert await worker.process.wait() == 0


# Stories that are told one after another in one stack, whose workers change with them


async def parley_says(stack: Stack, *arguments: str) -> str:
    """What `parley ARGUMENTS...` prints, in a process of its own."""
    target = str(stack.gateways[0].ready["address"])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "parley.cli", *arguments, "--target", target, stdout=PIPE, stderr=STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def is_heard(stack: Stack, worker: Child) -> None:
    """The gateway that operators ask knows of this worker."""

    async def is_listed() -> bool:
        async with grpc.aio.insecure_channel(str(stack.gateways[0].ready["address"])) as channel:
            fleet = fleet_pb2_grpc.FleetServiceStub(channel)
            workers = (await fleet.ListWorkers(fleet_pb2.ListWorkersRequest())).workers
        return worker.ready["id"] in {each.worker for each in workers}

    await eventually(is_listed, WAITS)


async def move(call: Call, worker: Child) -> None:
    """As an operator does it; returns when the session is there."""
    await is_heard(call.stack, worker)
    async with grpc.aio.insecure_channel(str(call.stack.gateways[0].ready["address"])) as channel:
        stub = sessions_pb2_grpc.SessionServiceStub(channel)
        request = sessions_pb2.MoveSessionRequest(session_id=call.session.id, worker=str(worker.ready["id"]))
        await stub.MoveSession(request)


@contextlib.asynccontextmanager
async def greeted(stack: Stack, **options: Any) -> AsyncIterator[Call]:
    """A call that has had an answer."""
    async with calling(stack, **options) as call:
        await call.session.send_text("hello")
        await call.answer(containing="help you")
        yield call


async def an_operator_moves_and_drains(stack: Stack) -> None:
    async with greeted(stack) as call:
        first = stack.workers[0]
        second = await stack.start_worker()
        await is_heard(stack, second)
        name = str(first.ready["id"])

        assert str(second.ready["id"]) in await parley_says(stack, "session", "move", call.session.id)
        assert (await moved(call, cause="MOVED")).method == "RESUMED"
        assert await owner(call) is second

        since = len(call.got)
        await move(call, first)
        assert (await moved(call, since, cause="MOVED")).method == "RESUMED"
        assert await owner(call) is first

        since = len(call.got)
        said = await parley_says(stack, "worker", "drain", name, "--wait", "60")
        assert said.splitlines()[-1] == f"{name} is empty"
        assert (await moved(call, since)).method == "RESUMED"
        assert await owner(call) is second
        assert await http_status(first.ready["ops"] + "/readyz") == 503
        assert await http_status(first.ready["ops"] + "/livez") == 200

        await parley_says(stack, "worker", "undrain", name)
        assert await http_status(first.ready["ops"] + "/readyz") == 200
        since = len(call.got)
        await move(call, first)
        assert (await moved(call, since, cause="MOVED")).method == "RESUMED"
        assert not call.of(events.Interrupted)
        await goes_on(call)


async def the_next_worker_dies_as_it_takes_over(stack: Stack) -> None:
    async with greeted(stack) as call:
        doomed = await sabotage_drain.start(stack, "dies_at_takeover")
        since = len(call.got)
        await move(call, doomed)
        await doomed.gone()
        await moved(call, since, cause="MOVED")
        assert await owner(call) is not doomed
        await goes_on(call)


async def the_gateway_dies_when_the_session_is_let_go(stack: Stack) -> None:
    victim = stack.gateways[1]
    worker = await sabotage_drain.start(stack, "kills_gateway", str(victim.pid))
    victim.stopping = True
    targets = [str(gateway.ready["address"]) for gateway in reversed(stack.gateways)]
    async with greeted(stack, targets=targets) as call:
        if await owner(call) is not worker:
            await move(call, worker)
            await moved(call, cause="MOVED")  # else its takeover is cut short, and nothing is let go
        since = len(call.got)
        worker.signal(signal.SIGTERM)
        await victim.gone()
        await moved(call, since)
        await goes_on(call)
        assert call.of(events.StreamResumed)
        assert await worker.process.wait() == 0


async def the_message_bus_is_restarted_meanwhile(stack: Stack) -> None:
    async with greeted(stack) as quiet, greeted(stack, microphone=False) as speaks:
        worker = await owner(quiet)
        if await owner(speaks) is not worker:
            await move(speaks, worker)
            await moved(speaks, cause="MOVED")
        since = {call: len(call.got) for call in (quiet, speaks)}
        await speaks.session.send_text("where is my order 4711")
        await speaks.until(lambda event: isinstance(event, events.Audio), since[speaks])
        port = int(stack.nats.ready["url"].rpartition(":")[2])
        await kill(stack.nats)
        with reserved(str(port)):
            worker.stopping = True
            worker.signal(signal.SIGTERM)

            async def noticed() -> bool:
                return await http_status(worker.ready["ops"] + "/readyz") == 503

            await eventually(noticed, WAITS)
            await stack.start_nats(port=port)
        await speaks.answer(since[speaks], containing="four seven one one")
        for call in (quiet, speaks):
            await moved(call, since[call])
            await goes_on(call)
        async with asyncio.timeout(WAITS):
            assert await worker.process.wait() == 0


IN_ORDER = (
    an_operator_moves_and_drains,
    the_next_worker_dies_as_it_takes_over,
    the_gateway_dies_when_the_session_is_let_go,
    the_message_bus_is_restarted_meanwhile,
)


async def tell_in_order() -> dict[str, BaseException | None]:
    """One after another."""
    found: dict[str, BaseException | None] = {}
    async with Stack(StackConfig(workers=1, gateways=2)) as stack:
        for story in IN_ORDER:
            [found[story.__name__]] = await asyncio.gather(limited(story(stack)), return_exceptions=True)
    return found


async def limited(story: Coroutine[Any, Any, None]) -> None:
    """A story that does not come to its end has failed."""
    async with asyncio.timeout(120):
        await story


# Everything is replaced


MOST_QUESTIONS = 30


async def talks(stack: Stack, began: asyncio.Barrier, over: asyncio.Event, *, microphone: bool) -> None:
    """A conversation that goes on until everything was replaced, and for one more question. Nothing is replaced before
    all of them have begun."""
    targets = [str(gateway.ready["address"]) for gateway in stack.gateways]
    async with calling(stack, microphone=microphone, targets=targets) as call:
        await began.wait()
        for asked in range(1, MOST_QUESTIONS + 1):
            was_over = over.is_set()
            since = len(call.got)
            # Another one each time: the record takes words that come again on another link for a replay.
            await call.session.send_text(f"where is my order {1000 + asked}")
            await call.answer(since, containing="shipped")
            if was_over:
                break
            await asyncio.sleep(1)  # people think before they ask
        assert was_over
        assert not call.of(events.Interrupted), "nobody is cut off where there is time"
        assert not call.of(events.StreamLost), "one that drains is left before it is lost"
        assert len(call.of(events.StreamResumed)) >= 1
        assert call.answers() == asked
        assert {event.cause for event in call.of(events.LinkRotating)} == {"DRAIN"}
        await check(call)


async def everything_is_replaced_under_load() -> None:
    with tempfile.TemporaryDirectory() as folder:
        env = {order_ledger.FOLDER: folder, "PARLEY_TOOLS_MODULES": order_ledger.MODULES}
        await replace_everything(StackConfig(workers=2, gateways=2, env=env))


async def replace_everything(config: StackConfig) -> None:
    async with Stack(config) as stack:
        calls = 4
        began, over = asyncio.Barrier(calls + 1), asyncio.Event()

        async def replace_workers() -> None:
            for worker in list(stack.workers):
                await stack.start_worker()
                assert await worker.stop(60) == 0

        async def replace_gateways() -> None:
            for gateway in list(stack.gateways):
                assert await gateway.stop(60) == 0
                with reserved(str(gateway.ready["address"])) as listen:
                    await stack.start_gateway(PARLEY_GATEWAY_LISTEN=listen)

        async with asyncio.TaskGroup() as group:
            for number in range(calls):
                group.create_task(talks(stack, began, over, microphone=number < 2))

            async def replace() -> None:
                await began.wait()
                await asyncio.gather(replace_workers(), replace_gateways())
                over.set()

            group.create_task(replace())


@pytest.fixture(scope="module")
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, BaseException | None]:
    """Every story at once, but for those that need the stack of the one before."""
    names = chosen(request)

    async def replaced() -> dict[str, BaseException | None]:
        [problem] = await asyncio.gather(limited(everything_is_replaced_under_load()), return_exceptions=True)
        return {everything_is_replaced_under_load.__name__: problem}

    async def all_of_them() -> dict[str, BaseException | None]:
        found = await asyncio.gather(
            tell(drained.among(names), terminate, tmp_path_factory.mktemp("drained"), PARLEY_WORKER_PARK_AFTER="3s"),
            tell(
                forced.among(names),
                terminate,
                tmp_path_factory.mktemp("forced"),
                PARLEY_WORKER_SHUTDOWN_GRACE="1s",
                **{order_ledger.BEHAVIOR: "non_blocking"},
            ),
            *((tell_in_order(), replaced()) if set(ALONE) & names else ()),
        )
        return {name: problem for stories in found for name, problem in stories.items()}

    return asyncio.run(all_of_them())


ALONE = [story.__name__ for story in (*IN_ORDER, everything_is_replaced_under_load)]


@pytest.mark.parametrize("story", [*drained.names, *long([*forced.names, *ALONE])])
def test_the_conversation_goes_on(told: dict[str, BaseException | None], story: str) -> None:
    problem = told[story]
    if problem is not None:
        raise problem
