"""The emulator as a process, and the unmodified google-genai SDK."""

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import pytest_asyncio
from google import genai
from google.genai import errors, types
from google.genai.live import AsyncSession

from tests.emulator.patience import LIMIT, in_time
from tests.support.emulator import RunningEmulator, start_emulator
from tests.support.eventually import eventually
from tests.support.hearing import hear, seconds
from tests.support.speech import question

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "gemini-3.8-live"
WEATHER = {
    "name": "get_weather",
    "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]},
}
ORDER = {
    "name": "lookup_order",
    "behavior": "BLOCKING",
    "parameters": {"type": "OBJECT", "properties": {"order_id": {"type": "STRING"}}, "required": ["order_id"]},
}
DIGITS = "(zero|one|two|three|four|five|six|seven|eight|nine)+"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def emulator() -> AsyncIterator[RunningEmulator]:
    # Answers are played ten times as fast as they sound: nothing here needs to wait for them.
    async with start_emulator(generation_speed=20, playback_speed=10) as running:
        yield running


class Caller:
    """One SDK client of the emulator."""

    def __init__(self, emulator: RunningEmulator, *, key: str = "key", **options: Any) -> None:
        context = ssl.create_default_context(cafile=emulator.ca_file)
        http = {
            "base_url": emulator.address.replace("127.0.0.1", "localhost"),
            "api_version": "v1beta",
            "async_client_args": {"ssl": context},
        }
        self._client = genai.Client(api_key=key, http_options=types.HttpOptions(**{**http, **options}))

    def connect(
        self, conversation: str = "", *, model: str = MODEL, scenario: str = "support", **config: Any
    ) -> AbstractAsyncContextManager[AsyncSession]:
        headers = {"x-emulator-scenario": scenario}
        if conversation:
            headers["x-emulator-conversation"] = conversation
        wanted = types.LiveConnectConfig(http_options=types.HttpOptions(headers=headers), **config)
        return self._client.aio.live.connect(model=model, config=wanted)


class Turn:
    """All messages of one ``receive()``."""

    def __init__(self, messages: list[types.LiveServerMessage]) -> None:
        self.messages = messages
        self.audio = b"".join(message.data for message in messages if message.data)
        self.calls = [
            call for message in messages if message.tool_call for call in message.tool_call.function_calls or ()
        ]
        self.handles = [
            message.session_resumption_update.new_handle for message in messages if message.session_resumption_update
        ]
        contents = [message.server_content for message in messages if message.server_content]
        self.heard = [one.input_transcription.text for one in contents if one.input_transcription]
        self.said = "".join(one.output_transcription.text or "" for one in contents if one.output_transcription)
        self.flags = [
            flag
            for one in contents
            for flag in ("interrupted", "generation_complete", "turn_complete")
            if getattr(one, flag)
        ]


async def receive(session: AsyncSession) -> Turn:
    async with in_time(in_vain=20.0):
        return Turn([message async for message in session.receive()])


async def speak(session: AsyncSession, name: str, piece: int = 1280) -> bytes:
    """A question and the silence that ends it, as fast as the socket takes it; all that was sent."""
    pcm = question(name) + bytes(32000)
    for at in range(0, len(pcm), piece):
        blob = types.Blob(data=pcm[at : at + piece], mime_type="audio/pcm;rate=16000")
        await session.send_realtime_input(audio=blob)
    return pcm


def text(value: str) -> types.Content:
    return types.Content(role="user", parts=[types.Part(text=value)])


async def answer(session: AsyncSession, call: types.FunctionCall, response: dict[str, Any]) -> None:
    await session.send_tool_response(
        function_responses=types.FunctionResponse(id=call.id, name=call.name, response=response)
    )


