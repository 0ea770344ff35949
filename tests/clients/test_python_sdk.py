"""The Python SDK, at each major version that people use, by base URL and ``SSL_CERT_FILE`` alone."""

import asyncio
import uuid
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from google import genai
from google.genai import errors, types, version
from google.genai.live import AsyncSession

from tests.clients.conftest import Emulator
from tests.clients.speech import RATE, pieces

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    # What the SDK says of ephemeral tokens.
    pytest.mark.filterwarnings("ignore::google.genai.errors.ExperimentalWarning"),
]

MODEL = "gemini-3.8-live"
LIMIT = 20.0
DEFAULT_VERSION = {"2": "v1beta", "3": "v1"}[version.__version__.partition(".")[0]]
WEATHER = {
    "name": "get_weather",
    "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]},
}
ORDER = {
    "name": "lookup_order",
    "behavior": "BLOCKING",
    "parameters": {"type": "OBJECT", "properties": {"order_id": {"type": "STRING"}}, "required": ["order_id"]},
}


def client(emulator: Emulator, key: str = "key", api_version: str | None = None, **options: Any) -> genai.Client:
    http = types.HttpOptions(base_url=emulator.address, api_version=api_version)
    return genai.Client(api_key=key, http_options=http, **options)


def connect(
    client: genai.Client, *, model: str = MODEL, headers: dict[str, str] | None = None, **config: Any
) -> AbstractAsyncContextManager[AsyncSession]:
    if headers:
        config["http_options"] = types.HttpOptions(headers=headers)
    return client.aio.live.connect(model=model, config=types.LiveConnectConfig(**config))


class Turn:
    """All messages of one ``receive()``."""

    def __init__(self, messages: list[types.LiveServerMessage]) -> None:
        self.messages = messages
        contents = [message.server_content for message in messages if message.server_content]
        self.audio = b"".join(message.data for message in messages if message.data)
        self.heard = [one.input_transcription.text for one in contents if one.input_transcription]
        self.said = "".join(one.output_transcription.text or "" for one in contents if one.output_transcription).strip()
        self.calls = [
            call for message in messages if message.tool_call for call in message.tool_call.function_calls or ()
        ]
        self.flags = [
            flag
            for one in contents
            for flag in ("interrupted", "generation_complete", "turn_complete")
            if getattr(one, flag)
        ]


async def receive(session: AsyncSession) -> Turn:
    async with asyncio.timeout(LIMIT):
        return Turn([message async for message in session.receive()])


async def speak(session: AsyncSession, name: str) -> int:
    """A question and the silence that ends it, as fast as the socket takes it; the bytes sent."""
    sent = 0
    for piece in pieces(name):
        await session.send_realtime_input(audio=types.Blob(data=piece, mime_type=f"audio/pcm;rate={RATE}"))
        sent += len(piece)
    return sent


async def test_a_typed_turn_by_the_default_version_of_the_api(emulator: Emulator) -> None:
    conversation = uuid.uuid4().hex
    headers = {"x-emulator-conversation": conversation}
    async with connect(client(emulator), headers=headers, output_audio_transcription={}) as session:
        await session.send_client_content(turns=types.Content(role="user", parts=[types.Part(text="Hello!")]))
        turn = await receive(session)
    assert turn.said == "hello how can i help you"
    assert turn.flags == ["generation_complete", "turn_complete"]
    assert emulator.record(conversation)["links"][0]["api_version"] == DEFAULT_VERSION


async def test_a_spoken_question_calls_its_tool_and_the_result_is_in_the_reply(emulator: Emulator) -> None:
    conversation = uuid.uuid4().hex
    headers = {"x-emulator-conversation": conversation}
    config: dict[str, Any] = {"tools": [{"function_declarations": [WEATHER]}], "output_audio_transcription": {}}
    async with connect(client(emulator), headers=headers, **config) as session:
        sent = await speak(session, "weather_paris")
        turn = await receive(session)
        assert turn.heard == ["what is the weather in paris"]
        assert [(call.name, call.args) for call in turn.calls] == [("get_weather", {"city": "paris"})]
        result = {"output": {"condition": "snowy", "temperature_celsius": -7}}
        response = types.FunctionResponse(id=turn.calls[0].id, name="get_weather", response=result)
        await session.send_tool_response(function_responses=response)
        reply = await receive(session)
    assert reply.said == "it is snowy in paris and minus seven degrees"
    assert reply.audio
    assert emulator.record(conversation)["audio"]["bytes"] == sent


async def test_a_blocking_call_ends_its_turn_with_the_answer(emulator: Emulator) -> None:
    config: dict[str, Any] = {"tools": [{"function_declarations": [ORDER]}], "output_audio_transcription": {}}
    async with connect(client(emulator), **config) as session:
        await speak(session, "order_1234")
        messages = []
        async with asyncio.timeout(LIMIT):
            async for message in session.receive():
                messages.append(message)
                if message.tool_call and message.tool_call.function_calls:
                    call = message.tool_call.function_calls[0]
                    assert call.args == {"order_id": "1234"}
                    result = {"order_id": "1234", "status": "delayed", "arrives": "thursday"}
                    response = types.FunctionResponse(id=call.id, name=call.name, response=result)
                    await session.send_tool_response(function_responses=response)
    turn = Turn(messages)
    assert turn.flags == ["generation_complete", "turn_complete"]
    assert turn.said == "order one two three four is delayed and arrives on thursday"


