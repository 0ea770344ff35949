"""What operators ask, with the command and with tools of theirs, of real processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client.samples import Sample

import parley
from parley import events
from parley.cli._child import Child
from parley.cli.otlp import OtlpReceiver
from parley.cli.stack import Stack, StackConfig
from services.fabric import subjects
from services.fabric.administration import FabricSettings, api, apply, connected, stream_info
from services.fabric.metrics import ALL, OTHER
from services.gateway.measures import TABLE as GATEWAY
from services.session_worker.measures import TABLE as WORKER
from services.tools.measures import TABLE as TOOLS
from tests.faults.call import calling
from tests.faults.scene import kill, owner
from tests.support.command import Parley, in_process
from tests.support.counts import get_json, get_text
from tests.support.eventually import eventually
from tests.support.prometheus import prometheus_names, samples_in

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

TRACE = "0af7651916cd43dd8448eb211c80319c"
FOR_PEOPLE = {
    *("bus_connected", "bus_errors", "draining", "id", "ready", "service", "subscriptions", "tasks", "resident_bytes"),
    *("loop_lag_ms", "loop_lag_seconds", "stream_tasks", "streams_closing"),
    *("sessions", "closing", "places_kept", "recovering", "stale_uplink", "to_forget"),
    *("calls", "succeeded", "failed", "timed_out", "cancelled", "unknown", "refused", "unreadable"),
    *("timeline_waiting", "timeline_dropped"),
    *("cancelled_tasks", "left_tasks", "loop_blocks", "remarks"),
}
"""Counts of /debug/vars that are no metrics, or are metrics by another way (`vitals`, sums over tools)."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack() -> AsyncIterator[Stack]:
    async with Stack(StackConfig(env={"PARLEY_WORKER_RESUME_WINDOW": "500ms"})) as running:
        yield running


def gateway(stack: Stack) -> str:
    return str(stack.gateways[0].ready["address"])


def tools(stack: Stack) -> str:
    """The internal address, as `parley up` prints it."""
    return str(stack.tools[0].ready["address"])


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parley.cli", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ask(*arguments: str) -> tuple[int, Any, str]:
    """Exit status, the JSON document and stderr."""
    process = await start(*arguments, "--json")
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    return process.returncode or 0, json.loads(out) if out else None, err.decode()


async def test_a_session_is_found_by_its_label_and_watched_to_its_end(stack: Stack) -> None:
    target = gateway(stack)
    mine = 'labels.team = "watched" AND '

    async def listed(text: str) -> list[str]:
        status, sessions, err = await ask("session", "list", "--target", target, "--filter", mine + text)
        assert status == 0, err
        return [session["session_id"] for session in sessions]

    with pytest.raises(ConnectionError):
        async with parley.connect(target, profile="support", labels={"team": "watched"}) as session:
            await session.send_text("hello")
            assert await listed("state = ATTACHED AND worker != nobody") == [session.id]
            assert await listed("state = DETACHED") == []
            watch = await start("session", "watch", session.id, "--target", target, "--json")
            assert watch.stdout is not None
            async with asyncio.timeout(30):
                first = json.loads(await watch.stdout.readline())
            assert (first["event"], first["session"]["state"]) == ("CURRENT", "SESSION_STATE_ATTACHED")
            raise ConnectionError("the caller is gone in the middle")
    async with asyncio.timeout(30):
        out, err = await watch.communicate()
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events] == ["DETACHED", "ENDED"], err
    assert events[-1]["session"]["end_reason"] == "END_REASON_ABANDONED"
    assert (watch.returncode, err) == (0, b"")
    assert await listed("end_reason = ABANDONED") == [session.id]


