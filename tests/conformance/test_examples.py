"""The callers of examples/ and the real stack: speech, a barge-in, and a gateway that goes away in the middle."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import signal
import site
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from parley.cli._child import Child
from parley.cli.stack import Stack, StackConfig
from parley.conformance.client_checks import CLIENT_CHECKS
from parley.conformance.client_run import run_client_check
from tests.support.node import INSTALLED, node_caller, with_node
from tests.support.ports import reserved

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "bare_stub.py"
CALLERS = {"python": [sys.executable, str(SCRIPT)]} | ({"node": node_caller()} if INSTALLED else {})
SPEECH = ROOT / "parley" / "cli" / "demo_data" / "weather_paris.wav"

Event = dict[str, Any]


class Talk:
    """A caller that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.events: list[Event] = []
        self.heard = b""
        """What was played."""

    async def until(self, wanted: Callable[[Event], bool]) -> Event:
        """The next such event."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.events.append(json.loads(line))
            if wanted(self.events[-1]):
                return self.events[-1]
        raise AssertionError(f"it ended before; {self.events[-5:]} {await self.complaint()}")

    async def complaint(self) -> str:
        assert self._process.stderr is not None
        return (await self._process.stderr.read()).decode()

    async def finish(self) -> list[Event]:
        """Everything that it printed; it must end well."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.events.append(json.loads(line))
        assert await self._process.wait() == 0, await self.complaint()
        return self.events

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event["event"] == kind]

    @property
    def said(self) -> str:
        """What the model said, by its own account."""
        return "".join(event["text"] for event in self.of("output_transcript"))


@asynccontextmanager
async def talk(words: Sequence[str], target: str, *options: str | Path) -> AsyncIterator[Talk]:
    process = await asyncio.create_subprocess_exec(
        *words,
        *("--target", target, *map(str, options)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(120):
            yield Talk(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def barges_in(words: Sequence[str], target: str) -> Talk:
    options = ("--text", "tell me about your service", "--text", "where is my order 4711", "--barge-in-after", "0.5")
    async with talk(words, target, *options) as caller:
        await caller.finish()
    return caller


async def is_cut_off(words: Sequence[str], target: str, out: Path, speaking: asyncio.Barrier) -> Talk:
    async with talk(words, target, "--wav", SPEECH, "--out", out) as caller:
        await caller.until(lambda event: event["event"] == "played")
        await speaking.wait()
        await caller.finish()
    caller.heard = await asyncio.to_thread(out.read_bytes)
    return caller


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Talk]:
    """Every conversation of these tests at once: they take as long as they sound."""
    folder = tmp_path_factory.mktemp("heard")

    async def all_of_them() -> dict[str, Talk]:
        # Kept from before they listen: whoever is to come back must find its port, whatever was opened meanwhile.
        with reserved() as drains_at, reserved() as dies_at:
            return await in_a_stack(drains_at, dies_at)

    async def in_a_stack(*addresses: str) -> dict[str, Talk]:
        async with Stack(StackConfig(profiles_dir=ROOT / "tests" / "data" / "profiles")) as stack:
            [stays] = stack.gateways
            starting = (stack.start_gateway(PARLEY_GATEWAY_LISTEN=address) for address in addresses)
            drains, dies = await asyncio.gather(*starting)
            listen = {gateway: str(gateway.ready["address"]) for gateway in stack.gateways}
            speaking = {gateway: asyncio.Barrier(len(CALLERS) + 1) for gateway in (drains, dies)}

            async def replace(gateway: Child) -> None:
                await speaking[gateway].wait()
                if gateway is dies:
                    gateway.stopping = True
                    gateway.signal(signal.SIGKILL)
                await gateway.stop(30)
                await stack.start_gateway(PARLEY_GATEWAY_LISTEN=listen[gateway])

            running: dict[str, asyncio.Task[Talk]] = {}
            # One that fails ends the others: they would wait for it.
            async with asyncio.TaskGroup() as group:
                for name, words in CALLERS.items():
                    running[f"{name} barges in"] = group.create_task(barges_in(words, listen[stays]))
                    for gateway, fate in ((drains, "drains"), (dies, "dies")):
                        out = folder / f"{name} {fate}.pcm"
                        talking = is_cut_off(words, listen[gateway], out, speaking[gateway])
                        running[f"{name} {fate}"] = group.create_task(talking)
                group.create_task(replace(drains))
                group.create_task(replace(dies))
        return {name: task.result() for name, task in running.items()}

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("name", with_node(["python", "node"]))
def test_a_barge_in_empties_the_playout_queue_and_is_answered(talks: dict[str, Talk], name: str) -> None:
    caller = talks[f"{name} barges in"]
    (interrupted,) = caller.of("interrupted")
    after = caller.events[caller.events.index(interrupted) :]
    assert min(event["seq"] for event in after if event["event"] == "played") > interrupted["seq"]
    assert "four seven one one" in caller.said
    assert caller.of("ended")[0]["reason"] == "END_REASON_CALLER"


@pytest.mark.parametrize("fate", ["drains", "dies"])
@pytest.mark.parametrize("name", with_node(["python", "node"]))
def test_a_gateway_that_goes_away_costs_a_caller_no_word(talks: dict[str, Talk], name: str, fate: str) -> None:
    caller = talks[f"{name} {fate}"]
    assert [event["text"] for event in caller.of("input_transcript")] == ["what is the weather in paris"]
    assert re.fullmatch(r"it is \w+ in paris and [\w ]+ degrees ", caller.said)
    assert len(caller.heard) > 2 * 24_000 * 3  # three seconds
    assert bool(caller.of("gateway_draining")) is (fate == "drains")
    first, *later = caller.of("opened")
    assert later
    assert all(event["existing"] and event["session"] == first["session"] for event in later)
    played = [event["seq"] for event in caller.of("played")]
    assert played == sorted(set(played))
    assert not caller.of("gap")


async def test_stubs_that_anybody_generates_are_enough(tmp_path: Path) -> None:
    """By the command of docs/converse.md, and without anything else of Parley on the path."""
    (command,) = re.findall(r"^(python -m grpc_tools\.protoc .*)$", (ROOT / "docs" / "converse.md").read_text(), re.M)
    words = shlex.split(command.replace("python", sys.executable, 1).replace("STUBS", str(tmp_path)))
    protos = [str(path.relative_to(ROOT)) for path in (ROOT / "proto" / "parley" / "v1").glob("*.proto")]
    words = [word for each in words for word in (protos if "*" in each else [each])]
    await asyncio.to_thread(subprocess.run, words, cwd=ROOT, check=True)
    # -S: no .pth file, so that an editable install of Parley is not found; the libraries are.
    path = ":".join([str(tmp_path), *site.getsitepackages()])
    client = shlex.join(["env", f"PYTHONPATH={path}", sys.executable, "-S", "-P", str(SCRIPT)])
    outcome = await run_client_check(CLIENT_CHECKS["resume"], client, 25, 60)
    assert outcome.passed, (outcome.line(), outcome.stderr)
    look = [*shlex.split(client)[:-1], "-c", "import parley; print(*parley.__path__)"]
    found = await asyncio.to_thread(subprocess.check_output, look, text=True)
    assert found.strip() == str(tmp_path / "parley")
