"""A worker that was frozen or cut off: what is its own goes on, and of what is somebody else's it says nothing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import nats
import pytest
from nats.aio.msg import Msg

import parley
from parley import errors, events
from parley.cli._child import Child
from parley.cli.stack import Stack, StackConfig
from parley.v1 import fabric_pb2, fleet_pb2
from services.fabric import subjects
from services.fabric.records import SessionRecords
from tests.faults.call import Call, brief, calling, check
from tests.faults.stories import chosen, long
from tests.support import sabotage_ownership
from tests.support.counts import get_json, heard, http_status
from tests.support.eventually import eventually
from tests.support.ports import reserved

TTL = 2.0
STOPPED = 3.0
"""Seconds for which a worker is stopped: longer than the ttl and than its loop may hang, and too short for a gateway to
have doubts."""
AWAY = 4.5
"""Seconds for which the message bus is: clients notice after some three."""
ENV = {
    "PARLEY_WORKER_OWNERSHIP_TTL": f"{TTL}s",
    "PARLEY_WORKER_LOOP_LIMIT": "2s",
    "PARLEY_WORKER_PARK_AFTER": "1s",
    "PARLEY_GATEWAY_FABRIC_WAIT": "500ms",
}
WEATHER = "degrees"
ORDER = "four seven one one"
LAPSED = "OWNERSHIP_LAPSED"
OTHER = "wk-other"


Outcomes = dict[str, BaseException | None]
"""What went wrong in stories, by name."""


Hook = Callable[[], Awaitable[Any]]


class Moment:
    """The fault, which all stories of a stack share: it comes when each of them is where it wants to be."""

    def __init__(self) -> None:
        self.tasks: dict[str, asyncio.Task[None]] = {}
        """The stories."""
        self._there: set[asyncio.Task[Any] | None] = set()
        self._news = asyncio.Condition()
        self._over = asyncio.Event()
        self.before: tuple[list[Hook], list[Hook]] = ([], [])
        """What takes time until the fault: first these, then those; right after them it comes."""
        self.at_the_end: list[Hook] = []
        """What is done at the end of the fault, before it is over."""

    def begin(self, name: str, story: Awaitable[None]) -> None:
        """Tell one more story."""
        self.tasks[name] = asyncio.create_task(self._tell(story))

    async def _tell(self, story: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(150):
                await story
        finally:
            await self._arrive()  # also when it went wrong before: the others need not wait for it

    async def _arrive(self) -> None:
        async with self._news:
            self._there.add(asyncio.current_task())
            self._news.notify_all()

    async def come(self) -> None:
        """A story is where it wants to be; returns when the fault is over."""
        await self._arrive()
        await self._over.wait()

    async def wait_for_all(self) -> None:
        """Everybody is there."""
        async with asyncio.timeout(120), self._news:
            await self._news.wait_for(lambda: self._there >= set(self.tasks.values()))
        for hooks in self.before:
            await asyncio.gather(*(hook() for hook in hooks))

    async def outcomes(self) -> Outcomes:
        """When all stories are told: what went wrong in each."""
        return dict(zip(self.tasks, await asyncio.gather(*self.tasks.values(), return_exceptions=True), strict=True))

    async def pass_by(self) -> None:
        """The fault is about to end."""
        for hook in self.at_the_end:
            await hook()
        self._over.set()


# Stories of what is still ours


async def goes_on(call: Call, since: int, containing: str) -> None:
    await call.until(lambda event: isinstance(event, events.LinkRecovered), since)
    await call.answer(since, containing=containing)
    # A busy machine may keep the worker from JetStream for another ttl.
    assert {event.cause for event in call.of(events.LinkRotating)} == {LAPSED}, brief(call.got)
    recovered = call.of(events.LinkRecovered)
    assert {event.method for event in recovered} <= {"RESUMED", "RESEEDED"}
    await check(call)


async def nobody_speaks(call: Call, moment: Moment) -> None:
    await call.speak("weather_paris")
    await call.answer(containing=WEATHER)
    await moment.come()
    since = len(call.got)
    await call.speak("order_4711")
    await goes_on(call, since, ORDER)
    assert not call.of(events.Interrupted)


async def the_caller_speaks(call: Call, moment: Moment) -> None:
    await call.speak("hello")
    await call.answer()
    since = len(call.got)

    async def begin_to_speak() -> None:
        await call.speak("weather_paris", wait=False)
        await asyncio.sleep(0.8)  # not a wait for something: so far it has come with what it says

    moment.before[1].append(begin_to_speak)
    await moment.come()
    await goes_on(call, since, WEATHER)
    assert "what is the weather in paris" in [event.text for event in call.of(events.InputTranscript)]


async def the_model_speaks(call: Call, moment: Moment) -> None:
    await call.speak("hello")
    await call.answer()
    since = len(call.got)
    moment.before[0].append(lambda: make_it_speak(call))
    await moment.come()
    await goes_on(call, since, "")


async def make_it_speak(call: Call) -> None:
    """The model is in the middle of a long answer."""
    since = len(call.got)
    await call.speak("tell_me_about_your_service")
    await call.until(lambda event: isinstance(event, events.OutputTranscript), since)


async def a_question_is_typed(call: Call, moment: Moment) -> None:
    await call.speak("hello")
    await call.answer()
    since = len(call.got)
    moment.at_the_end.append(lambda: call.session.send_text("what is the weather in paris"))
    await moment.come()
    await goes_on(call, since, WEATHER)
    lineage = await call.lineage()
    assert [entry["text"] for entry in lineage["context"] if entry["kind"] == "text"].count(
        "what is the weather in paris"
    ) <= 1


OURS = (nobody_speaks, the_caller_speaks, the_model_speaks, a_question_is_typed)


async def tell(
    stack: Stack, story: Callable[[Call, Moment], Awaitable[None]], moment: Moment, stays: asyncio.Event | None = None
) -> None:
    """`stays`: the session does not end before that."""
    async with calling(stack) as call:
        await story(call, moment)
        if stays is not None:
            await stays.wait()


# Stories of what is somebody else's


@contextlib.asynccontextmanager
async def other_worker(stack: Stack) -> AsyncIterator[None]:
    """It holds what it is asked for, and never says anything about it: nobody has reason to take it away again."""
    client = await nats.connect(str(stack.nats.ready["url"]))

    async def answer(message: Msg) -> None:
        request = fabric_pb2.ControlRequest.FromString(message.data)
        if request.HasField("ping"):
            reply = fabric_pb2.ControlReply(schema_version=1, pong=fleet_pb2.Worker(worker=OTHER))
            await message.respond(reply.SerializeToString())

    try:
        await client.subscribe(subjects.control(OTHER), cb=answer)
        yield
    finally:
        await client.close()


async def take_over(stack: Stack, session: str) -> None:
    """As another worker does it."""
    client = await nats.connect(str(stack.nats.ready["url"]))
    try:
        records = SessionRecords(client.jetstream())
        found = await records.read_own(session)
        assert found is not None
        own, revision = found
        own.session.worker = OTHER
        own.session.epoch += 1
        own.epochs.add(epoch=own.session.epoch, first_downlink_seq=1_000_000)
        await records._compare_and_set(session, revision, own, None)
    finally:
        await client.close()


class HangUpError(Exception):
    """The caller is gone without a word."""


class Mute:
    """What came of a session before and after its worker woke up as an owner of the past."""

    def __init__(self, stack: Stack, call: Call) -> None:
        self._stack = stack
        self._call = call
        self._got = 0
        self._heard: dict[str, Any] = {}

    async def _to_the_model(self) -> dict[str, Any]:
        record = await heard(self._stack, self._call.session.id)
        told = {kind: record[kind] for kind in ("texts", "turns", "tool_responses", "context_updates")}
        return {**told, "audio": record["audio"]["bytes"], "links": len(record["links"])}

    async def take(self) -> None:
        """Somebody else takes the session; nothing may come of it from here on."""
        await take_over(self._stack, self._call.session.id)
        self._got = len(self._call.got)
        self._heard = await self._to_the_model()

    async def check(self, worker: Child, left: int) -> None:
        """Nothing has, until the worker has let go of all but `left` sessions."""
        async with asyncio.timeout(20):
            while True:
                gone = await sessions(worker) == left
                assert await self._to_the_model() == self._heard
                new = [event for event in self._call.got[self._got :] if not isinstance(event, events.StreamLost)]
                assert not new, brief(new)
                if gone:
                    return
                await asyncio.sleep(0.05)


async def sessions(worker: Child) -> int:
    """How many a worker has."""
    return int((await get_json(worker.ready["ops"] + "/debug/vars"))["sessions"])


async def somebody_elses(stack: Stack, worker: Child, left: int, moment: Moment, told: asyncio.Event) -> None:
    """The model speaks, and the microphone is open: a backlog waits at both ends of the worker. `told`: set when it is
    known whether the worker let go; no other session of it may come or go before."""
    with contextlib.suppress(HangUpError), contextlib.ExitStack() as at_last:
        at_last.callback(told.set)
        async with calling(stack) as call:
            await call.speak("hello")
            await call.answer()
            moment.before[0].append(lambda: make_it_speak(call))
            mute = Mute(stack, call)
            moment.at_the_end.append(mute.take)
            await moment.come()
            await mute.check(worker, left)
            raise HangUpError


# A caller that is away


async def parked(stack: Stack) -> None:
    """Nobody is there for longer than `park_after`; then the caller comes back."""
    point: parley.session.Resume | None = None
    with contextlib.suppress(HangUpError):
        async with calling(stack) as call:
            await call.speak("weather_paris")
            await call.answer(containing=WEATHER)
            point = call.session.resume_point
            raise HangUpError
    assert point is not None

    async def link_closed() -> bool:
        return not (await call.lineage())["head"]["open"]

    await eventually(link_closed)
    async with calling(stack, resume=point) as again:
        await again.speak("order_4711")
        await again.answer(containing=ORDER)
        lineage = await check(again)
        assert [segment["link"] for segment in lineage["lineage"]] == [0, 1]
        assert "what is the weather in paris" in str(lineage["context"])
        assert [event.cause for event in again.of(events.LinkRotating)] == ["PARKED"]
        (recovered,) = again.of(events.LinkRecovered)
        assert recovered.method == "RESUMED"


# Stacks


async def sabotaged_worker(stack: Stack, what: str, capacity: int) -> Child:
    """One more worker, without something."""
    env = {
        **stack._common("WORKER"),
        **stack._backend(),
        sabotage_ownership.VARIABLE: what,
        "PARLEY_WORKER_CAPACITY": str(capacity),
    }
    worker = await stack._spawn("worker", [sys.executable, "-c", sabotage_ownership.COMMAND], env)
    await worker.wait_ready(30)
    stack.workers.append(worker)

    async def known() -> bool:
        return bool((await get_json(stack.gateways[0].ready["ops"] + "/debug/vars"))["workers"] == len(stack.workers))

    await eventually(known)
    return worker


async def frozen_workers() -> Outcomes:
    """Three workers are stopped at once. The first is whole; of the others something was taken away."""
    moment = Moment()
    async with Stack(StackConfig(workers=0, env=ENV)) as stack, other_worker(stack):
        whole = await stack.start_worker(PARLEY_WORKER_CAPACITY=str(len(OURS) + 2))  # one is for the parked
        told = asyncio.Event()
        for story in OURS:
            moment.begin(story.__name__, tell(stack, story, moment, told))
        moment.begin("somebody_elses", somebody_elses(stack, whole, len(OURS), moment, told))
        await holds(whole, len(OURS) + 1)
        for sabotage in ("lapse", "reread"):
            worker = await sabotaged_worker(stack, sabotage, 1)
            moment.begin(f"sabotage_{sabotage}", somebody_elses(stack, worker, 0, moment, asyncio.Event()))
            await holds(worker, 1)
        await moment.wait_for_all()
        for worker in stack.workers:
            worker.signal(signal.SIGSTOP)
        await asyncio.sleep(STOPPED)  # not a wait for something: so long they are stopped
        await moment.pass_by()
        for worker in stack.workers:
            worker.signal(signal.SIGCONT)
        await told.wait()
        moment.begin("parked", parked(stack))
        outcomes = await moment.outcomes()
        outcomes["watchdog"] = await outcome(watchdog(stack.workers[-1]))
    return outcomes


async def holds(worker: Child, count: int) -> None:
    """Until a worker has so many sessions."""

    async def it_does() -> bool:
        return await sessions(worker) == count

    await eventually(it_does)


async def outcome(story: Awaitable[None]) -> BaseException | None:
    try:
        await story
    except Exception as error:  # noqa: BLE001 - a test raises it again
        return error
    return None


async def watchdog(worker: Child) -> None:
    """The loop of a worker hangs."""
    worker.stopping = True
    worker.signal(signal.SIGUSR1)
    async with asyncio.timeout(20):
        assert await worker.gone() == 70
    line = json.loads(worker.log_tail(1))
    assert "the event loop has not run for" in line["event"]
    assert line["level"] == "critical"


async def bus_away(how: str, fault: Callable[[Stack], Awaitable[None]]) -> Outcomes:
    """The message bus is not there for a while."""
    moment = Moment()
    async with Stack(StackConfig(env=ENV)) as stack:
        for story in OURS[:3]:
            moment.begin(f"bus_{how}[{story.__name__}]", tell(stack, story, moment))
        await moment.wait_for_all()
        while_it_is_away = await outcome(fault(stack))
        await moment.pass_by()
        return {f"bus_{how}": while_it_is_away, **await moment.outcomes()}


async def hang(stack: Stack) -> None:
    stack.nats.signal(signal.SIGSTOP)
    try:
        await while_away(stack)
    finally:
        stack.nats.signal(signal.SIGCONT)


async def restart(stack: Stack) -> None:
    port = int(stack.nats.ready["url"].rpartition(":")[2])
    stack.nats.stopping = True
    stack.nats.signal(signal.SIGKILL)
    await stack.nats.process.wait()
    with reserved(str(port)):
        try:
            await while_away(stack)
        finally:
            await stack.start_nats(port=port)


async def while_away(stack: Stack) -> None:
    """Not ready, but alive; nobody is let in, and everybody is told to come back."""
    away = asyncio.get_running_loop().time() + AWAY
    processes = [*stack.gateways, *stack.workers, *stack.tools]

    async def not_ready() -> bool:
        return {await http_status(child.ready["ops"] + "/readyz") for child in processes} == {503}

    await eventually(not_ready)
    assert {await http_status(child.ready["ops"] + "/livez") for child in processes} == {200}
    target = str(stack.gateways[0].ready["address"])
    with pytest.raises(errors.Unavailable) as refused:
        async with parley.connect(target, profile="plain", max_outage=timedelta(0)):
            pass
    assert refused.value.retry_delay
    await asyncio.sleep(max(0.0, away - asyncio.get_running_loop().time()))  # so long it is away


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Outcomes:
    """Everything at once, because a conversation takes as long as it sounds."""
    faults = {"hangs": hang, "restarts": restart} if BUS_AWAY[0] in chosen(request, "name") else {}

    async def all_of_them() -> list[Outcomes]:
        return await asyncio.gather(frozen_workers(), *(bus_away(how, fault) for how, fault in faults.items()))

    return dict(itertools.chain(*(told.items() for told in asyncio.run(all_of_them()))))


NAMES = [
    *(story.__name__ for story in OURS),
    "somebody_elses",
    "parked",
    "watchdog",
]
BUS_AWAY = [
    name
    for how in ("hangs", "restarts")
    for name in (f"bus_{how}", *(f"bus_{how}[{story.__name__}]" for story in OURS[:3]))
]


@pytest.mark.parametrize("name", [*NAMES, *long(BUS_AWAY)])
def test_a_worker_out_of_touch(outcomes: Outcomes, name: str) -> None:
    problem = outcomes[name]
    if problem is not None:
        raise problem


@pytest.mark.parametrize("sabotage", ["lapse", "reread"])
def test_without_it_an_owner_of_the_past_is_heard(outcomes: Outcomes, sabotage: str) -> None:
    """The proof that the check of what is somebody else's can fail."""
    assert isinstance(outcomes[f"sabotage_{sabotage}"], AssertionError)
