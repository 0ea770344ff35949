"""What a connection costs the emulator, and what the same connection costs whoever holds its other end.

``make bench-emulator``, or ``python -m bench.emulator [--connections 200] [--active 0.25] [--seconds 20]
[--processes 1] [--runs 1]``.

Conversations in full duplex, 40 ms frames in real time. Of all connections the given part speaks at any time (a spoken
question, then silence while the answer comes); the others hold the line. No two utterances are the same sample for
sample, so that the recogniser has to listen to each. Five other ends, one after the other, each against an emulator of
its own:

- ``worker``: Parley's session worker, with callers on the whole fabric before it. This is the baseline that counts;
- ``worker, recording``: the same with callers who all play one recording, as load generators do: what was heard before
  is understood without the recogniser;
- ``worker, echo``: the same in the echo scenario, where nothing is recognised and every frame comes back;
- ``sdk``: a bare google-genai loop;
- ``link``: the worker's codec on the SDK's socket and nothing else: the cheapest client there is.

Ratios are emulator / other end in CPU seconds of the processes, the emulator's recogniser counted with it. Exit status
1 when the emulator costs more than the worker.
"""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvloop
from google.genai import types

import parley
from bench.processes import cpu_seconds, resident
from parley.cli.stack import Stack, StackConfig
from services.session_worker.link import Dialer, LinkClosedError
from services.session_worker.settings import WorkerSettings
from tests.support.emulator import start_emulator
from tests.support.speech import question

MODEL = "gemini-3.8-live"
FRAME_SECONDS = 0.04
FRAME_BYTES = int(16000 * FRAME_SECONDS) * 2
SILENCE_SECONDS = 5.0
OPENING_AT_ONCE = 10
_PERSONAL = 12
"""The frame of the question that is like no other."""


@dataclass
class Caller:
    """One conversation; counts the audio it sends, and how late."""

    send: Callable[[bytes], Awaitable[None]]
    sent: int = 0
    late: list[float] = field(default_factory=list)

    async def speak(self, speech: list[bytes], start: float, until: float, voice: Iterator[int] | None) -> None:
        """Frames in real time from ``start`` on, over and over; ``voice``: numbers that nobody else has."""
        due, at = start, 0
        while due < until:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self.late.append(time.monotonic() - due)
            frame = speech[at]
            if voice is not None and at == _PERSONAL:
                frame = personal(frame, next(voice))
            await self.send(frame)
            self.sent += 1
            at = (at + 1) % len(speech)
            due += FRAME_SECONDS


@dataclass
class Ends:
    """Both ends of the connections under test."""

    emulator: int
    """Process id."""
    other: int
    connect: Callable[[AsyncExitStack], Awaitable[Caller]]


def personal(frame: bytes, number: int) -> bytes:
    """The same sound with ``number`` in the lowest bits of its first samples."""
    changed = bytearray(frame)
    for bit in range(32):
        changed[2 * bit] = changed[2 * bit] & 0xFE | number >> bit & 1
    return bytes(changed)


@asynccontextmanager
async def bare(codec: str, processes: int) -> AsyncIterator[Ends]:
    """Clients in this process."""
    async with start_emulator(processes=processes) as emulator:
        settings = WorkerSettings(
            gemini_api_key="bench", gemini_base_url=emulator.address, gemini_ca_file=emulator.ca_file, link_codec=codec
        )
        dialer = Dialer(settings)
        config = types.LiveConnectConfig(
            session_resumption=types.SessionResumptionConfig(),
            output_audio_transcription=types.AudioTranscriptionConfig(),
        )

        async def connect(stack: AsyncExitStack) -> Caller:
            link = await dialer.dial(MODEL, config, 16000)

            async def read() -> None:
                try:
                    while True:
                        await link.receive()
                except LinkClosedError:
                    return

            reader = asyncio.create_task(read())
            stack.push_async_callback(_finished, reader)
            stack.push_async_callback(link.close)
            return Caller(link.send_audio)

        try:
            yield Ends(emulator.pid, os.getpid(), connect)
        finally:
            await dialer.close()