async def test_speaking_into_an_answer_stops_it(emulator: Emulator) -> None:
    headers = {"x-emulator-switches": "generation_speed=2; playback_speed=1"}
    async with connect(client(emulator), headers=headers) as session:
        await speak(session, "tell_me_about_your_service")
        messages: list[types.LiveServerMessage] = []
        async with asyncio.timeout(LIMIT):
            async for message in session.receive():
                if message.data and not any(one.data for one in messages):
                    await speak(session, "hello")
                messages.append(message)
        assert Turn(messages).flags == ["interrupted", "turn_complete"]
        following = await receive(session)
    assert following.heard == ["hello"]
    assert following.flags == ["generation_complete", "turn_complete"]


async def test_a_handle_brings_back_what_was_known(emulator: Emulator) -> None:
    genai_client = client(emulator)
    async with connect(genai_client, session_resumption={}) as session:
        for _ in range(3):
            await session.send_realtime_input(video=types.Blob(data=b"\xff\xd8\xff\xd9", mime_type="image/jpeg"))
        await session.send_realtime_input(text="hello")
        async with asyncio.timeout(LIMIT):
            while not (update := (await session._receive()).session_resumption_update) or not update.new_handle:
                pass
        with pytest.raises(errors.APIError) as caught:
            async with connect(genai_client, session_resumption={"handle": update.new_handle}):
                pass
        assert caught.value.code == 1011
    config: dict[str, Any] = {"session_resumption": {"handle": update.new_handle}, "output_audio_transcription": {}}
    async with connect(genai_client, **config) as session:
        await session.send_realtime_input(text="what do you see")
        assert (await receive(session)).said == "i see three pictures"


async def test_go_away_comes_before_the_connection_ends_at_its_limit(emulator: Emulator) -> None:
    headers = {"x-emulator-switches": "connection_limit=3s; go_away_lead=2s; go_away_jitter=0s"}
    async with connect(client(emulator), headers=headers) as session:
        async with asyncio.timeout(LIMIT):
            while (go_away := (await session._receive()).go_away) is None:
                pass
            assert go_away.time_left is not None
            with pytest.raises(errors.APIError, match="GoAway") as caught:
                while True:
                    await session._receive()
    assert caught.value.code == 1008


async def test_a_token_locks_what_it_names_and_is_used_up(emulator: Emulator) -> None:
    maker = client(emulator, api_version="v1beta")
    locked = types.LiveConnectConstraints(model=MODEL, config=types.LiveConnectConfig(output_audio_transcription={}))
    config = types.CreateAuthTokenConfig(uses=1, live_connect_constraints=locked, lock_additional_fields=["tools"])
    token = await maker.aio.auth_tokens.create(config=config)
    assert token.name is not None
    user = client(emulator, token.name, "v1alpha")
    # Were it not overruled, this would be refused.
    tools = [{"code_execution": {}}]
    async with connect(user, model="gemini-none", tools=tools) as session:
        await session.send_realtime_input(text="hello")
        assert (await receive(session)).said == "hello how can i help you"
    with pytest.raises(errors.APIError, match="no uses left") as caught:
        async with connect(user):
            pass
    assert caught.value.code == 1008


async def test_a_token_without_any_wish_has_the_defaults(emulator: Emulator) -> None:
    token = await client(emulator).aio.auth_tokens.create()
    assert token.name is not None
    async with connect(client(emulator, token.name, "v1beta")) as session:
        assert session.setup_complete is not None


async def test_errors_of_the_rest_call_arrive_with_their_status_and_text(emulator: Emulator) -> None:
    with pytest.raises(errors.ClientError, match="API_KEY_INVALID") as caught:
        await client(emulator, "wrong").aio.auth_tokens.create()
    assert caught.value.code == 400
    mask = types.CreateAuthTokenConfig(lock_additional_fields=["nonsense"])
    with pytest.raises(errors.ClientError) as caught:
        await client(emulator).aio.auth_tokens.create(config=mask)
    assert caught.value.status == "INVALID_ARGUMENT"
    assert "'nonsense' is not a path" in str(caught.value.message)


async def test_the_vertex_path_with_an_express_key(emulator: Emulator) -> None:
    vertex = client(emulator, vertexai=True)
    async with connect(vertex, output_audio_transcription={}) as session:
        await session.send_client_content(turns=types.Content(role="user", parts=[types.Part(text="hello")]))
        turn = await receive(session)
    assert turn.said == "hello how can i help you"
    usage = turn.messages[-1].usage_metadata
    assert usage is not None
    assert usage.response_token_count


async def test_refusals_have_their_codes(emulator: Emulator) -> None:
    for key, model, handle, code, text in (
        ("wrong", MODEL, None, 1007, "API key not valid"),
        ("key", "gemini-none", None, 1008, "is not found for API version"),
        ("key", MODEL, "gone", 1008, "session not found"),
    ):
        resumption = {"session_resumption": {"handle": handle}} if handle else {}
        with pytest.raises(errors.APIError, match=text) as caught:
            async with connect(client(emulator, key), model=model, **resumption):
                pass
        assert caught.value.code == code
