"""The gateway as a process of its own: start, refusals at start, SIGTERM."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest

from tests.gateway.conftest import converse, open_request, opened, read, refusal
from tests.gateway.fake_worker import FakeWorker
from tests.support.eventually import eventually
from tests.support.nats import NatsServer

RUN = "import typer; from services.gateway.cli import command; typer.run(command)"
KEEP = ("PATH", "HOME", "VIRTUAL_ENV", "PYTHONPATH", "LANG")


async def start(**settings: str) -> asyncio.subprocess.Process:
    environment = {name: value for name, value in os.environ.items() if name in KEEP}
    environment |= {f"PARLEY_GATEWAY_{name.upper()}": value for name, value in settings.items()}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", RUN, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


async def get(url: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def test_it_serves_says_where_and_drains_on_sigterm(nats: NatsServer, worker: FakeWorker, files: Path) -> None:
    process = await start(
        nats_url=nats.url,
        listen="127.0.0.1:0",
        development="true",
        profiles_dir=str(files / "profiles"),
        shutdown_grace="1s",
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        assert line["ready"] == "gateway"
        assert line["pid"] == process.pid

        async def ready() -> bool:
            return bool((await get(f"{line['ops']}/readyz"))[0] == 200)

        await eventually(ready)
        async with grpc.aio.insecure_channel(line["address"]) as channel:
            call = converse(channel, key="")
            await opened(call, open_request())
            counts = json.loads((await get(f"{line['ops']}/debug/vars"))[1])
            assert (counts["streams"], counts["subscriptions"], counts["workers"]) == (1, 3, 1)
            process.send_signal(signal.SIGTERM)
            assert (await read(call)).HasField("gateway_draining")
            assert (await get(f"{line['ops']}/readyz"))[0] == 503
            assert (await get(f"{line['ops']}/livez"))[0] == 200
            assert (await refusal(call)).reason == "GATEWAY_DRAINING"
        assert await asyncio.wait_for(process.wait(), 10) == 0
        errors = (await process.stderr.read()).decode()
        assert "DEVELOPMENT MODE" in errors
        assert "Traceback" not in errors
        await eventually(lambda: any(envelope.detached for envelope in worker.envelopes))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize(
    ("profile", "keys", "told"),
    [
        ("model: gemini-3.8-live\nvoise: x\n", "", "support.yaml:2: no field `voise`"),
        ("", "keys: 7\n", "keys.yaml:1: "),
    ],
)
async def test_wrong_files_stop_it_at_start(files: Path, profile: str, keys: str, told: str) -> None:
    if profile:
        (files / "profiles" / "support.yaml").write_text(profile)
    if keys:
        (files / "keys.yaml").write_text(keys)
    process = await start(api_keys_file=str(files / "keys.yaml"), profiles_dir=str(files / "profiles"))
    out, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 78
    assert not out
    assert told in errors.decode()
    assert len(errors.decode().strip().splitlines()) == 1
