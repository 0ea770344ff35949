"""Tools that say something before their end, and whatever happens meanwhile: what the model and the caller are told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import parley
from parley import events
from parley.cli.stack import Stack, StackConfig
from tests.faults.call import Call, calling, check
from tests.faults.scene import kill, owner
from tests.faults.stories import Stories, chosen, long
from tests.support import live_tools
from tests.support.counts import heard
from tests.support.eventually import eventually
from tests.support.live_tools import LAST, WORDS, Order

stories, mortal = Stories(), Stories()


@dataclass(frozen=True)
class Place:
    """A stack, and the folder of its tools."""

    stack: Stack
    folder: Path

    def order(self, name: str) -> Order:
        return Order(self.folder, name)


def config(model: str, **fields: Any) -> parley.SessionConfig:
    return parley.SessionConfig(
        model=model,
        tools=["lookup_order", "get_weather"],
        input_transcription=True,
        output_transcription=True,
        **fields,
    )


@asynccontextmanager
async def asking(place: Place, question: str, **options: Any) -> AsyncIterator[Call]:
    """A call in which the model has called a tool."""
    async with calling(place.stack, microphone=False, **options) as call:
        await call.session.send_text("hello")
        await call.answer(containing="help you")
        await call.session.send_text(question)
        await call.until(lambda event: isinstance(event, events.ToolActivity) and event.phase == "STARTED")
        yield call


async def responses(call: Call) -> list[dict[str, Any]]:
    """What the model was given as function responses."""
    return list((await heard(call.stack, call.session.id))["tool_responses"])


def activities(call: Call, phase: str) -> list[events.ToolActivity]:
    return [event for event in call.of(events.ToolActivity) if event.phase == phase]


async def progressed(call: Call, output: Mapping[str, str]) -> None:
    """The caller has seen this partial result."""

    def seen(event: events.Event) -> bool:
        return isinstance(event, events.ToolActivity) and output.items() <= dict(event.output or {}).items()

    await call.until(seen)


async def finished(call: Call) -> events.ToolActivity:
    event = await call.until(lambda event: isinstance(event, events.ToolActivity) and event.phase == "FINISHED")
    assert isinstance(event, events.ToolActivity)
    return event


async def goes_on(call: Call) -> None:
    """The model waits for nothing."""
    since = len(call.got)
    await call.session.send_text("thank you goodbye")
    await call.answer(since, containing="goodbye")


def order(number: str, words: Mapping[str, str]) -> dict[str, str]:
    return {"order_id": number, **words}


def spelled(number: str) -> str:
    digits = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return " ".join(digits[int(digit)] for digit in number)


NOT_IN_THE_SCRIPT = "did not understand"
"""What the emulator says to an outcome that is told in words: it was asked to answer."""


async def told_in_words(call: Call, number: str) -> None:
    """The outcome of the call, once."""
    record = await heard(call.stack, call.session.id)
    in_words = [turn["text"] for turn in record["turns"] if "[The function lookup_order" in turn["text"]]
    assert len(in_words) == 1, record["turns"]
    assert json.dumps(order(number, LAST), sort_keys=True, separators=(",", ":")) in in_words[0]


# On its link


@stories.add("1111", "WHEN_IDLE", "WHEN_IDLE")
@stories.add("8111", "WHEN_IDLE", "INTERRUPT")
async def every_result_reaches_the_model_as_it_is_scheduled(place: Place, number: str, each: str, last: str) -> None:
    story = place.order(number)
    async with asking(place, f"where is my order {number}", profile="support") as call:
        since = len(call.got)
        await progressed(call, WORDS[0])
        await call.answer(since, containing=f"order {spelled(number)} is delayed")
        story.go_on(1)
        await progressed(call, WORDS[1])
        await call.answer(since, containing="is shipped")
        story.go_on(2)
        await call.answer(since, containing="is delivered")
        name = {"name": "lookup_order"}
        given = [{key: value for key, value in one.items() if key not in ("id", "at")} for one in await responses(call)]
        assert given == [
            {**name, "response": {"output": order(number, WORDS[0])}, "scheduling": each, "will_continue": True},
            {**name, "response": {"output": order(number, WORDS[1])}, "scheduling": each, "will_continue": True},
            {**name, "response": {"output": order(number, LAST)}, "scheduling": last},
        ]
        told = activities(call, "PROGRESS")
        assert (told[0].message, told[0].fraction, told[0].output) == ("looking", 0.25, None)
        assert [event.output for event in told[1:]] == [order(number, words) for words in WORDS]
        assert (await finished(call)).outcome == "SUCCEEDED"
        await goes_on(call)
        await check(call)


@stories.add()
async def what_is_silent_is_known_and_not_spoken_of(place: Place) -> None:
    story = place.order("9111")
    async with asking(place, "where is my order 9111", profile="support") as call:
        since = len(call.got)
        await progressed(call, WORDS[0])
        story.go_on(1)
        story.go_on(2)
        await finished(call)
        await goes_on(call)
        assert call.said(since).strip() == "goodbye"
        assert {one["scheduling"] for one in await responses(call)} == {"SILENT"}
        # A silent answer leaves nothing owed: nobody thinks that the link has died.
        assert not call.of(events.LinkRotating)
        await check(call)


@stories.add()
async def a_function_that_is_waited_for_has_one_result(place: Place) -> None:
    async with asking(place, "what is the weather in paris", profile="support") as call:
        since = len(call.got)
        await progressed(call, {"condition": "cloudy"})
        assert await responses(call) == []
        place.order("paris").go_on(1)
        await call.answer(since, containing="sunny in paris")
        [given] = await responses(call)
        assert given["response"] == {"output": {"condition": "sunny", "temperature_celsius": 18}}
        assert {"scheduling", "will_continue"}.isdisjoint(given)
        await check(call)


@stories.add("gemini-3.1-flash-live-preview", "1311")
@stories.add("gemini-2.5-flash-native-audio-preview-12-2025", "1251")
async def each_model_gets_what_it_takes(place: Place, model: str, number: str) -> None:
    story = place.order(number)
    async with asking(place, f"where is my order {number}", config=config(model)) as call:
        since = len(call.got)
        await progressed(call, WORDS[0])
        story.go_on(1)
        await progressed(call, WORDS[1])
        story.go_on(2)
        await call.answer(since, containing="is delivered")
        given = await responses(call)
        assert given[-1]["response"] == {"output": order(number, LAST)}
        if "3.1" in model:
            assert len(given) == 1
            assert {"scheduling", "will_continue"}.isdisjoint(given[0])
        else:
            assert [one.get("will_continue", False) for one in given] == [True, True, False]
        await check(call)


# Taken back


@stories.add()
async def a_stream_that_the_model_takes_back_ends(place: Place) -> None:
    story = place.order("3111")
    async with asking(place, "where is my order 3111", profile="support") as call:
        since = len(call.got)
        await progressed(call, WORDS[0])
        await call.fault("cancel_calls on=turn_complete")
        await call.answer(since, containing="is delayed")
        await eventually(lambda: story.notes == ["began", "ended", "undone, cut off"])
        assert (await finished(call)).outcome == "CANCELLED"
        story.go_on(1)
        story.go_on(2)
        await goes_on(call)
        assert [one.get("will_continue") for one in await responses(call)] == [True]
        assert len(activities(call, "PROGRESS")) == 2


@stories.add()
async def a_thread_that_the_model_takes_back_ends(place: Place) -> None:
    story = place.order("london")
    async with asking(place, "what is the weather in london", profile="support") as call:
        await progressed(call, {"condition": "cloudy"})
        since = len(call.got)
        await call.session.send_text("hello")  # cuts off what waits
        await call.answer(since, containing="help you")
        await eventually(lambda: story.notes == ["began", "ended"])
        assert (await finished(call)).outcome == "CANCELLED"
        assert await responses(call) == []


# The link is lost


@stories.add("1211")
@stories.add("9211")
async def a_link_that_is_lost_in_the_middle_of_a_stream(place: Place, number: str) -> None:
    story = place.order(number)
    async with asking(place, f"where is my order {number}", profile="support") as call:
        since = len(call.got)
        await progressed(call, WORDS[0])
        if number.startswith("1"):
            await call.answer(since, containing="is delayed")
        await goes_on(call)  # so that what led to the call is answered, and not asked again
        await call.fault("reset")
        await call.until(lambda event: isinstance(event, events.LinkRecovered))
        story.go_on(1)
        await progressed(call, WORDS[1])
        story.go_on(2)
        await finished(call)
        if number.startswith("1"):
            await call.answer(since, containing=NOT_IN_THE_SCRIPT)
        await goes_on(call)
        await told_in_words(call, number)
        # The new link was given no result as such, but where it waits for one, the end of that.
        later = [one for one in await responses(call) if one["response"].get("output") != order(number, WORDS[0])]
        assert all("lost" in one["response"]["error"] for one in later), later
        assert not any("will_continue" in one for one in later)
        assert story.notes == ["began", "done", "ended"]


@stories.add()
async def a_call_that_runs_while_a_later_answer_is_cut_off(place: Place) -> None:
    story = place.order("1411")
    async with asking(place, "where is my order 1411", profile="support") as call:
        since = len(call.got)
        await call.answer(since, containing="is delayed")
        since = len(call.got)
        await call.session.send_text("tell me about your service")
        await call.until(lambda event: isinstance(event, events.Audio), since)
        await call.fault("reset")
        await call.answer(since, containing="speaking")
        since = len(call.got)
        story.go_on(1)
        story.go_on(2)
        await call.answer(since, containing=NOT_IN_THE_SCRIPT)
        await told_in_words(call, "1411")
        assert story.notes == ["began", "done", "ended"]


# Those who work on it die


@mortal.add()
async def a_worker_that_dies_in_the_middle_of_a_stream(place: Place) -> None:
    story = place.order("1511")
    async with asking(place, "where is my order 1511", profile="support") as call:
        since = len(call.got)
        await progressed(call, WORDS[0])
        await call.answer(since, containing="is delayed")
        await goes_on(call)
        await place.stack.start_worker()
        await kill(await owner(call))
        await call.until(lambda event: isinstance(event, events.LinkRecovered))
        story.go_on(1)
        await progressed(call, WORDS[1])
        story.go_on(2)
        await call.answer(since, containing=NOT_IN_THE_SCRIPT)
        await goes_on(call)
        await told_in_words(call, "1511")
        assert story.notes == ["began", "done", "ended"]


@mortal.add()
async def a_tools_service_that_dies_in_the_middle_of_a_stream(place: Place) -> None:
    async with asking(place, "where is my order 1611", profile="support") as call:
        since = len(call.got)
        await progressed(call, WORDS[0])
        await call.answer(since, containing="is delayed")
        await place.stack.start_tools()
        await kill(place.stack.tools[0])
        assert (await finished(call)).outcome == "UNKNOWN"
        await goes_on(call)
        given = await responses(call)
        assert [one.get("will_continue", False) for one in given] == [True, False]
        assert "whether it had its effect is unknown" in given[1]["response"]["error"]


@pytest.fixture(scope="module")
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, BaseException | None]:
    """The stories at once; each of those in which somebody dies has a stack of its own."""
    names = chosen(request)

    async def tell(some: Stories) -> dict[str, BaseException | None]:
        if not some.names:
            return {}
        folder = tmp_path_factory.mktemp("tools")
        env = {live_tools.FOLDER: str(folder), "PARLEY_TOOLS_MODULES": live_tools.MODULES}
        async with Stack(StackConfig(workers=1, gateways=1, env=env)) as stack:
            return await some.tell(Place(stack, folder))

    async def all_of_them() -> dict[str, BaseException | None]:
        groups = [stories.among(names), *(mortal.among({name}) for name in mortal.names if name in names)]
        outcomes: dict[str, BaseException | None] = {}
        for found in await asyncio.gather(*(tell(group) for group in groups)):
            outcomes |= found
        return outcomes

    return asyncio.run(all_of_them())


LONG = {"a_call_that_runs_while_a_later_answer_is_cut_off", "a_link_that_is_lost_in_the_middle_of_a_stream[9211]"}
"""Told at length, or much like another."""


SHORT = [name for name in stories.names if name not in LONG]


@pytest.mark.parametrize("story", [*SHORT, mortal.names[0], *long([*sorted(LONG), *mortal.names[1:]])])
def test_what_tools_say_before_their_end(told: dict[str, BaseException | None], story: str) -> None:
    problem = told[story]
    if problem is not None:
        raise problem
