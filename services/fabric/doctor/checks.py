"""Asks a deployment how it is. Each check is bounded in time, and fails alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import aiohttp
import grpc.aio
import nats.errors
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from nats.aio.client import Client
from nats.aio.msg import Msg
from prometheus_client.parser import text_string_to_metric_families

from parley._connect import open_channel
from parley._version import __version__
from parley.v1 import errors_pb2, fabric_pb2, fleet_pb2
from services.fabric import administration, ids, subjects
from services.fabric.administration import FabricSettings
from services.fabric.doctor import judgement
from services.fabric.doctor.judgement import Finding, Instance, Level, ToolsAnswer, WorkerAnswer

_LISTEN: Final = 1.5
"""Seconds in which announcements and answers are taken: workers announce themselves every second."""
_ASK: Final = 3.0
_BACKEND: Final = 20.0
"""Seconds for a set-up at the model's endpoint: more than PARLEY_WORKER_DIAL_TIMEOUT."""
_MOST_ASKED: Final = 10
"""Workers whose backend is tried: they all have the same key."""
_MOST_ANSWERS: Final = 1000
_MOST_HEARD: Final = 50
_NOT_TRIED: Final = frozenset({errors_pb2.ERROR_REASON_NOT_IMPLEMENTED, errors_pb2.ERROR_REASON_NO_CAPACITY})
"""Reasons of a worker that says nothing of its backend: it is of the release before, or another doctor is there."""
_TRACES: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_METRICS: Final = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


@dataclass(frozen=True)
class Targets:
    """What is to be looked at beside NATS and who is on it."""

    gateways: Sequence[str] = ()
    """HOST:PORT."""
    ops: Sequence[str] = ()
    """Base URLs of operations ports."""
    otlp: str = ""
    otlp_metrics: str = ""
    """OTLP/gRPC addresses."""
    backend: bool = True
    """Have workers try the model's endpoint."""
    model: str = ""


async def examine(settings: FabricSettings, targets: Targets) -> AsyncIterator[Finding]:
    """Everything, in an order in which the first problem is often the cause of the next."""
    instances: list[Instance] = []
    heard: deque[str] = deque(maxlen=_MOST_HEARD)
    try:
        async with administration.connected(settings, f"parley-doctor-{ids.sortable_id()}", heard) as client:
            async for finding in _on_nats(client, settings, targets, instances, heard):
                yield finding
    except (
        administration.NatsUnreachableError,
        administration.JetStreamError,
        nats.errors.Error,
        TimeoutError,
    ) as error:
        mend = "see PARLEY_FABRIC_NATS_URL, _NATS_USER and _NATS_PASSWORD, the network, and `jetstream` of the server"
        yield Finding(Level.PROBLEM, "nats", str(error) or type(error).__name__, mend)
    for gateway in targets.gateways:
        yield await _gateway(gateway)
    if not targets.gateways:
        yield Finding(Level.NOTE, "gateways", "not looked at: name them with --gateway HOST:PORT")
    for url in targets.ops:
        for finding in await _ops(url, instances):
            yield finding
    for finding in judgement.versions(__version__, instances):
        yield finding
    if targets.otlp:
        yield await _otlp(targets.otlp, "traces", _TRACES)
    if targets.otlp_metrics:
        yield await _otlp(targets.otlp_metrics, "metrics", _METRICS)


async def _on_nats(
    client: Client, settings: FabricSettings, targets: Targets, instances: list[Instance], heard: Iterable[str]
) -> AsyncIterator[Finding]:
    asked = time.perf_counter()
    await client.flush()
    round_trip = time.perf_counter() - asked
    version = str(client._server_info["version"])  # its public form takes semantic versions only
    for finding in judgement.nats(settings.nats_url, version, client.max_payload, round_trip):
        yield finding
    account = await administration.api(client, "INFO")
    yield Finding(
        Level.OK, "jetstream", f"{account.get('streams', 0)} streams, {account.get('storage', 0)} bytes on file"
    )
    for found in await administration.look(client, settings):
        for finding in judgement.stream(str(found.wanted.name), found.info, found.differences):
            yield finding
    clock = await _server_clock(client)
    if clock is not None:
        yield clock
    answers, tools = await asyncio.gather(_workers(client, targets), _tools(client))
    instances += [Instance("worker", each.worker.worker, each.worker.version) for each in answers]
    instances += tools.instances
    of_processes = (*judgement.workers(answers), *judgement.backend(answers), *judgement.tools(tools))
    for finding in (*judgement.permissions(heard), *of_processes):
        yield finding


