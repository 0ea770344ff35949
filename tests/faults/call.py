"""A call whose audio is marked, so that the emulator's record tells of each frame whether the model knows it."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
import urllib.request
import wave
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import parley
from emulator.marks import mark
from emulator.record.ranges import Range, Ranges
from parley import events
from parley.cli.stack import Stack
from parley.v1 import live_pb2
from tests.faults.sent import MARK_SECONDS, Sent, both, by_stream, without
from tests.support.counts import get_json
from tests.support.eventually import eventually
from tests.support.talks import speech

FRAME = 0.04
"""Seconds."""
FRAME_BYTES = 1280
STATES = ("idle", "caller speaks", "model thinks", "tool pending", "model speaks", "answer plays")
"""Of a turn."""
_OUTCOMES = re.compile(r"(\s*\[The function [^\]]*\])+")
_MARKS = round(FRAME / MARK_SECONDS)
_BESIDE = 10
"""Marked frames next to an utterance that are part of it, though its beginning was found a moment later."""
_STREAMS = itertools.count(1)
_LINK_NEWS = (events.LinkRotating, events.LinkRecovered)


async def order_fault(stack: Stack, session: str, fault: str) -> None:
    """Ask the emulator for a fault, in the text form of docs/emulator-faults.md, on the conversation of a session."""
    assert stack.emulator is not None
    url = f"{stack.emulator.ready['control']}/conversations/{session}/faults"
    request = urllib.request.Request(url, json.dumps({"fault": fault}).encode(), method="POST")
    await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=10).close())


class Call:
    """A caller that speaks into an open microphone and keeps everything that it gets."""

    LIMIT = 60.0
    """Seconds for anything that it waits for; less where it waits in vain, because something was taken away."""

    def __init__(self, stack: Stack, session: parley.Session, before: Call | None = None) -> None:
        """`before`: the caller that it took the session from."""
        self.stack = stack
        self.session = session
        self.before = before
        self.got: list[events.Event] = []
        self.got_at: list[float] = []
        """When each came; monotonic seconds."""
        self._news = asyncio.Condition()
        self._stream = next(_STREAMS) % 65_536
        self._frame = 0
        self._to_say: list[bytes] = []
        self._said = asyncio.Event()
        self.has_microphone = True
        self.hears = asyncio.Event()
        """Without it nothing more is taken: what comes waits, as for a caller that plays it."""
        self.hears.set()
        self.problem: BaseException | None = None
        self.sent = Sent()
        self.tasks: list[asyncio.Task[None]] = []
        self._asked_at: int | None = None
        """Events before the question of the moment."""
        self._note_what_leaves()

    def _note_what_leaves(self) -> None:
        uplink = self.session._streams.uplink
        following = uplink.next_request

        def next_request() -> live_pb2.ConverseRequest | None:
            request = following()
            if request is not None and request.WhichOneof("payload") in ("audio", "text"):
                self.sent.left(request)
            return request

        uplink.next_request = next_request  # type: ignore[method-assign]

    # What the caller does

    async def listen(self) -> None:
        """Take events until the session ends."""
        try:
            async for event in self.session:
                await self._note(event)
                await self.hears.wait()
        except parley.errors.ParleyError as error:
            self.problem = error
            async with self._news:
                self._news.notify_all()

    async def _note(self, event: events.Event) -> None:
        async with self._news:
            self.got.append(event)
            self.got_at.append(time.monotonic())
            self._news.notify_all()

    async def hold_the_microphone(self) -> None:
        """Send what is to be said, and silence in between, in real time, for ever."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            pcm = self._to_say.pop(0) if self._to_say else bytes(FRAME_BYTES)
            if not self._to_say:
                self._said.set()
            self.sent.said(pcm, self._frame, _MARKS)
            await self.session.send_audio(mark(pcm, stream=self._stream, first=self._frame))
            self._frame += _MARKS
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

    def asks(self) -> None:
        """A question begins now."""
        self._asked_at = len(self.got)

    @property
    def moves(self) -> bool:
        """It is on its way from one gateway to another."""
        streams = self.session._streams
        return streams._opening_stream is not None or streams._current is None or streams._current.over

    async def give_way(self) -> None:
        """Take nothing more, say nothing more, and do not come back: somebody else is to have the session."""
        self.session._streams._retry._max_outage = 0
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def told_to_go(self, limit: float = 0.0) -> BaseException | None:
        """What it was told in the end, after it gave way; what came meanwhile counts for nobody."""
        try:
            async with asyncio.timeout(limit or self.LIMIT):
                async for _ in self.session:
                    pass
        except parley.errors.ParleyError as error:
            return error
        return None

    async def fault(self, fault: str) -> None:
        """Ask for a fault on this conversation."""
        await order_fault(self.stack, self.session.id, fault)

    async def fired(self, what: str) -> None:
        """Until a fault of this kind has come."""
        assert self.stack.emulator is not None
        faults = f"{self.stack.emulator.ready['control']}/conversations/{self.session.id}/faults"

        async def it_has() -> bool:
            return any(one["fault"]["do"] == what for one in (await get_json(faults))["fired"])

        await eventually(it_has, self.LIMIT)

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

    async def until_on_a_link(self, limit: float = 0.0) -> None:
        """As far as the caller was told, the session has a link, which was told what it is to know."""
        there = next((event for event in reversed(self.got) if isinstance(event, _LINK_NEWS)), None)
        if isinstance(there, events.LinkRotating):
            await self.until(lambda event: isinstance(event, events.LinkRecovered), self.got.index(there), limit)

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

    def lost_words(self, since: int = 0) -> bool:
        """Whether it was told that the model did not hear some of what it said."""
        return bool(both(self.sent.voiced, self.sent.excused(self.got[since:])))

    def answers(self, *, in_gaps: bool = False) -> int:
        """See `answers_in`."""
        return answers_in(self.got, in_gaps=in_gaps)

    def of(self, kind: type[events.Event], since: int = 0) -> list[Any]:
        """Every event of a kind."""
        return [event for event in self.got[since:] if isinstance(event, kind)]

    @property
    def state(self) -> str:
        """Of the turn, as far as the caller knows; one of `STATES`."""
        if self._to_say:
            return "caller speaks"
        state = "idle" if self._asked_at is None else "model thinks"
        for event in self.got[self._asked_at or 0 :]:
            match event:
                case events.ToolActivity(phase=phase):
                    state = "model thinks" if phase == "FINISHED" else "tool pending"
                case events.Audio() | events.Text():
                    state = "model speaks"
                case events.GenerationComplete():
                    state = "answer plays"
                case events.TurnComplete() if state in ("model speaks", "answer plays"):
                    state = "idle"
                case _:
                    pass
        return state

    # What the model knows

    @property
    def callers(self) -> list[Call]:
        """Everybody who had the session, from the first."""
        return [self] if self.before is None else [*self.before.callers, self]

    @property
    def stream(self) -> int:
        """The stream that its frames are marked with."""
        return self._stream

    async def heard_by_any_link(self) -> tuple[Ranges, Ranges]:
        """Frames of this caller that any link has heard, and those of them in or beside an utterance."""
        assert self.stack.emulator is not None
        record = f"{self.stack.emulator.ready['control']}/conversations/{self.session.id}"
        links = (await get_json(record))["links"]
        views = [await get_json(f"{record}/links/{link['index']}") for link in links]
        heard = by_stream(run for view in views for run in view["marks"])[self.stream]
        utterances = (one["marks"] for view in views for one in view["utterances"])
        spoken = by_stream(run for marks in utterances for run in marks)[self.stream]
        return heard, Ranges((first - _BESIDE, after + _BESIDE) for first, after in spoken)

    async def lineage(self) -> dict[str, Any]:
        """The emulator's account of what the model of the newest link knows, forgot and was given twice."""
        assert self.stack.emulator is not None
        found: dict[str, Any] = await get_json(
            f"{self.stack.emulator.ready['control']}/conversations/{self.session.id}/lineage"
        )
        return found


