"""The unmodified google-genai SDK through a recorder before the emulator, and against what it recorded."""

import asyncio
import json
import re
import signal
import ssl
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import websockets
from aiohttp import web
from google import genai
from google.genai import errors, types
from google.genai.live import AsyncSession

from emulator.tape.playback import Manner
from tests.emulator.behaviour import behaviour, patched
from tests.emulator.conftest import Here
from tests.emulator.patience import LIMIT, in_time
from tests.emulator.taping import endpoint, lines, recording, replaying
from tests.support.children import bound
from tests.support.speech import question

pytestmark = pytest.mark.asyncio(loop_scope="module")

GIVEN = Path(__file__).parents[1] / "data" / "live-frames.jsonl"
MODEL = "gemini-3.8-live"
KEY = "AIzaSyD-0123456789abcdefghijklmnopqrstu"
VERTEX = "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent"
BLOB = bytes(range(240, 256)) + bytes(range(16))
WEATHER = types.FunctionDeclaration(
    name="get_weather",
    parameters=types.Schema(type=types.Type.OBJECT, properties={"city": types.Schema(type=types.Type.STRING)}),
)


def at(here: Here) -> dict[str, str]:
    return {"address": here.address, "ca_file": here.ca_file}


def client(where: dict[str, Any], *, key: str | None = KEY, base: str = "", **options: Any) -> genai.Client:
    """An SDK client; ``base`` is appended to its base URL. Without a key it is Vertex's, and dials just that."""
    context = ssl.create_default_context(cafile=where["ca_file"])
    address = where["address"].replace("127.0.0.1", "localhost")
    http = types.HttpOptions(
        base_url=(address.replace("https:", "wss:") if key is None else address) + base,
        async_client_args={"ssl": context, **options.pop("socket", {})},
        client_args={"verify": context},
        **{"api_version": "v1beta", **options},
    )
    return genai.Client(api_key=key, vertexai=key is None, http_options=http)


def text(value: str) -> types.Content:
    return types.Content(role="user", parts=[types.Part(text=value)])


async def turn(
    session: AsyncSession, answers: dict[str, Any] | None = None, limit: float = LIMIT
) -> list[dict[str, Any]]:
    """The messages of one turn; calls are answered from ``answers``."""
    seen = []
    async with asyncio.timeout(limit):
        async for message in session.receive():
            seen.append(message.model_dump(mode="json", exclude_none=True))
            for call in (message.tool_call and message.tool_call.function_calls) or ():
                response = types.FunctionResponse(id=call.id, name=call.name, response=(answers or {})[str(call.name)])
                await session.send_tool_response(function_responses=response)
    return seen


async def speak(session: AsyncSession, name: str) -> None:
    """A question and the silence that ends it, as fast as the socket takes it."""
    pcm = question(name) + bytes(32000)
    for begin in range(0, len(pcm), 1280):
        blob = types.Blob(data=pcm[begin : begin + 1280], mime_type="audio/pcm;rate=16000")
        await session.send_realtime_input(audio=blob)


async def conversation(where: dict[str, Any], limit: float = LIMIT) -> list[dict[str, Any]]:
    """A typed turn, a spoken one that calls a tool, and the turn that its result leads to."""
    config = types.LiveConnectConfig(
        tools=[types.Tool(function_declarations=[WEATHER])],
        session_resumption=types.SessionResumptionConfig(),
        output_audio_transcription=types.AudioTranscriptionConfig(),
    )
    answers = {"get_weather": {"output": {"condition": "snowy", "temperature_celsius": -7}}}
    async with client(where).aio.live.connect(model=MODEL, config=config) as session:
        await session.send_client_content(turns=text("Hello!"))
        typed = await turn(session, limit=limit)
        await speak(session, "weather_paris")
        asked = await turn(session, answers, limit)
        return [*typed, *asked, *(await turn(session, limit=limit))]


def handles(messages: list[dict[str, Any]]) -> list[str]:
    updates = [message.get("session_resumption_update", {}) for message in messages]
    return [update["new_handle"] for update in updates if "new_handle" in update]


