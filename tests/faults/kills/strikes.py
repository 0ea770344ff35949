"""What happens to a payment that is committed and has not returned its result yet."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from parley import events
from parley.cli._child import Child
from parley.cli.stack import Stack
from tests.faults.call import Call
from tests.faults.kills.books import Books
from tests.faults.scene import kill, worker_of

WORKERS, TOOLS = 2, 2
_BOTH = 0.25
"""Of the tools services that are killed: the session's worker is killed as well."""
_CUT = 0.1
"""Of the payments that nothing is killed at: the link is cut."""
_WITHIN = 0.9
"""Share of the calls within which all the kills are: the last calls may come to no commit at which one is possible."""
_AHEAD = 0.05
"""Share of the calls that may be ahead of the kills."""
_HELD_UNTIL_TAKEN_OVER = 0.5
_LONGEST = 8.0
"""Seconds that a payment is held at most, well below the tool's own limit."""


@dataclass
class Lane:
    """Kills of one kind of process: one at a time, spread over the run."""

    wanted: int
    struck: int = 0
    busy: bool = False
    """Whoever takes the place of the last one is not ready yet."""

    def due(self, share: float) -> bool:
        """Another one may be killed, when this share of all calls has been asked for."""
        return not self.busy and self.struck < self.wanted and self.struck <= share / _WITHIN * self.wanted

    def holds_up(self, share: float) -> bool:
        """There were too few yet for this share of all calls, and none is possible now."""
        return self.busy and self.struck < (min(1.0, share / _WITHIN) - _AHEAD) * self.wanted


class Strikes:
    """Everything that may happen at a commit."""

    def __init__(
        self,
        stack: Stack,
        calls: Mapping[str, Call],
        books: Books,
        chance: random.Random,
        *,
        kills: int,
        share: Callable[[], float],
    ) -> None:
        """`calls`: those that are open, by session; `share`: of the payments, how much has been asked for."""
        self._stack = stack
        self._calls = calls
        self._books = books
        self._chance = chance
        self._share = share
        self.tools, self.workers = Lane(kills), Lane(kills)
        self._free = asyncio.Condition()
        self._starting: set[asyncio.Task[None]] = set()

    async def in_step(self) -> None:
        """Wait until there were kills enough for the calls so far, or all would be made before the last kill."""
        async with self._free:
            await self._free.wait_for(
                lambda: not any(lane.holds_up(self._share()) for lane in (self.tools, self.workers))
            )

    @asynccontextmanager
    async def listening(self, socket: Path) -> AsyncIterator[None]:
        """Be told of commits; returns when everything that was killed has a successor."""
        server = await asyncio.start_unix_server(self._told, socket)
        async with server:
            yield
        await asyncio.gather(*self._starting)

    async def _told(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            payment = json.loads(await reader.readline())
            await self._committed(payment["session"], payment["pid"])
            writer.write(b"\n")
            await writer.drain()
        except ConnectionError:
            pass  # it was killed
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _committed(self, session: str, pid: int) -> None:
        """Returns when the result may be returned, if there is still somebody to do it."""
        call = self._calls.get(session)
        if call is None:
            return
        since = len(call.got)
        share = self._share()
        if self.tools.due(share):
            tools = next(one for one in self._stack.tools if one.pid == pid)
            victims = [self._claim(self.tools, "tools", tools)]
            if self.workers.due(share) and self._chance.random() < _BOTH:
                victims += await self._worker_of(call)
            await kill(*victims)
            self._books.strikes["both killed at once"] += len(victims) == 2
        elif self.workers.due(share):
            await kill(*await self._worker_of(call))
            await self._hold(call, since)
        elif self._chance.random() < _CUT:
            self._books.strikes["link cut"] += 1
            await call.fault("reset")
            await self._hold(call, since)

    def _claim(self, lane: Lane, kind: str, child: Child) -> Child:
        """This one is killed, and somebody starts in its place."""
        lane.busy = True
        lane.struck += 1
        self._books.strikes[f"{kind} killed"] += 1
        task = asyncio.create_task(self._succeed(lane, kind, child))
        self._starting.add(task)
        return child

    async def _succeed(self, lane: Lane, kind: str, child: Child) -> None:
        await child.process.wait()
        await (self._stack.start_tools() if kind == "tools" else self._stack.start_worker())
        await self._is_free(lane)

    async def _is_free(self, lane: Lane) -> None:
        lane.busy = False
        async with self._free:
            self._free.notify_all()

    async def _worker_of(self, call: Call) -> list[Child]:
        """The worker that has the session, to be killed; nobody while it is between two."""
        self.workers.busy = True  # while it is looked for
        worker = await worker_of(call)
        if worker is None or not worker.running:
            await self._is_free(self.workers)
            return []
        return [self._claim(self.workers, "worker", worker)]

    async def _hold(self, call: Call, since: int) -> None:
        """Let the result come before somebody else has the session, or after."""
        if self._chance.random() < _HELD_UNTIL_TAKEN_OVER:
            with suppress(AssertionError):
                await call.until(lambda event: isinstance(event, events.LinkRecovered), since, _LONGEST)
