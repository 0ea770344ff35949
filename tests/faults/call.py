"""A call whose audio is marked, so that the emulator's record tells of each frame whether the model knows it."""

from __future__ import annotations

import asyncio
import itertools
import json
import urllib.request
import wave
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import parley
from emulator.marks import mark
from parley import events
from parley.cli.stack import Stack
from tests.support.counts import get_json
from tests.support.talks import speech

FRAME = 0.04
"""Seconds."""
FRAME_BYTES = 1280
_STREAMS = itertools.count(1)


async def order_fault(stack: Stack, session: str, fault: str) -> None:
    """Ask the emulator for a fault, in the text form of docs/emulator-faults.md, on the conversation of a session."""
    assert stack.emulator is not None
    url = f"{stack.emulator.ready['control']}/conversations/{session}/faults"
    request = urllib.request.Request(url, json.dumps({"fault": fault}).encode(), method="POST")
    await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=10).close())


class Call:
    """A caller that speaks into an open microphone and keeps everything that it gets."""

    LIMIT = 30.0
    """Seconds for anything that it waits for."""

    def __init__(self, stack: Stack, session: parley.Session) -> None:
        self.stack = stack
        self.session = session
        self.got: list[events.Event] = []
        self._news = asyncio.Condition()
        self._stream = next(_STREAMS) % 65_536
        self._frame = 0
        self._to_say: list[bytes] = []
        self._said = asyncio.Event()
        self.has_microphone = True
        self.problem: BaseException | None = None

    # What the caller does

    async def listen(self) -> None:
        """Take events until the session ends."""
        try:
            async for event in self.session:
                await self._note(event)
        except parley.errors.ParleyError as error:
            self.problem = error
            async with self._news:
                self._news.notify_all()

    async def _note(self, event: events.Event) -> None:
        async with self._news:
            self.got.append(event)
            self._news.notify_all()

    async def hold_the_microphone(self) -> None:
        """Send what is to be said, and silence in between, in real time, for ever."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            pcm = self._to_say.pop(0) if self._to_say else bytes(FRAME_BYTES)
            if not self._to_say:
                self._said.set()
            await self.session.send_audio(mark(pcm, stream=self._stream, first=self._frame))
            self._frame += 2  # a mark each 20 ms
            due += FRAME
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def speak(self, name: str, *, wait: bool = True) -> None:
        """Say a recorded question; returns when its last frame is sent, or at once."""
        with wave.open(str(speech(name))) as wav:
            pcm = wav.readframes(wav.getnframes())
        frames = [pcm[at : at + FRAME_BYTES].ljust(FRAME_BYTES, b"\0") for at in range(0, len(pcm), FRAME_BYTES)]
        self._said.clear()
        self._to_say += frames
        if wait:
            await self._said.wait()

    async def fault(self, fault: str) -> None:
        """Ask for a fault on this conversation."""
        await order_fault(self.stack, self.session.id, fault)

    # What the caller gets

    async def until(self, wanted: Callable[[events.Event], bool], since: int = 0, limit: float = 0.0) -> events.Event:
        """The first such event after the first `since`."""
        at = since
        limit = limit or self.LIMIT
        try:
            async with asyncio.timeout(limit), self._news:
                while True:
                    for event in self.got[at:]:
                        at += 1
                        if wanted(event):
                            return event
                    if self.problem is not None:
                        raise self.problem
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"not within {limit:g} s; got since then: {brief(self.got[since:])}") from None

    async def answer(self, since: int = 0, containing: str = "", limit: float = 0.0) -> str:
        """What the model says, until the turn is over in which it said this."""
        await self.until(
            lambda event: isinstance(event, events.TurnComplete) and containing in self.said(since), since, limit
        )
        return self.said(since)

    def said(self, since: int = 0) -> str:
        """What the model has said, without what was taken back as it began anew."""
        words = ""
        for event in self.got[since:]:
            if isinstance(event, events.OutputTranscript):
                words += event.text
            elif isinstance(event, events.Interrupted) and event.reason == "RESTARTED":
                words = ""
        return words

    def answers(self) -> int:
        """Turns in which the model said something that it did not take back."""
        count, spoke = 0, False
        for event in self.got:
            match event:
                case events.Audio() | events.Text():
                    spoke = True
                case events.Interrupted(reason="RESTARTED"):
                    spoke = False
                case events.TurnComplete():
                    count, spoke = count + spoke, False
                case _:
                    pass
        return count

    def of(self, kind: type[events.Event], since: int = 0) -> list[Any]:
        """Every event of a kind."""
        return [event for event in self.got[since:] if isinstance(event, kind)]

    # What the model knows

    async def lineage(self) -> dict[str, Any]:
        """The emulator's account of what the model of the newest link knows, forgot and was given twice."""
        assert self.stack.emulator is not None
        found: dict[str, Any] = await get_json(
            f"{self.stack.emulator.ready['control']}/conversations/{self.session.id}/lineage"
        )
        return found


def brief(got: list[events.Event]) -> list[str]:
    """Events in few words: audio in a row is one."""
    told: list[str] = []
    for event in got:
        name = type(event).__name__ if isinstance(event, events.Audio | events.Usage) else str(event)
        if not told or told[-1] != name:
            told.append(name)
    return told


@asynccontextmanager
async def calling(
    stack: Stack, *, microphone: bool = True, targets: Sequence[str] = (), **options: Any
) -> AsyncIterator[Call]:
    """A call, by default through the first gateway and with a microphone that is always open."""
    if "resume" not in options and "config" not in options:
        options.setdefault("profile", "support")
    async with parley.connect(targets or str(stack.gateways[0].ready["address"]), **options) as session:
        call = Call(stack, session)
        call.has_microphone = microphone
        tasks = [asyncio.create_task(call.listen())]
        if microphone:
            tasks.append(asyncio.create_task(call.hold_the_microphone()))
        try:
            yield call
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


TWICE = 0.24
"""Seconds of an open utterance that the model may hear twice: a round trip, and the silence before the first sound."""


async def check(
    call: Call, *, twice: float | None = None, asked_again: bool = False, gaps: bool = False
) -> dict[str, Any]:
    """Promise 1 and 2, by what the model knows: nothing forgotten, nothing given twice that is not named.

    `twice`: seconds of an open utterance that it may have heard twice. `asked_again`: it still knows the question whose
    answer was cut off, and is asked again in words. `gaps`: what a gap names may be missing.
    """
    lineage = await call.lineage()
    if asked_again:
        for kind in ("turns", "texts"):
            del lineage["duplicates"][kind]
    audio = lineage["duplicates"].pop("audio")
    assert sum(run["last"] - run["first"] + 1 for run in audio) * FRAME / 2 <= (TWICE if twice is None else twice), (
        audio
    )
    forgotten = {kind: what for kind, what in lineage["forgotten"].items() if what and kind != "silence"}
    told = [gap for gap in call.of(events.Gap) if gap.direction == "UPLINK"]
    assert gaps or not told, told
    assert not forgotten or told, (forgotten, brief(call.got))
    assert not any(lineage["duplicates"].values()), (lineage["duplicates"], brief(call.got))
    assert lineage["complete"]
    result = call.session.audit.result()
    assert result.whole, result
    return lineage
