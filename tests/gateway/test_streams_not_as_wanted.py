"""A gateway on streams that break a promise takes no calls, says why, and goes on by itself once they are mended."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import nats as nats_py
import pytest

from services.fabric import subjects
from services.fabric.administration import FabricSettings, apply
from tests.gateway.conftest import StartGateway, channel_to, converse, open_request, opened, refusal
from tests.gateway.fake_worker import start_worker
from tests.support.eventually import eventually
from tests.support.nats import NatsServer, nats_server


async def broken(server: NatsServer) -> None:
    """The stream of records takes a second claim of a call over the first."""
    client = await nats_py.connect(server.url)
    stream = {"name": subjects.SESSIONS_STREAM, "subjects": ["parley.session.>"], "max_msgs_per_subject": 1}
    await client.jetstream().add_stream(**stream, allow_rollup_hdrs=True, allow_direct=True, allow_msg_ttl=True)
    await client.close()


async def test_it_serves_once_the_streams_are_mended(
    start_gateway: StartGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    async with nats_server() as server:
        await broken(server)
        worker = await start_worker(server.url)
        gateway = await start_gateway(server.url, ready=False, fabric_wait="100ms")
        said = ""

        def told() -> bool:
            nonlocal said
            captured = capsys.readouterr()
            said += captured.out + captured.err
            return "discard_new_per_subject is false, wanted true" in said and "parley fabric apply" in said

        await eventually(told)
        assert not gateway.ready()
        async with channel_to(gateway) as channel:
            call = converse(channel)
            await call.write(open_request())
            assert (await refusal(call)).reason == "FABRIC_UNAVAILABLE"
        client = await nats_py.connect(server.url)
        assert (await apply(client, FabricSettings(nats_url=server.url))).left == []
        await client.close()
        await eventually(gateway.ready)
        await worker.stop()


async def test_calls_are_taken_where_there_is_no_room_for_timelines(
    start_gateway: StartGateway, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    room = {"store_dir": str(tmp_path), "max_file_store": 700 * 1024 * 1024}  # for records, not for timelines too
    async with nats_server(jetstream=room) as server:
        worker = await start_worker(server.url)
        gateway = await start_gateway(server.url)
        async with channel_to(gateway) as channel:
            call = converse(channel)
            await opened(call)
            call.cancel()
        said = ""

        def told() -> bool:
            nonlocal said
            captured = capsys.readouterr()
            said += captured.out + captured.err
            return "does not make the stream PARLEY_TIMELINE: insufficient storage" in said

        await eventually(told)
        await worker.stop()


async def test_a_worker_ends_with_one_line_and_the_status_of_wrong_settings() -> None:
    async with nats_server() as server:
        await broken(server)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "parley.cli", "worker"),
            env={**os.environ, "PARLEY_WORKER_NATS_URL": server.url},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    assert (process.returncode, out) == (78, b"")
    (line,) = [line for line in err.decode().splitlines() if not line.startswith("{")]
    assert line.startswith("parley: FABRIC_UNAVAILABLE: PARLEY_SESSIONS: discard is old, wanted new: ")
    assert line.endswith("To mend it: `parley fabric apply`")
