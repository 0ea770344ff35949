"""Functions that the caller runs, beside those of the tools service, and what changes in mid-session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

import parley
from parley import errors, events
from parley.cli.stack import Stack, StackConfig
from parley.v1 import live_pb2
from tests.support.counts import heard

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

MODEL = "gemini-3.8-live"
QUESTION = "where is my order 4711"
ORDER = {"order_id": "4711", "status": "shipped", "arrives": "monday"}
BLOCKING, NON_BLOCKING = live_pb2.TOOL_BEHAVIOR_BLOCKING, live_pb2.TOOL_BEHAVIOR_NON_BLOCKING


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack() -> AsyncIterator[Stack]:
    async with Stack(StackConfig(workers=1, gateways=1)) as running:
        yield running


def address(stack: Stack) -> str:
    return str(stack.gateways[0].ready["address"])


def config(behavior: live_pb2.ToolBehavior = BLOCKING, *tools: str, **fields: Any) -> live_pb2.SessionConfig:
    declaration = live_pb2.FunctionDeclaration(name="lookup_order", description="Finds an order.", behavior=behavior)
    declaration.parameters.update(
        {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]}
    )
    return live_pb2.SessionConfig(
        model=MODEL, tools=tools, caller_tools=[declaration], output_transcription=True, **fields
    )


async def called(session: parley.Session) -> events.ToolCall:
    async for event in session:
        if isinstance(event, events.ToolCall):
            return event
    raise AssertionError("the stream ended before a call")


async def said(session: parley.Session) -> str:
    """What the model says next, as soon as it has been generated: nobody listens to it."""
    words = ""
    async for event in session:
        if isinstance(event, events.OutputTranscript):
            words += event.text
        if isinstance(event, events.GenerationComplete) and words:
            break
    return " ".join(words.split())


@pytest.mark.parametrize("behavior", [BLOCKING, NON_BLOCKING])
async def test_the_caller_answers_a_call_and_the_model_speaks_of_it(
    stack: Stack, behavior: live_pb2.ToolBehavior
) -> None:
    async with parley.connect(address(stack), config=config(behavior, "get_weather")) as session:
        await session.send_text(QUESTION)
        call = await called(session)
        assert (call.name, dict(call.arguments)) == ("lookup_order", {"order_id": "4711"})
        await session.send_tool_result(call.call_id, ORDER)
        assert await said(session) == "order four seven one one is shipped and arrives on monday"
        # The tools service's are there too.
        await session.send_text("what is the weather in paris")
        assert "in paris" in await said(session)
    responses = (await heard(stack, session.id))["tool_responses"]
    assert [one["name"] for one in responses] == ["lookup_order", "get_weather"]
    assert responses[0]["response"] == {"output": ORDER}


async def test_a_failure_is_the_models_to_tell(stack: Stack) -> None:
    async with parley.connect(address(stack), config=config()) as session:
        await session.send_text(QUESTION)
        await session.send_tool_result((await called(session)).call_id, error="no such order")
        assert await said(session) == "sorry i could not find that"


async def test_scheduling_and_results_to_come_reach_the_model(stack: Stack) -> None:
    async with parley.connect(address(stack), config=config(NON_BLOCKING)) as session:
        await session.send_text(QUESTION)
        call = await called(session)
        await session.send_tool_result(call.call_id, {"found": 1}, scheduling="SILENT", will_continue=True)
        await session.send_tool_result(call.call_id, ORDER, scheduling="INTERRUPT")
        assert await said(session) == "order four seven one one is shipped and arrives on monday"
    responses = (await heard(stack, session.id))["tool_responses"]
    assert [one["response"] for one in responses] == [{"output": {"found": 1}}, {"output": ORDER}]


async def test_a_barge_in_cancels_the_call_and_a_late_result_harms_nobody(stack: Stack) -> None:
    async with parley.connect(address(stack), config=config()) as session:
        await session.send_text(QUESTION)
        call = await called(session)
        await session.send_text("hello")
        async for event in session:
            if isinstance(event, events.ToolCallCancelled):
                assert event.call_ids == (call.call_id,)
                break
        await session.send_tool_result(call.call_id, ORDER)
        assert await said(session) == "hello how can i help you"
    record = await heard(stack, session.id)
    assert record["tool_responses"] == []


async def test_a_result_for_no_call_is_told_and_the_session_can_be_resumed(stack: Stack) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        async with parley.connect(address(stack), config=config()) as session:
            opened = session.opened
            await session.send_tool_result("made up", ORDER)
            async for _ in session:
                pass
    assert refused.value.reason == "TOOL_CALL_UNKNOWN"
    assert refused.value.field_violations[0].field == "tool_result.call_id"
    again = parley.Resume(opened.session_id, opened.resume_token)
    async with parley.connect(address(stack), resume=again) as session:
        await session.send_text("hello")
        assert await said(session) == "hello how can i help you"


async def test_instructions_and_tools_change_in_mid_session(stack: Stack) -> None:
    async with parley.connect(address(stack), config=config()) as session:
        await session.send_text("what is the weather in paris")
        assert await said(session) == "sorry i can not do that"
        await session.update_context(instructions="be brief", tools=["get_weather"])
        await session.send_text("what is the weather in paris")
        assert "in paris" in await said(session)
        await session.send_text(QUESTION)
        await session.send_tool_result((await called(session)).call_id, ORDER)
        assert "shipped" in await said(session)
    (update,) = (await heard(stack, session.id))["context_updates"]
    assert update["systemInstruction"]["parts"] == [{"text": "be brief"}]


async def test_an_update_to_tools_that_are_not_there_is_refused(stack: Stack) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        async with parley.connect(address(stack), config=config()) as session:
            await session.update_context(tools=["get_weather", "no_such_tool"])
            async for _ in session:
                pass
    assert refused.value.reason == "TOOL_UNKNOWN"
    assert refused.value.field_violations[0].field == "context_update.tools.names[1]"
