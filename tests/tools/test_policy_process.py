"""Limits, permissions and secrets in the real process: over NATS and gRPC, with claims, a log and a catalog."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import nats as nats_py
import pytest
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from nats.aio.client import Client

from parley.v1 import fabric_pb2, live_pb2
from services.fabric import subjects
from services.fabric.catalog import Catalog
from tests.support.eventually import eventually
from tests.support.ledger import Ledger
from tests.support.nats import nats_server
from tests.tools import test_grpc_service as over_grpc
from tests.tools.conftest import ToolsProcess, tools_process
from tests.tools.sources import rough_tools
from tests.tools.test_claims import Owner
from tests.tools.test_service import FAILED, SUCCEEDED, call, output

NOT_BEGUN = fabric_pb2.CALL_STATUS_NOT_BEGUN
SECRET = 'the k"ey-of-the-company'
SOURCES = [
    {
        "name": "rough",
        "kind": "python",
        "module": rough_tools.__name__,
        "secrets": {"API_KEY": {"file": "key"}, "PEM": {"file": "key"}},
        "tools": {"order": {"tenants": ["acme"]}},
    },
    {
        "name": "ledger",
        "kind": "python",
        "module": "tests.support.ledger",
        "tools": {"enter": {"max_concurrency": 1}},
    },
    {"name": "functions", "kind": "python", "module": "tests.tools.functions", "include": ["hang", "whoami"]},
]


class Rig:
    def __init__(self, client: Client, tools: ToolsProcess) -> None:
        self.client = client
        self.tools = tools


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    (tmp_path / "key").write_text(SECRET)
    (tmp_path / "sources.yaml").write_text(json.dumps({"sources": SOURCES}))
    settings = {
        "max_concurrency": "6",
        "max_concurrency_per_tool": "4",
        "max_concurrency_per_tenant": "2",
        "queue_wait": "50ms",
    }
    async with nats_server() as own:
        with tools_process(own.url, tmp_path, modules="", sources=str(tmp_path / "sources.yaml"), **settings) as tools:
            client = await nats_py.connect(own.url)
            yield Rig(client, tools)
            await client.close()


_HELD: list[asyncio.Task[fabric_pb2.ToolCallReply]] = []


async def hold(rig: Rig, tenant: str, count: int) -> list[str]:
    """Calls of a tenant that hang; their executions."""
    names = [f"held-{tenant}-{number}" for number in range(count)]
    before = rig.tools.counts()["running"]
    _HELD.extend(
        asyncio.create_task(call(rig.client, "hang", execution_id=name, tenant=tenant, wait=60)) for name in names
    )
    await eventually(lambda: rig.tools.counts()["running"] == before + count)
    return names


async def let_go(rig: Rig, names: list[str]) -> None:
    for name in names:
        await rig.client.publish(subjects.tool_cancel(name))
    await asyncio.gather(*_HELD)
    _HELD.clear()


async def refused(channel: grpc.aio.Channel, tool: str, **values: Any) -> tuple[grpc.StatusCode, str, float]:
    """Status, reason, and the seconds after which to try again."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await over_grpc.call(channel, tool, **values)
    status = rpc_status.from_call(caught.value)
    assert status is not None
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration())
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(retry)
    return caught.value.code(), info.reason, retry.retry_delay.ToTimedelta().total_seconds()


