"""Our codec against the SDK's, on recorded frames: both ways must say the same."""

from __future__ import annotations

import base64
import json
import os
import random
from pathlib import Path
from typing import Any, cast

import pytest
from google import genai
from google.genai import types
from google.genai.live import AsyncSession

from services.session_worker import events, wire

FRAMES = [
    json.loads(line) for line in (Path(__file__).parent.parent / "data" / "live-frames.jsonl").read_text().splitlines()
]


class Socket:
    """Records what the SDK sends."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send(self, frame: str) -> None:
        self.sent.append(frame)


def sdk_session(socket: object, *, vertex: bool = False) -> AsyncSession:
    options = types.HttpOptions(api_version="v1beta")
    client = genai.Client(api_key="k", vertexai=vertex, http_options=options)
    return AsyncSession(client._api_client, cast(Any, socket))


def decoded_audio(frame: dict[str, Any]) -> dict[str, Any]:
    """A frame with its base64 undone: the alphabet is allowed to differ, the bytes are not."""
    blob = frame["realtime_input"]["audio"]
    return {**blob, "data": base64.b64decode(blob["data"].translate(str.maketrans("-_", "+/")))}


@pytest.mark.parametrize("size", [2, 320, 640, 1280, 3200])
@pytest.mark.parametrize("rate", [8000, 16000, 48000])
async def test_audio_goes_out_as_the_sdk_sends_it(size: int, rate: int) -> None:
    pcm = os.urandom(size)
    socket = Socket()
    await sdk_session(socket).send_realtime_input(audio=types.Blob(data=pcm, mime_type=f"audio/pcm;rate={rate}"))
    ours = json.loads(wire.AudioEncoder(rate).encode(pcm))
    theirs = json.loads(socket.sent[0])
    assert list(ours) == list(theirs)
    assert decoded_audio(ours) == decoded_audio(theirs)
    assert decoded_audio(ours)["data"] == pcm


SERVER_FRAMES = [
    pytest.param(row["frame"], id=row["label"])
    for row in FRAMES
    if row["direction"] == "server->client" and row["transport"] == "ws-binary"
]


@pytest.mark.parametrize("frame", SERVER_FRAMES)
async def test_server_frames_mean_the_same_both_ways(frame: dict[str, Any]) -> None:
    raw = json.dumps(frame).encode()
    session = sdk_session(Socket())
    assert await wire.decode(session, raw, fast=True) == await wire.decode(session, raw, fast=False)


def audio_frame(pcm: bytes, **extra: object) -> bytes:
    blob = {"mimeType": "audio/pcm;rate=24000", "data": base64.b64encode(pcm).decode()}
    return json.dumps({"serverContent": {"modelTurn": {"parts": [{"inlineData": blob}]}, **extra}}).encode()


async def test_an_audio_frame_takes_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forbidden(_self: AsyncSession) -> None:
        raise AssertionError("the SDK was asked")

    session = sdk_session(Socket())
    monkeypatch.setattr(AsyncSession, "_receive", forbidden)
    pcm = random.Random(1).randbytes(1920)
    assert await wire.decode(session, audio_frame(pcm), fast=True) == [events.Audio(pcm, 24000)]


async def test_audio_with_something_beside_it_loses_neither() -> None:
    raw = audio_frame(b"\x01\x02", outputTranscription={"text": "hi"}, turnComplete=True)
    found = await wire.decode(sdk_session(Socket()), raw, fast=True)
    assert [type(event) for event in found] == [events.Audio, events.OutputTranscript, events.TurnComplete]


@pytest.mark.parametrize(
    "raw",
    [b'{"brandNewMessage":{"a":1}}', b'{"error":{"code":429}}', b'{"code":429,"message":"quota"}', b"not json"],
)
async def test_what_the_sdk_cannot_read_is_passed_on(raw: bytes) -> None:
    found = await wire.decode(sdk_session(Socket()), raw, fast=True)
    assert [type(event) for event in found] == [events.Unknown]
    assert json.dumps(cast(events.Unknown, found[0]).json)


@pytest.mark.parametrize("fast", [True, False])
async def test_the_rate_of_the_models_voice_is_the_frames(fast: bool) -> None:
    raw = audio_frame(b"\x01\x02").replace(b"rate=24000", b"rate=16000")
    assert await wire.decode(sdk_session(Socket()), raw, fast=fast) == [events.Audio(b"\x01\x02", 16_000)]


async def test_usage_beside_audio_is_not_lost() -> None:
    frame = json.loads(audio_frame(b"\x01\x02")) | {"usageMetadata": {"totalTokenCount": 9}}
    found = await wire.decode(sdk_session(Socket()), json.dumps(frame).encode(), fast=True)
    assert [type(event) for event in found] == [events.Audio, events.Usage]


async def test_what_the_sdk_reads_but_we_have_no_name_for_is_passed_on() -> None:
    raw = b'{"serverContent":{"groundingMetadata":{"webSearchQueries":["parley"]}}}'
    (found,) = await wire.decode(sdk_session(Socket()), raw, fast=True)
    assert isinstance(found, events.Unknown)
    assert "parley" in found.json


GROUNDED = {"groundingMetadata": {"webSearchQueries": ["parley"]}}


@pytest.mark.parametrize(
    ("beside", "unnamed", "named"),
    [
        ({"serverContent": {"generationComplete": True, **GROUNDED}}, {"serverContent": GROUNDED}, 1),
        (
            {"serverContent": {"turnComplete": True, "speechState": "SPEECH"}},
            {"serverContent": {"speechState": "SPEECH"}},
            1,
        ),
        (
            {"serverContent": {"inputTranscription": {"text": "hi", "words": [{"word": "hi"}]}, **GROUNDED}},
            {"serverContent": {"inputTranscription": {"words": [{"word": "hi"}]}, **GROUNDED}},
            1,
        ),
        ({"usageMetadata": {"totalTokenCount": 9}, "brandNew": {"a": 1}}, {"brandNew": {"a": 1}}, 1),
        ({"serverContent": {"turnComplete": True, "urlContextMetadata": {}}, "goAway": {}}, None, 2),
        ({"serverContent": {"turnComplete": True, "interactionStatus": "IDLE"}}, None, 1),
    ],
)
async def test_what_has_no_name_is_passed_on_before_what_it_came_with(
    beside: dict[str, Any], unnamed: dict[str, Any] | None, named: int
) -> None:
    found = await wire.decode(sdk_session(Socket()), json.dumps(beside).encode(), fast=True)
    passed_on = [json.loads(event.json) for event in found if isinstance(event, events.Unknown)]
    assert passed_on == ([] if unnamed is None else [unnamed])
    assert len(found) == len(passed_on) + named
    assert unnamed is None or isinstance(found[0], events.Unknown)


@pytest.mark.parametrize("raw", [b"{}", b"", b'{"serverContent":{}}'])
async def test_empty_frames_say_nothing(raw: bytes) -> None:
    assert await wire.decode(sdk_session(Socket()), raw, fast=True) == []


async def test_usage_is_read_from_any_frame() -> None:
    raw = b'{"serverContent":{},"usageMetadata":{"promptTokenCount":7,"totalTokenCount":9}}'
    (usage,) = await wire.decode(sdk_session(Socket()), raw, fast=True)
    assert isinstance(usage, events.Usage)
    assert (usage.prompt, usage.total) == (7, 9)


async def test_progress_in_the_background_is_not_idle() -> None:
    raw = b'{"serverContent":{"turnComplete":true,"interactionStatus":"IN_PROGRESS"}}'
    (turn,) = await wire.decode(sdk_session(Socket()), raw, fast=True)
    assert isinstance(turn, events.TurnComplete)
    assert not turn.idle


@pytest.mark.parametrize("vertex", [True, False])
async def test_calls_that_come_without_ids_are_told_apart_and_answered_as_they_came(vertex: bool) -> None:
    frame = {"toolCall": {"functionCalls": [{"name": "look", "args": {}}, {"name": "look", "args": {}}]}}
    socket = Socket()
    session = sdk_session(socket, vertex=vertex)
    calls = await wire.decode(session, json.dumps(frame).encode(), fast=True)
    ids = [call.id for call in calls if isinstance(call, events.FunctionCall)]
    assert len({*ids} - {""}) == 2
    for call_id in (ids[0], "named"):
        response = types.FunctionResponse(id=call_id, name="look", response={"output": 1})
        await session.send_tool_response(function_responses=wire.as_called(response, session))
    sent = [json.loads(frame)["tool_response"]["functionResponses"][0] for frame in socket.sent]
    # For the Developer API the SDK refuses results without an id.
    assert [one.get("id") for one in sent] == [None if vertex else ids[0], "named"]


def test_another_sdk_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("google.genai.version.__version__", "9.9.9")
    with pytest.raises(RuntimeError, match=r"9\.9\.9"):
        wire.check_sdk_version()


def called(arguments: str) -> bytes:
    return b'{"toolCall": {"functionCalls": [{"id": "c1", "name": "f", "args": ' + arguments.encode() + b"}]}}"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ('{"a": 1' + "0" * 400 + "}", "a number in the arguments is too large"),
        ('{"a": NaN}', "a number in the arguments is too large, or none"),
        ('{"a": ' + "[" * 60 + "]" * 60 + "}", "the arguments are nested more than"),
        ('{"a": ' + "[" * 400 + "]" * 400 + "}", "the arguments are nested more than"),
    ],
)
async def test_arguments_that_nobody_can_hand_on_are_left_out_of_a_call(arguments: str, problem: str) -> None:
    [call] = await wire.decode(sdk_session(Socket()), called(arguments), fast=True)
    assert isinstance(call, events.FunctionCall)
    assert (call.id, call.name, call.args) == ("c1", "f", {})
    assert call.problem.startswith(problem)


async def test_half_a_character_is_a_question_mark_and_a_whole_one_is_itself() -> None:
    session = sdk_session(Socket())
    [call] = await wire.decode(session, called(r'{"a\ud83d": "\ud83d\ude00 \udc00", "b": "\\ud83d"}'), fast=True)
    assert call == events.FunctionCall("c1", "f", {"a?": "\U0001f600 ?", "b": "\\ud83d"})
    heard = rb'{"serverContent": {"outputTranscription": {"text": "hi \ud83d"}}}'
    [said] = await wire.decode(session, heard, fast=True)
    assert isinstance(said, events.OutputTranscript)
    assert said.text == "hi ?"
