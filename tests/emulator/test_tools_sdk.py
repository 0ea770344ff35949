"""Function calls with the unmodified SDK."""

from typing import Any

import pytest
from google.genai import types
from google.genai.live import AsyncSession

from tests.emulator import sdk
from tests.emulator.behaviour import behaviour, patched, without
from tests.emulator.conftest import Here
from tests.emulator.patience import in_time
from tests.emulator.weather import ANSWER, ASKED, PARIS, THINKING


def connection(model: str, **function: Any) -> tuple[str, types.LiveConnectConfig]:
    """What the SDK connects with, to have the weather looked up."""
    city = types.Schema(
        type=types.Type.OBJECT, properties={"city": types.Schema(type=types.Type.STRING)}, required=["city"]
    )
    declaration = types.FunctionDeclaration(name="get_weather", parameters=city, **function)
    thinking = types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW) if model == THINKING else None
    config = types.LiveConnectConfig(
        tools=[types.Tool(function_declarations=[declaration])],
        output_audio_transcription=types.AudioTranscriptionConfig(),
        thinking_config=thinking,
    )
    return model, config


async def receive(live: AsyncSession, answer: dict[str, Any] | None = None) -> list[types.LiveServerMessage]:
    """One ``receive()``; calls in it are answered at once."""
    found = []
    async with in_time(in_vain=1.5):
        async for message in live.receive():
            found.append(message)
            for call in (message.tool_call.function_calls if message.tool_call else None) or ():
                if answer is not None:
                    response = types.FunctionResponse(id=call.id, name=call.name, response=answer)
                    await live.send_tool_response(function_responses=response)
    return found


def words(messages: list[types.LiveServerMessage]) -> str:
    contents = [message.server_content for message in messages if message.server_content]
    return "".join(one.output_transcription.text or "" for one in contents if one.output_transcription).strip()


@pytest.mark.asyncio(loop_scope="module")
class TestSdk:
    """The unmodified Python SDK."""

    @behaviour("10.27", "13.17", off=patched("emulator.mind.planner.fit", lambda *_: {}))
    async def test_it_receives_a_call_as_one_turn_and_its_result_as_another(self, here: Here) -> None:
        model, config = connection("gemini-3.8-live")
        async with sdk.client(here).aio.live.connect(model=model, config=config) as live:
            await sdk.ask(live, ASKED)
            messages = await receive(live)
            calls = [
                call for message in messages if message.tool_call for call in message.tool_call.function_calls or ()
            ]
            assert [(call.name, call.args) for call in calls] == [("get_weather", {"city": "paris"})]
            assert messages[-1].server_content and messages[-1].server_content.turn_complete
            response = types.FunctionResponse(
                id=calls[0].id,
                name="get_weather",
                response=PARIS,
                scheduling=types.FunctionResponseScheduling.WHEN_IDLE,
            )
            await live.send_tool_response(function_responses=response)
            assert words(await receive(live)) == ANSWER

    @behaviour("10.28", off=without(blocking_call_completes="yes"))
    async def test_a_blocking_call_is_answered_within_one_turn(self, here: Here, switches: dict[str, Any]) -> None:
        model, config = connection("gemini-3.8-live", behavior=types.Behavior.BLOCKING)
        async with sdk.client(here, **switches).aio.live.connect(model=model, config=config) as live:
            await sdk.ask(live, ASKED)
            assert words(await receive(live, PARIS)) == ANSWER

    @behaviour("10.25", off=without(interaction_status="none"))
    async def test_extended_thinking_is_received_until_it_is_idle(self, here: Here, switches: dict[str, Any]) -> None:
        model, config = connection(THINKING, behavior=types.Behavior.NON_BLOCKING)
        async with sdk.client(here, **switches).aio.live.connect(model=model, config=config) as live:
            await sdk.ask(live, ASKED)
            messages = await receive(live, PARIS)
            assert words(messages) == ANSWER
            contents = [message.server_content for message in messages if message.server_content]
            told = [one.interaction_status for one in contents if one.interaction_status]
            assert told == [types.InteractionStatus.IN_PROGRESS, types.InteractionStatus.IDLE]
