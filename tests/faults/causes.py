"""Does `parley session timeline` name the cause, given only a trace id? `make test-timeline SEED=...`.

One call after the other, each in a trace of its own, is struck by a fault of a kind that chance has chosen; then the
command is asked about the trace, and nothing else. It must name the cause of that kind, and no other: whoever is on the
phone must not be sent after something that did not happen. Every kind comes at least once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc.aio

from parley import errors, events
from parley.cli._child import Child
from parley.cli.stack import Stack, StackConfig
from parley.cli.timeline_text import MEANINGS
from parley.v1 import sessions_pb2, sessions_pb2_grpc
from tests.faults.call import Call, calling
from tests.faults.chaos.callers import EXCUSE
from tests.faults.scene import kill, owner
from tests.support import order_ledger
from tests.support.eventually import eventually
from tests.support.ports import reserved

FROZEN = 4.5
"""Seconds: longer than a worker may stand still for its sessions to stay its own, shorter than its watchdog takes."""
_ASKED = 15.0
"""Seconds in which what happened is stored, and told by the command."""
_ANSWER = 60.0
"""Seconds for an answer, with what the fault costs."""
_SAID = ("paris", "degrees", "shipped", "help you")
"""Words of the conversations, which are in no timeline."""
_CLOSE, _AT_ONCE = timedelta(seconds=60), timedelta(milliseconds=10)


@dataclass
class Place:
    """Where calls are struck."""

    stack: Stack
    orders: Path
    """Folder of the order ledger."""
    gateways: list[str]
    """Addresses, which stay the same."""
    workers: int

    @property
    def gateway(self) -> Child:
        """One to ask."""
        return next(child for child in self.stack.gateways if child.running)

    async def gateway_of(self, call: Call) -> Child:
        """The one that its stream is on."""
        async with grpc.aio.insecure_channel(str(self.gateway.ready["address"])) as channel:
            request = sessions_pb2.GetSessionRequest(session_id=call.session.id)
            found = await sessions_pb2_grpc.SessionServiceStub(channel).GetSession(request, timeout=_ANSWER)
        return next(child for child in self.stack.gateways if child.ready["id"] == found.session.gateway)

    async def whole_again(self) -> None:
        """The gateways at their addresses, so many workers, a tools service."""
        there = {str(child.ready["address"]) for child in self.stack.gateways if child.running}
        for address in self.gateways:
            if address not in there:
                await self.stack.start_gateway(PARLEY_GATEWAY_LISTEN=address)
        while sum(child.running for child in self.stack.workers) < self.workers:
            await self.stack.start_worker()
        if not any(child.running for child in self.stack.tools):
            await self.stack.start_tools()


Strike = Callable[[Place, Call], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """A kind of fault, and what must be said of it."""

    cause: str
    strike: Strike
    """Returns when the call has felt it, or goes on."""
    also: frozenset[str] = frozenset()
    """Causes that may be named beside it, because they follow from it."""
    caller_stays: bool = True
    """It is there at the end, and ends the session."""


def of_the_link(*faults: str) -> Strike:
    """Ordered of the emulator, and felt while a question is answered."""

    async def strike(_place: Place, call: Call) -> None:
        for fault in faults:
            await call.fault(fault)
        since = len(call.got)
        await call.session.send_text("what is the weather in paris")
        await call.until(lambda event: isinstance(event, events.LinkRecovered), since, _ANSWER)
        await call.answer(since, containing="degrees", limit=_ANSWER)

    return strike


async def _new_worker(call: Call, since: int) -> None:
    await call.until(lambda event: isinstance(event, events.LinkRecovered), since, _ANSWER)


async def worker_killed(_place: Place, call: Call) -> None:
    """SIGKILL."""
    since = len(call.got)
    await kill(await owner(call))
    await _new_worker(call, since)


async def worker_drained(_place: Place, call: Call) -> None:
    """SIGTERM."""
    since = len(call.got)
    worker = await owner(call)
    worker.stopping = True
    worker.signal(signal.SIGTERM)
    await _new_worker(call, since)
    await worker.gone()


async def worker_frozen(_place: Place, call: Call) -> None:
    """SIGSTOP, for too short a time for others to take its sessions."""
    since = len(call.got)
    worker = await owner(call)
    worker.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(FROZEN)
    finally:
        worker.signal(signal.SIGCONT)
    await _new_worker(call, since)


async def session_moved(place: Place, call: Call) -> None:
    """By an operator."""
    since = len(call.got)
    async with grpc.aio.insecure_channel(str(place.gateway.ready["address"])) as channel:
        request = sessions_pb2.MoveSessionRequest(session_id=call.session.id)
        await sessions_pb2_grpc.SessionServiceStub(channel).MoveSession(request, timeout=_ANSWER)
    await _new_worker(call, since)


async def gateway_killed(place: Place, call: Call) -> None:
    """SIGKILL."""
    since = len(call.got)
    await kill(await place.gateway_of(call))
    await call.until(lambda event: isinstance(event, events.StreamResumed), since, _ANSWER)


async def gateway_drained(place: Place, call: Call) -> None:
    """SIGTERM."""
    since, gateway = len(call.got), await place.gateway_of(call)
    gateway.stopping = True
    gateway.signal(signal.SIGTERM)
    await call.until(lambda event: isinstance(event, events.GatewayDraining), since, _ANSWER)
    await gateway.gone()


async def nats_restarted(place: Place, call: Call) -> None:
    """SIGKILL, and there again a moment later."""
    since = len(call.got)
    port = int(place.stack.nats.ready["url"].rpartition(":")[2])
    await kill(place.stack.nats)
    with reserved(str(port)):
        await place.stack.start_nats(port=port)
    await call.session.send_text("what is the weather in paris")
    await call.answer(since, containing="degrees", limit=_ANSWER)


async def tools_killed(place: Place, call: Call) -> None:
    """SIGKILL, while it runs a function of this call."""
    since, number = len(call.got), str(random.randrange(10**5, 10**6))
    hold = place.orders / number
    hold.touch()
    try:
        await call.session.send_text(f"where is my order {number}")
        await eventually(lambda: order_ledger.runs(place.orders, number), _ANSWER)
        await kill(*(child for child in place.stack.tools if child.running))
        await place.stack.start_tools()
        await call.answer(since, containing=EXCUSE, limit=_ANSWER)
    finally:
        await asyncio.to_thread(hold.unlink)


async def tools_missing(place: Place, call: Call) -> None:
    """None is there when a function is called."""
    since = len(call.got)
    await kill(*(child for child in place.stack.tools if child.running))
    await call.session.send_text(f"where is my order {random.randrange(10**5, 10**6)}")
    await call.answer(since, containing=EXCUSE, limit=_ANSWER)


async def caller_gone(_place: Place, call: Call) -> None:
    """It vanishes without a word."""
    stream = call.session._streams._current
    assert stream is not None
    await call.give_way()
    stream._call.cancel()


async def second_caller(place: Place, call: Call) -> None:
    """Another stream takes the session."""
    await call.give_way()
    async with calling(
        place.stack, microphone=False, resume=call.session.resume_point, before=call, targets=place.gateways[::-1]
    ) as second:
        await call.told_to_go(_ANSWER)
        await second.session.end("over")
        await eventually(lambda: second.of(events.Ended) or second.problem, _ANSWER)


_REFUSALS = frozenset({"BACKEND_UNAVAILABLE", "BACKEND_REFUSED"})
FAULTS = {
    "goAway": Fault("GO_AWAY", of_the_link("go_away time_left=6s on=turn_began")),
    "reset": Fault("LINK_LOST", of_the_link("reset on=first_audio")),
    "1011": Fault("LINK_LOST", of_the_link("close preset=internal on=turn_began"), _REFUSALS),
    "handle expired": Fault("LINK_LOST", of_the_link("lose_handles", "reset on=turn_began"), _REFUSALS),
    "half-open": Fault("LINK_SILENT", of_the_link("half_open on=turn_began")),
    "worker killed": Fault("DEAD", worker_killed),
    "worker drained": Fault("DRAIN", worker_drained),
    "worker frozen": Fault("OWNERSHIP_LAPSED", worker_frozen),
    "session moved": Fault("MOVED", session_moved),
    "gateway killed": Fault("GATEWAY_LOST", gateway_killed),
    "gateway drained": Fault("GATEWAY_DRAINING", gateway_drained, frozenset({"SUPERSEDED", "CALLER_GONE"})),
    "nats restarted": Fault("BUS_LOST", nats_restarted),
    "tools killed": Fault("EXECUTOR_LOST", tools_killed),
    "tools missing": Fault("NO_TOOLS_SERVICE", tools_missing),
    "caller gone": Fault("CALLER_GONE", caller_gone, caller_stays=False),
    "second caller": Fault("SUPERSEDED", second_caller, caller_stays=False),
}


def new_trace() -> tuple[str, str]:
    """The id of a trace, and the traceparent that begins it."""
    trace = secrets.token_hex(16)
    return trace, f"00-{trace}-{secrets.token_hex(8)}-01"


async def asked(of: str, target: str, *options: str) -> str:
    """What `parley session timeline` prints."""
    command = (sys.executable, "-P", "-m", "parley.cli", "session", "timeline", of, "--target", target, *options)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    stdout, _ = await process.communicate()
    assert process.returncode == 0, (command, process.returncode)
    return stdout.decode()


async def timeline_of(trace: str, target: str) -> dict[str, Any]:
    """The same as a document."""
    found: dict[str, Any] = json.loads(await asked(trace, target, "--json"))
    return found


def causes_of(timeline: dict[str, Any]) -> list[str]:
    """By name, in the order in which they came."""
    return [one["cause"] for one in timeline["causes"]]


def unlike(found: Iterable[str], wanted: Fault) -> str:
    """What is wrong with the causes that were named; empty for nothing."""
    named = set(found)
    if wanted.cause not in named:
        return f"{wanted.cause} is not named, but {sorted(named)}"
    if wanted.cause not in MEANINGS:
        return f"{wanted.cause} is named, and nobody says what it means"
    others = named - {wanted.cause} - wanted.also
    return f"{sorted(others)} named beside {wanted.cause}" if others else ""


async def strike(place: Place, kind: str, **of_the_call: Any) -> str:
    """One call and one fault; what is wrong with what the command says."""
    fault = FAULTS[kind]
    trace, traceparent = new_trace()
    options = {"microphone": False, "targets": place.gateways, "traceparent": traceparent, **of_the_call}
    try:
        async with calling(place.stack, close_timeout=_CLOSE if fault.caller_stays else _AT_ONCE, **options) as call:
            await call.session.send_text("hello")
            await call.answer(containing="help you", limit=_ANSWER)
            await fault.strike(place, call)
    except errors.ParleyError:
        if fault.caller_stays:
            raise  # else nobody confirms to it that the session has ended
    await place.whole_again()
    target = str(place.gateway.ready["address"])
    said = ""

    async def named() -> bool:
        nonlocal said
        found = await timeline_of(trace, target)
        said = unlike(causes_of(found), fault)
        told = json.dumps(found["events"]).lower()
        assert not any(word in told for word in _SAID), told
        return not said

    try:
        await eventually(named, _ASKED)
    except AssertionError:
        print(await asked(trace, target))
        return said or "nothing is said"
    return ""


async def placed(exits: AsyncExitStack, *, workers: int = 2, doors: int = 2) -> Place:
    """A stack, whose gateways come back where they were."""
    folder = exits.enter_context(tempfile.TemporaryDirectory(prefix="parley-orders-"))
    env = {order_ledger.FOLDER: folder, "PARLEY_TOOLS_MODULES": order_ledger.MODULES}
    stack = await exits.enter_async_context(Stack(StackConfig(workers=workers, gateways=0, env=env)))
    gateways = []
    for _ in range(doors):
        address = exits.enter_context(reserved())
        await stack.start_gateway(PARLEY_GATEWAY_LISTEN=address)
        gateways.append(address)
    return Place(stack, Path(folder), gateways, workers)


def chosen(count: int, seed: int) -> list[str]:
    """So many faults, each kind among them if there is room."""
    chance = random.Random(seed)
    kinds = chance.sample(list(FAULTS), min(count, len(FAULTS)))
    kinds += chance.choices(list(FAULTS), k=count - len(kinds))
    chance.shuffle(kinds)
    return kinds


async def run(kinds: Sequence[str]) -> int:
    """One after the other; how many causes were not named."""
    wrong = 0
    async with AsyncExitStack() as exits:
        place = await placed(exits)
        for number, kind in enumerate(kinds, 1):
            problem = await strike(place, kind)
            wrong += bool(problem)
            print(f"{number:>3} {kind:<16} {problem or FAULTS[kind].cause}", flush=True)
    print(f"{len(kinds) - wrong} of {len(kinds)} causes named")
    return wrong


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.causes", description=__doc__)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--kinds", nargs="*", default=[], help="these, in this order, instead of what chance chooses")
    parser.add_argument("--seed", type=int, default=None)
    wanted = parser.parse_args()
    seed = wanted.seed if wanted.seed is not None else random.SystemRandom().randrange(2**32)
    print(f"seed {seed}", flush=True)
    return 1 if asyncio.run(run(wanted.kinds or chosen(wanted.faults, seed))) else 0


if __name__ == "__main__":
    sys.exit(main())
