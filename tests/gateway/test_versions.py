"""Neighbouring releases work together: callers and workers of the release before, and of the commit before, with the
gateway of today."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from parley.v1 import fabric_pb2, live_pb2, sessions_pb2
from parley.v1.sessions_pb2_grpc import SessionServiceStub
from services.fabric import subjects
from services.gateway.server import Gateway
from tests.gateway.conftest import KEY, StartGateway, channel_to, converse, opened, read
from tests.gateway.fake_worker import FakeWorker, text
from tests.support import old_stubs
from tests.support.eventually import eventually
from tests.support.nats import NatsServer

NEW = {"thinking_budget_tokens", "include_thoughts", "google_search", "resumption", "conversation_log"}
FIELD_99 = b"\x9a\x06\x03new"  # field 99 of a later release: three bytes


@dataclass(frozen=True)
class Old:
    """What a process of before runs with."""

    environment: dict[str, str]
    lacks: set[str]
    """Settings that it does not know."""


@pytest.fixture(scope="module", params=["baseline", "previous commit"])
def old(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Old:
    folder = tmp_path_factory.mktemp("old")
    if request.param == "baseline":
        return Old(old_stubs.environment(old_stubs.of_baseline(folder)), NEW)
    stubs = old_stubs.of_previous_commit(folder)
    if stubs is None:
        pytest.skip("the clone has no commit before this one; the older stubs of the baseline are tested all the same")
    return Old(old_stubs.environment(stubs), set())


async def test_a_caller_of_the_release_before(
    nats: NatsServer, worker: FakeWorker, start_gateway: StartGateway, old: Old
) -> None:
    gateway = await start_gateway(nats.url, development=True, api_keys_file="")
    command = [sys.executable, "-m", "tests.support.old_caller", gateway.address, "support"]
    caller = await asyncio.create_subprocess_exec(*command, env=old.environment, stdout=subprocess.PIPE)
    try:
        await eventually(lambda: worker.requests)
        (session,) = worker.sessions
        news = live_pb2.ConverseResponse(seq=2, turn_complete=live_pb2.TurnComplete()).SerializeToString() + FIELD_99
        later = fabric_pb2.DownlinkItem(response=news, seq=2)
        await worker.say(session, text(1), later, stream_end=fabric_pb2.StreamEnd())
        out, _ = await asyncio.wait_for(caller.communicate(), 20)
    finally:
        if caller.returncode is None:
            caller.kill()
    got = json.loads(out)
    assert not old.lacks & set(got["fields"])  # it is of the release before
    assert (got["status"], got["kinds"]) == ("OK", ["opened", "text", "turn_complete"])
    assert got["unknown"] == 1  # what a later release says passes through


async def test_a_worker_of_the_release_before(nats: NatsServer, start_gateway: StartGateway, old: Old) -> None:
    gateway = await start_gateway(nats.url, ready=False, development=True, api_keys_file="")
    command = [sys.executable, "-m", "tests.support.old_worker", nats.url]
    worker = await asyncio.create_subprocess_exec(
        *command, env=old.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert worker.stdout is not None and worker.stdin is not None
    try:
        ready = json.loads(await asyncio.wait_for(worker.stdout.readline(), 20))
        assert not old.lacks & set(ready["fields"])
        await eventually(gateway.ready)
        config = live_pb2.SessionConfig(
            model="gemini-3.8-live",
            google_search=True,
            resumption=live_pb2.Resumption(disabled=True),
            conversation_log=live_pb2.ConversationLog(disabled=True),
        )
        async with channel_to(gateway) as channel:
            call = converse(channel, key="")
            await opened(call, live_pb2.ConverseRequest(open=live_pb2.Open(request_id="new", config=config)))
            later = (
                live_pb2.ConverseRequest(seq=1, text=live_pb2.TextInput(text="hello")).SerializeToString() + FIELD_99
            )
            await call.write(live_pb2.ConverseRequest.FromString(later))
            answer = await read(call, 20)
            call.cancel()
        assert answer.text.text == "from the release before"
        told = json.loads(await asyncio.wait_for(worker.stdout.readline(), 20))
        worker.stdin.close()
        await asyncio.wait_for(worker.wait(), 20)
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
    # What it does not know it keeps and passes on.
    assert live_pb2.SessionConfig.FromString(bytes.fromhex(told["config"])) == config
    assert told["raw"] == [later.hex()]


async def test_records_and_envelopes_of_a_later_release(gateway: Gateway, worker: FakeWorker) -> None:
    """A higher schema version and fields without a name here are no reason to drop anything."""
    async with channel_to(gateway) as channel:
        call = converse(channel)
        session = (await opened(call)).session_id
        envelope = fabric_pb2.DownlinkEnvelope(
            schema_version=2, epoch=1, attach_generation=1, items=[text(1, "later")], last_seq=1
        )
        data = envelope.SerializeToString() + FIELD_99
        await worker.client.publish(subjects.downlink(worker.gateways[session], session), data)
        assert (await read(call)).text.text == "later"
        own = await worker.records.read_own(session)
        assert own is not None
        record = fabric_pb2.OwnRecord.FromString(own[0].SerializeToString() + FIELD_99)
        record.schema_version = 2
        await worker.records._compare_and_set(session, own[1], record, None)
        found = await get(channel, session)
        assert found.session_id == session
        call.cancel()


async def get(channel: Any, session: str) -> sessions_pb2.Session:

    metadata = (("authorization", f"Bearer {KEY}"),)
    answer = await SessionServiceStub(channel).GetSession(
        sessions_pb2.GetSessionRequest(session_id=session), metadata=metadata
    )
    return answer.session


def test_the_baseline_is_not_todays() -> None:
    """Otherwise the tests above compare today with itself."""
    baseline = old_stubs.BASELINE.read_bytes()
    assert all(name.encode() not in baseline for name in NEW)
