from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import nats as nats_py
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from services.fabric.conversation_log import ensure_log
from services.fabric.records import SessionRecords
from tests.support.nats import NatsServer, running_nats_server


@pytest.fixture(scope="package")
def nats() -> Iterator[NatsServer]:
    with running_nats_server() as server:
        yield server


@pytest.fixture
async def client(nats: NatsServer) -> AsyncIterator[Client]:
    connection = await nats_py.connect(nats.url)
    yield connection
    await connection.close()


@pytest.fixture
async def js(client: Client) -> JetStreamContext:
    return client.jetstream(timeout=5)


@pytest.fixture
async def records(js: JetStreamContext) -> SessionRecords:
    records = SessionRecords(js)
    await records.ensure(1)
    await ensure_log(js, 1, timedelta(hours=1))
    return records
