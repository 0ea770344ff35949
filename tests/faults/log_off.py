"""Conversations whose log is off: they go on by the handle alone, and what it lacks is named.

test_links.py tells them.
"""

from __future__ import annotations

import contextlib
from typing import Any

import nats

from parley import events
from parley.cli.stack import Stack
from services.fabric import subjects
from tests.faults.call import UNLOGGED, calling, check
from tests.faults.stories import ORDER, WEATHER, Stories, recovered

stories = Stories()


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
async def nothing_said_is_stored(stack: Stack, fault: str) -> None:
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


@stories.add("speech_began")
@stories.add("first_audio")
@stories.add("tool_response")
async def a_question_is_given_again(stack: Stack, moment: str) -> None:
    long = moment == "first_audio"
    question, answer = ("tell_me_about_your_service", "speaking") if long else ("weather_paris", WEATHER)
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
async def what_the_handle_lacks_is_named(stack: Stack) -> None:
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
        await check(call, gaps=True, void=("texts", "said"))


@stories.add()
async def a_dead_handle_is_a_new_beginning(stack: Stack) -> None:
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
        lineage = await check(call, gaps=True, void=("tool_responses", "said"))
        assert "weather in paris" not in context(lineage)
