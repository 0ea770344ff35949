from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from parley.v1 import live_pb2, live_pb2_grpc
from services.fabric.auth import load_keys
from services.gateway.profiles import load_profiles
from services.gateway.server import Gateway
from services.gateway.settings import GatewaySettings
from tests.gateway.fake_worker import FakeWorker, start_worker
from tests.support.eventually import eventually
from tests.support.nats import NatsServer, nats_server, running_nats_server

KEY = "key-of-acme"
OTHER_KEY = "key-of-umbrella"
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def nats() -> Iterator[NatsServer]:
    with running_nats_server() as server:
        yield server


@pytest.fixture
async def own_nats() -> AsyncIterator[NatsServer]:
    """For one test alone. Named before `start_gateway`: gateways that lose it wait for it as they stop."""
    async with nats_server() as server:
        yield server


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "support.yaml").write_text(
        "model: gemini-3.8-live\ninstructions: Be brief.\ninput_transcription: true\n"
    )
    lines = ["keys:"]
    for tenant, key in (("acme", KEY), ("umbrella", OTHER_KEY)):
        digest = hashlib.sha256(key.encode()).hexdigest()
        operator = str(key == KEY).lower()
        lines.append(f"  - {{tenant: {tenant}, principal: {tenant}-bot, sha256: {digest}, operator: {operator}}}")
    (tmp_path / "keys.yaml").write_text("\n".join(lines))
    return tmp_path


StartGateway = Callable[..., Awaitable[Gateway]]


@pytest.fixture
async def start_gateway(files: Path) -> AsyncIterator[StartGateway]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(url: str, *, ready: bool = True, **changes: Any) -> Gateway:
            values: dict[str, Any] = {
                "nats_url": url,
                "listen": "127.0.0.1:0",
                "api_keys_file": str(files / "keys.yaml"),
                "profiles_dir": str(files / "profiles"),
                "shutdown_grace": "50ms",
                **changes,
            }
            settings = GatewaySettings(**values)
            keys = load_keys(Path(settings.api_keys_file)) if settings.api_keys_file else []
            gateway = Gateway(settings, keys, load_profiles(Path(settings.profiles_dir)))
            await gateway.start()
            stack.push_async_callback(gateway.stop)
            if ready:
                await eventually(gateway.ready)
            return gateway

        yield start


@pytest.fixture
async def worker(nats: NatsServer) -> AsyncIterator[FakeWorker]:
    started = await start_worker(nats.url)
    yield started
    await started.stop()


@pytest.fixture
async def gateway(nats: NatsServer, worker: FakeWorker, start_gateway: StartGateway) -> Gateway:
    return await start_gateway(nats.url)


@contextlib.asynccontextmanager
async def channel_to(gateway: Gateway) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        yield channel


@pytest.fixture
async def channel(gateway: Gateway) -> AsyncIterator[grpc.aio.Channel]:
    async with channel_to(gateway) as opened:
        yield opened


def converse(channel: grpc.aio.Channel, key: str = KEY, **options: Any) -> Any:
    metadata = [("authorization", f"Bearer {key}")] if key else []
    metadata += options.pop("metadata", [])
    return live_pb2_grpc.LiveServiceStub(channel).Converse(metadata=metadata, **options)


def open_request(request_id: str = "", profile: str = "support", **fields: Any) -> live_pb2.ConverseRequest:
    request_id = request_id or f"request-{next(_NUMBERS)}"
    return live_pb2.ConverseRequest(open=live_pb2.Open(request_id=request_id, profile=profile, **fields))


async def read(call: Any, timeout: float = 20.0) -> live_pb2.ConverseResponse:
    async with asyncio.timeout(timeout):
        response = await call.read()
    assert isinstance(response, live_pb2.ConverseResponse), response
    return response


async def opened(call: Any, request: live_pb2.ConverseRequest | None = None) -> live_pb2.Opened:
    await call.write(request or open_request())
    response = await read(call)
    assert response.WhichOneof("payload") == "opened"
    return response.opened


class Refusal:
    """How a call ended badly."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code()
        self.message = error.details() or ""
        self.reason = ""
        self.fields: list[str] = []
        self.retry: float | None = None
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
        for detail in status.details if status else ():
            info, bad, retry = (
                error_details_pb2.ErrorInfo(),
                error_details_pb2.BadRequest(),
                error_details_pb2.RetryInfo(),
            )
            if detail.Unpack(info):
                self.reason = info.reason
                assert info.domain == "parley"
            elif detail.Unpack(bad):
                self.fields = [violation.field for violation in bad.field_violations]
            elif detail.Unpack(retry):
                self.retry = retry.retry_delay.ToTimedelta().total_seconds()


async def refusal(call: Any, timeout: float = 30.0) -> Refusal:
    """Read until the call fails."""
    try:
        async with asyncio.timeout(timeout):
            while (await call.read()) is not grpc.aio.EOF:
                pass
    except grpc.aio.AioRpcError as error:
        return Refusal(error)
    raise AssertionError(f"ended with {await call.code()}")