async def test_a_typed_turn_is_answered_in_speech(emulator: RunningEmulator) -> None:
    async with Caller(emulator).connect(output_audio_transcription={}, session_resumption={}) as session:
        assert session.setup_complete is not None
        await session.send_client_content(turns=text("Hello!"))
        turn = await receive(session)
        assert hear(turn.audio, 24000, "hello how can i help you | goodbye") == "hello how can i help you"
        assert turn.said.strip() == "hello how can i help you"
        assert turn.flags == ["generation_complete", "turn_complete"]
        usage = turn.messages[-1].usage_metadata
        assert usage is not None and usage.response_token_count == round(25 * seconds(turn.audio, 24000))
        await session.send_realtime_input(text="goodbye")
        assert len((await receive(session)).handles) == 1


async def test_a_spoken_question_calls_its_tool_and_the_result_is_heard_in_the_reply(emulator: RunningEmulator) -> None:
    async with Caller(emulator).connect("weather", tools=[{"function_declarations": [WEATHER]}]) as session:
        sent = await speak(session, "weather_paris")
        turn = await receive(session)
        # Not configured, yet transcribed; NON_BLOCKING, so the turn ends with the call.
        assert turn.heard == ["what is the weather in paris"]
        assert [(call.name, call.args) for call in turn.calls] == [("get_weather", {"city": "paris"})]
        assert turn.flags == ["turn_complete"]
        await answer(session, turn.calls[0], {"output": {"condition": "snowy", "temperature_celsius": -7}})
        reply = await receive(session)
    grammar = "it is (sunny|snowy|rainy) in (paris|london) and [minus] (seven|twenty one) degrees"
    assert hear(reply.audio, 24000, grammar) == "it is snowy in paris and minus seven degrees"
    record = await emulator.conversation("weather")
    assert record["audio"]["sha256"] == hashlib.sha256(sent).hexdigest()
    assert record["audio"]["bytes"] == len(sent)
    assert record["heard"] == turn.heard
    assert record["tool_responses"][0]["id"] == record["tool_calls"][0]["id"] == turn.calls[0].id
    assert record["usage"]["turns"] == 2
    assert record["links"][0]["setup"]["model"] == f"models/{MODEL}"


async def test_a_blocking_call_takes_the_digits_heard_and_ends_its_turn_with_the_answer(
    emulator: RunningEmulator,
) -> None:
    async with Caller(emulator).connect(tools=[{"function_declarations": [ORDER]}]) as session:
        await speak(session, "order_4711_padded", piece=640)
        turn: list[types.LiveServerMessage] = []
        async with in_time(in_vain=20.0):
            async for message in session.receive():
                turn.append(message)
                if message.tool_call and message.tool_call.function_calls:
                    call = message.tool_call.function_calls[0]
                    assert call.args == {"order_id": "4711"}
                    await answer(session, call, {"order_id": "4711", "status": "delayed", "arrives": "thursday"})
        reply = Turn(turn)
    assert reply.flags == ["generation_complete", "turn_complete"]
    grammar = f"order {DIGITS} is (shipped|delayed|delivered) and arrives on (monday|tuesday|thursday|saturday)"
    assert hear(reply.audio, 24000, grammar) == "order four seven one one is delayed and arrives on thursday"


async def test_speaking_into_an_answer_stops_it() -> None:
    async with start_emulator(generation_speed=2) as emulator, Caller(emulator).connect("barge") as session:
        await speak(session, "tell_me_about_your_service")
        first: list[types.LiveServerMessage] = []
        spoken = False
        async with in_time(in_vain=20.0):
            async for message in session.receive():
                first.append(message)
                if message.data and not spoken:
                    spoken = True
                    await speak(session, "hello")
        turn = Turn(first)
        assert turn.flags == ["interrupted", "turn_complete"]
        interrupted = next(i for i, m in enumerate(first) if m.server_content and m.server_content.interrupted)
        activity = first[interrupted - 1].voice_activity
        assert activity is not None and activity.voice_activity_type == types.VoiceActivityType.ACTIVITY_START
        assert float(str(activity.audio_offset).removesuffix("s")) > seconds(
            question("tell_me_about_your_service"), 16000
        )
        assert not any(message.data for message in first[interrupted:])
        following = await receive(session)
        assert following.heard == ["hello"]
        assert following.flags == ["generation_complete", "turn_complete"]
        said = (await emulator.conversation("barge"))["said"]
        assert [one["interrupted"] for one in said] == [True, False]
        assert said[0]["audio_seconds_sent"] == pytest.approx(seconds(turn.audio, 24000), abs=0.01)
        assert said[0]["audio_seconds_sent"] < said[0]["audio_seconds"]


