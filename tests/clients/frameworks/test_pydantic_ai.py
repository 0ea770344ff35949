"""Pydantic AI's realtime sessions over Gemini Live."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.realtime import RealtimeSession
from pydantic_ai.realtime.google import GoogleRealtimeModel

from tests.clients.conftest import Emulator
from tests.clients.speech import pieces

pytestmark = pytest.mark.asyncio(loop_scope="session")
MODELS = ["gemini-3.8-live", "gemini-3.1-flash-live-preview", "gemini-2.5-flash-native-audio-preview-12-2025"]


@asynccontextmanager
async def session(emulator: Emulator, name: str, agent: Agent) -> AsyncIterator[RealtimeSession]:
    model = GoogleRealtimeModel(name, provider=GoogleProvider(api_key="key", base_url=emulator.address))
    async with agent.realtime(model).session() as running:
        yield running


async def until(session: RealtimeSession, words: str) -> None:
    async with asyncio.timeout(20):
        async for _ in session:
            if words in str(session.all_messages()):
                return


@pytest.mark.parametrize("name", MODELS)
async def test_a_typed_turn(emulator: Emulator, name: str) -> None:
    async with session(emulator, name, Agent()) as running:
        await running.send("hello")
        await until(running, "how can i help you")


@pytest.mark.parametrize("name", MODELS)
async def test_a_spoken_question_calls_its_tool(emulator: Emulator, name: str) -> None:
    agent = Agent()
    asked = []

    @agent.tool_plain
    def get_weather(city: str) -> dict[str, Any]:
        asked.append(city)
        return {"condition": "snowy", "temperature_celsius": -7}

    async with session(emulator, name, agent) as running:
        for piece in pieces("weather_paris"):
            await running.send_audio(piece)
        await until(running, "it is snowy in paris and minus seven degrees")
    assert asked == ["paris"]
