import base64
import json
from pathlib import Path
from typing import Any

import pytest

from emulator.errors import Refusal, reason_bytes
from emulator.protocol import (
    ActivityEnd,
    ActivityStart,
    Audio,
    AudioStreamEnd,
    ClientContent,
    Content,
    ContextUpdate,
    Decoder,
    FunctionResponse,
    Setup,
    Text,
    ToolResponse,
    Video,
    seconds,
)

BYTES = bytes(range(240, 256)) + b"\x00\x01"


def decode(message: Any, *, version: str = "v1beta", backend: str = "developer", strict: bool = True) -> Any:
    frame = message if isinstance(message, str | bytes) else json.dumps(message)
    return Decoder(backend, version, strict=strict).decode(frame)


@pytest.mark.parametrize("alphabet", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize(("outer", "inner"), [("realtime_input", "mime_type"), ("realtimeInput", "mimeType")])
def test_blobs_are_read_in_either_alphabet_and_spelling(alphabet: Any, padded: bool, outer: str, inner: str) -> None:
    data = alphabet(BYTES).decode()
    blob = {"data": data if padded else data.rstrip("="), inner: "audio/pcm;rate=16000"}
    assert decode({outer: {"audio": blob}}) == Audio(BYTES, "audio/pcm;rate=16000")


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ({"realtime_input": {"text": "hi"}}, Text("hi")),
        ({"realtime_input": {"audioStreamEnd": True}}, AudioStreamEnd()),
        ({"realtime_input": {"activity_start": {}}}, ActivityStart()),
        ({"realtimeInput": {"activityEnd": {}}}, ActivityEnd()),
        ({"realtimeInput": {"video": {"data": "AAE=", "mimeType": "image/png"}}}, Video(b"\0\1", "image/png")),
        ({"client_content": {"turnComplete": True}}, ClientContent((), True)),
        (
            {"clientContent": {"turns": [{"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}]}},
            ClientContent((Content("user", "a b"),), False),
        ),
        (
            {"tool_response": {"functionResponses": [{"id": "1", "name": "f", "will_continue": True}]}},
            ToolResponse((FunctionResponse("1", "f", {}, "", True),)),
        ),
        ({"contextUpdate": {"tools": {"tools": []}}}, ContextUpdate(None, [])),
        (
            {"context_update": {"system_instruction": {"parts": [{"text": "x"}]}}},
            ContextUpdate(Content(None, "x"), None),
        ),
    ],
)
def test_messages(message: dict[str, Any], event: Any) -> None:
    assert decode(message) == event
    assert decode(json.dumps(message).encode()) == event


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("", "Request contains an invalid argument."),
        ("not json", "Request contains an invalid argument."),
        (b"\xff\xfe\x00", "Request contains an invalid argument."),
        ("[]", "Request contains an invalid argument."),
        ("{}", "Request contains an invalid argument."),
        ("[" * 100_000, "Request contains an invalid argument."),
        ({"realtimeInput": {}}, "Request contains an invalid argument."),
        ({"realtimeInput": {"text": "a", "audioStreamEnd": True}}, "Request contains an invalid argument."),
        ({"setup": {}, "clientContent": {}}, "Request contains an invalid argument."),
        ({"nope": 1}, 'Invalid JSON payload received. Unknown name "nope": Cannot find field.'),
        (
            {"setup": {"model": "m", "generation_config": {"top_z": 1}}},
            "Invalid JSON payload received. Unknown name \"top_z\" at 'setup.generation_config': Cannot find field.",
        ),
        (
            {"setup": {"model": "m", "proactivity": {}}},
            "Invalid JSON payload received. Unknown name \"proactivity\" at 'setup': Cannot find field.",
        ),
        ({"setup": {"model": 7}}, "Invalid value at 'setup.model' (TYPE_STRING), 7"),
        ({"setup": {"generationConfig": {"topK": "many"}}}, "Invalid value at 'setup.generation_config.top_k'"),
        ({"setup": "x"}, "Invalid value at 'setup' (type message), \"x\""),
        ({"realtimeInput": {"audio": {"data": "@@@@"}}}, 'Base64 decoding failed for "@@@@"'),
        ({"realtimeInput": {"audio": {"data": "AAAAA"}}}, "Base64 decoding failed"),
    ],
)
def test_bad_frames_close_with_1007_and_a_reason(frame: Any, reason: str) -> None:
    with pytest.raises(Refusal) as caught:
        decode(frame)
    assert caught.value.code == 1007
    assert reason in caught.value.text


def test_the_setup_is_parsed_per_version_and_leniently_on_request() -> None:
    message = {"setup": {"model": "m", "proactivity": {"proactive_audio": True}, "bogus": 1}}
    assert decode(message, version="v1alpha", strict=False) == Setup(
        {"model": "m", "proactivity": {"proactiveAudio": True}}, message["setup"]
    )
    assert decode(message, strict=False).body == {"model": "m"}
    assert "proactivity" in decode(message, backend="vertex", version="v1beta1", strict=False).body


def test_topk_is_a_float_nulls_are_unset_and_schemas_are_left_alone() -> None:
    declaration = {"name": "f", "parameters_json_schema": {"properties": {"snake_case": {"type": "string"}}}}
    setup = {
        "model": "m",
        "generationConfig": {"topK": 40.0, "seed": None},
        "tools": [{"function_declarations": [declaration]}],
    }
    body = decode({"setup": setup}).body
    assert body["generationConfig"] == {"topK": 40.0}
    parsed = body["tools"][0]["functionDeclarations"][0]
    assert parsed["parametersJsonSchema"] == declaration["parameters_json_schema"]


def test_what_the_sdk_was_seen_to_send_is_read() -> None:
    lines = (Path(__file__).parents[1] / "data" / "live-frames.jsonl").read_text().splitlines()
    sent = [json.loads(line) for line in lines]
    frames = [one for one in sent if one["direction"] == "client->server" and one["transport"] == "ws-text"]
    assert len(frames) > 20
    for one in frames:
        backend = "vertex" if "vertex" in one["label"] else "developer"
        decode(one["frame"], version="v1alpha", backend=backend)


def test_reasons_are_cut_at_123_bytes_between_characters() -> None:
    assert reason_bytes("a" * 200) == b"a" * 123
    assert reason_bytes("a" * 122 + "é") == b"a" * 122


@pytest.mark.parametrize(("value", "text"), [(1.2, "1.2s"), (2.0, "2s"), (0.18, "0.18s"), (10, "10s"), (0, "0s")])
def test_durations(value: float, text: str) -> None:
    assert seconds(value) == text
