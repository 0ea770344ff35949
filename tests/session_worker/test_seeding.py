"""What links of every model take of a conversation that they were not there for, with the real SDK and emulator."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from google import genai
from google.genai import errors, types
from google.genai.live import AsyncSession

from emulator.settings import EmulatorSettings
from parley.v1 import live_pb2
from services.fabric import ids
from services.fabric.capabilities import MODELS, Backend, ModelCapabilities
from services.session_worker import live_config
from services.session_worker.conversation import Conversation, Seed
from services.session_worker.responses import struct
from tests.emulator import sdk
from tests.emulator.conftest import Here, running
from tests.session_worker.test_conversation import content, heard, returned, said, typed
from tests.support.speech import question

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = 10.0
"""Seconds that a turn may take."""
ROWS = [
    pytest.param((backend, name), id=f"{backend}-{name}")
    for backend, rows in MODELS.items()
    for name, traits in rows.items()
    if traits.task == "conversation"
]
every_model = pytest.mark.parametrize("caller", ROWS, indirect=True)
GREETING = "hello how can i help you"
FAREWELL = "goodbye"
SHIPPED = {"output": {"status": "shipped", "arrives": "friday"}}
LOOKUP = live_pb2.FunctionDeclaration(name="lookup_order", parameters=struct({"type": "object"}))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here() -> AsyncIterator[Here]:
    async with running(EmulatorSettings(generation_speed=50, playback_speed=50)) as here:
        yield here


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clients(here: Here) -> dict[Backend, genai.Client]:
    """The SDK's, which cost more than the links."""
    return {backend: sdk.client(here, vertex=backend == "vertex") for backend in MODELS}


@dataclass
class Line:
    """A link of one conversation."""

    live: AsyncSession
    handle: str = ""

    async def answer(self) -> str:
        """The next turn with words. Functions are answered on the way."""
        words = ""
        async with asyncio.timeout(LIMIT):
            while True:
                message = await self.live._receive()
                content = message.server_content
                if content and content.output_transcription:
                    words += content.output_transcription.text or ""
                if content and content.turn_complete and words:
                    return words.strip()
                for call in (message.tool_call and message.tool_call.function_calls) or ():
                    response = types.FunctionResponse(id=call.id, name=call.name, response=SHIPPED)
                    await self.live.send_tool_response(function_responses=response)
                if update := message.session_resumption_update:
                    self.handle = update.new_handle or self.handle

    async def ask(self, words: str) -> str:
        await self.live.send_realtime_input(text=words)
        return await self.answer()

    async def speak(self, recording: str) -> str:
        pcm = question(recording) + bytes(32_000)
        for start in range(0, len(pcm), 6_400):
            blob = types.Blob(data=pcm[start : start + 6_400], mime_type="audio/pcm;rate=16000")
            await self.live.send_realtime_input(audio=blob)
        return await self.answer()

    async def newest_handle(self) -> str:
        """The handle that follows a turn."""
        async with asyncio.timeout(LIMIT):
            while not self.handle:
                if update := (await self.live._receive()).session_resumption_update:
                    self.handle = update.new_handle or ""
        return self.handle


