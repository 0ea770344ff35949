"""The real process on a real nats-server."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import nats as nats_py
import pytest
from google.protobuf import duration_pb2, json_format
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from parley.v1 import fabric_pb2, live_pb2
from services.fabric import ids, subjects
from services.fabric.bus import settle
from services.fabric.catalog import Catalog
from tests.support.eventually import eventually
from tests.support.nats import NatsServer, nats_server
from tests.tools.conftest import ToolsProcess, tools_process

SUCCEEDED = live_pb2.TOOL_OUTCOME_SUCCEEDED
FAILED = live_pb2.TOOL_OUTCOME_FAILED


@pytest.fixture
async def client(nats: NatsServer) -> AsyncIterator[Client]:
    connection = await nats_py.connect(nats.url)
    yield connection
    await connection.close()


async def call(
    client: Client, name: str, arguments: dict[str, Any] | None = None, wait: float = 10, **fields: Any
) -> fabric_pb2.ToolCallReply:
    request = fabric_pb2.ToolCallRequest(
        schema_version=1,
        name=name,
        arguments_json=json.dumps(arguments or {}),
        **({"execution_id": ids.sortable_id()} | fields),
    )
    answer = await client.request(subjects.tool_call(name), request.SerializeToString(), timeout=wait)
    return fabric_pb2.ToolCallReply.FromString(answer.data)


def output(reply: fabric_pb2.ToolCallReply) -> Any:
    assert reply.outcome == SUCCEEDED, reply
    return json.loads(reply.output_json)


async def seen(client: Client, what: str) -> int:
    return int(output(await call(client, "seen", {"what": what}))["result"])


async def test_order_tool_reads_what_another_process_wrote(client: Client, service: ToolsProcess) -> None:
    assert output(await call(client, "lookup_order", {"order_id": "4711"})) == {
        "order_id": "4711",
        "status": "delayed",
        "arrives": "friday",
    }
    with closing(sqlite3.connect(service.orders_db)) as connection, connection:
        connection.execute("UPDATE orders SET status = 'returned', arrives = 'sunday' WHERE order_id = '1234'")
    assert output(await call(client, "lookup_order", {"order_id": "1234"})) == {
        "order_id": "1234",
        "status": "returned",
        "arrives": "sunday",
    }
    reply = await call(client, "lookup_order", {"order_id": "9999"})
    assert (reply.outcome, reply.error) == (FAILED, "no order 9999")


async def test_weather_tool(client: Client, service: ToolsProcess) -> None:
    reply = await call(client, "get_weather", {"city": "London"})
    assert output(reply) == {"city": "london", "condition": "rainy", "temperature_celsius": 12}
    assert reply.schema_version == 1
    unknown = await call(client, "get_weather", {"city": "Atlantis"})
    assert unknown.error.startswith("no weather for Atlantis; known cities: berlin, london")


async def test_request_fields_reach_the_function(client: Client, service: ToolsProcess) -> None:
    told = output(
        await call(
            client,
            "whoami",
            session_id="ses_1",
            tenant="acme",
            idempotency_key="k",
            execution_id="x1",
            labels={"a": "b"},
        )
    )
    assert told["session"] == "ses_1"
    assert told["tenant"] == "acme"
    assert told["key"] == "k"
    assert told["execution"] == "x1"
    assert told["labels"] == {"a": "b"}


async def test_tool_with_a_dot_in_its_name(client: Client, service: ToolsProcess) -> None:
    assert output(await call(client, "dotted.name")) == {"result": "dot"}


@pytest.mark.parametrize("kind", ["exit", "interrupt", "value"])
@pytest.mark.parametrize("name", ["raises", "raises_async"])
async def test_function_that_raises_disturbs_nobody(
    client: Client, service: ToolsProcess, name: str, kind: str
) -> None:
    reply = await call(client, name, {"kind": kind})
    assert reply.outcome == FAILED
    assert "Traceback" not in reply.error
    assert (await call(client, "whoami")).outcome == SUCCEEDED


async def test_unknown_tool_has_no_responder(client: Client, service: ToolsProcess) -> None:
    with pytest.raises(NoRespondersError):
        await call(client, "no_hint")


async def test_unreadable_and_misplaced_calls_are_refused(client: Client, service: ToolsProcess) -> None:
    answer = await client.request(subjects.tool_call("whoami"), b"\xff\xff")
    assert answer.headers is not None
    assert answer.headers["Nats-Service-Error-Code"] == "400"
    wrong = fabric_pb2.ToolCallRequest(schema_version=1, name="raises")
    answer = await client.request(subjects.tool_call("whoami"), wrong.SerializeToString())
    assert answer.headers is not None
    assert "raises" in answer.headers["Nats-Service-Error"]
    odd: tuple[tuple[str, dict[str, Any]], ...] = (
        *(("execution_id", {"execution_id": name}) for name in ("a b", "a.b", ">", "a\r\nPUB b 0\r\n\r\n", "x" * 129)),
        ("timeout", {"timeout": duration_pb2.Duration(seconds=10**15)}),
    )
    for field, fields in odd:
        wrong = fabric_pb2.ToolCallRequest(schema_version=1, name="whoami", **fields)
        answer = await client.request(subjects.tool_call("whoami"), wrong.SerializeToString())
        assert answer.headers is not None, fields
        assert answer.headers["Nats-Service-Error"].startswith(field)
    assert (await call(client, "whoami")).outcome == SUCCEEDED


async def test_call_without_reply_subject_is_harmless(client: Client, service: ToolsProcess) -> None:
    before = service.counts()["unanswered"]
    await client.publish(subjects.tool_call("whoami"), fabric_pb2.ToolCallRequest().SerializeToString())
    await eventually(lambda: service.counts()["unanswered"] == before + 1)
    assert (await call(client, "whoami")).outcome == SUCCEEDED


@pytest.mark.parametrize("name", ["meet", "meet_in_threads"])
async def test_as_many_slow_calls_as_one_tool_may_have_run_at_the_same_time(
    client: Client, service: ToolsProcess, name: str
) -> None:
    # Each returns only when all 48 are inside: three quarters of the process's 64.
    replies = await asyncio.gather(*(call(client, name, {"count": 48}) for _ in range(48)))
    assert {reply.output_json for reply in replies} == {'{"result":48}'}


@pytest.mark.parametrize("name", ["hang", "block"])
async def test_cancel_ends_a_running_call(client: Client, service: ToolsProcess, name: str) -> None:
    before = await seen(client, f"{name} cancelled")
    started = await seen(client, f"{name} started")
    await call(client, "hold")
    running = asyncio.create_task(call(client, name, execution_id=f"mine-{name}"))

    async def has_started() -> bool:
        return await seen(client, f"{name} started") == started + 1

    async def was_cancelled() -> bool:
        return await seen(client, f"{name} cancelled") == before + 1

    await eventually(has_started)
    await client.publish(subjects.tool_cancel("somebody-else"))
    await client.publish(subjects.tool_cancel(f"mine-{name}"))
    assert (await running).outcome == live_pb2.TOOL_OUTCOME_CANCELLED
    await eventually(was_cancelled)
    await call(client, "release")
    await eventually(lambda: service.counts()["overrunning"] == 0)


async def test_cancel_sent_right_behind_its_call_reaches_it(client: Client, service: ToolsProcess) -> None:
    replies = []
    for number in range(20):
        running = asyncio.create_task(call(client, "hang", execution_id=f"quick-{number}"))
        await asyncio.sleep(0)
        await settle(client)
        await client.publish(subjects.tool_cancel(f"quick-{number}"))
        replies.append(await running)
    assert {reply.outcome for reply in replies} == {live_pb2.TOOL_OUTCOME_CANCELLED}


async def test_progress_and_partial_results_go_to_whoever_listens(client: Client, service: ToolsProcess) -> None:
    reports: list[fabric_pb2.ToolReport] = []

    async def keep(message: Msg) -> None:
        reports.append(fabric_pb2.ToolReport.FromString(message.data))

    await client.subscribe(subjects.tool_progress("digs"), cb=keep)
    reply = await call(client, "dig", {"finds": 3}, execution_id="digs")
    assert output(reply) == {"found": 3}
    assert reply.scheduling == live_pb2.RESPONSE_SCHEDULING_INTERRUPT
    assert [report.number for report in reports] == [1, 2, 3]
    assert (reports[0].progress.message, reports[0].progress.fraction) == ("digging", 0)
    assert [json.loads(report.partial.output_json) for report in reports[1:]] == [{"found": 1}, {"found": 2}]
    declared = await Catalog(client.jetstream()).get("dig")
    assert declared is not None
    assert (declared.reports, declared.scheduling) == (True, live_pb2.RESPONSE_SCHEDULING_WHEN_IDLE)
    assert service.counts()["unreported"] == 0


async def test_deadline_of_the_request_holds(client: Client, service: ToolsProcess) -> None:
    reply = await call(client, "hang", timeout=timedelta(milliseconds=50))
    assert reply.outcome == live_pb2.TOOL_OUTCOME_TIMED_OUT
    assert reply.error == "no result within 0.05 s"
    assert timedelta(milliseconds=40) < reply.duration.ToTimedelta() < timedelta(seconds=15)  # it hangs for 20


async def test_synchronous_overrun_does_not_hold_the_reply_up(client: Client, service: ToolsProcess) -> None:
    await call(client, "hold")
    reply = await call(client, "block", timeout=timedelta(milliseconds=50))
    assert reply.outcome == live_pb2.TOOL_OUTCOME_TIMED_OUT
    assert service.counts()["overrunning"] == 1
    await call(client, "release")
    await eventually(lambda: service.counts()["overrunning"] == 0)


async def test_discovery_lists_the_tools_and_their_real_times(client: Client, service: ToolsProcess) -> None:
    ping = json.loads((await client.request("$SRV.PING.parley-tools", b"")).data)
    assert ping["metadata"] == {"instance": service.id}
    info = json.loads((await client.request("$SRV.INFO.parley-tools", b"")).data)
    endpoints = {endpoint["subject"]: endpoint for endpoint in info["endpoints"]}
    assert subjects.tool_call("lookup_order") in endpoints
    assert endpoints[subjects.tool_call("dotted.name")]["name"] == "dotted_name"
    assert {endpoint["queue_group"] for endpoint in endpoints.values()} == {subjects.TOOLS_QUEUE}

    async def stats() -> dict[str, Any]:
        body = json.loads((await client.request("$SRV.STATS.parley-tools", b"")).data)
        endpoints: dict[str, dict[str, Any]] = {endpoint["subject"]: endpoint for endpoint in body["endpoints"]}
        return endpoints[subjects.tool_call("count_to")]

    before = await stats()
    await call(client, "count_to", {"seconds": 0.05})
    await call(client, "count_to", {"seconds": "soon"})
    after = await stats()
    assert after["num_requests"] == before["num_requests"] + 2
    assert after["num_errors"] == before["num_errors"] + 1
    assert after["processing_time"] - before["processing_time"] >= 45e6
    assert after["data"]["refused"] == before["data"]["refused"] + 1


async def test_catalog_holds_the_declarations(client: Client, service: ToolsProcess) -> None:
    catalog = Catalog(client.jetstream())
    tools = {tool.declaration.name: tool for tool in await catalog.all()}
    assert {"lookup_order", "get_weather", "dotted.name"} <= set(tools)
    assert "no_hint" not in tools
    order = tools["lookup_order"]
    assert order.idempotent
    assert order.timeout.ToTimedelta() == timedelta(seconds=5)
    assert json_format.MessageToDict(order.declaration.parameters)["required"] == ["order_id"]
    assert service.counts()["problems"] == 1


async def test_calls_leave_nothing_behind(client: Client, service: ToolsProcess) -> None:
    await call(client, "release")
    for _ in range(5):
        await asyncio.gather(*(call(client, "whoami") for _ in range(20)))
    await eventually(lambda: service.counts()["overrunning"] == 0)
    before = service.counts()
    for number in range(20):
        running = [
            asyncio.create_task(call(client, name, execution_id=f"leak-{name}-{number}"))
            for name in ("hang", "block", "stubborn")
        ]
        await asyncio.gather(
            call(client, "raises", {"kind": "value"}),
            call(client, "raises", {"kind": 1}),
            call(client, "whoami"),
            call(client, "meet", {"count": 1}),
        )
        for name in ("hang", "block", "stubborn"):
            await client.publish(subjects.tool_cancel(f"leak-{name}-{number}"))
        await asyncio.gather(*running)

    def as_before() -> bool:
        now = service.counts()
        same = ("tasks", "subscriptions", "running", "overrunning", "unanswered", "bus_errors")
        assert {name: now[name] for name in same} == {name: before[name] for name in same}
        assert now["resident_bytes"] < before["resident_bytes"] + 5_000_000
        return True

    await eventually(as_before)
    assert service.counts()["calls"] == before["calls"] + 140


async def test_over_the_bound_calls_are_refused_quickly(tmp_path: Path) -> None:
    async with nats_server() as own:
        with tools_process(own.url, tmp_path, max_concurrency="2") as tools:
            client = await nats_py.connect(own.url)
            held = [asyncio.create_task(call(client, "hang", execution_id=f"h{number}")) for number in range(2)]
            await eventually(lambda: tools.counts()["running"] == 2)
            reply = await call(client, "whoami")  # those that hang do so for longer than this waits
            assert reply.outcome == FAILED
            assert "busy; try again" in reply.error
            for number in range(2):
                await client.publish(subjects.tool_cancel(f"h{number}"))
            await asyncio.gather(*held)
            # They are free already, unless the machine stood still as the functions ended.
            await eventually(lambda: tools.counts()["overrunning"] == 0)
            assert (await call(client, "whoami")).outcome == SUCCEEDED
            await client.close()


async def test_sigterm_lets_calls_finish_and_drops_none_that_was_delivered(tmp_path: Path) -> None:
    async with nats_server() as own:
        with tools_process(own.url, tmp_path, max_concurrency="1000") as tools:
            client = await nats_py.connect(own.url)
            running = [asyncio.create_task(call(client, "count_to", {"seconds": 0.7})) for _ in range(5)]
            await eventually(lambda: tools.counts()["running"] == 5)
            crowd = [asyncio.create_task(call(client, "whoami", wait=5)) for _ in range(50)]
            await asyncio.sleep(0)
            tools.terminate()
            while not any(sent.done() and sent.exception() for sent in crowd[50:]):
                crowd.append(asyncio.create_task(call(client, "whoami", wait=5)))
                await asyncio.sleep(0.001)
            # Each was answered or told at once that nobody is there; none waited in vain.
            ends = await asyncio.gather(*crowd, return_exceptions=True)
            kinds = {end.outcome if isinstance(end, fabric_pb2.ToolCallReply) else type(end) for end in ends}
            assert kinds <= {SUCCEEDED, NoRespondersError}
            assert {reply.outcome for reply in await asyncio.gather(*running)} == {SUCCEEDED}
            assert await asyncio.to_thread(tools.wait) == 0
            await client.close()


async def test_sigterm_cuts_off_what_does_not_finish_and_exits_in_time(tmp_path: Path) -> None:
    async with nats_server() as own:
        with tools_process(own.url, tmp_path, shutdown_grace="100ms") as tools:
            client = await nats_py.connect(own.url)
            await call(client, "hold")
            running = [asyncio.create_task(call(client, name)) for name in ("hang", "block", "stubborn")]
            await eventually(lambda: tools.counts()["running"] == 3)
            tools.terminate()
            assert {reply.outcome for reply in await asyncio.gather(*running)} == {live_pb2.TOOL_OUTCOME_UNKNOWN}
            # A thread hangs and a coroutine does not listen; neither holds the process up.
            assert await asyncio.to_thread(tools.wait) == 0
            await client.close()


async def test_waits_for_nats_and_declares_again_to_a_new_server(tmp_path: Path) -> None:
    async with nats_server() as own:
        own.kill()
        with tools_process(own.url, tmp_path, ready=False) as tools:
            await eventually(lambda: "nats error" in tools.log.read_text(), timeout=30)
            assert tools.process.poll() is None
            await asyncio.to_thread(own.start)
            await asyncio.to_thread(tools.wait_ready)
            await asyncio.to_thread(own.kill)
            own.forget()
            await asyncio.to_thread(own.start)
            client = await nats_py.connect(own.url)

            async def declared() -> bool:
                try:
                    return await Catalog(client.jetstream(timeout=1)).get("whoami") is not None
                except Exception:  # noqa: BLE001 - the bucket is not there yet
                    return False

            await eventually(declared)
            assert (await call(client, "whoami")).outcome == SUCCEEDED
            await client.close()


async def test_sigterm_before_nats_is_there_ends_the_process(tmp_path: Path) -> None:
    with tools_process("nats://127.0.0.1:1", tmp_path, ready=False) as tools:
        await eventually(lambda: "nats error" in tools.log.read_text(), timeout=30)
        tools.terminate()
        assert await asyncio.to_thread(tools.wait) == 0