def answers_in(got: Iterable[events.Event], *, in_gaps: bool = False) -> int:
    """Turns in which the model said something that it did not take back. `in_gaps`: those too in which it may have,
    because a gap names what came before their end."""
    count, spoke = 0, False
    for event in got:
        match event:
            case events.Audio() | events.Text():
                spoke = True
            case events.Gap(direction="DOWNLINK", media_class="VITAL"):
                spoke = spoke or in_gaps
            case events.Interrupted(reason="RESTARTED"):
                spoke = False
            case events.TurnComplete():
                count, spoke = count + spoke, False
            case _:
                pass
    return count


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
    stack: Stack, *, microphone: bool = True, targets: Sequence[str] = (), before: Call | None = None, **options: Any
) -> AsyncIterator[Call]:
    """A call, by default through the first gateway and with a microphone that is always open. `before`: see `Call`."""
    if "resume" not in options and "config" not in options:
        options.setdefault("profile", "support")
    options.setdefault("close_timeout", timedelta(seconds=Call.LIMIT))
    async with parley.connect(targets or str(stack.gateways[0].ready["address"]), **options) as session:
        call = Call(stack, session, before)
        call.has_microphone = microphone
        if before is not None:  # the rest comes again
            point = options["resume"].last_received_seq
            kept = [index for index, event in enumerate(before.got) if event.seq <= point]
            call.got += [before.got[index] for index in kept]
            call.got_at += [before.got_at[index] for index in kept]
        call.tasks.append(asyncio.create_task(call.listen()))
        if microphone:
            call.tasks.append(asyncio.create_task(call.hold_the_microphone()))
        try:
            yield call
        finally:
            for task in call.tasks:
                task.cancel()
            await asyncio.gather(*call.tasks, return_exceptions=True)