class Caller:
    """One conversation with one model."""

    def __init__(self, here: Here, client: genai.Client, backend: Backend, model: str) -> None:
        self._here = here
        self._client = client
        self._model = model
        self._name = ids.sortable_id()
        self.traits: ModelCapabilities = MODELS[backend][model]
        self.switches = ""
        """The emulator's, for the links to come."""

    @contextlib.asynccontextmanager
    async def connect(self, *, handle: str = "", as_history: bool = False) -> AsyncIterator[Line]:
        level = live_pb2.THINKING_LEVEL_LOW if self.traits.thinking_level_required else 0
        settings = live_pb2.SessionConfig(model=self._model, thinking_level=level, caller_tools=[LOOKUP])
        headers = {"x-emulator-conversation": self._name, "x-emulator-switches": self.switches}
        config = live_config.live_config(settings, [], handle, headers)
        config.history_config = types.HistoryConfig(initial_history_in_client_content=True) if as_history else None
        async with self._client.aio.live.connect(model=self._model, config=config) as live:
            yield Line(live)

    @contextlib.asynccontextmanager
    async def seeded(self, seed: Seed) -> AsyncIterator[Line]:
        async with self.connect(as_history=seed.as_history) as line:
            await line.live.send_client_content(turns=seed.turns, turn_complete=seed.turn_complete)  # type: ignore[arg-type]
            yield line

    async def knows(self) -> list[str]:
        """What the newest link's model knows, in order, and nothing but this was forgotten or given twice."""
        lineage = await self._here.get(f"/conversations/{self._name}/lineage")
        assert lineage["complete"]
        assert not any(lineage["forgotten"].values()), lineage["forgotten"]
        assert not any(lineage["duplicates"].values()), lineage["duplicates"]
        return [entry["text"] for entry in lineage["context"]]

    async def said(self, link: int) -> list[str]:
        """What the model said on one link."""
        record = await self._here.get(f"/conversations/{self._name}/links/{link}")
        return [entry["text"] for entry in record["said"]]


@pytest.fixture
def caller(here: Here, clients: dict[Backend, genai.Client], request: pytest.FixtureRequest) -> Caller:
    backend, model = request.param
    return Caller(here, clients[backend], backend, model)


def conversation(traits: ModelCapabilities) -> Conversation:
    """A question with a tool, an answer that was cut off, silence; and a question that is open."""
    told = Conversation(traits)
    for entry in (
        said("welcome"),
        typed("where is my order"),
        returned(),
        said("order four seven one one is", interrupted=True),
        heard("stop"),
        said(""),
        typed("this is not answered yet"),
    ):
        told.add(entry)
    return told


KNOWN = [
    "(silence)",
    "welcome",
    'where is my order [The function get_order({"order_id":"4711"}) returned {"status":"shipped"}]',
    "order four seven one one is —",
    "stop",
    "(silence)",
]


@every_model
async def test_a_seed_is_known_and_not_answered(caller: Caller) -> None:
    async with caller.seeded(conversation(caller.traits).seed([])) as line:
        assert await line.ask("hello") == GREETING
    assert await caller.knows() == [*KNOWN, "hello", GREETING]
    assert await caller.said(0) == [GREETING]


@every_model
async def test_nor_is_it_by_a_question_that_is_spoken(caller: Caller) -> None:
    async with caller.seeded(conversation(caller.traits).seed([content("user", "i am ann")])) as line:
        assert await line.speak("hello") == GREETING
    assert await caller.knows() == ["i am ann", *KNOWN[1:], "hello", GREETING]
    assert await caller.said(0) == [GREETING]


@every_model
async def test_a_configured_question_is_answered_once_where_the_model_wants_one(caller: Caller) -> None:
    seed = Conversation(caller.traits).seed([content("user", "hello")])
    async with caller.seeded(seed) as line:
        if seed.answered:
            assert await line.answer() == GREETING
        assert await line.ask("thank you goodbye") == FAREWELL
    assert len(await caller.said(0)) == 1 + seed.answered


async def one_exchange_after_its_handle(caller: Caller) -> str:
    """A link with two questions; the handle behind the first."""
    async with caller.connect() as line:
        assert await line.ask("hello") == GREETING
        handle = await line.newest_handle()
        await line.ask("what do you see")
    return handle


@every_model
async def test_what_came_after_a_handle_is_known_and_not_answered(caller: Caller) -> None:
    handle = await one_exchange_after_its_handle(caller)
    told = Conversation(caller.traits)
    for entry in (typed("hello"), said(GREETING)):
        told.add(entry)
    position = told.settled
    for entry in (typed("what do you see"), said("i see zero pictures"), typed("thank you goodbye")):
        told.add(entry)
    async with caller.connect(handle=handle) as line:
        await line.live.send_client_content(turns=told.since(position), turn_complete=False)  # type: ignore[arg-type]
        assert await line.ask("thank you goodbye") == FAREWELL
    known = ["hello", GREETING, "what do you see", "i see zero pictures", "thank you goodbye", FAREWELL]
    assert await caller.knows() == known
    assert await caller.said(1) == [FAREWELL]


