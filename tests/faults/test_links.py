"""A link that ends in whatever way: the conversation goes on, on another one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from parley import events
from parley.cli.stack import Stack, StackConfig
from tests.faults.call import calling, check

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

WEATHER = "degrees"
"""In every answer to a question for the weather."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack() -> AsyncIterator[Stack]:
    async with Stack(StackConfig(workers=1, gateways=1)) as running:
        yield running


async def test_a_go_away_while_nobody_speaks(stack: Stack) -> None:
    async with calling(stack) as call:
        await call.speak("weather_paris")
        await call.answer(containing=WEATHER)
        await call.fault("go_away time_left=20s")
        recovered = await call.until(lambda event: isinstance(event, events.LinkRecovered))
        assert isinstance(recovered, events.LinkRecovered)
        assert (recovered.method, recovered.replayed, recovered.dropped) == ("RESUMED", (), ())
        assert [event.cause for event in call.of(events.LinkRotating)] == ["GO_AWAY"]
        since = len(call.got)
        await call.speak("order_4711")
        await call.answer(since, containing="four seven one one")
        assert not call.of(events.Interrupted)
        await check(call)


@pytest.mark.parametrize("fault", ["reset", "close preset=unavailable", "close preset=go_away"])
async def test_a_link_that_ends_while_the_caller_speaks(stack: Stack, fault: str) -> None:
    async with calling(stack) as call:
        await call.fault(f"{fault} on=speech_began after=500ms link=1")
        await call.speak("weather_paris")
        await call.answer(containing=WEATHER)
        assert len(call.of(events.LinkRecovered)) == 1
        assert [event.text for event in call.of(events.InputTranscript)] == ["what is the weather in paris"]
        await check(call)


@pytest.mark.parametrize("fault", ["reset", "close preset=internal", "go_away time_left=1s then=silence"])
async def test_a_link_that_ends_while_the_model_speaks(stack: Stack, fault: str) -> None:
    async with calling(stack, profile="plain") as call:
        await call.speak("hello")
        await call.answer()
        since = len(call.got)
        await call.fault(f"{fault} on=first_audio after=300ms link=1")
        await call.speak("tell_me_about_your_service")
        await call.answer(since)
        assert len(call.of(events.LinkRecovered)) == 1
        await check(call)


async def test_a_link_that_ends_while_a_tool_runs(stack: Stack) -> None:
    async with calling(stack) as call:
        await call.fault("reset on=tool_call link=1")
        await call.speak("weather_paris")
        await call.answer(containing=WEATHER)
        assert len(call.of(events.LinkRecovered)) == 1
        await check(call)


async def test_a_handle_that_is_dead(stack: Stack) -> None:
    async with calling(stack) as call:
        await call.speak("weather_paris")
        await call.answer(containing=WEATHER)
        await call.fault("lose_handles")
        await call.fault("reset")
        await call.until(lambda event: isinstance(event, events.LinkRecovered))
        assert [event.method for event in call.of(events.LinkRecovered)] == ["RESEEDED"]
        since = len(call.got)
        await call.speak("order_4711")
        await call.answer(since, containing="four seven one one")
        lineage = await check(call)
        assert "what is the weather in paris" in str(lineage["context"])


async def test_typed_questions_in_the_middle_of_it(stack: Stack) -> None:
    async with calling(stack, microphone=False) as call:
        await call.session.send_text("hello")
        await call.answer()
        await call.fault("reset on=turn_began link=1")
        since = len(call.got)
        await call.session.send_text("what is the weather in paris")
        await call.answer(since, containing=WEATHER)
        await check(call)
