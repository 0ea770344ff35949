"""Handles of other kinds: exact ones (Vertex), and ones that cover what their link heard after they were issued."""

from __future__ import annotations

import asyncio

import pytest

from parley import events
from parley.cli.stack import Stack, StackConfig
from tests.faults.call import calling, check
from tests.faults.stories import Stories, chosen, long

KINDS: dict[str, dict[str, str]] = {
    "exact": {"PARLEY_WORKER_BACKEND": "vertex", "PARLEY_GATEWAY_BACKEND": "vertex"},
    "covering": {
        "PARLEY_WORKER_HANDLES_COVER_LATER_INPUT": "true",
        "PARLEY_EMULATOR_HANDLE_SCOPE": "close",
    },
}
stories = Stories()
_TWICE = {"exact": 0.0, "covering": 1.0}
"""Seconds of what is being said that the model may hear twice: of a service that gives no sign of life, be it that the
machine has too much to do, nobody knows whether it has issued another handle."""


async def goes_on(stack: Stack, kind: str, moment: str) -> None:
    """A link that ends at a moment of a spoken question."""
    async with calling(stack) as call:
        await call.speak("hello")
        await call.answer()
        await call.fault(f"reset on={moment} after=300ms link=1")
        since = len(call.got)
        await call.speak("weather_paris")
        await call.answer(since, containing="degrees")
        (recovered,) = call.of(events.LinkRecovered)
        assert recovered.method == "RESUMED"
        since = len(call.got)
        await call.speak("order_4711")
        await call.answer(since, containing="four seven one one")
        await check(call, twice=_TWICE[kind], asked_again=kind == "covering")


for _moment in ("speech_began", "speech_ended", "first_audio", "turn_complete"):
    stories.add(_moment)(goes_on)


_UNREAD = {
    "reset": ("stop_reading on=speech_began after=300ms link=1", "reset on=speech_began after=600ms link=1"),
    "hung": ("half_open on=speech_began after=200ms link=1",),
}
"""Faults, by how the link ends."""


@stories.add("reset")
@stories.add("hung")
async def what_was_not_read_is_given_again(stack: Stack, kind: str, end: str) -> None:
    """The service had not read all that it was sent when the link ended, as when it has too much to do."""
    async with calling(stack) as call:
        await call.speak("hello")
        await call.answer()
        for fault in _UNREAD[end]:
            await call.fault(fault)
        since = len(call.got)
        await call.speak("weather_paris")
        await call.answer(since, containing="degrees")
        await check(call, twice=_TWICE[kind], asked_again=kind == "covering")


@stories.add()
async def a_handle_that_does_not_come(stack: Stack, kind: str) -> None:
    """The one before it restores what it was issued for, whatever the newest would."""
    async with calling(stack) as call:
        await call.speak("hello")
        await call.answer()
        await call.fault("drop kind=handle on=speech_ended link=1")
        await call.fault("reset on=turn_complete after=100ms link=1")
        since = len(call.got)
        await call.speak("order_4711")
        await call.answer(since, containing="four seven one one")
        since = len(call.got)
        await call.speak("weather_paris")
        await call.answer(since, containing="degrees")
        await check(call, twice=_TWICE[kind], asked_again=kind == "covering")


@stories.add()
async def an_answer_and_its_handle_that_do_not_come(stack: Stack, kind: str) -> None:
    """The service had read the question, and may have answered it since then: no handle that came restores it."""
    async with calling(stack) as call:
        await call.speak("weather_paris")
        await call.answer(containing="degrees")
        await call.fault("half_open on=turn_began link=1")
        since = len(call.got)
        await call.speak("hello")
        await call.answer(since, containing="help")
        await check(call, twice=_TWICE[kind], asked_again=kind == "covering")


async def all_of(kind: str) -> dict[str, BaseException | None]:
    async with Stack(StackConfig(env=KINDS[kind])) as stack:
        return await stories.tell(stack, kind)


@pytest.fixture(scope="module")
def told(request: pytest.FixtureRequest) -> dict[str, dict[str, BaseException | None]]:
    """Every kind and every story at once."""
    kinds = [kind for kind in KINDS if kind in chosen(request, "kind")]

    async def every_kind() -> list[dict[str, BaseException | None]]:
        return await asyncio.gather(*map(all_of, kinds))

    return dict(zip(kinds, asyncio.run(every_kind()), strict=True))


@pytest.mark.parametrize("story", stories.names)
@pytest.mark.parametrize("kind", ["exact", *long(kind for kind in KINDS if kind != "exact")])
def test_the_conversation_goes_on(told: dict[str, dict[str, BaseException | None]], kind: str, story: str) -> None:
    problem = told[kind][story]
    if problem is not None:
        raise problem
