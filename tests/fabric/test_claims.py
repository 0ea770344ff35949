"""Claims of tool calls on a real nats-server: the first writer decides, and only the owner of the session is one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from nats.js import JetStreamContext

from parley.v1 import fabric_pb2, live_pb2
from services.fabric import ids, subjects
from services.fabric.claims import MAX_ARGUMENTS, Claims, answer, not_run, unknown
from services.fabric.errors import ServiceError
from services.fabric.records import FencedError, SessionRecords
from tests.fabric.test_records import STREAM, own_record, take_over

Check = Callable[[SessionRecords, Claims, JetStreamContext], Awaitable[None]]


@pytest.fixture
def claims(js: JetStreamContext) -> Claims:
    return Claims(js)


def record(execution: str = "exe_1", **fields: Any) -> fabric_pb2.ClaimRecord:
    values: dict[str, Any] = {"turn": 1, "number": 1, "tool": "pay", "executor": "svc", **fields}
    return fabric_pb2.ClaimRecord(
        schema_version=1, state=fabric_pb2.CLAIM_STATE_RUNNING, execution_id=execution, **values
    )


def succeeded(output: str = '{"paid":1}') -> fabric_pb2.ToolCallReply:
    return fabric_pb2.ToolCallReply(
        schema_version=1,
        outcome=live_pb2.TOOL_OUTCOME_SUCCEEDED,
        output_json=output,
        status=fabric_pb2.CALL_STATUS_ENDED,
    )


async def opened(records: SessionRecords) -> tuple[str, int]:
    session = ids.session_id()
    return session, await records.create_own(session, own_record(session))


async def the_first_of_many_claims_stands(records: SessionRecords, claims: Claims, _js: JetStreamContext) -> None:
    session, own = await opened(records)
    found = await asyncio.gather(*(claims.create(session, "k", own, record(f"exe_{n}")) for n in range(20)))
    assert len({(claim.record.execution_id, claim.revision) for claim in found}) == 1
    assert await claims.read(session, "k") == found[0]


async def an_owner_of_the_past_claims_nothing(records: SessionRecords, claims: Claims, js: JetStreamContext) -> None:
    session, old = await opened(records)
    new = await take_over(js, session, old)
    with pytest.raises(FencedError):
        await claims.create(session, "k", old, record())
    assert await claims.read(session, "k") is None
    assert (await claims.create(session, "k", new, record("exe_2"))).record.execution_id == "exe_2"


CHECKS: list[Check] = [the_first_of_many_claims_stands, an_owner_of_the_past_claims_nothing]


@pytest.mark.parametrize("check", CHECKS)
async def test_a_call_is_claimed_once_and_by_the_owner(
    check: Check, records: SessionRecords, claims: Claims, js: JetStreamContext
) -> None:
    await check(records, claims, js)


@pytest.mark.parametrize(("check", "lost"), list(zip(CHECKS, ("create_only", "fence"), strict=True)))
async def test_a_claim_without_its_fences_is_noticed(
    check: Check, lost: str, records: SessionRecords, js: JetStreamContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sabotage: the server is not asked to refuse what it must refuse."""
    publish = Claims._publish

    async def weak(self: Claims, subject: str, payload: bytes, headers: dict[str, str]) -> int:
        weaker = {"Nats-Rollup": "sub", **headers} if lost == "create_only" else {}
        return await publish(self, subject, payload, weaker)

    monkeypatch.setattr(Claims, "_publish", weak)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await check(records, Claims(js), js)


async def test_a_session_that_does_not_exist_has_no_claims(claims: Claims) -> None:
    session = ids.session_id()
    with pytest.raises(FencedError):
        await claims.create(session, "k", 4711, record())
    assert await claims.read(session, "k") is None
    assert await claims.all(session) == []


