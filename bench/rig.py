"""What is under test and what tests it, as processes: the stack, the emulator of both sides, the loads."""

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from bench.load.tally import Account
from bench.load.tamper import Kind
from bench.processes import cpu_seconds, machine_cpu_seconds, resident
from bench.tasks import together
from parley.cli.stack import Stack, StackConfig
from tests.support.children import bound
from tests.support.counts import get_json
from tests.support.eventually import eventually

ROOT: Final = Path(__file__).resolve().parents[1]
MODEL: Final = "gemini-3.8-live"
CAPACITY: Final = 1000
"""Sessions that no limit of a setting refuses."""
_SETTINGS: Final = {
    "PARLEY_EMULATOR_SCENARIO": "echo",
    "PARLEY_WORKER_CAPACITY": str(CAPACITY),
    "PARLEY_GATEWAY_MAX_STREAMS": str(CAPACITY),
    # What a run leaves behind must not be there in the next.
    "PARLEY_WORKER_RESUME_WINDOW": "1s",
    "PARLEY_WORKER_RECORD_RETENTION": "0",
}
_START_LIMIT: Final = 60.0
_ANSWER_LIMIT: Final = 90.0
"""Seconds that a load may take beyond the time it talks."""
_QUIET_LIMIT: Final = 20.0
_STOP_LIMIT: Final = 3.0
_LEAD: Final = 0.05
"""Seconds between the order to talk and the first frame."""

Side = Literal["fabric", "bare", "floor"]


class LoadError(Exception):
    """Calls could not be opened, or a load process failed."""


@dataclass(frozen=True)
class Run:
    """What to measure."""

    sessions: int
    frame_ms: int
    seconds: float
    warm_up: float = 0.5
    """Seconds of talking before; frames of them are counted, times and CPU are not."""
    tamper: Kind | None = None


@dataclass(frozen=True)
class Measured:
    """What came of it."""

    account: Account
    cpu: Mapping[str, float]
    """CPU seconds by process within the measured time."""
    session_seconds: float
    memory: Mapping[str, int]
    """Bytes by process that came with the calls, at the end of the measured time."""
    elsewhere: float = 0.0
    """Cores that were busy with something else meanwhile, roughly: the kernel samples this one. Above some 0.3 the
    figures are worth little."""


class LoadProcess:
    """`python -m bench.load` with a pipe to it."""

    def __init__(self, process: asyncio.subprocess.Process, kind: Side, log: Path) -> None:
        self._process = process
        self._kind = kind
        self._log = log
        self.pid = process.pid

    @classmethod
    async def start(cls, kind: Side, target: Mapping[str, str], log: Path) -> Self:
        """Starts it and waits until it is ready."""
        with log.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                *bound(sys.executable, "-m", "bench.load", kind, json.dumps(target)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                cwd=ROOT,
                limit=1 << 24,  # a histogram is one line
            )
        started = cls(process, kind, log)
        try:
            await started._answer(_START_LIMIT)
        except BaseException:
            await started.stop()
            raise
        return started

    async def ask(self, do: str, limit: float = _ANSWER_LIMIT, **arguments: Any) -> dict[str, Any]:
        """One command. LoadError: it was not possible, or there was no answer within `limit` seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        answer = await self._answer(limit)
        if "error" in answer:
            raise LoadError(answer["error"])
        return answer

    async def _answer(self, limit: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(limit):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise LoadError(f"the {self._kind} load did not answer within {limit:g} s") from None
        if not line:
            raise LoadError(f"the {self._kind} load ended: {self._log.read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def stop(self) -> None:
        """Closes its stdin, which ends it; kills it when it is busy."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_LIMIT):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@dataclass
