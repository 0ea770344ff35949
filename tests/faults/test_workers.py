"""A worker that dies, in every state of a turn: another one goes on with its conversations."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest

from parley import events
from parley.cli.stack import Stack
from tests.faults.call import UNLOGGED, Call
from tests.faults.scene import Scene, goes_on, in_the_scene, kill, owner, tell
from tests.faults.stories import Stories, chosen, long
from tests.support import order_ledger
from tests.support.counts import get_json
from tests.support.eventually import eventually

killed, frozen, again, exact = Stories(), Stories(), Stories(), Stories()
ANSWER = "four seven one one"
"""Of the answer to what `begin_to_ask` asks."""
FROZEN = 10.0
"""Seconds for which a worker is frozen at least: as long as the ttl that it has by default."""
GIVEN = ("text", "turn", "tool_response", "context_update")
"""What a model is given besides audio, as the emulator's record names it."""
LESS_AUDIO = {"PARLEY_WORKER_INPUT_AUDIO_BUFFER": "5s"}
"""Audio waits longer for the next link than it is kept. By default, 15 s, that happens now and then: the handle is in
use as long as the frozen worker's socket is open, and the next try may be 4 s away."""
VERTEX = {"PARLEY_WORKER_BACKEND": "vertex", "PARLEY_GATEWAY_BACKEND": "vertex"}
"""Each handle says what it restores."""


async def kill_worker_and_gateway(stack: Stack) -> None:
    """The worker that has all the sessions, and one of the gateways."""
    await kill(stack.workers[0], stack.gateways[1])


async def freeze_worker(stack: Stack) -> None:
    """The worker that has all the sessions."""
    stack.workers[0].signal(signal.SIGSTOP)


async def lost(call: Call, since: int = 0) -> None:
    """The session is with another worker."""
    await call.until(lambda event: isinstance(event, events.LinkRotating) and event.cause == "WORKER_LOST", since)


async def taken_over(call: Call, since: int = 0) -> events.LinkRecovered:
    """The session is with another worker, and on a link there."""
    await lost(call, since)
    event = await call.until(lambda event: isinstance(event, events.LinkRecovered), since)
    assert isinstance(event, events.LinkRecovered)
    return event


def with_log(log: str) -> dict[str, Any]:
    """How a call is opened, whose log is on or off."""
    return {"config": UNLOGGED} if log == "log off" else {}


async def begin_to_ask(call: Call) -> None:
    """Come to the middle of a sentence that is long enough for every other story to come to its state meanwhile."""
    await call.speak("order_4711", wait=False)
    await asyncio.sleep(1.2)


@killed.add()
async def nobody_speaks(scene: Scene) -> None:
    async with in_the_scene(scene) as call:
        await scene.struck()
        since = len(call.got)
        new = await taken_over(call)
        assert (new.method, new.dropped) == ("RESUMED", ())
        assert not call.of(events.Interrupted, since)
        await goes_on(call)


@killed.add()
@killed.add("log off")
async def the_caller_speaks(scene: Scene, log: str = "log on") -> None:
    async with in_the_scene(scene, **with_log(log)) as call:
        since = len(call.got)
        await begin_to_ask(call)
        await scene.struck()
        await call.answer(since, containing=ANSWER)
        await taken_over(call)
        heard = [event.text for event in call.of(events.InputTranscript, since)]
        # With the log off nobody knows how far the worker before had heard it.
        assert heard[-1 if log == "log off" else 0 :] == ["where is my order four seven one one"]
        assert not call.of(events.Interrupted, since)
        await goes_on(call)


@killed.add()
@killed.add("log off")
async def the_model_speaks(scene: Scene, log: str = "log on") -> None:
    async with in_the_scene(scene, **with_log(log), microphone=False) as call:
        since = len(call.got)
        await call.session.send_text("tell me about your service")
        await call.until(lambda event: isinstance(event, events.Audio), since)
        await scene.struck()
        said = await call.answer(since, containing="speaking")
        assert said.count("many cities") == 1
        assert [event.reason for event in call.of(events.Interrupted, since)] == ["RESTARTED"]
        await goes_on(call)


