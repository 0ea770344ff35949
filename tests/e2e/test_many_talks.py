"""`parley up` with two workers and two gateways, and 20 talks at once: what was sent is what the model heard."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.counts import get_json
from tests.support.eventually import eventually
from tests.support.talks import speech, start_talk, talk_many

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(200)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up() -> AsyncIterator[dict[str, Any]]:
    """`parley up --json`, as a user starts it; stopped by SIGTERM."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parley.cli", "up", "--json", "--workers", "2", "--gateways", "2"),
        *("--env", "PARLEY_WORKER_RESUME_WINDOW=1s", "--env", "PARLEY_WORKER_RECORD_RETENTION=0"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            line = await process.stdout.readline()
        yield json.loads(line)
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            status = await process.wait()
    assert status == 0


async def test_twenty_talks_at_once_through_both_gateways(up: dict[str, Any]) -> None:
    gateways = [gateway["address"] for gateway in up["gateways"]]
    assert len(gateways) == 2
    talks = await talk_many(gateways, 20, "--wav", speech("weather_paris"))
    assert [talk.status for talk in talks] == [0] * 20, [talk.stderr for talk in talks if talk.status]
    assert len({talk.document["session_id"] for talk in talks}) == 20
    for talk in talks:
        sent = talk.document["sent"]
        record = await get_json(f"{up['emulator']['control']}/conversations/{talk.document['session_id']}")
        # One hash over all audio in order: equal only when nothing is missing, doubled or out of order.
        assert record["audio"]["sha256"] == sent["audio_sha256"]
        assert record["audio"]["bytes"] == sent["audio_bytes"]
        assert record["heard"] == ["what is the weather in paris"]
        assert talk.document["sequence"]["whole"]
    taken = [(await get_json(worker["ops"] + "/debug/vars"))["sessions_opened"] for worker in up["workers"]]
    assert sum(taken) == 20
    assert all(taken), taken


async def test_talks_killed_in_the_middle_leave_nothing(up: dict[str, Any]) -> None:
    gateways = [gateway["address"] for gateway in up["gateways"]]
    control = up["emulator"]["control"]
    before = (await get_json(f"{control}/stats"))["conversations"]
    victims = [await start_talk(gateways[n % 2], "--wav", speech("tell_me_about_your_service")) for n in range(5)]

    async def in_the_middle() -> bool:
        conversations = await get_json(f"{control}/conversations")
        recent = [await get_json(f"{control}/conversations/{item['id']}") for item in conversations if item["open"]]
        return len(recent) == 5 and all(record["audio"]["bytes"] > 32_000 for record in recent)

    await eventually(in_the_middle, 40)
    for victim in victims:
        victim.kill()
    await asyncio.gather(*(victim.communicate() for victim in victims))

    async def nothing_left() -> bool:
        held: dict[str, Any] = {}
        for process in [*up["gateways"], *up["workers"]]:
            numbers = await get_json(process["ops"] + "/debug/vars")
            held |= {f"{process['id']} {key}": numbers.get(key, 0) for key in ("sessions", "streams", "to_forget")}
        held["links"] = (await get_json(f"{control}/stats"))["connections"]
        info = await get_json(up["nats"]["monitor"] + "/jsz?streams=true")
        for account in info["account_details"]:
            for stream in account["stream_detail"]:
                # Tools are for every session, and what happened to one is kept for longer than that.
                if stream["name"] not in ("KV_PARLEY_CATALOG", "PARLEY_TIMELINE"):
                    held[stream["name"]] = stream["state"]["messages"]
        assert not any(held.values()), held
        return True

    await eventually(nothing_left)
    assert (await get_json(f"{control}/stats"))["conversations"] == before + 5