class Rig:
    """``async with Rig() as rig``: a fresh stack, and load processes for each side."""

    load_processes: int = 1
    """That the calls of the fabric are spread over. The bare loop is one process by definition."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Settings of the stack's processes besides the bench's own."""

    async def __aenter__(self) -> Self:
        self._exits = AsyncExitStack()
        async with self._exits as exits:
            self._stack = await exits.enter_async_context(Stack(StackConfig(env={**_SETTINGS, **self.env})))
            assert self._stack.emulator is not None
            target = {
                "gateway": self._stack.gateways[0].ready["address"],
                "emulator": self._stack.emulator.ready["address"],
                "ca_file": self._stack.emulator.ready["ca_file"],
                "model": MODEL,
            }
            self._loads: dict[Side, list[LoadProcess]] = {"fabric": [], "bare": [], "floor": []}

            async def start(kind: Side, number: int) -> None:
                log = self._stack.state_dir / f"load-{kind}-{number}.log"
                load = await LoadProcess.start(kind, target, log)
                exits.push_async_callback(load.stop)
                self._loads[kind].append(load)

            async with together() as group:
                for number in range(self.load_processes):
                    group.create_task(start("fabric", number))
                group.create_task(start("bare", 0))
                group.create_task(start("floor", 0))
            self._exits = exits.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exits.__aexit__(kind, error, trace)

    def _pids(self, side: Side) -> dict[str, list[int]]:
        """The processes whose use is told."""
        stack = self._stack
        loads = [load.pid for load in self._loads[side]]
        if side == "floor":
            return {side: loads}
        assert stack.emulator is not None
        emulator = {"emulator": [stack.emulator.ready["pid"]]}
        if side == "bare":
            return {side: loads, **emulator}
        return {
            "gateway": [child.ready["pid"] for child in stack.gateways],
            "worker": [child.ready["pid"] for child in stack.workers],
            "nats_server": [stack.nats.ready["pid"]],
            "load": loads,
            **emulator,
        }

    def _cpu(self, side: Side) -> dict[str, float]:
        return {name: sum(map(cpu_seconds, pids)) for name, pids in self._pids(side).items()}

    def _memory(self, side: Side) -> dict[str, int]:
        return {name: sum(map(resident, pids)) for name, pids in self._pids(side).items()}

    async def measure(self, side: Side, run: Run) -> Measured:
        """Opens the calls, lets them talk, closes them. LoadError: they could not be opened."""
        before = self._memory(side)
        await self._open(side, run, at_once=10)
        start = time.monotonic() + _LEAD
        begin = start + run.warm_up
        end = begin + run.seconds
        clock = {name: round(at * 1e9) for name, at in (("start", start), ("measure_from", begin), ("until", end))}
        async with together() as group:
            limit = run.warm_up + run.seconds + _ANSWER_LIMIT
            talks = [group.create_task(load.ask("talk", limit, **clock)) for load in self._loads[side]]
            await asyncio.sleep(begin - time.monotonic())
            cpu, machine, began = self._cpu(side), machine_cpu_seconds(), time.monotonic()
            await asyncio.sleep(end - time.monotonic())
            used = {name: seconds - cpu[name] for name, seconds in self._cpu(side).items()}
            lasted = time.monotonic() - began
            elsewhere = max(0.0, machine_cpu_seconds() - machine - sum(used.values())) / lasted
            memory = {name: size - before[name] for name, size in self._memory(side).items()}
        await self._close(side)
        account = sum((Account.from_json(talk.result()) for talk in talks), Account.empty())
        return Measured(account, used, lasted * run.sessions, memory, elsewhere)

    async def open_burst(self, side: Side, sessions: int) -> tuple[float, ...]:
        """Opens all calls at once and closes them; seconds that each took. LoadError: one could not be opened."""
        opened = await self._open(side, Run(sessions, 20, 0), at_once=sessions)
        await self._close(side)
        return opened

    async def _open(self, side: Side, run: Run, *, at_once: int) -> tuple[float, ...]:
        loads = self._loads[side]
        orders = []
        for number, load in enumerate(loads):
            first = run.sessions * number // len(loads)
            orders.append(
                load.ask(
                    "open",
                    calls=run.sessions * (number + 1) // len(loads) - first,
                    first=first,
                    at_once=at_once,
                    frame_ms=run.frame_ms,
                    tamper=run.tamper if number == 0 else None,
                )
            )
        answers = await asyncio.gather(*orders, return_exceptions=True)
        failed = [answer for answer in answers if isinstance(answer, BaseException)]
        if failed:
            await self._close(side)
            raise failed[0]
        return tuple(seconds for answer in answers if isinstance(answer, dict) for seconds in answer["seconds"])

    async def _close(self, side: Side) -> None:
        """Ends the calls, and returns when nobody holds anything of them any more."""
        await asyncio.gather(*(load.ask("close") for load in self._loads[side]))
        await eventually(self._quiet, _QUIET_LIMIT)

    async def _quiet(self) -> bool:
        assert self._stack.emulator is not None
        worker = await get_json(self._stack.workers[0].ready["ops"] + "/debug/vars")
        gateway = await get_json(self._stack.gateways[0].ready["ops"] + "/debug/vars")
        emulator = await get_json(self._stack.emulator.ready["control"] + "/stats")
        return not (worker["sessions"] or worker["closing"] or gateway["streams"] or emulator["connections"])