@killed.add()
async def a_tool_runs(scene: Scene) -> None:
    async with in_the_scene(scene, microphone=False) as call:
        hold = scene.folder / "1234"
        hold.touch()
        since = len(call.got)
        await call.session.send_text("where is my order 1234")
        await eventually(lambda: order_ledger.runs(scene.folder, "1234") == 1)
        await scene.struck()
        await taken_over(call)
        hold.unlink()
        await call.answer(since, containing="shipped")
        await goes_on(call)
        assert order_ledger.runs(scene.folder, "1234") == 1


@killed.add()
@killed.add("log off")
async def a_tool_has_just_run(scene: Scene, log: str = "log on") -> None:
    order = "5050" if log == "log on" else "5151"
    async with in_the_scene(scene, **with_log(log), microphone=False) as call:
        since = len(call.got)
        await call.session.send_text(f"where is my order {order}")
        await call.until(lambda event: isinstance(event, events.Audio), since)
        await scene.struck()
        await call.answer(since, containing="arrives")
        await taken_over(call)
        await goes_on(call)
        assert order_ledger.runs(scene.folder, order) == 1


@killed.add()
@killed.add("log off")
async def text_was_just_sent(scene: Scene, log: str = "log on") -> None:
    order = "2468" if log == "log on" else "2579"
    async with in_the_scene(scene, **with_log(log)) as call:
        since = len(call.got)
        await call.session.send_text(f"where is my order {order}")
        await scene.struck()
        await call.answer(since, containing="shipped")
        await taken_over(call)
        await goes_on(call)
        assert order_ledger.runs(scene.folder, order) == 1


@killed.add()
async def text_is_sent_while_nobody_is_there(scene: Scene) -> None:
    async with in_the_scene(scene) as call:
        await scene.struck()
        since = len(call.got)
        await call.session.send_text("where is my order 8642")
        await call.answer(since, containing="shipped")
        await goes_on(call)
        assert order_ledger.runs(scene.folder, "8642") == 1


@killed.add("nobody speaks")
@killed.add("the caller speaks")
@killed.add("the model speaks")
@killed.add("the model speaks", "log off")
async def the_gateway_dies_too(scene: Scene, state: str, log: str = "log on") -> None:
    targets = [str(gateway.ready["address"]) for gateway in reversed(scene.stack.gateways)]
    async with in_the_scene(scene, targets=targets, **with_log(log)) as call:
        since = len(call.got)
        if state == "the caller speaks":
            await begin_to_ask(call)
        elif state == "the model speaks":
            await call.session.send_text("tell me about your service")
            await call.until(lambda event: isinstance(event, events.Audio), since)
        await scene.struck()
        await taken_over(call)
        if state == "the caller speaks":
            await call.answer(since, containing=ANSWER)
        elif state == "the model speaks":
            await call.answer(since, containing="speaking")
        await goes_on(call)


@exact.add()
async def no_frame_is_heard_twice(scene: Scene) -> None:
    async with in_the_scene(scene) as call:
        since = len(call.got)
        await begin_to_ask(call)
        await scene.struck()
        await call.answer(since, containing=ANSWER)
        assert (await taken_over(call)).method == "RESUMED"
        await goes_on(call, twice=0.0)


@exact.add()
async def no_answer_is_given_twice(scene: Scene) -> None:
    async with in_the_scene(scene) as call:
        since = len(call.got)
        await call.speak("tell_me_about_your_service")
        await call.until(lambda event: isinstance(event, events.Audio), since)
        await scene.struck()
        said = await call.answer(since, containing="speaking")
        assert said.count("many cities") == 1
        await goes_on(call, twice=0.0)


@again.add()
async def the_next_worker_dies_too(scene: Scene) -> None:
    async with in_the_scene(scene) as call:
        since = len(call.got)
        question = "tell me about your service"
        await call.session.send_text(question)
        await call.until(lambda event: isinstance(event, events.Audio), since)
        await scene.struck()
        first = await taken_over(call)
        since = len(call.got)
        # By now the worker has written down that it is answered.
        await call.until(lambda event: isinstance(event, events.OutputTranscript) and "order" in event.text, since)
        await kill(await owner(call))
        second = await taken_over(call, since)
        await call.answer(since, containing="speaking")
        assert [event.reason for event in call.of(events.Interrupted)] == ["RESTARTED"] * 2
        # Nobody knows whether the newest handle of the second one has the question: it may be known once more, and then
        # the caller is told so, which had it told the first time, too.
        duplicates = (await call.lineage())["duplicates"]
        twice = [turn["text"] for turn in [*duplicates["turns"], *duplicates["texts"]]]
        assert twice in ([], [question])
        assert not twice or second.replayed[0][0] == first.replayed[0][0]
        await goes_on(call, asked_again=True)


