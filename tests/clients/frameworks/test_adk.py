"""Google's Agent Development Kit: ``runner.run_live``."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google.adk.agents import Agent
from google.adk.agents.live_request_queue import LiveRequestQueue
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.models.google_llm import Gemini
from google.adk.runners import InMemoryRunner
from google.genai import types

from tests.clients.conftest import Emulator
from tests.clients.speech import RATE, pieces

pytestmark = pytest.mark.asyncio(loop_scope="session")
MODELS = ["gemini-3.8-live", "gemini-2.5-flash-native-audio-preview-12-2025"]
asked: list[str] = []


def get_weather(city: str) -> dict[str, Any]:
    """The weather in a city."""
    asked.append(city)
    return {"condition": "snowy", "temperature_celsius": -7}


@asynccontextmanager
async def live(emulator: Emulator, name: str) -> AsyncIterator[tuple[LiveRequestQueue, Any]]:
    model = Gemini(model=name, base_url=emulator.address, client_kwargs={"api_key": "key"})
    agent = Agent(name="helper", model=model, tools=[get_weather])
    runner = InMemoryRunner(agent=agent, app_name="test")
    session = await runner.session_service.create_session(app_name="test", user_id="u")
    queue = LiveRequestQueue()
    config = RunConfig(
        streaming_mode=StreamingMode.BIDI,
        response_modalities=[types.Modality.AUDIO],
        output_audio_transcription=types.AudioTranscriptionConfig(),
        session_resumption=types.SessionResumptionConfig(),
    )
    events = runner.run_live(user_id="u", session_id=session.id, live_request_queue=queue, run_config=config)
    try:
        yield queue, events
    finally:
        queue.close()
        await events.aclose()


async def said(events: Any, words: str) -> str:
    """What is said, until ``words`` are in it and the turn is complete."""
    heard = ""
    async with asyncio.timeout(20):
        async for event in events:
            if event.output_transcription and not event.output_transcription.finished:
                heard += event.output_transcription.text or ""
            if event.turn_complete and words in heard:
                return heard
    return heard


@pytest.mark.parametrize("name", MODELS)
async def test_a_typed_turn(emulator: Emulator, name: str) -> None:
    async with live(emulator, name) as (queue, events):
        queue.send_content(types.Content(role="user", parts=[types.Part(text="hello")]))
        assert "how can i help you" in await said(events, "help you")


@pytest.mark.parametrize("name", MODELS)
async def test_a_spoken_question_calls_its_tool(emulator: Emulator, name: str) -> None:
    asked.clear()
    async with live(emulator, name) as (queue, events):
        for piece in pieces("weather_paris"):
            queue.send_realtime(types.Blob(data=piece, mime_type=f"audio/pcm;rate={RATE}"))
        assert "snowy in paris" in await said(events, "degrees")
    assert asked == ["paris"]
