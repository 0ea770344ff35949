"""A call of a session has its effect once: real processes, a real nats-server, rows in a real file."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import nats as nats_py
import pytest
from nats.aio.client import Client

from parley.v1 import errors_pb2, fabric_pb2, live_pb2, sessions_pb2
from services.fabric import ids, subjects
from services.fabric.claims import Claim, Claims, not_run
from services.fabric.errors import ServiceError
from services.fabric.records import FencedError, SessionRecords
from services.tools import claimed
from services.tools.claimed import ClaimedCalls
from services.tools.execute import Executor
from services.tools.registry import Registry
from tests.support.eventually import eventually
from tests.support.ledger import Ledger
from tests.support.nats import NatsServer, nats_server
from tests.tools.conftest import ToolsProcess, tools_process

ENDED, NOT_BEGUN = fabric_pb2.CALL_STATUS_ENDED, fabric_pb2.CALL_STATUS_NOT_BEGUN
RUNNING, FENCED = fabric_pb2.CALL_STATUS_RUNNING, fabric_pb2.CALL_STATUS_FENCED
_NUMBERS = itertools.count(1)


class Owner:
    """A worker that has a session, as tools see it."""

    def __init__(self, client: Client, ledger: Ledger) -> None:
        self.client = client
        self.ledger = ledger
        self.records = SessionRecords(client.jetstream())
        self.claims = Claims(client.jetstream())
        self.session = ids.session_id()
        self.own = 0

    async def open(self) -> None:
        await self.records.ensure(1)
        record = fabric_pb2.OwnRecord(session=sessions_pb2.Session(session_id=self.session))
        self.own = await self.records.create_own(self.session, record)

    async def lose(self) -> None:
        """Somebody else takes the session over."""
        await self.client.jetstream().publish(
            subjects.own(self.session),
            fabric_pb2.OwnRecord(request_key="another").SerializeToString(),
            headers={"Nats-Expected-Last-Subject-Sequence": str(self.own), "Nats-Rollup": "sub"},
        )

    def request(self, tool: str = "enter", key: str = "", **fields: Any) -> fabric_pb2.ToolCallRequest:
        values: dict[str, Any] = {"arguments_json": json.dumps(self.ledger.arguments()), "turn": 1, "call_number": 1}
        return fabric_pb2.ToolCallRequest(
            schema_version=1,
            name=tool,
            epoch=1,
            idempotency_key=key or f"key{next(_NUMBERS)}",
            execution_id=ids.sortable_id(),
            **{**values, "session_id": self.session, "own_revision": self.own, **fields},
        )

    async def ask(self, request: fabric_pb2.ToolCallRequest) -> fabric_pb2.ToolCallReply:
        answer = await self.client.request(subjects.tool_call(request.name), request.SerializeToString(), timeout=20)
        return fabric_pb2.ToolCallReply.FromString(answer.data)

    async def call(self, tool: str = "enter", key: str = "", **fields: Any) -> fabric_pb2.ToolCallReply:
        return await self.ask(self.request(tool, key, **fields))

    async def claim(self, key: str) -> Claim:
        found = await self.claims.read(self.session, key)
        assert found is not None
        return found

    async def entered(self, count: int = 1) -> None:
        await eventually(lambda: len(self.ledger.entries()) >= count)


@contextlib.contextmanager
def two_processes(nats: NatsServer, directory: Path, sabotage: str = "") -> Iterator[list[ToolsProcess]]:
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(tools_process(nats.url, directory, ready=False, sabotage=sabotage)) for _ in range(2)
        ]
        for tools in started:
            tools.wait_ready()
        yield started


@pytest.fixture(scope="module")
def two(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ToolsProcess]]:
    """Two instances of the service for all tests that do not end them."""
    with two_processes(nats, tmp_path_factory.mktemp("two")) as started:
        yield started


AnOwner = TypeVar("AnOwner", bound=Owner)


@contextlib.asynccontextmanager
async def owner_at(nats: NatsServer, directory: Path, kind: type[AnOwner] = Owner) -> AsyncIterator[AnOwner]:  # type: ignore[assignment]
    client = await nats_py.connect(nats.url)
    owner = kind(client, Ledger(directory))
    await owner.open()
    yield owner
    await client.close()


@pytest.fixture
async def owner(nats: NatsServer, two: list[ToolsProcess], tmp_path: Path) -> AsyncIterator[Owner]:
    async with owner_at(nats, tmp_path) as started:
        yield started


# Each of these also runs against a service whose claims are worth nothing


async def many_requests_for_one_call_have_one_effect(owner: Owner) -> None:
    requests = [owner.request(key="same") for _ in range(10)]
    requests += requests  # the very same ones, too
    replies = await asyncio.gather(*(owner.ask(request) for request in requests))
    assert owner.ledger.entries() == ["rent"]
    outputs = {reply.output_json for reply in replies if reply.status == ENDED}
    assert outputs == {'{"result":"entered rent"}'}
    assert {reply.status for reply in replies} <= {ENDED, RUNNING}


async def a_request_that_comes_after_it_was_given_up_has_no_effect(owner: Owner) -> None:
    late = owner.request(key="late")
    record = fabric_pb2.ClaimRecord(state=fabric_pb2.CLAIM_STATE_ABANDONED, outcome=not_run("nobody took it"))
    await owner.claims.create(owner.session, "late", owner.own, record)
    reply = await owner.ask(late)
    assert owner.ledger.entries() == []
    assert reply.error == "not run: nobody took it"
    assert (await owner.claim("late")).record == record


async def an_owner_of_the_past_starts_nothing(owner: Owner) -> None:
    stale = owner.request(key="stale")
    await owner.lose()
    reply = await owner.ask(stale)
    assert owner.ledger.entries() == []
    assert reply.status == FENCED
    assert await owner.claims.read(owner.session, "stale") is None


CHECKS: dict[Callable[[Owner], Awaitable[None]], str] = {
    many_requests_for_one_call_have_one_effect: "create_only",
    a_request_that_comes_after_it_was_given_up_has_no_effect: "create_only",
    an_owner_of_the_past_starts_nothing: "fence",
}


@pytest.mark.parametrize("check", CHECKS)
async def test_a_call_has_one_effect(check: Callable[[Owner], Awaitable[None]], owner: Owner) -> None:
    await check(owner)


@pytest.mark.parametrize("lost", sorted(set(CHECKS.values())))
async def test_a_service_without_its_fences_is_noticed(lost: str, tmp_path: Path) -> None:
    async with nats_server() as nats:
        with two_processes(nats, tmp_path, sabotage=lost):
            for number, check in enumerate(check for check, needs in CHECKS.items() if needs == lost):
                directory = tmp_path / str(number)
                directory.mkdir()
                async with owner_at(nats, directory) as owner:
                    with pytest.raises(AssertionError):
                        await check(owner)


async def test_an_outcome_is_stored_and_given_to_whoever_asks_again(owner: Owner) -> None:
    first = await owner.call(key="paid")
    assert (first.status, first.output_json) == (ENDED, '{"result":"entered rent"}')
    claim = await owner.claim("paid")
    assert claim.record.state == fabric_pb2.CLAIM_STATE_SETTLED
    assert claim.record.outcome == first
    assert (claim.record.tool, claim.record.turn, claim.record.number, claim.record.epoch) == ("enter", 1, 1, 1)
    assert await owner.call(key="paid") == first
    assert owner.ledger.entries() == ["rent"]


async def test_a_failure_is_an_outcome_too(owner: Owner) -> None:
    arguments = json.dumps({"kind": "tool"})
    replies = [await owner.call("raises", "fails", arguments_json=arguments) for _ in range(2)]
    assert replies[0] == replies[1]
    assert (replies[0].status, replies[0].error) == (ENDED, "no such table; say so")


async def test_a_call_that_runs_is_not_run_for_somebody_else(owner: Owner) -> None:
    held = json.dumps(owner.ledger.arguments(held=True))
    request = owner.request(key="slow", arguments_json=held)
    running = asyncio.create_task(owner.ask(request))
    await owner.entered()
    # Also where the very same request comes to the process that runs it.
    for again in (owner.request(key="slow", arguments_json=held), *[request] * 6):
        assert (await owner.ask(again)).status == RUNNING
    claim = await owner.claim("slow")
    assert not claim.settled
    assert claim.record.timeout.seconds == 15
    # Its executor can be asked whether it is there.
    assert (await owner.client.request(subjects.tools_ping(claim.record.executor), b"")).data
    owner.ledger.release()
    assert (await running).status == ENDED
    assert len(owner.ledger.entries()) == 1


async def test_wrong_arguments_claim_nothing(owner: Owner) -> None:
    wrong = await owner.call(key="wrong", arguments_json='{"sum":1}')
    assert (wrong.status, wrong.outcome) == (NOT_BEGUN, live_pb2.TOOL_OUTCOME_FAILED)
    assert await owner.claims.read(owner.session, "wrong") is None


async def test_a_session_that_is_over_runs_nothing(owner: Owner) -> None:
    await owner.records.forget(owner.session)
    assert (await owner.call()).status == FENCED
    assert owner.ledger.entries() == []
    assert await owner.claims.all(owner.session) == []


async def test_an_outcome_that_comes_after_the_session_leaves_nothing(owner: Owner) -> None:
    running = asyncio.create_task(owner.call(arguments_json=json.dumps(owner.ledger.arguments(held=True))))
    await owner.entered()
    await owner.records.forget(owner.session)
    owner.ledger.release()
    assert (await running).status == ENDED
    assert await owner.claims.all(owner.session) == []


async def test_a_call_outside_a_session_or_of_an_older_worker_is_not_claimed(owner: Owner) -> None:
    assert (await owner.call(session_id="", own_revision=0)).status == ENDED
    assert (await owner.call(own_revision=0)).status == ENDED
    assert len(owner.ledger.entries()) == 2
    assert await owner.claims.all(owner.session) == []


@pytest.mark.parametrize("fields", [{"key": "a.b"}, {"key": "*"}, {"arguments_json": '"' + "a" * 65_535 + '"'}])
async def test_what_cannot_be_claimed_is_refused(owner: Owner, fields: dict[str, str]) -> None:
    request = owner.request(**fields)
    answer = await owner.client.request(subjects.tool_call("enter"), request.SerializeToString(), timeout=5)
    assert answer.headers is not None
    assert answer.headers["Nats-Service-Error-Code"] == "400"
    assert owner.ledger.entries() == []


async def test_a_cancelled_call_says_so_in_its_claim(owner: Owner) -> None:
    request = owner.request("hang", "cancelled", arguments_json="{}")
    running = asyncio.create_task(owner.ask(request))

    async def claimed() -> bool:
        return await owner.claims.read(owner.session, "cancelled") is not None

    await eventually(claimed)
    await owner.client.publish(subjects.tool_cancel(request.execution_id), b"")
    assert (await running).outcome == live_pb2.TOOL_OUTCOME_CANCELLED
    assert (await owner.claim("cancelled")).record.outcome.outcome == live_pb2.TOOL_OUTCOME_CANCELLED


async def test_one_execution_takes_the_place_of_a_dead_one(owner: Owner) -> None:
    dead = fabric_pb2.ClaimRecord(state=fabric_pb2.CLAIM_STATE_RUNNING, execution_id="exe_dead", executor="gone")
    claim = await owner.claims.create(owner.session, "again", owner.own, dead)
    requests = [owner.request("look", "again", replaces_revision=claim.revision) for _ in range(6)]
    replies = await asyncio.gather(*(owner.ask(request) for request in requests))
    assert {reply.status for reply in replies} <= {ENDED, RUNNING}
    assert ENDED in {reply.status for reply in replies}
    assert owner.ledger.entries() == ["rent"]
    # What the dead one says after all changes nothing.
    assert (await owner.claims.settle(owner.session, claim, not_run("late"))).record.outcome.error == ""


async def test_only_the_owner_replaces_a_dead_execution(owner: Owner) -> None:
    dead = fabric_pb2.ClaimRecord(state=fabric_pb2.CLAIM_STATE_RUNNING, execution_id="exe_dead", executor="gone")
    claim = await owner.claims.create(owner.session, "again", owner.own, dead)
    await owner.lose()
    assert (await owner.call("look", "again", replaces_revision=claim.revision)).status == FENCED
    assert owner.ledger.entries() == []
    with pytest.raises(FencedError):
        await owner.claims.create(owner.session, "new", owner.own, dead)


async def test_without_jetstream_nothing_runs_and_with_it_everything_again(tmp_path: Path) -> None:
    async with nats_server() as nats, owner_at(nats, tmp_path) as owner:
        with tools_process(nats.url, tmp_path) as tools:
            await owner.client.jetstream().delete_stream(subjects.SESSIONS_STREAM)
            refused = await owner.call(key="k")
            assert (refused.status, refused.outcome) == (NOT_BEGUN, live_pb2.TOOL_OUTCOME_FAILED)
            assert refused.error == "not run: the call could not be recorded; try again in a few seconds"
            assert owner.ledger.entries() == []
            assert tools.counts()["unclaimed"] == 1
            await owner.open()
            assert (await owner.call(key="k")).status == ENDED


async def test_an_outcome_waits_for_jetstream_and_its_reply_does_not(tmp_path: Path) -> None:
    async with nats_server() as nats, owner_at(nats, tmp_path) as owner:
        with tools_process(nats.url, tmp_path):
            held = json.dumps(owner.ledger.arguments(held=True))
            running = asyncio.create_task(owner.call(key="k", arguments_json=held))
            await owner.entered()
            claim = await owner.claim("k")
            jetstream = owner.client.jetstream()
            info = await jetstream.stream_info(subjects.SESSIONS_STREAM)
            await jetstream.update_stream(info.config.evolve(max_msg_size=64))  # too small for any outcome
            owner.ledger.release()
            assert (await running).status == ENDED
            assert await owner.claim("k") == claim
            await jetstream.update_stream(info.config)

            async def settled() -> bool:
                return (await owner.claim("k")).settled

            await eventually(settled)


async def test_a_service_that_is_told_to_stop_settles_what_it_cuts_off(tmp_path: Path) -> None:
    async with nats_server() as nats, owner_at(nats, tmp_path) as owner:
        with tools_process(nats.url, tmp_path, shutdown_grace="100ms") as tools:
            held = json.dumps(owner.ledger.arguments(held=True))
            running = asyncio.create_task(owner.call(key="k", arguments_json=held))
            await owner.entered()
            tools.terminate()
            assert (await running).outcome == live_pb2.TOOL_OUTCOME_UNKNOWN
            assert (await owner.claim("k")).record.outcome.outcome == live_pb2.TOOL_OUTCOME_UNKNOWN
            assert await asyncio.to_thread(tools.wait) == 0


async def test_an_outcome_that_jetstream_never_takes_is_given_and_counted(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claimed, "_SETTLE_WAIT", 0.1)
    executor = Executor(Registry(), max_concurrency=1, default_timeout=timedelta(seconds=1), max_result_bytes=1024)
    calls = ClaimedCalls(Claims(owner.client.jetstream(timeout=0.1)), executor)
    record = fabric_pb2.ClaimRecord(state=fabric_pb2.CLAIM_STATE_RUNNING, execution_id="exe_1")
    claim = await owner.claims.create(owner.session, "k", owner.own, record)

    async def away(*_: object) -> int:
        raise ServiceError(errors_pb2.ERROR_REASON_FABRIC_UNAVAILABLE, "no JetStream")

    monkeypatch.setattr(Claims, "_replace", away)
    reply = fabric_pb2.ToolCallReply(outcome=live_pb2.TOOL_OUTCOME_SUCCEEDED, output_json='{"a":1}')
    assert await calls.settle(owner.session, claim, reply) == (reply, None)
    assert calls.unsettled == 1
    assert not (await owner.claim("k")).settled