async def test_a_handle_restores_what_was_known_and_continues_the_record(emulator: RunningEmulator) -> None:
    caller = Caller(emulator)
    async with caller.connect("resumed", session_resumption={}) as session:
        picture = types.Blob(data=b"\xff\xd8\xff\xd9", mime_type="image/jpeg")
        for _ in range(3):
            await session.send_realtime_input(video=picture)
        await session.send_realtime_input(text="hello")
        await receive(session)
        await session.send_realtime_input(text="stop")
        handle = (await receive(session)).handles[0]
        # The old socket is still open.
        with pytest.raises(errors.APIError) as caught:
            async with caller.connect(session_resumption={"handle": handle}):
                pass
        assert caught.value.code == 1011

    link = caller.connect(session_resumption={"handle": handle}, output_audio_transcription={})
    async with link as session:
        await session.send_realtime_input(text="what do you see")
        assert (await receive(session)).said.strip() == "i see three pictures"
    record = await emulator.conversation("resumed")
    assert [link["resumed_from"] for link in record["links"]] == [None, 0]
    assert [link["texts"] for link in record["links"]] == [["hello", "stop"], ["what do you see"]]
    assert record["texts"] == ["hello", "stop", "what do you see"]


async def test_a_dead_handle_is_not_found(emulator: RunningEmulator) -> None:
    with pytest.raises(errors.APIError, match="BidiGenerateContent session not found") as caught:
        async with Caller(emulator).connect(session_resumption={"handle": "gone"}):
            pass
    assert caught.value.code == 1008


@pytest.mark.parametrize(
    ("base", "options"),
    [
        ("/", {}),
        ("/prefix", {}),
        ("", {"api_version": "v1"}),
        ("", {"api_version": "v1alpha"}),
    ],
)
@pytest.mark.filterwarnings("ignore")
async def test_the_ways_to_dial(emulator: RunningEmulator, base: str, options: dict[str, Any]) -> None:
    address = emulator.address.replace("127.0.0.1", "localhost") + base
    async with Caller(emulator, base_url=address, **options).connect() as session:
        await session.send_realtime_input(text="stop")
        assert (await receive(session)).flags == ["turn_complete"]


async def test_the_echo_scenario_sends_audio_straight_back(emulator: RunningEmulator) -> None:
    async with Caller(emulator).connect(scenario="echo") as session:
        sent = await speak(session, "hello", piece=640)
        heard = b""
        async with in_time(in_vain=20.0):
            while len(heard) < len(sent):
                message = await session._receive()
                heard += message.data or b""
        assert heard == sent


async def test_twenty_callers_at_once_are_all_understood(emulator: RunningEmulator) -> None:
    async def call(number: int) -> tuple[list[str | None], str]:
        name = ("hello", "goodbye", "what_do_you_see", "weather_london")[number % 4]
        async with Caller(emulator).connect(f"many-{number}") as session:
            sent = await speak(session, name)
            turn = await receive(session)
            assert turn.audio
            return turn.heard, hashlib.sha256(sent).hexdigest()

    outcomes = await asyncio.gather(*(call(number) for number in range(20)))
    expected = ["hello", "thank you goodbye", "what do you see", "what is the weather in london"] * 5
    assert [heard for heard, _ in outcomes] == [[one] for one in expected]
    for number, (_, digest) in enumerate(outcomes):
        assert (await emulator.conversation(f"many-{number}"))["audio"]["sha256"] == digest
    assert await eventually(lambda: _no_connections(emulator), LIMIT)


async def _no_connections(emulator: RunningEmulator) -> bool:
    return bool((await emulator.stats())["connections"] == 0)