@asynccontextmanager
async def fabric(connections: int, processes: int, scenario: str = "support") -> AsyncIterator[Ends]:
    """Callers in this process, gateway and worker between them and the emulator."""
    env = {"PARLEY_WORKER_CAPACITY": str(2 * connections), "PARLEY_EMULATOR_PROCESSES": str(processes)}
    env["PARLEY_EMULATOR_SCENARIO"] = scenario
    async with Stack(StackConfig(env=env)) as stack:
        assert stack.emulator is not None

        async def connect(exits: AsyncExitStack) -> Caller:
            session = await exits.enter_async_context(
                parley.connect(stack.gateways[0].ready["address"], profile="support")
            )

            async def read() -> None:
                async for _ in session:
                    pass

            exits.push_async_callback(_finished, asyncio.create_task(read()))
            exits.push_async_callback(session.end)
            return Caller(session.send_audio)

        yield Ends(stack.emulator.ready["pid"], stack.workers[0].ready["pid"], connect)


async def _finished(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def measure(ends: Ends, wanted: argparse.Namespace, *, alike: bool) -> dict[str, Any]:
    """One run; ``alike``: whether all play one recording."""
    voice = None if alike else itertools.count()
    pcm = question("weather_london") + bytes(int(SILENCE_SECONDS * 16000) * 2)
    speech = [pcm[at : at + FRAME_BYTES] for at in range(0, len(pcm) - FRAME_BYTES + 1, FRAME_BYTES)]
    before = resident(ends.emulator), resident(ends.other)
    async with AsyncExitStack() as stack:
        callers: list[Caller] = []
        opening = time.monotonic(), cpu_seconds(ends.emulator)
        while len(callers) < wanted.connections:
            count = min(OPENING_AT_ONCE, wanted.connections - len(callers))
            callers += await asyncio.gather(*(ends.connect(stack) for _ in range(count)))
        opened = time.monotonic() - opening[0], cpu_seconds(ends.emulator) - opening[1]
        after = resident(ends.emulator), resident(ends.other)
        active = callers[: round(len(callers) * wanted.active)]
        cycle = len(speech) * FRAME_SECONDS
        began, wall = (cpu_seconds(ends.emulator), cpu_seconds(ends.other)), time.monotonic()
        # Spread over one cycle, as callers are.
        starts = [wall + cycle * number / len(active) for number in range(len(active))]
        until = wall + cycle + wanted.seconds
        await asyncio.gather(
            *(caller.speak(speech, at, until, voice) for caller, at in zip(active, starts, strict=True))
        )
        used = cpu_seconds(ends.emulator) - began[0], cpu_seconds(ends.other) - began[1]
    late = sorted(delay for caller in active for delay in caller.late)
    spoken = sum(caller.sent for caller in active) * FRAME_SECONDS
    return {
        "connections": len(callers),
        "active": len(active),
        "opened_per_second": round(len(callers) / opened[0]),
        "emulator_ms_per_opening": round(opened[1] / len(callers) * 1000, 2),
        "audio_seconds": round(spoken, 1),
        "send_late_p99_ms": round(late[int(len(late) * 0.99)] * 1000, 1),
        "emulator_ms_per_audio_second": round(used[0] / spoken * 1000, 2),
        "other_ms_per_audio_second": round(used[1] / spoken * 1000, 2),
        "emulator_kb_per_connection": round((after[0] - before[0]) / len(callers) / 1024),
        "other_kb_per_connection": round((after[1] - before[1]) / len(callers) / 1024),
        "ratio": round(used[0] / used[1], 2),
    }


async def main() -> int:
    """Runs all five, prints a line of JSON for each run, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--active", type=float, default=0.25, help="part of the connections that speaks at any time")
    parser.add_argument("--seconds", type=float, default=20.0, help="after all have begun")
    parser.add_argument("--processes", type=int, default=1, help="of the emulator, each with a recogniser")
    parser.add_argument("--runs", type=int, default=1, help="of each; the median ratio counts")
    wanted = parser.parse_args()
    ratios: dict[str, list[float]] = {"worker": [], "worker, recording": [], "worker, echo": [], "sdk": [], "link": []}
    for _ in range(wanted.runs):
        for name, found in ratios.items():
            if name.startswith("worker"):
                scenario = "echo" if name.endswith("echo") else "support"
                opened = fabric(wanted.connections, wanted.processes, scenario)
            else:
                opened = bare("sdk" if name == "sdk" else "fast", wanted.processes)
            async with opened as ends:
                figures = await measure(ends, wanted, alike=name.endswith("recording"))
            print(json.dumps({"other": name, **figures}), flush=True)
            found.append(figures["ratio"])
    medians = {name: statistics.median(found) for name, found in ratios.items()}
    print("emulator's CPU / the other end's: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in medians.items()))
    return 0 if medians["worker"] <= 1 else 1


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