UNLOGGED = parley.SessionConfig(
    model="gemini-3.8-live",
    instructions="Answer in one sentence.",
    tools=["lookup_order", "get_weather"],
    input_transcription=True,
    output_transcription=True,
    conversation_log=live_pb2.ConversationLog(disabled=True),
)
"""As the profile `support`, with the log off."""
_LINK_LIMIT = 240.0
"""Seconds for the next link, with everything that may happen meanwhile, on a machine that has too much to do."""
_TOLD = 10.0
"""Seconds in which a link that there is has been told what its model is to know, and has read it."""
TWICE = 0.4
"""Seconds of an open utterance that the model may hear twice each time that it is on another link: a round trip, and
the silence before the first sound."""


async def check(
    call: Call,
    *,
    twice: float | None = None,
    asked_again: bool = False,
    gaps: bool = False,
    void: Collection[str] = (),
    outcomes: bool = True,
) -> dict[str, Any]:
    """Promise 1 and 2, by what the model knows: nothing forgotten, nothing given twice that is not named.

    `twice`: seconds of an open utterance that each new link may have heard twice. `asked_again`: it still knows the
    question whose answer was cut off, and is asked again in words, each time that the caller is told so. `gaps`: what a
    gap names may be missing. `void`: things of these kinds are missing, and must be, because a gap that the story has
    looked at says so (LOG_DISABLED). `outcomes`: words that told nothing but what functions returned must be known;
    without it they may have gone when the model called again and was told by a response, which whoever calls looks at.
    """
    lineage = await call.lineage()
    assert lineage["complete"], "the emulator's record had no room"
    if not outcomes:
        lost = lineage["forgotten"]
        lost["turns"] = [turn for turn in lost["turns"] if not _OUTCOMES.fullmatch(turn["text"])]
    if asked_again:
        # The record names a turn once for each thing that it repeats.
        again = {
            (one["link"], one["at"]): one["text"]
            for kind in ("turns", "texts")
            for one in lineage["duplicates"].pop(kind)
        }
        assert not (untold := list(repeated_untold(call, again.values()))), (untold, brief(call.got))
    links = max(1, len(call.of(events.LinkRecovered)))
    again = lineage["duplicates"].pop("audio")
    seconds = sum(run["last"] - run["first"] + 1 for run in again) * MARK_SECONDS
    assert seconds <= links * (TWICE if twice is None else twice), again
    told = [gap for gap in call.of(events.Gap) if gap.direction == "UPLINK"]
    assert gaps or not told, told
    forgotten = await unexcused(call, lineage)
    assert set(void) <= set(forgotten), (void, forgotten)
    forgotten = {kind: what for kind, what in forgotten.items() if kind not in void}
    assert not forgotten, (forgotten, told, brief(call.got))
    assert not any(lineage["duplicates"].values()), (lineage["duplicates"], brief(call.got))
    for caller in call.callers:
        result = caller.session.audit.result()
        assert result.whole, result
    return lineage


