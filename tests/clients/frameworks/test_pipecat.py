"""Pipecat's Gemini Live service in a pipeline of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from google.genai import types
from pipecat.frames.frames import EndFrame, Frame, InputAudioRawFrame, LLMContextFrame, TTSTextFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.google.gemini_live.llm import GeminiLiveLLMService
from pipecat.services.llm_service import FunctionCallParams
from pipecat.workers.runner import WorkerRunner

from tests.clients.conftest import Emulator
from tests.clients.speech import RATE, pieces

pytestmark = pytest.mark.asyncio(loop_scope="session")
MODELS = ["gemini-3.8-live", "gemini-3.1-flash-live-preview", "gemini-2.5-flash-native-audio-preview-12-2025"]
asked: list[str] = []


async def get_weather(params: FunctionCallParams, city: str) -> None:
    """The weather in a city.

    Args:
        city: Its name.
    """
    asked.append(city)
    await params.result_callback({"condition": "snowy", "temperature_celsius": -7})


class Listener(FrameProcessor):
    """Keeps what the model says."""

    def __init__(self) -> None:
        super().__init__()
        self.said = ""
        self._more = asyncio.Event()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSTextFrame):
            self.said += frame.text
            self._more.set()
        await self.push_frame(frame, direction)

    async def until(self, words: str) -> None:
        async with asyncio.timeout(20):
            while words not in self.said:
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def pipeline(emulator: Emulator, name: str, text: str = "") -> AsyncIterator[tuple[PipelineWorker, Listener]]:
    service = GeminiLiveLLMService(
        api_key="key",
        http_options=types.HttpOptions(base_url=emulator.address),
        settings=GeminiLiveLLMService.Settings(model=name),
    )
    messages = [{"role": "user", "content": text}] if text else []
    context = LLMContext(messages, tools=[get_weather])
    listener, pair = Listener(), LLMContextAggregatorPair(context)
    worker = PipelineWorker(Pipeline([pair.user(), service, listener, pair.assistant()]))
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    await worker.queue_frame(LLMContextFrame(context))
    try:
        yield worker, listener
    finally:
        await worker.queue_frame(EndFrame())
        async with asyncio.timeout(20):
            await running


@pytest.mark.parametrize("name", MODELS)
async def test_a_typed_turn(emulator: Emulator, name: str) -> None:
    async with pipeline(emulator, name, "hello") as (_, listener):
        await listener.until("help you")


@pytest.mark.parametrize("name", MODELS)
async def test_a_spoken_question_calls_its_tool(emulator: Emulator, name: str) -> None:
    asked.clear()
    # Audio before the first answer is dropped: the service reconnects once it knows the tools.
    async with pipeline(emulator, name, "hello") as (worker, listener):
        await listener.until("help you")
        for piece in pieces("weather_paris"):
            await worker.queue_frame(InputAudioRawFrame(audio=piece, sample_rate=RATE, num_channels=1))
        await listener.until("degrees")
    assert "snowy in paris" in listener.said
    assert asked == ["paris"]