def plain(messages: list[dict[str, Any]], *, silent: bool = False) -> list[dict[str, Any]]:
    """Messages with handles, and where ``silent`` all sound, told from each other only by their order and length."""
    names = {handle: f"handle {number}" for number, handle in enumerate(dict.fromkeys(handles(messages)))}
    dumped = json.dumps(messages)
    for handle, name in names.items():
        dumped = dumped.replace(handle, name)
    if silent:
        dumped = re.sub(r'"data": "([^"]*)"', lambda found: f'"data": {len(found.group(1))}', dumped)
    result: list[dict[str, Any]] = json.loads(dumped)
    return result


@behaviour("replay.turns", off=patched("emulator.tape.load._payload", lambda line: b"{}"))
async def test_what_was_recorded_is_heard_again_by_the_same_code(here: Here, tmp_path: Path) -> None:
    out = tmp_path / "tape"
    async with recording(at(here), out) as recorder:
        heard = await conversation(recorder.ready())
    assert [name for message in heard for name in message.get("tool_call", {})] == ["function_calls"]
    assert handles(heard)
    async with replaying(out, manner=Manner(None, strict=True)) as player:
        again = await conversation(player.ready(), limit=1.0)
    assert plain(again) == plain(heard)
    assert handles(again) == [f"handle-{number}" for number in range(1, len(handles(heard)) + 1)]
    written = out.read_text()
    assert [secret for secret in (KEY, *handles(heard)) if secret in written] == []
    assert {one["connection"] for one in lines(out) if "connection" in one} == {1}


async def test_without_its_sound_a_recording_is_replayed_with_silence_of_that_length(
    here: Here, tmp_path: Path
) -> None:
    out = tmp_path / "tape"
    async with recording(at(here), out, max_audio_bytes=0) as recorder:
        heard = await conversation(recorder.ready())
    assert out.stat().st_size < 200_000
    async with replaying(out, manner=Manner(None)) as player:
        again = await conversation(player.ready())
    assert plain(again, silent=True) == plain(heard, silent=True)
    sound = [part["inline_data"]["data"] for message in again for part in parts(message) if "inline_data" in part]
    assert sound
    assert set("".join(sound)) <= set("A=")


def parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    return list(message.get("server_content", {}).get("model_turn", {}).get("parts", []))


async def test_a_resumption_goes_by_the_handle_of_the_recording(here: Here, tmp_path: Path) -> None:
    async def resumed(where: dict[str, Any]) -> list[str]:
        config = types.LiveConnectConfig(session_resumption=types.SessionResumptionConfig())
        async with client(where).aio.live.connect(model=MODEL, config=config) as session:
            await session.send_client_content(turns=text("Hello!"))
            first = await turn(session)
            # The handle follows the end of the turn.
            await session.send_client_content(turns=text("goodbye"))
            first += await turn(session)
        handle = handles(first)[-1]
        config = types.LiveConnectConfig(session_resumption=types.SessionResumptionConfig(handle=handle))
        async with client(where).aio.live.connect(model=MODEL, config=config) as session:
            await session.send_client_content(turns=text("Hello!"))
            return [*handles(first), *handles(await turn(session))]

    out = tmp_path / "tape"
    async with recording(at(here), out) as recorder:
        names = await resumed(recorder.ready())
    async with replaying(out, manner=Manner(None, strict=True)) as player:
        again = await resumed(player.ready())
        assert [played["mismatch"] for played in player.report()["connections"]] == [None, None]
    assert len(again) == len(names)
    assert not set(names) & set(again)


async def test_a_refusal_reaches_the_sdk_with_its_body(tmp_path: Path) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"code": 403, "message": "not for you"}}, status=403)

    async with endpoint(refuse) as upstream, recording(upstream, tmp_path / "tape") as recorder:
        with pytest.raises(websockets.InvalidStatus) as caught:
            async with client(recorder.ready()).aio.live.connect(model=MODEL):
                pass
    assert caught.value.response.status_code == 403
    assert json.loads(caught.value.response.body or b"") == {"error": {"code": 403, "message": "not for you"}}


