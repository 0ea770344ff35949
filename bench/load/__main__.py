"""A load process: ``python -m bench.load fabric|bare|floor``. One JSON command a line on stdin, one answer a line.

- ``open``: open `calls` calls, numbered from `first`, `at_once` at a time. Answer: how long each took.
- ``talk``: all of them talk by the clock (`Schedule`). Answer: the account of all together.
- ``close``: end them all.

An answer with `error` says what was not possible; no call is open then. It ends when stdin does.
"""

import asyncio
import json
import sys
from typing import Any

from bench.load.call import Call, CallOverError, Dialer
from bench.load.floor import FloorDialer
from bench.load.talk import Schedule, Talk
from bench.load.tally import Account
from bench.load.tamper import Tamper
from bench.tasks import together
from services.fabric import process

OPEN_LIMIT = 60.0


def dialer(kind: str, target: dict[str, str]) -> Dialer:
    """What opens calls of this kind. Imports late: a load holds only what it uses."""
    match kind:
        case "fabric":
            from bench.load.fabric import FabricDialer

            return FabricDialer(target["gateway"], target["model"])
        case "bare":
            from bench.load.bare import BareDialer

            return BareDialer(target["emulator"], target["ca_file"], target["model"])
        case "floor":
            return FloorDialer()
    raise SystemExit(f"there is no load {kind!r}; there are fabric, bare and floor")


class Load:
    """The calls of this process."""

    def __init__(self, dial: Dialer) -> None:
        self._dial = dial
        self._calls: list[tuple[Talk, Call]] = []
        self._frame_ms = 0

    async def open(self, *, calls: int, first: int, at_once: int, frame_ms: int, tamper: str | None) -> dict[str, Any]:
        """Command `open`. `tamper`: with what the first call hears."""
        self._frame_ms = frame_ms
        numbers = iter(range(first, first + calls))
        took: list[float] = []

        async def some() -> None:
            for number in numbers:
                talk = Talk(number, frame_ms, Tamper(tamper) if tamper and number == first else None)  # type: ignore[arg-type]
                call, seconds = await self._dial(talk.hear)
                self._calls.append((talk, call))
                took.append(seconds)

        try:
            async with asyncio.timeout(OPEN_LIMIT):
                await self._dial.prepare(calls)
                async with together() as group:
                    for _ in range(min(at_once, calls)):
                        group.create_task(some())
        except (CallOverError, TimeoutError) as error:
            await self.close()
            return {"error": f"{len(took)} of {calls} calls opened: {error!r}"}
        return {"seconds": took}

    async def talk(self, *, start: int, measure_from: int, until: int) -> dict[str, Any]:
        """Command `talk`. Calls begin one after the other within a frame, spread evenly, as callers do."""
        step = self._frame_ms * 1_000_000 // max(1, len(self._calls))
        accounts = await asyncio.gather(
            *(
                talk.run(call, Schedule(start + index * step, measure_from, until))
                for index, (talk, call) in enumerate(self._calls)
            )
        )
        return sum(accounts, Account.empty()).to_json()

    async def close(self) -> dict[str, Any]:
        """Command `close`."""
        calls, self._calls = self._calls, []
        await asyncio.gather(*(call.close() for _, call in calls))
        return {}


async def main() -> None:
    """Serves commands until stdin ends."""
    kind, target = sys.argv[1], json.loads(sys.argv[2])
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    opener = dialer(kind, target)
    load = Load(opener)
    # As the services do it, collector frozen and all: the same for both sides.
    process.announce_ready("load", kind)
    while line := await commands.readline():
        command = json.loads(line)
        answer = await getattr(load, command.pop("do"))(**command)
        print(json.dumps(answer), flush=True)
    await load.close()
    await opener.close()


if __name__ == "__main__":
    process.run(main)