async def test_a_tool_is_called_at_the_tools_service_and_nowhere_else(stack: Stack) -> None:
    call = ("tools", "call", "lookup_order", "--args", '{"order_id": "4711"}', "--target")
    status, answer, err = await ask(*call, tools(stack))
    assert (status, answer["outcome"], answer["output"]["arrives"]) == (0, "SUCCEEDED", "friday"), err
    status, answer, err = await ask("tools", "call", "lookup_order", "--target", tools(stack), "--args", "{}")
    assert (status, answer) == (1, None)
    assert "arguments.order_id: " in err
    assert "[INVALID_ARGUMENT/ARGUMENTS_INVALID]" in err
    status, answer, err = await ask(*call, gateway(stack))
    assert (status, answer) == (1, None)
    assert "call the tools service on its internal address [UNIMPLEMENTED/NOT_IMPLEMENTED]" in err
    # Listed are the same tools at both.
    for target in (gateway(stack), tools(stack)):
        status, listed, err = await ask("tools", "list", "--target", target)
        assert status == 0, err
        assert {"lookup_order", "get_weather"} <= {tool["declaration"]["name"] for tool in listed}


@dataclass
class Scraped:
    """What a process says at /metrics."""

    text: str
    samples: list[Sample]

    def value(self, name: str, **labels: str) -> float:
        """Sum of the samples with these labels."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= {k: str(v) for k, v in sample.labels.items()}.items()
        )


async def scrape(child: Child) -> Scraped:
    text = await get_text(f"{child.ready['ops']}/metrics")
    return Scraped(text, samples_in(text))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Parley:
    return in_process(monkeypatch, capsys)


def check_words(scraped: Scraped) -> None:
    """Every series is in the catalogue, with words of its vocabulary."""
    known = {name: ALL[metric] for metric, name in prometheus_names().items()}
    for sample in scraped.samples:
        if sample.name.startswith(("target_info", "otel_")):
            continue
        metric = known.get(sample.name) or known.get(re.sub(r"_(bucket|count|sum)$", "", sample.name))
        assert metric is not None, sample.name
        labels = {label.replace(".", "_"): words for label, words in metric.labels.items()}
        for label, word in sample.labels.items():
            if label != "le" and word:  # empty: left out
                words = labels[label]
                assert not words.words or word in words.words, (sample.name, label, word)
                assert word != OTHER, (sample.name, label)


async def test_a_call_with_all_its_troubles_is_in_the_metrics_and_the_logs_and_nobody_is_named(stack: Stack) -> None:
    traceparent = f"00-{TRACE}-b7ad6b7169203331-01"
    async with calling(stack, traceparent=traceparent) as call:
        await call.session.send_text("what is the weather in paris")
        await call.answer(containing="degrees")
        await call.fault("go_away time_left=1s")
        await call.until(lambda event: isinstance(event, events.LinkRecovered))
        first = await owner(call)
        before = await scrape(first)
        await stack.start_worker()
        await kill(first)
        since = len(call.got)
        await call.until(lambda event: isinstance(event, events.LinkRecovered), since)
        await call.session.send_text("what is the weather in london")
        await call.answer(since, containing="degrees")
        door, second, tools = [await scrape(each) for each in (stack.gateways[0], stack.workers[-1], stack.tools[0])]
        await call.session.end("done")
        session = call.session.id
    _check_metrics(before, second, door, tools)
    for scraped in (before, door, second, tools):
        check_words(scraped)
        assert session not in scraped.text
    await _check_tables(stack)
    await _check_logs(stack, session)
    ended = await eventually(lambda: _ended(stack.workers[-1]))
    assert ended.value("parley_worker_sessions_ended_total", parley_reason="CALLER") == 1
    assert sum(ended.value("parley_worker_sessions", parley_state=state) for state in ("attached", "ending")) == 0


async def _ended(worker: Child) -> Scraped | None:
    scraped = await scrape(worker)
    return scraped if scraped.value("parley_worker_sessions_ended_total") else None


def _check_metrics(first: Scraped, second: Scraped, door: Scraped, tools: Scraped) -> None:
    replaced = "parley_link_replacements_total"
    assert first.value(replaced, parley_link_cause="GO_AWAY", parley_outcome="connected") == 1
    assert first.value("parley_link_gap_duration_seconds_count", parley_link_cause="GO_AWAY") == 1
    assert first.value("parley_link_dial_duration_seconds_count") >= 2
    assert first.value("parley_worker_sessions", parley_state="attached") == 1
    assert first.value("parley_worker_links", parley_state="connected") == 1
    assert first.value("parley_worker_sessions_begun_total", parley_reason="opened") >= 1
    assert first.value("parley_turn_first_audio_duration_seconds_count") >= 1
    assert first.value("parley_tokens_total", gen_ai_token_type="output") > 0
    assert first.value("parley_worker_tool_call_duration_seconds_count", parley_tool_outcome="succeeded") == 1
    assert first.value("parley_worker_capacity") == 100
    assert second.value(replaced, parley_link_cause="WORKER_LOST", parley_outcome="connected") == 1
    assert second.value("parley_worker_sessions_begun_total", parley_reason="taken_over") == 1
    assert second.value("parley_turns_total", parley_outcome="completed") >= 1
    assert door.value("parley_gateway_open_duration_seconds_count", parley_outcome="opened") >= 1
    assert door.value("parley_gateway_recoveries_total", parley_outcome="recovered") == 1
    assert door.value("parley_gateway_streams") == 1
    assert tools.value("parley_tools_calls_total", gen_ai_tool_name="get_weather", parley_tool_outcome="succeeded") == 2
    assert tools.value("parley_tools_call_duration_seconds_count", gen_ai_tool_name="get_weather") == 2
    for scraped, hop in (
        (door, "gateway_uplink"),
        (door, "gateway_downlink"),
        (second, "worker_uplink"),
        (second, "worker_downlink"),
    ):
        assert scraped.value("parley_hop_duration_seconds_count", parley_hop=hop) > 0, hop
    for scraped in (first, second, door, tools):
        assert scraped.value("parley_ready") == scraped.value("parley_bus_connected") == 1
        assert scraped.value("process_memory_usage_bytes") > 1_000_000
        assert scraped.value("process_cpu_time_seconds_total") > 0


async def _check_tables(stack: Stack) -> None:
    """What is counted is a metric, unless it is said to be for people only."""
    for child, table in ((stack.gateways[0], GATEWAY), (stack.workers[-1], WORKER), (stack.tools[0], TOOLS)):
        counts = await get_json(f"{child.ready['ops']}/debug/vars")
        assert counts.keys() - table.keys() - FOR_PEOPLE == set(), child.name


async def _check_logs(stack: Stack, session: str) -> None:
    found: defaultdict[str, int] = defaultdict(int)
    for child in (stack.gateways[0], *stack.workers, stack.tools[0]):
        for text in child.log.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            if "ready" in line:
                continue
            assert line.keys() >= {"timestamp", "level", "event", "service", "instance"}, text
            assert not re.search(r"\bdegrees\b|\bparis\b", text), text
            if line.get("session") == session:
                assert line.get("trace_id") == TRACE, text
                found[child.name] += 1
    assert found.keys() == {child.name for child in (stack.gateways[0], *stack.workers, stack.tools[0])}


async def test_top_shows_workers_and_sessions_once_again_and_again_and_live(stack: Stack, command: Parley) -> None:
    async with calling(stack, microphone=False) as call:
        worker = str((await owner(call)).ready["id"])
        out = ""

        async def counted() -> bool:
            """Workers announce what they hold, half a second later or so."""
            nonlocal out
            status, out, err = await command("top", "--once", "--target", gateway(stack))
            assert (status, err) == (0, "")
            return "1 workers (0 draining), 1/100 places taken; sessions of your tenant: 1 attached" in out

        await eventually(counted, 30)
        assert re.search(rf"^{worker} +│ 1/100 +│ serving", out, re.MULTILINE), out
        assert re.search(rf"^{call.session.id} +│ attached +│ support", out, re.MULTILINE), out
        for look in await _looks(stack, 2):
            assert [each["session_id"] for each in look["sessions"]] == [call.session.id]
            assert [each["worker"] for each in look["workers"]] == [worker]
            assert not look["more_sessions"]
        assert call.session.id.encode() in await _live(stack, call.session.id)
    status, out, err = await command("top", "--once", "--target", "127.0.0.1:1")
    assert (status, out) == (69, "")
    assert err.count("\n") == 1


async def _looks(stack: Stack, number: int) -> list[dict[str, Any]]:
    """As in a pipe, until it is told to stop."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parley.cli", "top", "--json", "--every", "0.2", "--target", gateway(stack)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        looks = [json.loads(await process.stdout.readline()) for _ in range(number)]
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
    return looks


