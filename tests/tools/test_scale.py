"""Several instances with different tools, two real processes in one queue group.

They are one service to whoever looks. Each call goes where its tool is, and none to an instance that leaves or is
stuck.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import nats as nats_py
import pytest
from nats.aio.client import Client
from nats.errors import NoRespondersError

from services.fabric import subjects
from services.fabric.catalog import Catalog
from tests.support.eventually import eventually
from tests.support.nats import NatsServer, nats_server
from tests.tools.conftest import ToolsProcess, tools_process
from tests.tools.sources import rough_tools
from tests.tools.test_service import SUCCEEDED, call, output

MODULES = {
    "one": f"services.tools.examples.weather,tests.tools.functions,{rough_tools.__name__}",
    "two": f"services.tools.examples.orders,tests.tools.functions,{rough_tools.__name__}",
}


@contextlib.contextmanager
def instances(url: str, folder: Path) -> Iterator[dict[str, ToolsProcess]]:
    with contextlib.ExitStack() as stack:
        started = {
            name: stack.enter_context(tools_process(url, folder, ready=False, id=name, modules=modules))
            for name, modules in MODULES.items()
        }
        for process in started.values():
            process.wait_ready()
        yield started


@pytest.fixture
async def own() -> AsyncIterator[NatsServer]:
    async with nats_server() as server:
        yield server


async def answers(client: Client, subject: str, count: int) -> dict[str, dict[str, Any]]:
    """What the instances answer, by their own names."""
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    await client.publish(subject, b"", reply=inbox)
    found = [json.loads((await subscription.next_msg(timeout=10)).data) for _ in range(count)]
    await subscription.unsubscribe()
    return {answer["metadata"]["instance"]: answer for answer in found}


def calls(process: ToolsProcess) -> int:
    return int(process.counts()["calls"])


async def test_instances_with_different_tools_are_one_service(own: NatsServer, tmp_path: Path) -> None:
    with instances(own.url, tmp_path) as started:
        client = await nats_py.connect(own.url)

        # Discovery as the nats tool reads it: the schema of NATS's service API, version 1.
        info = await answers(client, "$SRV.INFO.parley-tools", 2)
        for instance, kind in (("PING", "ping"), ("INFO", "info"), ("STATS", "stats")):
            answered = await answers(client, f"$SRV.{instance}", 2)
            for answer in answered.values():
                assert answer["type"] == f"io.nats.micro.v1.{kind}_response"
                assert answer["name"] == "parley-tools"
                assert re.fullmatch(r"\d+\.\d+\.\d+\S*", answer["version"])
                assert re.fullmatch(r"[A-Za-z0-9_-]+", answer["id"])
                again = json.loads((await client.request(f"$SRV.{instance}.parley-tools.{answer['id']}", b"")).data)
                assert again["id"] == answer["id"]
        tools = {
            name: {endpoint["metadata"]["tool"]: endpoint for endpoint in answer["endpoints"]}
            for name, answer in info.items()
        }
        assert "get_weather" in tools["one"].keys() - tools["two"].keys()
        assert "lookup_order" in tools["two"].keys() - tools["one"].keys()
        assert "whoami" in tools["one"].keys() & tools["two"].keys()
        assert {endpoint["queue_group"] for each in tools.values() for endpoint in each.values()} == {"parley-tools"}
        for each in tools.values():
            for endpoint in each.values():
                assert re.fullmatch(r"[A-Za-z0-9_-]+", endpoint["name"])
                assert all(isinstance(value, str) for value in endpoint["metadata"].values())

        # Each call goes where its tool is; those of tools that both have to either.
        before = {name: calls(process) for name, process in started.items()}
        for _ in range(10):
            output(await call(client, "get_weather", {"city": "paris"}))
            output(await call(client, "lookup_order", {"order_id": "4711"}))
        assert {name: calls(process) - before[name] for name, process in started.items()} == {"one": 10, "two": 10}
        await asyncio.gather(*(call(client, "whoami") for _ in range(100)))
        assert all(calls(process) > before[name] + 10 for name, process in started.items())
        assert {tool.declaration.name for tool in await Catalog(client.jetstream()).all()} >= {
            "get_weather",
            "lookup_order",
            "whoami",
        }

        # The counts are of calls, not of messages, and add up over the instances.
        stats = await answers(client, "$SRV.STATS.parley-tools", 2)
        whoami = [
            endpoint
            for answer in stats.values()
            for endpoint in answer["endpoints"]
            if endpoint["subject"] == subjects.tool_call("whoami")
        ]
        assert sum(endpoint["num_requests"] for endpoint in whoami) == 100
        for endpoint in whoami:
            assert endpoint["num_errors"] == 0
            assert endpoint["processing_time"] >= endpoint["average_processing_time"] > 0
        for answer in stats.values():
            datetime.fromisoformat(answer["started"].replace("Z", "+00:00"))
        await client.close()


async def test_instance_that_leaves_takes_no_more_calls_and_loses_none(own: NatsServer, tmp_path: Path) -> None:
    with instances(own.url, tmp_path) as started:
        client = await nats_py.connect(own.url)
        held = [asyncio.create_task(call(client, "count_to", {"seconds": 1.0})) for _ in range(20)]
        await eventually(lambda: started["one"].counts()["running"] and started["two"].counts()["running"])
        started["one"].terminate()
        outcomes = []
        taken = 0
        while started["one"].process.poll() is None:
            # Whoever calls meanwhile notices nothing, however close to the end it is.
            outcomes += [reply.outcome for reply in await asyncio.gather(*(call(client, "whoami") for _ in range(10)))]
            with contextlib.suppress(OSError):
                taken = calls(started["one"])
        outcomes += [(await call(client, "whoami")).outcome for _ in range(10)]
        assert set(outcomes) == {SUCCEEDED}
        assert {reply.outcome for reply in await asyncio.gather(*held)} == {SUCCEEDED}
        assert taken <= 20 + len(outcomes)
        assert started["one"].wait() == 0
        assert list(await answers(client, "$SRV.PING.parley-tools", 1)) == ["two"]
        with pytest.raises(NoRespondersError):  # nobody else has it
            await call(client, "get_weather", {"city": "paris"})
        await client.close()


async def test_instance_with_a_blocked_loop_leaves_its_calls_to_the_others(own: NatsServer, tmp_path: Path) -> None:
    with instances(own.url, tmp_path) as started:
        client = await nats_py.connect(own.url)
        blocked = asyncio.create_task(call(client, "blocks", {"seconds": 5}, wait=60))

        def stuck() -> list[ToolsProcess]:
            return [process for process in started.values() if process.counts()["loops_blocked"]]

        [there] = await eventually(stuck)
        [other] = [process for process in started.values() if process is not there]

        async def withdrawn() -> bool:
            info = await answers(client, "$SRV.INFO.parley-tools", 2)
            serving = {
                name
                for name, answer in info.items()
                if subjects.tool_call("neighbour") in {endpoint["subject"] for endpoint in answer["endpoints"]}
            }
            return serving == {other.id}

        await eventually(withdrawn)
        before = calls(other)
        replies = await asyncio.gather(*(call(client, "neighbour") for _ in range(20)))
        assert {reply.outcome for reply in replies} == {SUCCEEDED}
        assert calls(other) == before + 20
        assert there.counts()["problems"] == other.counts()["problems"] + 1
        assert "is blocked by blocks" in there.log.read_text()
        assert (await blocked).outcome == SUCCEEDED
        await eventually(lambda: there.counts()["loops_blocked"] == 0)
        assert there.counts()["loop_blocks"] == 1
        await client.close()
