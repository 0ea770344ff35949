"""LiveKit's agents with the Gemini Live plugin, without a room: audio comes from and goes to the test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google.genai import types
from livekit import rtc
from livekit.agents import Agent, AgentSession, ConversationItemAddedEvent, function_tool
from livekit.agents.voice.io import AudioInput
from livekit.plugins.google.realtime import RealtimeModel

from tests.clients.conftest import Emulator
from tests.clients.speech import RATE, pieces

pytestmark = pytest.mark.asyncio(loop_scope="session")
MODELS = ["gemini-3.8-live", "gemini-3.1-flash-live-preview", "gemini-2.5-flash-native-audio-preview-12-2025"]


class Microphone(AudioInput):
    """Says a question, then keeps quiet."""

    def __init__(self, name: str) -> None:
        super().__init__(label="test")
        self._frames = pieces(name)

    async def __anext__(self) -> rtc.AudioFrame:
        if (piece := next(self._frames, None)) is None:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        return rtc.AudioFrame(piece, RATE, 1, len(piece) // 2)


class Helper(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Be brief.")
        self.asked: list[str] = []

    @function_tool
    async def get_weather(self, city: str) -> dict[str, Any]:
        """The weather in a city."""
        self.asked.append(city)
        return {"condition": "snowy", "temperature_celsius": -7}


class Transcript:
    """What was said, in order."""

    def __init__(self, session: AgentSession) -> None:
        self.said: list[tuple[str, str]] = []
        self._more = asyncio.Event()
        session.on("conversation_item_added", self._added)

    def _added(self, event: ConversationItemAddedEvent) -> None:
        if event.item.type == "message":
            self.said.append((event.item.role, event.item.text_content or ""))
            self._more.set()

    async def until(self, role: str, words: str) -> None:
        async with asyncio.timeout(20):
            while not any(who == role and words in what for who, what in self.said):
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def session(
    emulator: Emulator, name: str, question: str = ""
) -> AsyncIterator[tuple[AgentSession, Helper, Transcript]]:
    model = RealtimeModel(model=name, api_key="key", http_options=types.HttpOptions(base_url=emulator.address))
    agent, live = Helper(), AgentSession(llm=model)
    transcript = Transcript(live)
    if question:
        live.input.audio = Microphone(question)
    await live.start(agent=agent)
    try:
        yield live, agent, transcript
    finally:
        await live.aclose()


@pytest.mark.parametrize("name", MODELS)
async def test_a_typed_turn(emulator: Emulator, name: str) -> None:
    async with session(emulator, name) as (live, _, transcript):
        live.generate_reply(user_input="hello")
        await transcript.until("assistant", "how can i help you")


@pytest.mark.parametrize("name", MODELS)
async def test_a_spoken_question_calls_its_tool(emulator: Emulator, name: str) -> None:
    async with session(emulator, name, "weather_paris") as (_, agent, transcript):
        await transcript.until("user", "what is the weather in paris")
        await transcript.until("assistant", "it is snowy in paris and minus seven degrees")
        assert agent.asked == ["paris"]
