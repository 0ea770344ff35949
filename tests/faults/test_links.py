"""A link that ends in whatever way: the conversation goes on, on another one."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import nats
import pytest

from parley import events
from parley.cli.stack import Stack, StackConfig
from services.fabric import subjects
from tests.faults.call import UNLOGGED, Call, calling, check
from tests.faults.stories import Stories

stories = Stories()
WEATHER = "degrees"
"""In every answer to a question for the weather."""
ORDER = "four seven one one"


async def recovered(call: Call, since: int = 0) -> events.LinkRecovered:
    """The session is on another link."""
    event = await call.until(lambda event: isinstance(event, events.LinkRecovered), since)
    assert isinstance(event, events.LinkRecovered)
    return event


@stories.add()
async def a_go_away_while_nobody_speaks(stack: Stack) -> None:
    async with calling(stack) as call:
        await call.speak("weather_paris")
        await call.answer(containing=WEATHER)
        await call.fault("go_away time_left=20s")
        new = await recovered(call)
        assert (new.method, new.replayed, new.dropped) == ("RESUMED", (), ())
        assert [event.cause for event in call.of(events.LinkRotating)] == ["GO_AWAY"]
        since = len(call.got)
        await call.speak("order_4711")
        await call.answer(since, containing=ORDER)
        assert not call.of(events.Interrupted)
        await check(call)


@stories.add("reset")
@stories.add("close preset=unavailable")
@stories.add("close preset=go_away")
async def a_link_that_ends_while_the_caller_speaks(stack: Stack, fault: str) -> None:
    async with calling(stack) as call:
        await call.fault(f"{fault} on=speech_began after=500ms link=1")
        await call.speak("weather_paris")
        await call.answer(containing=WEATHER)
        assert len(call.of(events.LinkRecovered)) == 1
        assert [event.text for event in call.of(events.InputTranscript)] == ["what is the weather in paris"]
        await check(call)


@stories.add("reset")
@stories.add("close preset=internal")
@stories.add("go_away time_left=1s then=silence")
async def a_link_that_ends_while_the_model_speaks(stack: Stack, fault: str) -> None:
    async with calling(stack, profile="plain") as call:
        await call.speak("hello")
        await call.answer()
        since = len(call.got)
        await call.fault(f"{fault} on=first_audio after=100ms link=1")
        await call.speak("tell_me_about_your_service")
        await call.answer(since)
        assert len(call.of(events.LinkRecovered)) == 1
        await check(call)


@stories.add("reset on=tool_call")
@stories.add("reset on=tool_response")
@stories.add("close preset=aborted on=tool_call")
async def a_link_that_ends_while_a_tool_runs(stack: Stack, fault: str) -> None:
    async with calling(stack) as call:
        await call.speak("hello")
        await call.answer()
        await call.fault(f"{fault} link=1")
        since = len(call.got)
        await call.speak("weather_paris")
        await call.answer(since, containing=WEATHER)
        assert (await recovered(call)).method == "RESUMED"
        await check(call)
        since = len(call.got)
        await call.speak("order_4711")
        await call.answer(since, containing=ORDER)
        await check(call)


@stories.add()
async def a_tool_before_there_is_any_handle(stack: Stack) -> None:
    async with calling(stack) as call:
        await call.fault("reset on=tool_call link=1")
        await call.speak("weather_paris")
        await call.answer(containing=WEATHER)
        assert (await recovered(call)).method == "RESEEDED"
        await check(call)


@stories.add("half_open")
@stories.add("silence")
async def a_link_that_hangs(stack: Stack, fault: str) -> None:
    async with calling(stack, profile="plain") as call:
        await call.speak("hello")
        await call.answer()
        since = len(call.got)
        await call.fault(f"{fault} on=first_audio after=50ms link=1")
        await call.speak("tell_me_about_your_service")
        await call.answer(since, limit=60)
        assert [event.cause for event in call.of(events.LinkRotating)] == ["LINK_SILENT"]
        await check(call)


@stories.add()
async def a_link_that_hangs_while_the_caller_speaks(stack: Stack) -> None:
    async with calling(stack) as call:
        await call.speak("hello")
        await call.answer()
        since = len(call.got)
        await call.fault("half_open on=speech_began after=200ms link=1")
        await call.speak("weather_paris")
        await call.answer(since, containing=WEATHER, limit=60)
        assert [event.cause for event in call.of(events.LinkRotating)] == ["LINK_SILENT"]
        await check(call)


@stories.add()
async def late_pongs_end_no_link(stack: Stack) -> None:
    async with calling(stack) as call:
        await call.fault("pongs delay=30s")
        await call.speak("weather_paris")
        await call.answer(containing=WEATHER)
        await call.speak("tell_me_about_your_service")
        await call.answer(len(call.got))
        assert not call.of(events.LinkRotating)


@stories.add("")
@stories.add("time_left=3s then=silence")
@stories.add("time_left=2s then=reset")
async def a_go_away_while_the_caller_speaks(stack: Stack, how: str) -> None:
    async with calling(stack) as call:
        await call.speak("hello")
        await call.answer()
        await call.fault(f"go_away {how} on=speech_began after=300ms link=1")
        since = len(call.got)
        await call.speak("weather_paris")
        await call.answer(since, containing=WEATHER)
        since = len(call.got)
        await call.speak("order_4711")
        await call.answer(since, containing=ORDER)
        await recovered(call)
        await check(call)


@stories.add()
async def a_barge_in_and_a_link_that_ends(stack: Stack) -> None:
    async with calling(stack) as call:
        await call.speak("tell_me_about_your_service")
        await call.until(lambda event: isinstance(event, events.OutputTranscript))
        await call.fault("reset on=interrupted after=100ms link=1")
        await call.speak("weather_paris")
        await call.answer(containing=WEATHER)
        await recovered(call)
        await check(call)


@stories.add("unavailable")
@stories.add("internal")
async def a_backend_that_fails_again_at_the_resume(stack: Stack, preset: str) -> None:
    async with calling(stack) as call:
        await call.speak("weather_paris")
        await call.answer(containing=WEATHER)
        await call.fault(f"setup answer=closed preset={preset} link=2")
        await call.fault(f"close preset={preset}")
        await recovered(call)
        since = len(call.got)
        await call.speak("order_4711")
        await call.answer(since, containing=ORDER)
        await check(call)


@stories.add("lose_handles")
@stories.add("lose_handles which=newest")
async def a_handle_that_is_dead(stack: Stack, fault: str) -> None:
    async with calling(stack) as call:
        await call.speak("weather_paris")
        await call.answer(containing=WEATHER)
        await call.fault(fault)
        await call.fault("reset")
        assert (await recovered(call)).method == "RESEEDED"
        since = len(call.got)
        await call.speak("order_4711")
        await call.answer(since, containing=ORDER)
        lineage = await check(call)
        assert "what is the weather in paris" in str(lineage["context"])


@stories.add("turn_began")
@stories.add("first_audio")
@stories.add("generation_complete")
@stories.add("turn_complete")
async def a_typed_question_and_a_link_that_ends(stack: Stack, moment: str) -> None:
    async with calling(stack, microphone=False, profile="plain") as call:
        await call.session.send_text("hello")
        await call.answer()
        await call.fault(f"reset on={moment} link=1")
        since = len(call.got)
        await call.session.send_text("tell me about your service")
        await call.answer(since)
        await recovered(call)
        await check(call)
        since = len(call.got)
        await call.session.send_text("what can you do")
        await call.answer(since)
        await check(call)


@stories.add("text")
@stories.add("turn")
@stories.add("speech")
async def an_answer_that_is_cut_off_again_and_again(stack: Stack, how: str) -> None:
    question = "tell me about your service"
    async with calling(stack, microphone=how == "speech", profile="plain") as call:
        await call.session.send_text("hello")
        await call.answer()
        since = len(call.got)
        for link in (1, 2, 3):
            await call.fault(f"reset on=first_audio after=400ms link={link}")
        match how:
            case "text":
                await call.session.send_text(question)
            case "turn":
                await call.session.send_turn(question)
            case "speech":
                await call.speak("tell_me_about_your_service")
        said = await call.answer(since, containing="speaking", limit=60)
        assert said.count("many cities") == 1
        assert len(call.of(events.LinkRecovered)) == 3
        lineage = await check(call)
        assert str(lineage["context"]).count(question) == 1
        if how == "text":
            # The first time it is told in words; from then on the state of the model has it, in whatever form.
            first, *later = call.of(events.LinkRecovered)
            assert (2, 2) in first.replayed
            assert not any(new.replayed for new in later)


@stories.add()
async def what_was_answered_since_the_handle(stack: Stack) -> None:
    async with calling(stack, microphone=False, profile="plain") as call:
        await call.session.send_text("hello")
        await call.answer()
        since = len(call.got)
        await call.fault("reset on=turn_complete link=1")
        await call.session.send_text("what can you do")
        await call.answer(since)
        assert (await recovered(call)).replayed == ((2, 2),)
        await check(call)


def context(lineage: dict[str, Any]) -> str:
    """What the model knows, in words."""
    return " ".join(str(item.get("text", "")) for item in lineage["context"])


async def stored(stack: Stack, session: str) -> bytes:
    """Everything that JetStream has of a session."""
    client = await nats.connect(stack.nats.ready["url"])
    try:
        found = b""
        for name in (subjects.LOG_STREAM, subjects.SESSIONS_STREAM):
            subscription = await client.jetstream().subscribe(">", stream=name, ordered_consumer=True)
            with contextlib.suppress(TimeoutError):
                while True:
                    message = await subscription.next_msg(timeout=0.3)
                    if session in message.subject:
                        found += message.data
        return found
    finally:
        await client.close()


@stories.add("go_away time_left=20s")
@stories.add("reset")
async def with_the_log_off_nothing_said_is_stored(stack: Stack, fault: str) -> None:
    async with calling(stack, config=UNLOGGED) as call:
        await call.speak("weather_paris")
        await call.answer(containing=WEATHER)
        await call.fault(fault)
        assert (await recovered(call)).state_restored
        since = len(call.got)
        await call.session.send_text("tell me about your service")
        await call.answer(since, containing="speaking")
        assert "what is the weather in paris" in context(await check(call))
        kept = await stored(stack, call.session.id)
        assert b"get_weather" in kept  # functions, so that a call has its effect once
        for words in (b"weather in paris", b"tell me about", b"many cities", b"degrees in"):
            assert words not in kept


@stories.add("speech_began", "weather_paris", WEATHER)
@stories.add("first_audio", "tell_me_about_your_service", "speaking")
@stories.add("tool_response", "weather_paris", WEATHER)
async def with_the_log_off_a_question_is_given_again_as_it_was(
    stack: Stack, moment: str, question: str, answer: str
) -> None:
    async with calling(stack, config=UNLOGGED) as call:
        await call.speak("hello")
        await call.answer()
        since = len(call.got)
        await call.fault(f"reset on={moment} after=300ms link=1")
        await call.speak(question)
        await call.answer(since, containing=answer)
        assert (await recovered(call)).state_restored
        await check(call)


@stories.add()
async def with_the_log_off_what_the_handle_lacks_is_named(stack: Stack) -> None:
    async with calling(stack, config=UNLOGGED, microphone=False) as call:
        await call.session.send_text("hello")
        await call.answer()
        since = len(call.got)
        await call.fault("reset on=turn_complete link=1")
        await call.session.send_text("tell me about your service")
        await call.answer(since, containing="speaking")
        new = await recovered(call)
        assert (new.method, new.state_restored, new.replayed) == ("RESUMED", False, ())
        gap = await call.until(lambda event: isinstance(event, events.Gap))
        assert isinstance(gap, events.Gap)
        assert (gap.direction, gap.from_seq, gap.to_seq, gap.reason) == ("UPLINK", 2, 2, "LOG_DISABLED")
        answers = call.answers()
        since = len(call.got)
        await call.session.send_text("what is the weather in paris")
        await call.answer(since, containing=WEATHER)
        assert call.answers() == answers + 1
        await check(call, gaps=True)


@stories.add()
async def with_the_log_off_a_dead_handle_is_a_new_beginning(stack: Stack) -> None:
    async with calling(stack, config=UNLOGGED) as call:
        await call.speak("weather_paris")
        await call.answer(containing=WEATHER)
        await call.fault("lose_handles")
        await call.fault("reset")
        new = await recovered(call)
        assert (new.method, new.state_restored) == ("RESEEDED", False)
        gap = await call.until(lambda event: isinstance(event, events.Gap))
        assert isinstance(gap, events.Gap)
        assert (gap.direction, gap.from_seq, gap.reason) == ("UPLINK", 1, "LOG_DISABLED")
        since = len(call.got)
        await call.speak("order_4711")
        await call.answer(since, containing=ORDER)
        assert "weather in paris" not in context(await check(call, gaps=True))


@pytest.fixture(scope="module")
def told() -> dict[str, BaseException | None]:
    """Every story at once, in one stack: they take as long as they sound."""

    async def all_of_them() -> dict[str, BaseException | None]:
        async with Stack(StackConfig(workers=1, gateways=1)) as stack:
            return await stories.tell(stack)

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("story", stories.names)
def test_the_conversation_goes_on(told: dict[str, BaseException | None], story: str) -> None:
    problem = told[story]
    if problem is not None:
        raise problem