@pytest.mark.parametrize("written", [True, False])
async def test_a_claim_whose_write_timed_out_is_ours_when_it_is_there(
    records: SessionRecords, claims: Claims, js: JetStreamContext, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    session, own = await opened(records)
    publish, timeouts = js.publish, [1]

    async def late(*args: Any, **values: Any) -> Any:
        if timeouts:
            timeouts.pop()
            if written:
                await publish(*args, **values)
            raise TimeoutError
        return await publish(*args, **values)

    monkeypatch.setattr(js, "publish", late)
    claim = await claims.create(session, "k", own, record())
    assert claim.record == record()
    assert await claims.read(session, "k") == claim


async def test_without_jetstream_nothing_is_claimed(records: SessionRecords, claims: Claims) -> None:
    session, own = await opened(records)
    await claims._js.delete_stream(STREAM)
    try:
        with pytest.raises(ServiceError, match="FABRIC_UNAVAILABLE"):
            await claims.create(session, "k", own, record())
    finally:
        await records.ensure(1)


async def test_the_first_outcome_stays(records: SessionRecords, claims: Claims) -> None:
    session, own = await opened(records)
    claim = await claims.create(session, "k", own, record())
    assert not claim.settled
    assert answer(claim).status == fabric_pb2.CALL_STATUS_RUNNING
    first = await claims.settle(session, claim, succeeded())
    assert first.record.state == fabric_pb2.CLAIM_STATE_SETTLED
    assert await claims.settle(session, claim, unknown("pay")) == first  # from a writer that has not seen it
    assert await claims.settle(session, first, unknown("pay")) == first
    assert answer(first) == succeeded()
    assert await claims.create(session, "k", own, record("exe_2")) == first


async def test_a_call_given_up_is_never_run_and_one_that_runs_is_not_given_up(
    records: SessionRecords, claims: Claims
) -> None:
    session, own = await opened(records)
    abandoned = fabric_pb2.ClaimRecord(state=fabric_pb2.CLAIM_STATE_ABANDONED, outcome=not_run("too late"))
    given_up = await claims.create(session, "k", own, abandoned)
    assert given_up.settled
    assert await claims.create(session, "k", own, record()) == given_up
    assert answer(given_up).error == "not run: too late"
    running = await claims.create(session, "other", own, record())
    assert await claims.create(session, "other", own, abandoned) == running


async def test_an_outcome_counts_after_a_takeover(
    records: SessionRecords, claims: Claims, js: JetStreamContext
) -> None:
    session, own = await opened(records)
    claim = await claims.create(session, "k", own, record())
    new = await take_over(js, session, own)
    settled = await claims.settle(session, claim, succeeded())
    assert await claims.create(session, "k", new, record("exe_2")) == settled


async def test_one_takes_the_place_of_a_dead_executor_and_the_dead_one_changes_nothing(
    records: SessionRecords, claims: Claims
) -> None:
    session, own = await opened(records)
    claim = await claims.create(session, "k", own, record())
    places = await asyncio.gather(*(claims.replace(session, claim, record(f"again_{n}")) for n in range(5)))
    assert len({place.record.execution_id for place in places}) == 1
    assert await claims.settle(session, claim, succeeded()) == places[0]
    assert (await claims.settle(session, places[0], succeeded())).settled


async def test_with_the_session_its_claims_go_and_none_comes_after(
    records: SessionRecords, claims: Claims, js: JetStreamContext
) -> None:
    session, own = await opened(records)
    running = await claims.create(session, "running", own, record())
    await claims.settle(session, await claims.create(session, "settled", own, record()), succeeded())
    await records.end_own(session, own, own_record(session, "ended"), timedelta(minutes=5))
    await records.forget_work(session)
    assert await claims.all(session) == []
    with pytest.raises(FencedError):
        await claims.settle(session, running, succeeded())
    with pytest.raises(FencedError):
        await claims.create(session, "late", own, record())
    info = await js.stream_info(STREAM, subjects_filter=subjects.session_records(session))
    assert info.state.subjects == {subjects.own(session): 1}


async def test_all_claims_of_a_session_in_the_order_of_the_calls(records: SessionRecords, claims: Claims) -> None:
    session, own = await opened(records)
    other, other_own = await opened(records)
    await claims.create(other, "x", other_own, record())
    for key, turn, number in (("d", 2, 2), ("a", 1, 1), ("c", 2, 1), ("b", 1, 10)):
        await claims.create(session, key, own, record(turn=turn, number=number))
    settled = await claims.settle(session, (await claims.all(session))[0], succeeded())
    found = await claims.all(session)
    assert [claim.key for claim in found] == ["a", "b", "c", "d"]
    assert found[0] == settled


async def test_the_largest_call_fits_into_a_claim(records: SessionRecords, claims: Claims) -> None:
    session, own = await opened(records)
    arguments = '"' + "a" * (MAX_ARGUMENTS - 2) + '"'
    claim = await claims.create(session, "k", own, record(arguments_json=arguments))
    largest = succeeded('{"result":"' + "b" * (900 * 1024 - 13) + '"}')
    claim = await claims.settle(session, claim, largest)
    assert answer(claim) == largest
    await claims.shorten(session, "k")
    short = await claims.read(session, "k")
    assert short is not None
    assert short.record.ByteSize() < 200
    assert short.record.outcome.outcome == live_pb2.TOOL_OUTCOME_SUCCEEDED


async def test_only_a_settled_claim_is_shortened(records: SessionRecords, claims: Claims) -> None:
    session, own = await opened(records)
    running = await claims.create(session, "k", own, record(arguments_json="{}"))
    await claims.shorten(session, "k")
    await claims.shorten(session, "nobody's")
    assert await claims.read(session, "k") == running