async def _server_clock(client: Client) -> Finding | None:
    before = time.time()
    info = await administration.stream_info(client, subjects.SESSIONS_STREAM)
    after = time.time()
    try:
        told = datetime.fromisoformat(str((info or {}).get("ts")).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None
    return judgement.clock("nats-server", told - (before + after) / 2)


async def _workers(client: Client, targets: Targets) -> list[WorkerAnswer]:
    heard: dict[str, fleet_pb2.Worker] = {}

    async def hear(message: Msg) -> None:
        with contextlib.suppress(DecodeError):
            announced = fabric_pb2.WorkerAnnouncement.FromString(message.data)
            if announced.leaving:
                heard.pop(announced.worker.worker, None)
            elif len(heard) < _MOST_ANSWERS:
                heard[announced.worker.worker] = announced.worker

    subscription = await client.subscribe(subjects.FLEET_ANNOUNCE, cb=hear)
    await client.publish(subjects.WORKER_QUERY)
    await client.flush()
    await asyncio.sleep(_LISTEN)
    await subscription.unsubscribe()
    found = [heard[name] for name in sorted(heard)]
    tried = found[:_MOST_ASKED] if targets.backend else []
    return list(await asyncio.gather(*(_worker(client, each, targets.model, each in tried) for each in found)))


async def _worker(client: Client, worker: fleet_pb2.Worker, model: str, try_backend: bool) -> WorkerAnswer:
    ping = fabric_pb2.ControlRequest(schema_version=1, ping=fabric_pb2.Ping())
    answered = await _control(client, worker.worker, ping, _ASK) is not None
    if not answered or not try_backend:
        return WorkerAnswer(worker, answered)
    check = fabric_pb2.ControlRequest(schema_version=1, check_backend=fabric_pb2.CheckBackend(model=model))
    reply = await _control(client, worker.worker, check, _BACKEND)
    match reply and reply.WhichOneof("result"):
        case "backend_checked":
            said: str | None = ""
        case "failure":
            assert reply is not None
            said = None if reply.failure.reason in _NOT_TRIED else reply.failure.message
        case _:
            said = f"no answer within {_BACKEND:g} s"
    return WorkerAnswer(worker, answered, said)


async def _control(
    client: Client, worker: str, request: fabric_pb2.ControlRequest, timeout: float
) -> fabric_pb2.ControlReply | None:
    try:
        reply = await client.request(subjects.control(worker), request.SerializeToString(), timeout=timeout)
        return fabric_pb2.ControlReply.FromString(reply.data)
    except (nats.errors.Error, TimeoutError, DecodeError):
        return None


async def _tools(client: Client) -> ToolsAnswer:
    instances: list[Instance] = []
    served: set[str] = set()
    prefix = subjects.tool_call("")

    async def hear(message: Msg) -> None:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            answer = json.loads(message.data)
            if len(instances) < _MOST_ANSWERS:
                instances.append(Instance("tools", answer["metadata"]["instance"], answer["version"]))
                served.update(str(each["subject"]).removeprefix(prefix) for each in answer["endpoints"])

    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox, cb=hear)
    await client.publish(f"$SRV.INFO.{subjects.TOOLS_SERVICE}", reply=inbox)
    await client.flush()
    await asyncio.sleep(_LISTEN)
    await subscription.unsubscribe()
    return ToolsAnswer(instances, frozenset(served), await _declared(client))


async def _declared(client: Client) -> frozenset[str]:
    every = f"$KV.{subjects.CATALOG_BUCKET}.tool."
    try:
        info = await administration.api(
            client, f"STREAM.INFO.KV_{subjects.CATALOG_BUCKET}", {"subjects_filter": f"{every}>"}
        )
    except administration.JetStreamError:
        return frozenset()
    return frozenset(name.removeprefix(every) for name in info.get("state", {}).get("subjects") or ())


async def _gateway(target: str) -> Finding:
    async with open_channel(target) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_ASK)
        except grpc.aio.AioRpcError as error:
            message = f"{target} does not answer: {error.code().name} {error.details() or ''}".strip()
            return Finding(Level.PROBLEM, "gateways", message, "is it started, and is this its address for callers?")
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return Finding(Level.OK, "gateways", f"{target} takes calls")
    mend = "it drains, or has no NATS, no streams or no worker: its log says which"
    return Finding(Level.PROBLEM, "gateways", f"{target} answers and takes no calls", mend)


async def _ops(url: str, instances: list[Instance]) -> list[Finding]:
    url = url.rstrip("/")
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ASK)) as session:
            statuses = []
            for path in ("/livez", "/readyz"):
                async with session.get(url + path) as response:
                    statuses.append(response.status)
            async with session.get(f"{url}/metrics") as response:
                text = await response.text()
    except (aiohttp.ClientError, TimeoutError) as error:
        message = f"{url} does not answer: {error or type(error).__name__}"
        return [Finding(Level.PROBLEM, "processes", message, "is it started, and is this its PARLEY_*_OPS_LISTEN?")]
    for info in _target_infos(text):
        kind = info.get("service_name", "?").removeprefix("parley-")
        instances.append(Instance(kind, info.get("service_instance_id", url), info.get("service_version", "")))
    if statuses == [200, 200]:
        return [Finding(Level.OK, "processes", f"{url} is alive and ready")]
    what = "is not ready" if statuses[0] == 200 else "is not alive"
    return [Finding(Level.PROBLEM, "processes", f"{url} {what}", "its log says why; RUNBOOK.md has the ways")]


def _target_infos(text: str) -> Iterable[dict[str, Any]]:
    with contextlib.suppress(ValueError):
        for family in text_string_to_metric_families(text):
            if family.name == "target_info":
                yield from (sample.labels for sample in family.samples)


async def _otlp(endpoint: str, what: str, method: str) -> Finding:
    target = endpoint.partition("://")[2].rstrip("/")
    credentials = grpc.ssl_channel_credentials() if endpoint.startswith("https://") else None
    made = grpc.aio.insecure_channel(target) if credentials is None else grpc.aio.secure_channel(target, credentials)
    async with made as channel:
        try:
            export: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
            await export(b"", timeout=_ASK)  # of nothing
        except grpc.aio.AioRpcError as error:
            message = f"{endpoint} takes no {what}: {error.code().name} {error.details() or ''}".strip()
            mend = "calls go on without; start the collector, or mend the OTLP endpoint of the services"
            return Finding(Level.PROBLEM, "telemetry", message, mend)
    return Finding(Level.OK, "telemetry", f"{endpoint} takes {what}")
