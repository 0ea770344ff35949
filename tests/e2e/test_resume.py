"""The Python client and gateways that go away in the middle: nothing said is lost, nothing comes twice, it goes on."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

import parley
from parley import errors, events
from parley.cli._child import Child
from parley.cli.stack import Stack, StackConfig
from parley.cli.wav import read_wav
from tests.support.counts import get_json, heard
from tests.support.eventually import eventually
from tests.support.ports import reserved
from tests.support.talks import Talk, speech, talk

FRAME = 1280
FRAME_SECONDS = 0.04
QUESTION = "what is the weather in paris"


@dataclass
class Call:
    """A conversation from its caller's side: a voice in real time, and an ear that listens as the speech plays."""

    sent: bytearray = field(default_factory=bytearray)
    seen: list[events.Event] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)
    """What the model heard."""
    whole: bool = False
    undelivered: int = 0
    speaking: asyncio.Event = field(default_factory=asyncio.Event)
    """A second of speech has left."""
    listening: asyncio.Event = field(default_factory=asyncio.Event)
    """A second of the answer has played."""

    async def hold(self, stack: Stack, targets: list[str], *, sabotage: bool = False) -> Call:
        """Speaks the question, hears the answer, asks on in writing, and hears that."""
        async with asyncio.timeout(120), parley.connect(targets, profile="support") as session:
            if sabotage:
                _forget_what_was_sent(session)
            voice = asyncio.create_task(self._speak(session))
            try:
                await self._hear_answer(session)
            finally:
                voice.cancel()
            await asyncio.gather(voice, return_exceptions=True)
            await session.send_text("where is my order 4711")
            await self._hear_answer(session)
            self.record = await heard(stack, session.id)
            self.whole = session.audit.result().whole
            self.undelivered = session.stats.undelivered_messages
        return self

    async def _speak(self, session: parley.Session) -> None:
        pcm = read_wav(speech("weather_paris"), 16_000)
        loop = asyncio.get_running_loop()
        begun, frames = loop.time(), 0
        while True:
            frame = pcm[frames * FRAME : (frames + 1) * FRAME].ljust(FRAME, b"\0")
            await session.send_audio(frame)
            self.sent += frame
            frames += 1
            if frames * FRAME_SECONDS > 1:
                self.speaking.set()
            await asyncio.sleep(begun + frames * FRAME_SECONDS - loop.time())

    async def _hear_answer(self, session: parley.Session) -> None:
        played = 0.0
        async for event in session:
            self.seen.append(event)
            if isinstance(event, events.Audio):
                await asyncio.sleep(event.seconds)
                played += event.seconds
                if played > 1:
                    self.listening.set()
            # The model's turn also completes when it calls a function, before it has said anything.
            elif isinstance(event, events.TurnComplete) and played:
                return
        raise AssertionError(f"the session ended: {self.seen[-3:]}")

    def of(self, kind: type[events.Event]) -> list[Any]:
        return [event for event in self.seen if isinstance(event, kind)]

    def check(self) -> None:
        """Nothing said is missing in what the model heard, and the answers came once and in order."""
        assert self.record["audio"]["bytes"] == len(self.sent)
        assert self.record["audio"]["sha256"] == hashlib.sha256(self.sent).hexdigest()
        assert self.record["texts"] == ["where is my order 4711"]
        assert self.whole
        numbers = [event.seq for event in self.seen if event.seq]
        assert numbers == sorted(set(numbers))
        assert "".join(event.text for event in self.of(events.InputTranscript)).strip() == QUESTION
        said = "".join(event.text for event in self.of(events.OutputTranscript))
        assert said.count("in paris and") == 1
        assert said.count("order four seven one one") == 1
        assert not self.of(events.Gap)
        assert not self.undelivered


def _forget_what_was_sent(session: parley.Session) -> None:
    """Sabotage: what a lost stream took with it is not sent again."""
    ring = session._streams.uplink.ring

    def forget(first: int, end: int, oldest: float) -> list[Any]:
        ring.acked(end)
        ring.acked_seq = first - 1
        return []

    ring.rebase = forget  # type: ignore[method-assign]


async def kill(gateway: Child) -> None:
    """Like a machine that hangs for a moment and is gone: what it took meanwhile is lost with it."""
    gateway.stopping = True
    gateway.signal(signal.SIGSTOP)
    await asyncio.sleep(0.4)  # not a wait for something: so long the caller speaks to nobody
    gateway.signal(signal.SIGKILL)
    await gateway.process.wait()