async def given(call: Call) -> tuple[list[dict[str, Any]], list[dict[str, int]]]:
    """What came to the model on the call's first link."""
    assert call.stack.emulator is not None
    record = f"{call.stack.emulator.ready['control']}/conversations/{call.session.id}"
    link = await get_json(f"{record}/links/0")
    return [entry for entry in link["history"] if entry["kind"] in GIVEN], link["marks"]


async def thawed(scene: Scene, call: Call) -> None:
    """The frozen worker runs again, has found out that nothing is its own any more, and has said nothing to the model
    though the caller's messages of all that time waited for it."""
    worker = scene.stack.workers[0]
    await asyncio.sleep(max(0.0, scene.struck_at + FROZEN - asyncio.get_running_loop().time()))
    before = await given(call)
    worker.signal(signal.SIGCONT)

    async def mute() -> bool:
        assert await given(call) == before
        # Its watchdog may have ended it.
        return not worker.running or not (await get_json(f"{worker.ready['ops']}/debug/vars"))["sessions"]

    await eventually(mute)
    assert await given(call) == before


@frozen.add()
async def nobody_speaks_to_a_worker_that_froze(scene: Scene) -> None:
    async with in_the_scene(scene) as call:
        await scene.struck()
        since = len(call.got)
        await lost(call)
        await thawed(scene, call)
        assert (await taken_over(call)).method == "RESUMED"
        await goes_on(call)
        assert not call.of(events.Interrupted, since)
        assert not call.of(events.Ended, since)


@frozen.add()
async def the_model_speaks_from_a_worker_that_froze(scene: Scene) -> None:
    async with in_the_scene(scene, microphone=False) as call:
        since = len(call.got)
        await call.session.send_text("tell me about your service")
        await call.until(lambda event: isinstance(event, events.Audio), since)
        await scene.struck()
        await lost(call)
        await thawed(scene, call)
        said = await call.answer(since, containing="speaking")
        assert said.count("many cities") == 1
        await goes_on(call)


@frozen.add()
async def a_tool_runs_for_a_worker_that_froze(scene: Scene) -> None:
    async with in_the_scene(scene, microphone=False) as call:
        hold = scene.folder / "3579"
        hold.touch()
        since = len(call.got)
        await call.session.send_text("where is my order 3579")
        await eventually(lambda: order_ledger.runs(scene.folder, "3579") == 1)
        await scene.struck()
        await lost(call)
        await thawed(scene, call)
        hold.unlink()
        await call.answer(since, containing="shipped")
        await goes_on(call)
        assert order_ledger.runs(scene.folder, "3579") == 1


@pytest.fixture(scope="module")
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, BaseException | None]:
    """Every story at once, in one stack for each thing that happens to workers."""
    names = chosen(request)

    async def all_of_them() -> dict[str, BaseException | None]:
        first, second, third, fourth = await asyncio.gather(
            tell(killed.among(names), kill_worker_and_gateway, tmp_path_factory.mktemp("killed")),
            tell(frozen.among(names), freeze_worker, tmp_path_factory.mktemp("frozen"), **LESS_AUDIO),
            tell(again.among(names), kill_worker_and_gateway, tmp_path_factory.mktemp("again")),
            tell(exact.among(names), kill_worker_and_gateway, tmp_path_factory.mktemp("exact"), **VERTEX),
        )
        return {**first, **second, **third, **fourth}

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("story", [*killed.names, *long([*frozen.names, *again.names, *exact.names])])
def test_the_conversation_goes_on(told: dict[str, BaseException | None], story: str) -> None:
    problem = told[story]
    if problem is not None:
        raise problem
