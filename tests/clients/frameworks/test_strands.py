"""Strands' bidirectional agents over Gemini Live."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from strands import tool
from strands.bidi import BidiAgent
from strands.bidi.models.google import GoogleGeminiLiveModel
from strands.bidi.types.media import AudioDelta

from tests.clients.conftest import Emulator
from tests.clients.speech import pieces

pytestmark = pytest.mark.asyncio(loop_scope="session")
MODELS = ["gemini-3.8-live", "gemini-3.1-flash-live-preview", "gemini-2.5-flash-native-audio-preview-12-2025"]
asked: list[str] = []


@tool
def get_weather(city: str) -> dict[str, Any]:
    """The weather in a city."""
    asked.append(city)
    return {"condition": "snowy", "temperature_celsius": -7}


@asynccontextmanager
async def running(emulator: Emulator, name: str) -> AsyncIterator[BidiAgent]:
    model = GoogleGeminiLiveModel(
        model_id=name, client_args={"api_key": "key", "http_options": {"base_url": emulator.address}}
    )
    agent = BidiAgent(model=model, tools=[get_weather])
    await agent.start()
    try:
        yield agent
    finally:
        await agent.stop()


async def said(agent: BidiAgent, words: str) -> str:
    heard = ""
    async with asyncio.timeout(20):
        async for event in agent.receive():
            if event.get("type") == "bidi_transcript_delta" and event["role"] == "assistant":
                heard += event["delta"]
            if event.get("type") == "bidi_response_stop" and words in heard:
                return heard
    return heard


@pytest.mark.parametrize("name", MODELS)
async def test_a_typed_turn(emulator: Emulator, name: str) -> None:
    async with running(emulator, name) as agent:
        await agent.send("hello")
        assert "how can i help you" in await said(agent, "help you")


@pytest.mark.parametrize("name", MODELS)
async def test_a_spoken_question_calls_its_tool(emulator: Emulator, name: str) -> None:
    asked.clear()
    async with running(emulator, name) as agent:
        for piece in pieces("weather_paris"):
            await agent.send(AudioDelta(format="pcm", source={"bytes": piece}))
        assert "snowy in paris" in await said(agent, "degrees")
    assert asked == ["paris"]