@every_model
async def test_so_are_outcomes_of_functions_that_another_link_called(caller: Caller) -> None:
    async with caller.connect() as line:
        assert await line.ask("hello") == GREETING
        handle = await line.newest_handle()
        answer = await line.ask("where is my order 4711")
        assert "shipped" in answer
    told = Conversation(caller.traits)
    for entry in (
        typed("where is my order 4711"),
        returned(name="lookup_order", arguments={}, response=SHIPPED),
        said(answer),
    ):
        told.add(entry)
    async with caller.connect(handle=handle) as line:
        await line.live.send_client_content(turns=told.since(0), turn_complete=False)  # type: ignore[arg-type]
        assert await line.ask("thank you goodbye") == FAREWELL
    asked = 'where is my order 4711 [The function lookup_order({}) returned {"arrives":"friday","status":"shipped"}]'
    assert await caller.knows() == ["hello", GREETING, asked, answer, "thank you goodbye", FAREWELL]


@every_model
async def test_with_turn_complete_it_is_answered_whoever_has_the_last_word(caller: Caller) -> None:
    handle = await one_exchange_after_its_handle(caller)
    told = Conversation(caller.traits)
    for entry in (typed("what do you see"), said("i see zero pictures"), typed("thank you goodbye")):
        told.add(entry)
    async with caller.connect(handle=handle) as line:
        await line.live.send_client_content(turns=told.since(0), turn_complete=True)  # type: ignore[arg-type]
        assert await line.answer()
        await line.live.send_client_content(turns=told.unanswered(), turn_complete=True)  # type: ignore[arg-type]
        assert await line.answer() == FAREWELL
    assert len(await caller.said(1)) == 2


@every_model
async def test_an_answer_is_asked_for_again_in_one_message_or_two(caller: Caller) -> None:
    handle = await one_exchange_after_its_handle(caller)
    told = Conversation(caller.traits)
    for entry in (typed("what do you see"), said("i see zero pictures"), typed("thank you goodbye")):
        told.add(entry)
    for turns in ([told.since(0), told.unanswered()], [[*told.since(0), *told.unanswered()]]):
        async with caller.connect(handle=handle) as line:
            for number, part in enumerate(turns, 1):
                await line.live.send_client_content(turns=part, turn_complete=number == len(turns))  # type: ignore[arg-type]
            assert await line.answer() == FAREWELL
            assert await line.ask("hello") == GREETING


@every_model
async def test_where_later_turns_are_refused_it_is_told_before_anything_else(caller: Caller) -> None:
    caller.switches = "typed_turn=refused"
    handle = await one_exchange_after_its_handle(caller)
    told = conversation(caller.traits).since(0)
    async with caller.connect(handle=handle) as line:
        await line.live.send_client_content(turns=told, turn_complete=False)  # type: ignore[arg-type]
        assert await line.ask("hello") == GREETING
        await line.live.send_client_content(turns=told, turn_complete=False)  # type: ignore[arg-type]
        with pytest.raises(errors.APIError, match="1007"):
            await line.answer()


@every_model
async def test_history_that_ends_with_the_model_is_refused_where_the_table_says_so(caller: Caller) -> None:
    turns = conversation(caller.traits).seed([]).turns
    async with caller.connect(as_history=True) as line:
        await line.live.send_client_content(turns=turns, turn_complete=True)  # type: ignore[arg-type]
        if caller.traits.history_ends_with_user:
            with pytest.raises(errors.APIError, match="1007"):
                await line.answer()
        else:
            assert await line.ask("hello") == GREETING