def repeated_untold(call: Call, again: Iterable[str]) -> Iterator[str]:
    """Texts of the caller that these words repeat more often than it was told."""
    words = "\n".join(again)
    told = [event.replayed for caller in call.callers for event in caller.of(events.LinkRecovered)]
    for caller in call.callers:
        for text, numbers in caller.sent.texts:
            times = len(re.findall(rf"\b{re.escape(text)}\b", words, re.IGNORECASE))
            most = sum(any(first <= seq <= last for seq in numbers for first, last in replayed) for replayed in told)
            if times > most:
                yield f"{text!r}, number {sorted(numbers)}, is there {times} times again, told of {most}"


async def check_once_told(call: Call, **expected: Any) -> None:
    """The same, once the model is known to be on a link that was told of it all. A link that was replaced meanwhile may
    have been looked at before it was: what then counts is the next."""

    async def checked() -> bool:
        await check(call, **expected)
        return True

    while True:
        await call.until_on_a_link(_LINK_LIMIT)
        links = len(call.of(events.LinkRotating))
        try:
            await eventually(checked, _TOLD)
        except AssertionError:
            if len(call.of(events.LinkRotating)) == links:
                raise
        else:
            return


async def unexcused(call: Call, lineage: dict[str, Any]) -> dict[str, Any]:
    """What the model should know and does not, by kind, without what the caller was told of."""
    known, excused = by_stream(lineage["marks"]), defaultdict[int, Ranges](Ranges)
    for caller in call.callers:
        excused[caller.stream] = caller.sent.excused(call.got)

    def missing(runs: list[dict[str, Any]]) -> list[tuple[int, Range]]:
        return [
            (stream, part)
            for stream, frames in by_stream(runs).items()
            for part in without(frames, known[stream], excused[stream])
        ]

    lost = lineage["forgotten"]
    found: dict[str, Any] = {
        kind: what for kind, what in lost.items() if kind not in ("speech", "silence", "utterances")
    }
    found["speech"] = missing(lost["speech"])
    found["utterances"] = [one for one in lost["utterances"] if missing(one["marks"])]
    if any(event.reason == "RESTARTED" for event in call.of(events.Interrupted)):
        found.pop("said")  # the caller was told that it is void, and the answer that came instead was cut off
    silence = by_stream(lost["silence"])
    for caller in call.callers:
        # What was said in words is not forgotten. What no link has ever heard is, though no record can tell; and what
        # was heard, but not taken for speech.
        if voice := without(caller.sent.voiced, known[caller.stream], excused[caller.stream]):
            heard, spoken = await caller.heard_by_any_link()
            unnoticed = without(both(voice, silence[caller.stream]), spoken)
            found[f"voice of {caller.stream}"] = [*without(voice, heard), *unnoticed]
    return {kind: what for kind, what in found.items() if what}