async def take_over(stack: Stack, target: str) -> TakenOver:
    async with asyncio.timeout(120), parley.connect(target, profile="plain") as first:
        await _say_hello(first)
        async with parley.connect(target, resume=first.resume_point) as second:
            told: errors.ParleyError | None = None
            try:
                async for _ in first:
                    pass
            except errors.Superseded as error:
                told = error
            await _say_hello(second)
            record = await heard(stack, second.id)
            return TakenOver(told, first.stats.resumes, second.stats.resumes, record["texts"])


@dataclass
class TakenOver:
    """What became of two callers of one session."""

    told: errors.ParleyError | None
    """What the first one was told."""
    first_resumes: int
    second_resumes: int
    texts: list[str]


async def _say_hello(session: parley.Session) -> None:
    await session.send_text("hello")
    async for event in session:
        if isinstance(event, events.TurnComplete):
            return
    raise AssertionError("no answer")


@dataclass
class Stories:
    """Everything that happened; all of it at once, because it takes as long as it sounds."""

    calls: dict[str, Call]
    taken_over: TakenOver
    talk: Talk


async def live_through_them() -> Stories:
    async with Stack(StackConfig(gateways=5)) as stack:
        stays, speaking, answering, lost, drains = stack.gateways
        address = {gateway: str(gateway.ready["address"]) for gateway in stack.gateways}
        calls = {name: Call() for name in ("speaking", "answering", "lost", "drains", "sabotaged")}

        async def streams(gateway: Child) -> int:
            return int((await get_json(gateway.ready["ops"] + "/debug/vars"))["streams"])

        async def restart(gateway: Child, when: asyncio.Event) -> None:
            await when.wait()
            await kill(gateway)
            with reserved(address[gateway]) as listen:
                await stack.start_gateway(PARLEY_GATEWAY_LISTEN=listen)

        async def talk_and_speak() -> Talk:
            """`parley talk` and a caller on one gateway, which dies in the middle."""
            talking = asyncio.create_task(talk(address[speaking], "--wav", speech("weather_paris")))

            async def connected() -> bool:
                return await streams(speaking) == 1

            await eventually(connected, 60)
            await calls["speaking"].hold(stack, [address[speaking]])
            return await talking

        async def lose() -> None:
            for name in ("lost", "sabotaged"):
                await calls[name].speaking.wait()
            await kill(lost)

        async def drain() -> None:
            await calls["drains"].listening.wait()
            await drains.stop(20)

        async with asyncio.TaskGroup() as group:
            talked = group.create_task(talk_and_speak())
            group.create_task(restart(speaking, calls["speaking"].speaking))
            group.create_task(calls["answering"].hold(stack, [address[answering]]))
            group.create_task(restart(answering, calls["answering"].listening))
            group.create_task(calls["lost"].hold(stack, [address[lost], address[stays]]))
            group.create_task(calls["sabotaged"].hold(stack, [address[lost], address[stays]], sabotage=True))
            group.create_task(lose())
            group.create_task(calls["drains"].hold(stack, [address[drains], address[stays]]))
            group.create_task(drain())
            taken_over = group.create_task(take_over(stack, address[stays]))
        return Stories(calls, taken_over.result(), talked.result())


@pytest.fixture(scope="module")
def stories() -> Stories:
    return asyncio.run(live_through_them())


@pytest.mark.parametrize("name", ["speaking", "answering", "lost", "drains"])
def test_a_gateway_that_goes_away_costs_nobody_a_word(stories: Stories, name: str) -> None:
    call = stories.calls[name]
    call.check()
    (resumed,) = call.of(events.StreamResumed)
    assert resumed.gap >= timedelta(0)
    assert len(call.of(events.StreamLost)) == (name != "drains"), "one that drains is left before it is lost"
    assert bool(call.of(events.GatewayDraining)) is (name == "drains")
    if name in {"speaking", "lost"}:
        assert resumed.replayed, "the gateway took nothing with it: this proves nothing"


def test_without_the_replay_the_model_would_not_hear_it_all(stories: Stories) -> None:
    """The proof that the check above can fail."""
    call = stories.calls["sabotaged"]
    assert call.of(events.StreamResumed)
    with pytest.raises(AssertionError):
        call.check()
    assert call.record["audio"]["bytes"] < len(call.sent)


def test_who_attaches_last_has_the_session_and_the_other_does_not_fight_back(stories: Stories) -> None:
    found = stories.taken_over
    assert isinstance(found.told, errors.Superseded)
    assert (found.first_resumes, found.second_resumes) == (0, 0)
    assert found.texts == ["hello", "hello"]


def test_parley_talk_survives_its_gateway(stories: Stories) -> None:
    found = stories.talk
    assert found.status == 0, found.stderr
    assert found.document["stream"]["resumes"] >= 1
    assert found.document["stream"]["undelivered"] == []
    assert found.document["received"]["transcripts"]["in"] == [QUESTION]
