"""A link that ends in whatever way: the conversation goes on, on another one, with the log on or off."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from parley import events
from parley.cli.stack import Stack, StackConfig
from tests.faults import log_off
from tests.faults.call import Call, calling, check
from tests.faults.stories import ORDER, WEATHER, Stories, chosen, long, recovered
from tests.support import order_ledger
from tests.support.counts import heard
from tests.support.eventually import eventually

stories = Stories()


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
@stories.add("close preset=deadline")
@stories.add("close preset=internal")
async def a_link_that_ends_while_nobody_speaks(stack: Stack, fault: str) -> None:
    async with calling(stack) as call:
        await call.speak("weather_paris")
        await call.answer(containing=WEATHER)
        await call.fault(fault)
        new = await recovered(call)
        assert (new.method, new.replayed, new.dropped) == ("RESUMED", (), ())
        assert [event.cause for event in call.of(events.LinkRotating)] == ["LINK_LOST"]
        since = len(call.got)
        await call.speak("order_4711")
        await call.answer(since, containing=ORDER)
        assert not call.of(events.Interrupted)
        await check(call)


@stories.add("reset")
@stories.add("close preset=unavailable")
@stories.add("close preset=go_away")
@stories.add("close preset=deadline")
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
@stories.add("close preset=deadline")
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


@stories.add()
async def a_go_away_that_leaves_no_time_for_the_answer(stack: Stack) -> None:
    """The caller has yet to play some of it, which is taken back before there is another link."""
    async with calling(stack, microphone=False, profile="plain") as call:
        await call.session.send_text("hello")
        await call.answer()
        since = len(call.got)
        await call.session.send_text("tell me about your service")
        await call.until(lambda event: isinstance(event, events.Audio), since)
        call.hears.clear()
        await call.fault("go_away time_left=500ms")

        async def on_the_next() -> bool:
            return len((await heard(stack, call.session.id))["links"]) == 2

        await eventually(on_the_next, Call.LIMIT)
        heard_until = len(call.got)
        call.hears.set()
        await call.until(lambda event: isinstance(event, events.GenerationComplete), since)
        (cut,) = call.of(events.Interrupted)
        assert cut.reason == "RESTARTED"
        # What it had not heard is void, and it never gets that; nothing of the answer that comes instead is.
        *_, last = [event.seq for event in call.got[:heard_until] if isinstance(event, events.Audio)]
        assert cut.void_from <= cut.void_to < cut.seq
        assert last < cut.void_to
        at = call.got.index(cut)
        assert not [event for event in call.got[heard_until:at] if isinstance(event, events.Audio)]
        assert not [event for event in call.of(events.Audio, at) if cut.takes_back(event.seq)]
        assert [event.cause for event in call.of(events.LinkRotating)] == ["GO_AWAY"]
        assert at < call.got.index(await recovered(call))
        said = call.said(since)
        assert said.count("many cities") == said.count("speaking") == 1
        assert said.strip().endswith("speaking")
        await check(call)


@stories.add()
async def a_go_away_that_leaves_time_for_the_answer(stack: Stack) -> None:
    async with calling(stack, microphone=False) as call:
        await call.session.send_text("hello")
        await call.answer()
        await call.fault("go_away time_left=40s on=first_audio link=1")
        since = len(call.got)
        await call.session.send_text("what is the weather in paris")
        await call.answer(since, containing=WEATHER)
        new = await recovered(call)
        assert (new.method, new.replayed, new.dropped) == ("RESUMED", (), ())
        # It is left at the first quiet moment, which is after the turn.
        assert [event.cause for event in call.of(events.LinkRotating)] == ["GO_AWAY"]
        (left,) = (at for at, event in enumerate(call.got) if isinstance(event, events.LinkRotating))
        over = max(at for at, event in enumerate(call.got) if isinstance(event, events.TurnComplete))
        assert over < left
        assert not call.of(events.Interrupted)
        assert call.said(since).count(WEATHER) == 1
        assert call.answers() == 2
        events_there = (await heard(stack, call.session.id))["events"]
        _, answer = [event["item"] for event in events_there if event["kind"] == "said"]
        assert (answer["interrupted"], answer["audio_seconds_sent"]) == (False, answer["audio_seconds"])
        await check(call)


@stories.add("reset on=tool_call")
@stories.add("reset on=tool_response")
@stories.add("close preset=aborted on=tool_call")
@stories.add("close preset=deadline on=tool_call")
async def a_link_that_ends_while_a_tool_runs(stack: Stack, fault: str) -> None:
    async with calling(stack) as call:
        await call.speak("hello")
        await call.answer()
        await call.fault(f"{fault} link=1")
        since = len(call.got)
        await call.speak("weather_paris")
        await call.answer(since, containing=WEATHER)
        assert (await recovered(call)).method == "RESUMED"
        # Where the reset overtakes the call, nobody knows of it: a model that then stays silent is asked in words.
        unread = fault.startswith("reset on=tool_call")
        await check(call, asked_again=unread)
        since = len(call.got)
        await call.speak("order_4711")
        await call.answer(since, containing=ORDER)
        await check(call, asked_again=unread)


@stories.add("time_left=20s")
@stories.add("time_left=2s then=reset")
async def a_go_away_while_a_tool_runs(stack: Stack, how: str) -> None:
    """While there is time the link is left after the answer, else before it, and the next one is told the result."""
    has_time = how == "time_left=20s"
    order, folder = "7531" if has_time else "8642", Path(stack.config.env[order_ledger.FOLDER])
    hold = folder / order
    hold.touch()
    async with calling(stack) as call:
        await call.speak("hello")
        await call.answer()
        await call.fault(f"go_away {how} on=tool_call link=1")
        since = len(call.got)
        await call.session.send_text(f"where is my order {order}")
        await eventually(lambda: order_ledger.runs(folder, order) == 1)
        if has_time:
            await call.fired("go_away")
        else:
            await recovered(call)
        hold.unlink()
        await call.answer(since, containing="shipped")
        assert (await recovered(call)).method == "RESUMED"
        assert [event.cause for event in call.of(events.LinkRotating)] == ["GO_AWAY"]
        spoke = next(n for n, event in enumerate(call.got) if n >= since and isinstance(event, events.Audio))
        left = next(n for n, event in enumerate(call.got) if isinstance(event, events.LinkRotating))
        assert (spoke < left) is has_time
        assert order_ledger.runs(folder, order) == 1
        since = len(call.got)
        await call.session.send_text("what is the weather in paris")
        await call.answer(since, containing=WEATHER)
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
        await call.answer(since)
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
        await call.answer(since, containing=WEATHER)
        assert [event.cause for event in call.of(events.LinkRotating)] == ["LINK_SILENT"]
        await check(call)


@stories.add("speech_ended")
@stories.add("turn_began")
async def a_link_that_hangs_before_it_answers(stack: Stack, moment: str) -> None:
    """Who waits for an answer says nothing more by which it could be noticed."""
    async with calling(stack, profile="plain") as call:
        await call.speak("hello")
        await call.answer()
        since = len(call.got)
        await call.fault(f"half_open on={moment} link=1")
        await call.speak("tell_me_about_your_service")
        await call.answer(since)
        assert [event.cause for event in call.of(events.LinkRotating)] == ["LINK_SILENT"]
        await check(call)


@stories.add()
async def late_pongs_end_no_link(stack: Stack) -> None:
    """From the connection on, as on a day on which they all are: they prove nothing then."""
    async with calling(stack) as call:
        await call.fault("pongs delay=30s on=setup link=2")
        await call.fault("reset on=turn_complete after=50ms link=1")
        await call.speak("hello")
        await call.answer()
        await recovered(call)
        for recording, words in (("weather_paris", WEATHER), ("tell_me_about_your_service", ""), ("order_4711", ORDER)):
            since = len(call.got)
            await call.speak(recording)
            await call.answer(since, containing=words)
        assert [event.cause for event in call.of(events.LinkRotating)] == ["LINK_LOST"]
        await check(call)


@stories.add()
async def pongs_that_begin_to_be_late(stack: Stack) -> None:
    """It may look like a hang, once: the next link is not judged by them."""
    async with calling(stack) as call:
        await call.fault("pongs delay=30s on=turn_complete link=1")
        await call.fault("pongs delay=30s on=setup link=2-")
        for recording, words in (("hello", ""), ("weather_paris", WEATHER), ("tell_me_about_your_service", "")):
            since = len(call.got)
            await call.speak(recording)
            await call.answer(since, containing=words)
        assert [event.cause for event in call.of(events.LinkRotating)] in ([], ["LINK_SILENT"])
        await check(call)


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
        # Where the link fell silent, the model may have called a function that nobody heard of, and is asked once more.
        await check(call, asked_again="silence" in how)


@stories.add()
async def the_same_words_after_an_answer_that_began_anew(stack: Stack) -> None:
    async with calling(stack, profile="plain") as call:
        await call.speak("what_can_you_do")
        await call.answer()
        await call.fault("reset on=first_audio after=100ms link=1")
        await call.speak("hello")
        since = len(call.got)
        await call.answer(since, containing="help you")
        assert [event.reason for event in call.of(events.Interrupted, since)] == ["RESTARTED"]
        since = len(call.got)
        await call.speak("hello")
        await call.answer(since, containing="help you")
        # The question was asked again in words, so nobody was heard again then: this is news.
        assert [event.text for event in call.of(events.InputTranscript, since)] == ["hello"]
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
        await check(call, twice=0.8)  # on a busy machine more has been said by the time the link has ended


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
@stories.add("lose_handles", "close preset=internal")
async def a_handle_that_is_dead(stack: Stack, fault: str, end: str = "reset") -> None:
    async with calling(stack) as call:
        await call.speak("weather_paris")
        await call.answer(containing=WEATHER)
        await call.fault(fault)
        await call.fault(end)
        assert (await recovered(call)).method == "RESEEDED"
        since = len(call.got)
        await call.speak("order_4711")
        await call.answer(since, containing=ORDER)
        lineage = await check(call)
        assert "what is the weather in paris" in str(lineage["context"])


@stories.add("reset")
@stories.add("close preset=internal")
async def a_handle_that_is_dead_while_the_caller_speaks(stack: Stack, fault: str) -> None:
    async with calling(stack) as call:
        await call.speak("hello")
        await call.answer()
        await call.fault("lose_handles")
        await call.fault(f"{fault} on=speech_began after=500ms link=1")
        since = len(call.got)
        await call.speak("weather_paris")
        await call.answer(since, containing=WEATHER)
        assert [new.method for new in call.of(events.LinkRecovered)] == ["RESEEDED"]
        await check(call)


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


def pauses_before_the_end_of_a_link(call: Call) -> int:
    """Links from which nothing came for a while before they ended, as far as the caller saw it: a worker takes half a
    second of that for a sign that a handle may have been missed."""
    ends = [index for index, event in enumerate(call.got) if isinstance(event, events.LinkRotating)]
    return sum(call.got_at[index] - call.got_at[index - 1] > 0.3 for index in ends if index)


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
        said = await call.answer(since, containing="speaking")
        assert said.count("many cities") == 1
        assert len(call.of(events.LinkRecovered)) == 3
        # Where the machine stood still, which looks like a link that hung, it may be known once more for each time.
        stood_still = pauses_before_the_end_of_a_link(call)
        lineage = await check(call, asked_again=stood_still > 0)
        assert 1 <= str(lineage["context"]).count(question) <= 1 + stood_still
        if how == "text":
            # The first time it is told in words; from then on the state of the model has it, in whatever form.
            first, *later = call.of(events.LinkRecovered)
            assert (2, 2) in first.replayed
            assert not any(new.replayed for new in later)


@stories.add("text")
@stories.add("speech")
async def an_answer_after_a_call_that_is_cut_off_again_and_again(stack: Stack, how: str) -> None:
    async with calling(stack, microphone=how == "speech") as call:
        await call.session.send_text("hello")
        await call.answer()
        since = len(call.got)
        for link in (1, 2, 3):
            await call.fault(f"reset on=first_audio after=400ms link={link}")
        if how == "text":
            await call.session.send_text("what is the weather in paris")
        else:
            await call.speak("weather_paris")
        await call.answer(since, containing=WEATHER)
        assert len(call.of(events.LinkRecovered)) == 3
        await check(call, asked_again=True)


@stories.add("first_audio")
@stories.add("generation_complete")
async def a_question_that_is_asked_again_and_a_link_that_hangs(stack: Stack, moment: str) -> None:
    """The handle that restored what was asked again does so no longer: there is a newer one, which did not come."""
    async with calling(stack, microphone=False, profile="plain") as call:
        await call.session.send_text("what can you do")
        await call.answer()
        since = len(call.got)
        await call.fault("reset on=first_audio after=200ms link=1")
        await call.fault(f"half_open on={moment} after=100ms link=2")
        await call.session.send_text("hello")
        await call.answer(since, containing="help you", limit=60)
        await call.until(lambda event: len(call.of(events.LinkRecovered)) == 2, since, limit=60)
        assert [event.cause for event in call.of(events.LinkRotating)] == ["LINK_LOST", "LINK_SILENT"]
        await call.session.send_text("tell me about your service")
        await call.answer(len(call.got), containing="speaking")
        await check(call, asked_again=True)


@stories.add()
async def a_typed_turn_that_is_answered_and_a_link_that_hangs(stack: Stack) -> None:
    """All of the answer came, and the handle that has it did not."""
    async with calling(stack, microphone=False, profile="plain") as call:
        await call.session.send_text("hello")
        await call.answer()
        since = len(call.got)
        await call.fault("half_open on=turn_complete link=1")
        await call.session.send_turn("what can you do")
        await call.answer(since)
        since = len(call.got)
        await call.session.send_text("tell me about your service")
        await call.answer(since, containing="speaking", limit=60)
        assert [event.cause for event in call.of(events.LinkRotating)] == ["LINK_SILENT"]
        assert any(first <= 2 <= last for first, last in (await recovered(call)).replayed)
        await check(call, asked_again=True)


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


@pytest.fixture(scope="module")
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, BaseException | None]:
    """Every story at once, in one stack: they take as long as they sound."""
    env = {order_ledger.FOLDER: str(tmp_path_factory.mktemp("orders")), "PARLEY_TOOLS_MODULES": order_ledger.MODULES}

    async def all_of_them() -> dict[str, BaseException | None]:
        async with Stack(StackConfig(workers=1, gateways=1, env=env)) as stack:
            return await stories.and_those_of(log_off.stories).among(chosen(request)).tell(stack)

    return asyncio.run(all_of_them())


LONG = [
    # Under the load of many stories the emulator's recogniser may take so long that a link counts as hung.
    "late_pongs_end_no_link",
    "pongs_that_begin_to_be_late",
    # Much like others that differ in the kind of the end alone, which is told of each state of a turn.
    "a_link_that_ends_while_nobody_speaks[reset]",
    "a_link_that_ends_while_the_caller_speaks[close preset=go_away]",
    "a_link_that_ends_while_the_caller_speaks[close preset=deadline]",
    "a_link_that_ends_while_the_model_speaks[close preset=internal]",
    "a_link_that_ends_while_the_model_speaks[close preset=deadline]",
    "a_link_that_ends_while_a_tool_runs[close preset=aborted on=tool_call]",
    "a_link_that_ends_while_a_tool_runs[close preset=deadline on=tool_call]",
    "a_handle_that_is_dead_while_the_caller_speaks[reset]",
    "a_go_away_while_the_caller_speaks[time_left=2s then=reset]",
    "a_backend_that_fails_again_at_the_resume[internal]",
    "an_answer_that_is_cut_off_again_and_again[text]",
    "an_answer_after_a_call_that_is_cut_off_again_and_again[text]",
]


@pytest.mark.parametrize("story", [*(name for name in stories.names if name not in LONG), *long(LONG)])
def test_the_conversation_goes_on(told: dict[str, BaseException | None], story: str) -> None:
    problem = told[story]
    if problem is not None:
        raise problem


@pytest.mark.parametrize("story", log_off.stories.names)
def test_the_conversation_goes_on_with_the_log_off(told: dict[str, BaseException | None], story: str) -> None:
    problem = told[story]
    if problem is not None:
        raise problem
