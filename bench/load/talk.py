"""One call under load: a frame at every tick of real time, whatever comes back or does not."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from bench.load.call import Call, CallOverError
from bench.load.stamps import Stamp, Stamper
from bench.load.tally import Account, Tally
from bench.load.tamper import Tamper

DRAIN_SECONDS: Final = 3.0
"""How long what is still on its way may take after the last frame; later is lost. The fabric itself gives up a missing
message after 2 s."""


@dataclass(frozen=True)
class Schedule:
    """When to talk. Monotonic nanoseconds."""

    start: int
    measure_from: int
    until: int


class Talk:
    """The load of one call: made before the call, so that nothing that comes back is missed."""

    def __init__(self, number: int, frame_ms: int, tamper: Tamper | None = None) -> None:
        self._number = number
        self._frame_ns = frame_ms * 1_000_000
        self._stamper = Stamper(frame_ms)
        self._tally = Tally(number)
        self._tamper = tamper

    def hear(self, pcm: bytes) -> None:
        """A message is back."""
        now = time.monotonic_ns()
        for frame in self._stamper.split(pcm):
            for recorded in self._tamper.pass_on(frame) if self._tamper else (frame,):
                self._tally.received(self._stamper.read(recorded), now)

    async def run(self, call: Call, schedule: Schedule) -> Account:
        """Talks by the schedule, waits for what is outstanding, and gives the account."""
        self._tally.measure_from = schedule.measure_from
        failure = "the frames were not taken in time"
        limit = schedule.until / 1e9 - time.monotonic() + DRAIN_SECONDS
        try:
            async with asyncio.timeout(limit):
                await self._send(call, schedule)
                failure = ""
                await self._drain(call)
        except TimeoutError:
            pass  # what is missing now is counted as lost
        except CallOverError as error:
            failure = str(error)
        failure = call.failure or failure
        failures = (f"call {self._number}: {failure}",) if failure else ()
        return Account(self._tally.counts, self._tally.round_trip, self._tally.since_due, failures)

    async def _send(self, call: Call, schedule: Schedule) -> None:
        """When a frame is sent does not depend on what comes back: a slow service gets no less to do."""
        due, seq = schedule.start, 0
        while due < schedule.until:
            early = due - time.monotonic_ns()
            if early > 0:
                await asyncio.sleep(early / 1e9)
            seq += 1
            self._tally.sent(seq)
            await call.send(self._stamper.frame(Stamp(self._number, seq, due, time.monotonic_ns())))
            due += self._frame_ns

    async def _drain(self, call: Call) -> None:
        """One tick more than needed, for what may come twice."""
        outstanding = True
        while outstanding and not call.failure:
            outstanding = self._tally.outstanding > 0
            await asyncio.sleep(self._frame_ns / 1e9)
            await call.idle()