async def test_limits_of_tenant_tool_and_process_are_told_apart(rig: Rig) -> None:
    exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
    async with grpc.aio.insecure_channel(rig.tools.address) as channel:
        held = await hold(rig, "acme", 2)
        reply = await call(rig.client, "whoami", tenant="acme")
        assert (reply.outcome, reply.status) == (FAILED, NOT_BEGUN)
        assert reply.error == "not run: too many other calls are running; try again in a few seconds"
        assert await refused(channel, "whoami", tenant="acme") == (exhausted, "TENANT_LIMIT", 5.0)
        assert output(await call(rig.client, "whoami", tenant="umbrella"))["tenant"] == "umbrella"

        held += await hold(rig, "umbrella", 2)
        reply = await call(rig.client, "hang", tenant="other")
        assert reply.error == "not run: the tool 'hang' is busy with other calls; try again in a few seconds"
        assert await refused(channel, "hang", tenant="other") == (exhausted, "NO_CAPACITY", 2.0)
        assert (await call(rig.client, "whoami", tenant="other")).outcome == SUCCEEDED

        counts = rig.tools.counts()
        assert (counts["refused_tenant_busy"], counts["refused_tool_busy"]) == (2, 2)
        await let_go(rig, held)
        assert (await call(rig.client, "whoami", tenant="acme")).outcome == SUCCEEDED
        assert rig.tools.counts()["waiting"] == 0


async def test_call_that_gets_no_place_claims_nothing_and_can_be_made_again(rig: Rig, tmp_path: Path) -> None:
    owner = Owner(rig.client, Ledger(tmp_path))
    await owner.open()
    held = asyncio.create_task(owner.call(key="first", arguments_json=json.dumps(owner.ledger.arguments(held=True))))
    await owner.entered()
    reply = await owner.call(key="second")
    assert reply.status == NOT_BEGUN
    assert reply.error == "not run: the tool 'enter' is busy with other calls; try again in a few seconds"
    assert await owner.claims.read(owner.session, "second") is None
    assert owner.ledger.entries() == ["rent"]
    owner.ledger.release()
    await held
    assert (await owner.call(key="second")).outcome == SUCCEEDED
    assert owner.ledger.entries() == ["rent", "rent"]


async def test_tenants_without_permission_are_refused_over_nats_and_grpc(rig: Rig) -> None:
    arguments = {"lines": [{"item": "pen", "count": 1}]}
    for tenant in ("", "umbrella"):
        reply = await call(rig.client, "order", arguments, tenant=tenant)
        assert (reply.outcome, reply.status) == (FAILED, NOT_BEGUN)
        assert reply.error == "not run: the tool 'order' is not for this tenant"
    assert output(await call(rig.client, "order", arguments, tenant="acme")) == {"result": 1}
    async with grpc.aio.insecure_channel(rig.tools.address) as channel:
        code, reason, _ = await refused(channel, "order", arguments=arguments, tenant="umbrella")
        assert (code, reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED")
        response = await over_grpc.call(channel, "order", arguments, tenant="acme")
        assert response.outcome == live_pb2.TOOL_OUTCOME_SUCCEEDED
        code, reason, _ = await refused(channel, "order", arguments=arguments, tenant="x" * 300)
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert rig.tools.counts()["refused_not_permitted"] == 3
    tools = {tool.declaration.name: list(tool.tenants) for tool in await Catalog(rig.client.jetstream()).all()}
    assert (tools["order"], tools["neighbour"]) == (["acme"], [])


async def test_secret_of_a_function_is_in_nothing_that_anybody_reads(rig: Rig) -> None:
    seen: list[str] = []
    for how in ("result", "json", "error", "exception", "unavailable", "repr"):
        reply = await call(rig.client, "tells_secret", {"how": how})
        seen += [reply.output_json, reply.error]
    seen += [output(await call(rig.client, "tells_secret_async"))["result"]]
    for subject in ("INFO", "STATS"):
        seen.append((await rig.client.request(f"$SRV.{subject}.parley-tools", b"")).data.decode())
    seen += [str(tool) for tool in await Catalog(rig.client.jetstream()).all()]
    seen.append(json.dumps(rig.tools.counts()))
    await eventually(lambda: rig.tools.log.read_text().count("ValueError: [secret] is wrong"))
    rig.tools.terminate()
    assert await asyncio.to_thread(rig.tools.wait, 30) == 0
    seen.append(rig.tools.log.read_text())
    for text in seen:
        for form in (SECRET, json.dumps(SECRET)[1:-1], json.dumps(json.dumps(SECRET)[1:-1])[1:-1]):
            assert form not in text
    assert "[secret]" in seen[0]
