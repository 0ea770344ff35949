"""`parley talk` as a process of its own."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPEECH = Path(__file__).parents[2] / "parley" / "cli" / "demo_data"
MORE_SPEECH = Path(__file__).parents[1] / "data" / "speech"


def speech(name: str) -> Path:
    """A recorded question, by name."""
    for folder in (SPEECH, MORE_SPEECH):
        if (path := folder / f"{name}.wav").exists():
            return path
    raise FileNotFoundError(name)


@dataclass
class Talk:
    """A finished `parley talk`."""

    status: int
    document: dict[str, Any]
    """What `--json` printed; empty when it printed nothing."""
    stderr: str


async def start_talk(target: str, *arguments: str | Path) -> asyncio.subprocess.Process:
    """Start a talk; the caller waits for it or kills it."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parley.cli", "talk", "--target", target, "--json", *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def finish(process: asyncio.subprocess.Process, timeout: float = 100) -> Talk:
    """Wait for a talk; it is killed when it takes longer."""
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    lines = out.decode().strip().splitlines()
    return Talk(process.returncode or 0, json.loads(lines[-1]) if lines else {}, err.decode())


async def talk(target: str, *arguments: str | Path) -> Talk:
    """Hold one conversation."""
    return await finish(await start_talk(target, *arguments))


async def talk_many(targets: Sequence[str], count: int, *arguments: str | Path) -> list[Talk]:
    """Hold `count` conversations at once, spread over the targets."""
    processes = [await start_talk(targets[number % len(targets)], *arguments) for number in range(count)]
    return list(await asyncio.gather(*map(finish, processes)))
