"""What is wrong is told with the right status and names its cause; nothing is left behind."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

import parley
from parley import errors, events
from parley._status import from_rpc_error
from parley.cli.stack import Stack, StackConfig
from parley.conformance.gateway_checks import GATEWAY_CHECKS, Refused
from parley.conformance.gateway_run import run_gateway_checks
from parley.v1 import live_pb2, live_pb2_grpc
from tests.support.counts import get_text, heard, held, http_status
from tests.support.eventually import eventually
from tests.support.prometheus import samples_in

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

KEY = "a-test-key-of-the-support-team"
PROFILES = Path(__file__).parents[1] / "data" / "profiles"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    keys = tmp_path_factory.mktemp("keys") / "keys.yaml"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    keys.write_text(f"keys:\n  - tenant: support\n    principal: bot\n    sha256: {digest}\n")
    env = {
        "PARLEY_GATEWAY_DEVELOPMENT": "false",
        "PARLEY_GATEWAY_API_KEYS_FILE": str(keys),
        "PARLEY_WORKER_RESUME_WINDOW": "500ms",
        "PARLEY_WORKER_RECORD_RETENTION": "0",
        # What happened to a session is kept for longer than the session, on purpose.
        "PARLEY_WORKER_TIMELINE_RETENTION": "1s",
        "PARLEY_GATEWAY_TIMELINE_RETENTION": "1s",
        # Where model or message bus stay away, tests do not wait for as long as callers do.
        "PARLEY_WORKER_RECOVERY_TIME": "1s",
        "PARLEY_GATEWAY_FABRIC_WAIT": "2s",
        "PARLEY_TOOLS_MODULES": '["tests.support.bad_tools"]',
    }
    config = StackConfig(workers=1, gateways=1, env=env, profiles_dir=PROFILES)
    async with Stack(config) as running:
        yield running


def address(stack: Stack) -> str:
    return str(stack.gateways[0].ready["address"])


async def nothing_left(stack: Stack) -> None:
    async def empty() -> bool:
        now = await held(stack)
        assert not any(now.sessions.values()), now.sessions
        leftovers = {name: count for name, count in now.messages.items() if name != "KV_PARLEY_CATALOG"}
        assert not any(leftovers.values()), leftovers
        return True

    await eventually(empty)


async def converse(
    stack: Stack, requests: Sequence[live_pb2.ConverseRequest], key: str = KEY
) -> tuple[grpc.StatusCode, errors.ParleyError | None, list[live_pb2.ConverseResponse]]:
    """Bare stubs: send these, read to the end."""
    responses: list[live_pb2.ConverseResponse] = []
    async with grpc.aio.insecure_channel(address(stack)) as channel:
        call = live_pb2_grpc.LiveServiceStub(channel).Converse(
            iter(requests), metadata=(("authorization", f"Bearer {key}"),), timeout=30
        )
        try:
            async for response in call:
                responses.append(response)
        except grpc.aio.AioRpcError as error:
            return error.code(), from_rpc_error(error), responses
        return await call.code(), None, responses


def opening(**fields: object) -> live_pb2.ConverseRequest:
    wanted = {"request_id": "half-close", "profile": "plain", **fields}
    return live_pb2.ConverseRequest(open=live_pb2.Open(**wanted))  # type: ignore[arg-type]


async def test_the_first_message_must_be_open(stack: Stack) -> None:
    request = live_pb2.ConverseRequest(seq=1, text=live_pb2.TextInput(text="hi"))
    status, error, responses = await converse(stack, [request])
    assert status is grpc.StatusCode.INVALID_ARGUMENT
    assert error is not None
    assert error.reason == "OPEN_MISPLACED"
    assert [violation.field for violation in error.field_violations] == ["open"]
    assert not responses
    await nothing_left(stack)


async def test_an_unknown_profile_is_named(stack: Stack) -> None:
    with pytest.raises(errors.NotFound) as caught:
        async with parley.connect(address(stack), profile="no-such", api_key=KEY):
            pass
    assert caught.value.reason == "PROFILE_UNKNOWN"
    assert "no-such" in caught.value.message
    await nothing_left(stack)


async def test_a_wrong_key_is_refused(stack: Stack) -> None:
    for key in ("wrong", ""):
        with pytest.raises(errors.Unauthenticated) as caught:
            async with parley.connect(address(stack), profile="plain", api_key=key or None):
                pass
        assert caught.value.reason == "CREDENTIAL_INVALID"
    await nothing_left(stack)


@pytest.mark.parametrize(
    ("question", "outcome", "words"),
    [("where is my order 4711", "FAILED", "boom"), ("what is the weather in paris", "TIMED_OUT", "")],
)
async def test_a_tool_that_raises_or_hangs_is_told_to_model_and_caller(
    stack: Stack, question: str, outcome: str, words: str
) -> None:
    async with parley.connect(address(stack), profile="support", api_key=KEY) as session:
        await session.send_text(question)
        finished: list[events.ToolActivity] = []
        answered = False
        async for event in session:
            if isinstance(event, events.ToolActivity) and event.outcome:
                finished.append(event)
            answered = answered or (bool(finished) and isinstance(event, events.Audio))
            if isinstance(event, events.TurnComplete) and answered:
                break
        assert [activity.outcome for activity in finished] == [outcome]
        assert words in finished[0].message
        assert "Traceback" not in finished[0].message
    await nothing_left(stack)


async def test_a_caller_that_is_gone_in_the_middle_leaves_nothing(stack: Stack) -> None:
    with pytest.raises(ConnectionError):
        async with parley.connect(address(stack), profile="plain", api_key=KEY) as session:
            await session.send_audio(bytes(6400))
            raise ConnectionError
    await nothing_left(stack)


async def refusals(stack: Stack) -> Counter[str]:
    """How often the gateway has refused, by reason."""
    found: Counter[str] = Counter()
    for sample in samples_in(await get_text(f"{stack.gateways[0].ready['ops']}/metrics")):
        if sample.name == "parley_gateway_refusals_total":
            labels = sample.labels
            found[labels.get("parley_error_reason") or f"status {labels['rpc_grpc_status_code']}"] += int(sample.value)
    return found


async def test_every_mistake_of_the_table_is_told_and_counted_and_leaves_nothing(stack: Stack) -> None:
    before = await refusals(stack)
    checks = list(GATEWAY_CHECKS.values())
    run = run_gateway_checks(checks, address(stack), api_key=KEY, profile="plain", limit=20)
    outcomes = [outcome async for outcome in run]
    assert [outcome.line() for outcome in outcomes if not outcome.passed] == []
    wanted = Counter(check.expected.reason for check in checks if isinstance(check.expected, Refused))
    counted = await refusals(stack) - before
    assert {reason: counted[reason] for reason in wanted} == dict(wanted)
    await nothing_left(stack)


async def _with_metadata(stack: Stack, entries: int) -> grpc.aio.AioRpcError:
    metadata = (("authorization", f"Bearer {KEY}"), *((f"x-bomb-{n}", "x" * 4096) for n in range(entries)))
    async with grpc.aio.insecure_channel(address(stack)) as channel:
        # Without a message: metadata is looked at first, and a write that fails as the call ends takes the place of the
        # status that the service gave, with grpc.aio's "Internal error from Core".
        call = live_pb2_grpc.LiveServiceStub(channel).Converse(iter(()), metadata=metadata, timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in call:
                pass
    return refused.value


async def test_too_much_metadata_is_refused_with_details_and_counted(stack: Stack) -> None:
    before = await refusals(stack)
    refused = from_rpc_error(await _with_metadata(stack, 4))
    assert isinstance(refused, errors.InvalidRequest)
    assert [violation.field for violation in refused.field_violations] == ["metadata"]
    assert await refusals(stack) - before == Counter({"FIELD_INVALID": 1})
    await nothing_left(stack)


async def test_metadata_without_bounds_is_refused_by_grpc_and_harms_nobody(stack: Stack) -> None:
    assert (await _with_metadata(stack, 32)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status, _, _ = await converse(
        stack, [opening(request_id="after-bomb"), live_pb2.ConverseRequest(seq=1, end=live_pb2.End())]
    )
    assert status is grpc.StatusCode.OK
    await nothing_left(stack)


async def test_a_deadline_that_expires_in_mid_call_is_counted_and_leaves_nothing(stack: Stack) -> None:
    before = await refusals(stack)
    async with grpc.aio.insecure_channel(address(stack)) as channel:
        metadata = (("authorization", f"Bearer {KEY}"),)
        call = live_pb2_grpc.LiveServiceStub(channel).Converse(metadata=metadata, timeout=1.5)
        await call.write(opening(request_id="deadline"))
        with pytest.raises(grpc.aio.AioRpcError) as expired:
            async for _ in call:
                pass
        assert expired.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await nothing_left(stack)
    expired_code = grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    counted = await refusals(stack) - before
    assert counted == Counter({f"status {expired_code}": 1})


async def test_a_deadline_that_a_caller_does_not_wait_for_is_no_refusal(stack: Stack) -> None:
    before = await refusals(stack)
    async with grpc.aio.insecure_channel(address(stack)) as channel:
        metadata = (("authorization", f"Bearer {KEY}"),)
        call = live_pb2_grpc.LiveServiceStub(channel).Converse(metadata=metadata, timeout=60)
        await call.write(opening(request_id="gone"))
        first = await call.read()
        assert isinstance(first, live_pb2.ConverseResponse)
        assert first.HasField("opened")
        call.cancel()
    await nothing_left(stack)
    assert await refusals(stack) == before


async def test_of_audio_that_comes_far_too_fast_nothing_is_lost_in_silence(stack: Stack) -> None:
    """Three minutes at once, and a question: what is not heard is named, and the question is answered."""
    second, count = bytes(32_000), 180
    requests = [
        opening(request_id="flood"),
        *(live_pb2.ConverseRequest(seq=n + 1, audio=live_pb2.AudioInput(frames=[second])) for n in range(count)),
        live_pb2.ConverseRequest(seq=count + 1, text=live_pb2.TextInput(text="hello")),
    ]
    status, _, responses = await converse(stack, requests)
    assert status is grpc.StatusCode.OK
    (first,) = [response.opened for response in responses if response.HasField("opened")]
    gaps = [response.gap for response in responses if response.HasField("gap")]
    record = await heard(stack, first.session_id)
    missing = sum(gap.to_seq - gap.from_seq + 1 for gap in gaps)
    assert record["audio"]["bytes"] + missing * len(second) == count * len(second)
    assert record["texts"] == ["hello"]
    await nothing_left(stack)


async def test_a_caller_that_reads_nothing_harms_nobody_and_leaves_nothing(stack: Stack) -> None:
    async with grpc.aio.insecure_channel(address(stack)) as channel:
        metadata = (("authorization", f"Bearer {KEY}"),)
        call = live_pb2_grpc.LiveServiceStub(channel).Converse(metadata=metadata, timeout=60)
        await call.write(opening(request_id="no-reader"))
        for seq in (1, 2, 3):
            await call.write(live_pb2.ConverseRequest(seq=seq, text=live_pb2.TextInput(text="what can you do")))
        # Beside it another is served, with as much to say.
        async with parley.connect(address(stack), profile="plain", api_key=KEY) as session:
            await session.send_text("what can you do")
            async for event in session:
                if isinstance(event, events.GenerationComplete):
                    break
        call.cancel()
    await nothing_left(stack)


async def test_half_close_gets_the_answer_and_then_status_ok(stack: Stack) -> None:
    requests = [opening(), live_pb2.ConverseRequest(seq=1, text=live_pb2.TextInput(text="hello"))]
    status, error, responses = await converse(stack, requests)
    assert (status, error) == (grpc.StatusCode.OK, None)
    kinds = [response.WhichOneof("payload") for response in responses]
    assert kinds[0] == "opened"
    assert "audio" in kinds
    assert "turn_complete" in kinds
    await nothing_left(stack)


async def test_a_repeated_open_finds_the_session_of_the_first(stack: Stack) -> None:
    async with (
        parley.connect(address(stack), profile="plain", api_key=KEY, request_id="same") as first,
        parley.connect(address(stack), profile="plain", api_key=KEY, request_id="same") as second,
    ):
        assert first.id == second.id
        with pytest.raises(errors.Superseded):
            async for _ in first:
                pass
    await nothing_left(stack)


async def test_without_an_emulator_opens_are_unavailable_and_calls_end(stack: Stack) -> None:
    assert stack.emulator is not None
    with pytest.raises(errors.Unavailable) as cut:
        async with parley.connect(address(stack), profile="plain", api_key=KEY) as session:
            await stack.emulator.stop(10)
            async for _ in session:
                pass
    assert cut.value.reason == "BACKEND_UNAVAILABLE"
    with pytest.raises(errors.Unavailable) as refused:
        async with parley.connect(address(stack), profile="plain", api_key=KEY, max_outage=timedelta(0)):
            pass
    assert refused.value.reason == "BACKEND_UNAVAILABLE"
    assert refused.value.retry_delay


async def test_without_a_worker_opens_say_when_to_try_again(stack: Stack) -> None:
    for worker in stack.workers:
        await worker.stop(10)
    ready = stack.gateways[0].ready["ops"] + "/readyz"
    await eventually(lambda: _is(ready, 503))
    with pytest.raises(errors.Unavailable) as caught:
        async with parley.connect(address(stack), profile="plain", api_key=KEY, max_outage=timedelta(0)):
            pass
    assert caught.value.reason == "NO_WORKER"
    assert caught.value.retry_delay


async def _is(url: str, status: int) -> bool:
    return await http_status(url) == status


async def test_without_nats_opens_are_unavailable(stack: Stack) -> None:
    await stack.nats.stop(10)
    async with asyncio.timeout(20):
        with pytest.raises(errors.Unavailable) as caught:
            async with parley.connect(address(stack), profile="plain", api_key=KEY, max_outage=timedelta(0)):
                pass
    assert caught.value.reason == "FABRIC_UNAVAILABLE"
    assert caught.value.retry_delay
    assert await http_status(stack.gateways[0].ready["ops"] + "/livez") == 200