async def _live(stack: Stack, wanted: str) -> bytes:
    """What a terminal is sent until `wanted` is on it."""
    ours, theirs = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "parley.cli", "top", "--every", "0.2", "--target", gateway(stack)),
            env={**os.environ, "TERM": "xterm", "COLUMNS": "200", "LINES": "40"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        os.set_blocking(ours, False)
        shown = b""

        def look() -> bool:
            nonlocal shown
            with contextlib.suppress(BlockingIOError, OSError):
                shown += os.read(ours, 65_536)
            return wanted.encode() in shown

        await eventually(look, timeout=60)
        process.send_signal(signal.SIGINT)
        await eventually(lambda: look() and process.returncode is not None, timeout=60)
        assert process.returncode == 130
    finally:
        os.close(ours)
    return shown


async def doctor(stack: Stack, command: Parley, *arguments: str) -> tuple[int, list[dict[str, str]]]:
    env = {"PARLEY_FABRIC_NATS_URL": str(stack.nats.ready["url"])}
    status, out, err = await command("doctor", "--json", *arguments, **env)
    assert err == ""
    return status, json.loads(out)


def of_level(found: list[dict[str, str]], level: str) -> list[tuple[str, str]]:
    return [(each["about"], each["message"]) for each in found if each["level"] == level]


async def test_a_deployment_that_is_well_has_no_problem(stack: Stack, command: Parley) -> None:
    children = [*stack.gateways, *(worker for worker in stack.workers if worker.running), *stack.tools]
    ops = [part for child in children for part in ("--ops", str(child.ready["ops"]))]
    async with OtlpReceiver() as receiver:
        status, found = await doctor(stack, command, "--gateway", gateway(stack), *ops, "--otlp", receiver.endpoint)
    assert (status, of_level(found, "problem"), of_level(found, "warning")) == (0, [], [])
    about = {each["about"] for each in found if each["level"] == "ok"}
    assert about == {
        *("nats", "jetstream", "streams", "clocks", "workers", "backend", "tools", "gateways", "processes"),
        *("versions", "telemetry"),
    }


async def test_what_is_broken_is_a_problem_and_says_what_to_do(stack: Stack, command: Parley) -> None:
    settings = FabricSettings(nats_url=str(stack.nats.ready["url"]))
    cut_off = await stack.start_worker(PARLEY_WORKER_GEMINI_BASE_URL="https://127.0.0.1:1")
    tools = stack.tools[0]
    await kill(tools)
    async with connected(settings, "test") as client:
        info: dict[str, Any] | None = await stream_info(client, subjects.SESSIONS_STREAM)
        assert info is not None
        await api(client, f"STREAM.UPDATE.{subjects.SESSIONS_STREAM}", info["config"] | {"allow_rollup_hdrs": False})
        try:
            arguments = ("--gateway", "127.0.0.1:1", "--ops", str(tools.ready["ops"]), "--otlp", "http://127.0.0.1:1")
            status, found = await doctor(stack, command, *arguments)
        finally:
            await apply(client, settings)
    problems = {each["about"]: each for each in found if each["level"] == "problem"}
    assert status == 1
    assert problems.keys() == {"streams", "backend", "tools", "gateways", "processes", "telemetry"}
    assert all(each["mend"] for each in problems.values())
    assert "allow_rollup_hdrs is false, wanted true" in problems["streams"]["message"]
    assert problems["streams"]["mend"] == "`parley fabric apply`"
    assert problems["backend"]["message"].startswith(f"{cut_off.ready['id']}: the model's endpoint cannot be reached")
    assert "no tools service answers" in problems["tools"]["message"]


async def test_without_nats_the_rest_is_looked_at(stack: Stack, command: Parley) -> None:
    env = {"PARLEY_FABRIC_NATS_URL": "nats://127.0.0.1:1"}
    status, out, err = await command("doctor", "--gateway", gateway(stack), **env)
    assert (status, err) == (1, "1 problems, 0 warnings\n")
    assert re.search(r"^problem  nats +NATS cannot be reached at nats://127.0.0.1:1: ", out, re.MULTILINE)
    assert re.search(r"^ok       gateways +\S+ takes calls$", out, re.MULTILINE)