@asynccontextmanager
async def command(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    """``python -m emulator ...`` and the line that says it is ready."""
    process = await asyncio.create_subprocess_exec(
        *bound(sys.executable, "-m", "emulator", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            yield process, json.loads(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_recorder_that_is_terminated_in_mid_conversation_leaves_a_whole_file(
    here: Here, tmp_path: Path
) -> None:
    out, upstream = tmp_path / "tape", at(here)
    options = ["--upstream", upstream["address"], "--upstream-ca", upstream["ca_file"], "--out", str(out)]
    async with command("record", *options) as (process, ready):
        assert ready["ready"] == "recorder"
        assert (ready["pid"], ready["file"]) == (process.pid, str(out))
        async with client(ready).aio.live.connect(model=MODEL) as session:
            await session.send_client_content(turns=text("Hello!"))
            heard = await turn(session)
            await speak(session, "tell_me_about_your_service")
            process.send_signal(signal.SIGTERM)
            with pytest.raises(errors.APIError) as caught:
                while True:
                    await turn(session)
        assert caught.value.code == 1001
        assert await process.wait() == 0
    written = lines(out)
    assert written[-1]["label"] == "end of the recording"
    assert written[-1]["frame"] == {"dropped": 0, "unrecorded_frames": 0}
    assert sum("realtime_input" in one["label"] for one in written) > 20
    assert KEY not in out.read_text()
    async with command("replay", str(out), "--immediately") as (process, ready):
        assert (ready["ready"], ready["connections"]) == ("replay", 1)
        async with client(ready).aio.live.connect(model=MODEL) as session:
            await session.send_client_content(turns=text("Hello!"))
            assert plain(await turn(session)) == plain(heard)
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0


# What the SDK was seen to send, and what it was seen to read.

ROWS = [json.loads(row) for row in GIVEN.read_text().splitlines()]
SENT = [row for row in ROWS if row["direction"] == "client->server"]


@dataclass(frozen=True)
class Way:
    """How the SDK is brought to send a frame. Functions take the recorded frame, for what labels do not say."""

    act: Callable[[AsyncSession, Any], Awaitable[None]] | None = None
    """On a session; without it, connecting is all."""
    model: Callable[[Any], str] = lambda _: MODEL
    config: types.LiveConnectConfig = field(default_factory=types.LiveConnectConfig)
    client: dict[str, Any] = field(default_factory=dict)
    rest: Callable[[genai.Client], Any] | None = None


def doing(act: Callable[[AsyncSession], Awaitable[None]], **options: Any) -> Way:
    return Way(lambda session, _: act(session), **options)


def config(**fields: Any) -> types.LiveConnectConfig:
    # The SDK warns of fields that are deprecated; that is no concern here.
    return types.LiveConnectConfig(**fields)


def token(**fields: Any) -> types.CreateAuthTokenConfig:
    return types.CreateAuthTokenConfig(
        **{
            "uses": 1,
            "expire_time": datetime(2026, 11, 22, 0, 30, tzinfo=UTC),
            "new_session_expire_time": datetime(2026, 11, 22, 0, 1, tzinfo=UTC),
            **fields,
        }
    )


def creating(**fields: Any) -> Way:
    return Way(rest=lambda one: one.aio.auth_tokens.create(config=token(**fields)), client={"api_version": "v1alpha"})


BLOB_16K = types.Blob(data=BLOB, mime_type="audio/pcm;rate=16000")
IMAGE = types.Blob(data=BLOB, mime_type="image/jpeg")
CONSTRAINTS = types.LiveConnectConstraints(
    model=MODEL,
    config=config(
        response_modalities=[types.Modality.AUDIO],
        temperature=0.7,
        system_instruction=types.Content(role="user", parts=[types.Part(text="x")]),
        session_resumption=types.SessionResumptionConfig(),
    ),
)
VERTEX_CLIENT = {"key": None, "base": VERTEX, "headers": {"Authorization": "Bearer of-tests"}}
EVERYTHING = config(
    response_modalities=[types.Modality.AUDIO],
    temperature=0.7,
    top_p=0.9,
    top_k=40,
    max_output_tokens=1024,
    media_resolution=types.MediaResolution.MEDIA_RESOLUTION_LOW,
    seed=7,
    speech_config={"voice_config": {"prebuilt_voice_config": {"voice_name": "Kore"}}, "language_code": "en-US"},
    thinking_config={"include_thoughts": True, "thinking_level": "LOW"},
    enable_affective_dialog=True,
    translation_config={"echo_target_language": False, "target_language_code": "es"},
    system_instruction="Be brief.",
    tools=[
        {"google_search": {}},
        {
            "function_declarations": [
                {
                    "name": "f",
                    "description": "d",
                    "parameters": {"type": "OBJECT", "properties": {"a": {"type": "INTEGER"}}, "required": ["a"]},
                    "behavior": "NON_BLOCKING",
                },
                {"name": "g", "parameters_json_schema": {"type": "object", "properties": {}}, "behavior": "BLOCKING"},
            ]
        },
    ],
    session_resumption={"handle": "prev-handle"},
    input_audio_transcription={},
    output_audio_transcription={"language_codes": ["en-US"]},
    realtime_input_config={
        "automatic_activity_detection": {
            "disabled": False,
            "start_of_speech_sensitivity": "START_SENSITIVITY_HIGH",
            "end_of_speech_sensitivity": "END_SENSITIVITY_LOW",
            "prefix_padding_ms": 20,
            "silence_duration_ms": 500,
        },
        "activity_handling": "NO_INTERRUPTION",
        "turn_coverage": "TURN_INCLUDES_ALL_INPUT",
    },
    context_window_compression={"trigger_tokens": 104857, "sliding_window": {"target_tokens": 52428}},
    proactivity={"proactive_audio": True},
    history_config={"initial_history_in_client_content": True},
    safety_settings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    labels={"tenant": "t1"},
)
RESPONSES = [
    types.FunctionResponse(
        id="function-call-1",
        name="f",
        response={"output": "ok"},
        scheduling=types.FunctionResponseScheduling.INTERRUPT,
        will_continue=True,
    ),
    types.FunctionResponse(
        id="function-call-1",
        name="f",
        response={},
        scheduling=types.FunctionResponseScheduling.SILENT,
        will_continue=False,
    ),
]
TYPED = Way(lambda session, frame: session.send_realtime_input(text=frame["realtime_input"]["text"]))
PROBE = Way(model=lambda frame: frame["setup"]["model"].removeprefix("models/"))
V1 = {"api_version": "v1"}
# By the label's beginning.
WAYS = {
    "handshake request (base_url had trailing slash)": Way(client={**V1, "base": "/"}),
    "handshake request (base_url with path prefix)": Way(client={**V1, "base": "/prefix"}),
    "handshake request (session http_options": Way(
        config=config(http_options={"api_version": "v1beta", "headers": {"x-extra": "1"}}), client=V1
    ),
    "handshake request (ephemeral token)": Way(client={"key": "auth_tokens/abc", "api_version": "v1alpha"}),
    "handshake request (vertexai=True": Way(client={"key": None, "base": "/any/path"}),
    "handshake request (compression=None": Way(client={**V1, "socket": {"compression": None}}),
    "handshake request": Way(client=V1),
    "setup: every LiveConnectConfig field set": Way(config=EVERYTHING),
    "setup: no config (minimal)": Way(),
    "setup: vertex custom base_url": Way(
        config=config(session_resumption={"transparent": True}, explicit_vad_signal=True),
        client=VERTEX_CLIENT,
        model=lambda frame: frame["setup"]["model"],
    ),
    "setup: ": PROBE,
    "send_client_content(turns=dict, turn_complete=False)": doing(
        lambda session: session.send_client_content(
            turns={"role": "user", "parts": [{"text": "hi"}]}, turn_complete=False
        )
    ),
    "send_client_content(turns=[user,model]": doing(
        lambda session: session.send_client_content(
            turns=[text("q"), types.Content(role="model", parts=[types.Part(text="a")])]
        )
    ),
    "send_client_content() with no turns": doing(lambda session: session.send_client_content()),
    "send_client_content with inline_data image part": doing(
        lambda session: session.send_client_content(
            turns=types.Content(role="user", parts=[types.Part(inline_data=IMAGE)])
        )
    ),
    "send_realtime_input(audio=Blob)": doing(lambda session: session.send_realtime_input(audio=BLOB_16K)),
    "send_realtime_input(video=Blob image/jpeg)": doing(lambda session: session.send_realtime_input(video=IMAGE)),
    "send_realtime_input(media=Blob)": doing(lambda session: session.send_realtime_input(media=BLOB_16K)),
    "send_realtime_input(text=...)": TYPED,
    "send_realtime_input(audio_stream_end=True)": doing(
        lambda session: session.send_realtime_input(audio_stream_end=True)
    ),
    "send_realtime_input(activity_start": doing(
        lambda session: session.send_realtime_input(activity_start=types.ActivityStart())
    ),
    "send_realtime_input(activity_end": doing(
        lambda session: session.send_realtime_input(activity_end=types.ActivityEnd())
    ),
    "send_tool_response: 2 responses": doing(lambda session: session.send_tool_response(function_responses=RESPONSES)),
    "send_context_update(system_instruction=str)": doing(
        lambda session: session.send_context_update(system_instruction="new instr")
    ),
    "send_context_update(tools=[...])": doing(
        lambda session: session.send_context_update(
            tools=[types.Tool(function_declarations=[types.FunctionDeclaration(name="h")])]
        )
    ),
    "send_context_update(tools=[])": doing(lambda session: session.send_context_update(tools=[])),
    "text trigger used by the fake server script": TYPED,
    "realtime_input": TYPED,
    "vertex mode: realtime_input": doing(
        lambda session: session.send_realtime_input(audio=BLOB_16K), client=VERTEX_CLIENT
    ),
    "vertex mode: client_content": doing(
        lambda session: session.send_client_content(turns=text("hi")), client=VERTEX_CLIENT
    ),
    "vertex mode: tool_response": doing(
        lambda session: session.send_tool_response(function_responses=types.FunctionResponse(name="f", response={})),
        client=VERTEX_CLIENT,
    ),
    "REST POST auth_tokens: no constraints": creating(),
    "REST POST auth_tokens: constraints, lock None": creating(live_connect_constraints=CONSTRAINTS),
    "REST POST auth_tokens: lock []": creating(live_connect_constraints=CONSTRAINTS, lock_additional_fields=[]),
    "REST POST auth_tokens: lock [temperature,tools]": creating(
        live_connect_constraints=CONSTRAINTS, lock_additional_fields=["top_p", "tools"]
    ),
    "REST POST auth_tokens: default api_version, async": Way(
        rest=lambda one: one.aio.auth_tokens.create(config=types.CreateAuthTokenConfig(uses=2)), client=V1
    ),
}


def way(label: str) -> Way:
    return WAYS[max((name for name in WAYS if label.startswith(name)), key=len)]


async def produce(where: dict[str, Any], row: dict[str, Any]) -> None:
    """Have the SDK send what a row holds, on a connection of its own. Whatever the emulator thinks of it."""
    how = way(row["label"])
    sender = client(where, **{"key": "test-key", **how.client})
    model = how.model(row["frame"])
    try:
        async with in_time(in_vain=10.0):
            if how.rest is not None:
                await how.rest(sender)
                return
            async with sender.aio.live.connect(model=model, config=how.config) as session:
                if how.act is not None:
                    await how.act(session, row["frame"])
    except (errors.APIError, websockets.InvalidStatus):
        pass


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def produced(here: Here, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """For each row of SENT, what the recorder saw of it: lines of its connection, or of its exchange."""
    out = tmp_path_factory.mktemp("tape") / "tape"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        async with recording(at(here), out) as recorder:
            where = recorder.ready()
            for row in SENT:
                await produce(where, row)
    written = [one for one in lines(out) if one["direction"] == "client->server"]
    connections = iter(range(1, len(SENT) + 1))
    exchanges = iter(range(1, len(SENT) + 1))
    found: list[dict[str, Any]] = []
    for row in SENT:
        name, number = (
            ("exchange", next(exchanges)) if row["transport"] == "http" else ("connection", next(connections))
        )
        of_row = [one for one in written if one.get(name) == number]
        by_transport = [one for one in of_row if one["transport"] == row["transport"]]
        # A setup is the first frame of its connection, whatever else is sent is the second.
        wanted = 1 if row["transport"] == "ws-text" and "setup" not in row["frame"] else 0
        found.append(by_transport[wanted] if len(by_transport) > wanted else {})
    return found


def expected(row: dict[str, Any]) -> Any:
    """The row's frame as the recorder writes it: names for secrets."""
    dumped = json.dumps(row["frame"])
    for secret, name in {
        "test-key": "key-1",
        "auth_tokens/abc": "auth_tokens/token-1",
        "prev-handle": "handle-1",
    }.items():
        dumped = dumped.replace(secret, name)
    return versionless(json.loads(dumped))


def versionless(frame: Any) -> Any:
    """Without Python's version, and what was negotiated: that is the server's choice."""
    if "headers" not in frame:
        return frame
    agents = {name: re.sub(r"gl-python/[\d.]+", "gl-python/x", value) for name, value in frame["headers"].items()}
    return {**frame, "headers": agents, "negotiated_ext": None}


@pytest.mark.parametrize("index", range(len(SENT)), ids=[f"{n}-{row['label']}" for n, row in enumerate(SENT)])
async def test_the_sdk_sends_what_it_was_seen_to_send(produced: list[dict[str, Any]], index: int) -> None:
    row, found = SENT[index], produced[index]
    frame = versionless(found.get("frame", {}))
    if row["transport"] == "http":
        assert frame["method"] == "POST"
        frame = {name: frame[name] for name in ("path", "body")}
    assert frame == expected(row)
    # Spelling, order and numbers (40.0 is no 40) included.
    assert json.dumps(frame) == json.dumps(expected(row))


async def read(session: AsyncSession) -> Any:
    """The next message, or the name of what the SDK makes of it instead."""
    messages = session.receive()
    try:
        async with in_time(in_vain=10.0):
            return (await anext(messages)).model_dump(mode="json", exclude_none=True)
    except Exception as error:  # noqa: BLE001 - which one it is, is what is asked
        return type(error).__name__
    finally:
        await messages.aclose()


def connected(where: dict[str, Any], number: int) -> AbstractAsyncContextManager[AsyncSession]:
    http = {"headers": {"x-emulator-replay": str(number)}}
    return client(where).aio.live.connect(model=MODEL, config=config(http_options=http))


async def test_the_given_capture_can_be_served_to_check_what_the_sdk_reads() -> None:
    async with replaying(GIVEN, manner=Manner(None, unprompted=True)) as player:
        where = player.ready()
        async with connected(where, 1) as session:
            assert session.session_id == "sess-1"
            frames = player.report()["connections"][0]["of"]
            seen = [await read(session) for _ in range(frames - 1)]
        async with connected(where, 2) as session:
            others = [await read(session) for _ in range(6)]
        async with connected(where, 6) as session:
            assert session.setup_complete is None
        name = (await client(where, api_version="v1alpha").aio.auth_tokens.create()).name
    assert seen[0]["session_resumption_update"] == {
        "new_handle": "h-1",
        "resumable": True,
        "last_consumed_client_message_index": 7,
    }
    assert [call["name"] for call in seen[6]["tool_call"]["function_calls"]] == ["f", "g"]
    assert seen[8]["go_away"] == {"time_left": "50s"}
    assert [message for message in seen if isinstance(message, str)] == []
    assert others == ["TypeError", "TypeError", "ClientError", "ValidationError", "ValueError", {}]
    assert name == "auth_tokens/abcdef"
