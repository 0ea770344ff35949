import base64
import json
from pathlib import Path
from typing import Any

import pytest
from google import genai
from google.genai import live, types

from emulator.api import protojson, schema
from emulator.api.protocol import (
    ActivityEnd,
    ActivityStart,
    Audio,
    AudioStreamEnd,
    ClientContent,
    Content,
    ContextUpdate,
    Decoder,
    FunctionResponse,
    MediaChunks,
    Setup,
    Text,
    ToolResponse,
    Unknown,
    Video,
    seconds,
)
from emulator.errors import Refusal, reason_bytes
from tests.emulator.behaviour import behaviour, patched

BYTES = bytes(range(240, 256)) + b"\x00\x01"
INVALID = "Request contains an invalid argument."
PAYLOAD = "Invalid JSON payload received. "
TYPE = "type.googleapis.com/google.ai.generativelanguage.v1beta"


def decode(message: Any, *, version: str = "v1beta", backend: str = "developer", strict: bool = True) -> Any:
    frame = message if isinstance(message, str | bytes) else json.dumps(message)
    return Decoder(backend, version, strict=strict).decode(frame)


def refused(message: Any, **where: Any) -> str:
    with pytest.raises(Refusal) as caught:
        decode(message, **where)
    assert caught.value.code == 1007
    return caught.value.text


@behaviour("10.12", off=patched("emulator.api.protojson._TO_STANDARD", {}))
def test_blobs_are_read_in_either_alphabet_padded_or_not() -> None:
    for alphabet in (base64.b64encode, base64.urlsafe_b64encode):
        data = alphabet(BYTES).decode()
        for text in (data, data.rstrip("="), data[:8] + "\n" + data[8:]):
            blob = {"data": text, "mimeType": "audio/pcm;rate=16000"}
            assert decode({"realtimeInput": {"audio": blob}}) == Audio(BYTES, "audio/pcm;rate=16000")


@behaviour("10.11", off=patched("emulator.api.protojson.camel", lambda name: name))
def test_fields_are_read_in_either_spelling_at_every_depth() -> None:
    camel = {"setup": {"model": "m", "realtimeInputConfig": {"automaticActivityDetection": {"prefixPaddingMs": 5}}}}
    snake = {
        "setup": {"model": "m", "realtime_input_config": {"automatic_activity_detection": {"prefix_padding_ms": 5}}}
    }
    assert decode(camel).body == decode(snake).body
    blob = {"data": "AAE=", "mime_type": "image/png"}
    assert decode({"realtime_input": {"video": blob}}) == Video(b"\0\1", "image/png")


@behaviour(
    "10.5",
    off=patched("emulator.api.jsontext.load", lambda frame: {} if isinstance(frame, bytes) else json.loads(frame)),
)
def test_text_and_binary_frames_are_read_alike() -> None:
    frame = json.dumps({"realtimeInput": {"text": "grüß dich"}}, ensure_ascii=False)
    assert decode(frame) == decode(frame.encode()) == Text("grüß dich")


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ({"realtime_input": {"text": "hi"}}, Text("hi")),
        ({"realtime_input": {"audioStreamEnd": True}}, AudioStreamEnd()),
        ({"realtime_input": {"activity_start": {}}}, ActivityStart()),
        ({"realtimeInput": {"activityEnd": {}}}, ActivityEnd()),
        ({"realtimeInput": {"text": "hi", "audioStreamEnd": False, "video": None}}, Text("hi")),
        (
            {"realtimeInput": {"mediaChunks": {"data": "AAE=", "mimeType": "image/png"}}},
            MediaChunks(((b"\0\1", "image/png"),)),
        ),
        ({"client_content": {"turnComplete": True}}, ClientContent((), True)),
        ({"client_content": {"turns": None, "turn_complete": None}}, ClientContent((), False)),
        (
            {"clientContent": {"turns": [{"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}]}},
            ClientContent((Content("user", "a b", texts=("a", "b")),), False),
        ),
        # One where a list is wanted.
        (
            {"clientContent": {"turns": {"role": "user", "parts": {"text": "a"}}, "turnComplete": True}},
            ClientContent((Content("user", "a"),), True),
        ),
        (
            {"clientContent": {"turns": [{"parts": [{"text": "no", "thought": True}, {"text": "yes"}]}]}},
            ClientContent((Content(None, "yes"),), False),
        ),
        (
            {
                "clientContent": {
                    "turns": [
                        {
                            "role": "user",
                            "parts": [
                                {"file_data": {"file_uri": "gs://b/o", "mime_type": "image/png"}},
                                {"inlineData": {"data": "AAE=", "mimeType": "audio/pcm"}},
                                {"inline_data": {"data": "AAE=", "mime_type": "image/png"}},
                                {"functionCall": {"name": "f", "args": {"a": 1}}},
                                {"functionResponse": {"name": "f", "response": {"output": 1}}},
                            ],
                        }
                    ]
                }
            },
            ClientContent(
                (
                    Content(
                        "user",
                        "",
                        ((b"\0\1", "image/png"),),
                        ((b"\0\1", "audio/pcm"),),
                        ("gs://b/o",),
                        (FunctionResponse("", "f", {"output": 1}, "", False),),
                    ),
                ),
                False,
            ),
        ),
        (
            {"tool_response": {"functionResponses": [{"id": "1", "name": "f", "will_continue": True}]}},
            ToolResponse((FunctionResponse("1", "f", {}, "", True),)),
        ),
        (
            {
                "toolResponse": {
                    "functionResponses": {
                        "id": "1",
                        "response": {"a": [None]},
                        "scheduling": "when_idle",
                        "parts": [{"inlineData": {"mimeType": "image/png", "data": "AAE="}}, {"fileData": {}}],
                    }
                }
            },
            ToolResponse((FunctionResponse("1", "", {"a": [None]}, "WHEN_IDLE", False, ((b"\0\1", "image/png"),)),)),
        ),
        (
            {
                "toolResponse": {
                    "functionResponses": [{"scheduling": "INTERRUPTED"}, {"scheduling": 1}, {"scheduling": 0}]
                }
            },
            ToolResponse(tuple(FunctionResponse("", "", {}, word, False) for word in ("INTERRUPT", "SILENT", ""))),
        ),
        ({"contextUpdate": {"tools": {"tools": []}}}, ContextUpdate(None, [])),
        ({"contextUpdate": {"tools": {}}}, ContextUpdate(None, [])),
        (
            {"context_update": {"system_instruction": {"parts": [{"text": "x"}]}}},
            ContextUpdate(Content(None, "x"), None),
        ),
    ],
)
def test_messages(message: dict[str, Any], event: Any) -> None:
    assert decode(message) == event


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("", f"{PAYLOAD}Unexpected end of string.\n\n^"),
        ("not json", f"{PAYLOAD}Unexpected token.\nnot json\n^"),
        (
            '{"realtimeInput": {"text": "a"} trailing',
            f'{PAYLOAD}Unexpected token.\nput": {{"text": "a"}} trailing\n{" " * 20}^',
        ),
        ('{"realtimeInput": {"text": "a"}}{}', f"{PAYLOAD}Unexpected token."),
        ("\ufeff{}", f"{PAYLOAD}Unexpected token."),
        (b"\xef\xbb\xbf{}", f"{PAYLOAD}Unexpected token."),
        ('{"setup": {"generationConfig": {"temperature": NaN}}}', f"{PAYLOAD}Unexpected token.\n"),
        ('{"setup": {"generationConfig": {"topP": -Infinity}}}', f"{PAYLOAD}Unexpected token.\n"),
        ('{"a": ' + "9" * 5000 + "}", f"{PAYLOAD}Number exceeds the range of double."),
        (b"\xff\xfe\x00", f"{PAYLOAD}Encountered non UTF-8 code points."),
        ('{"a": 1}'.encode("utf-16"), f"{PAYLOAD}Encountered non UTF-8 code points."),
        ('{"realtimeInput": {"text": "\\ud800"}}', f"{PAYLOAD}Missing low surrogate."),
        ('{"\\uDC00": 1}', f"{PAYLOAD}Missing low surrogate."),
        ("[]", f'{PAYLOAD}Unknown name "": Root element must be a message.'),
        ("null", f'{PAYLOAD}Unknown name "": Root element must be a message.'),
        ("{}", INVALID),
        ('{"setup": null}', INVALID),
        ("[" * 100_000, f"{PAYLOAD}Message too deep."),
        ('{"toolResponse": {"functionResponses": {"response": {"a":' + "[" * 200 + "]" * 200 + "}}}}", "too deep"),
        ({"realtimeInput": {}}, INVALID),
        ({"realtimeInput": {"text": "a", "audioStreamEnd": True}}, INVALID),
        ({"realtimeInput": {"audioStreamEnd": False}}, INVALID),
        (
            {"setup": {}, "clientContent": {}},
            "Invalid value (oneof), oneof field 'message_type' is already set. Cannot set 'clientContent'",
        ),
        (
            {"clientContent": {"turns": [{"parts": [{"text": "a", "inline_data": {}}]}]}},
            "Invalid value at 'client_content.turns[0].parts[0]' (oneof), oneof field 'data' is already set. "
            "Cannot set 'inline_data'",
        ),
        ({"nope": 1}, f'{PAYLOAD}Unknown name "nope": Cannot find field.'),
        (
            {"setup": {"model": "m", "generation_config": {"top_z": 1}}},
            f"{PAYLOAD}Unknown name \"top_z\" at 'setup.generation_config': Cannot find field.",
        ),
        # Every mistake is told, as far as there is room.
        (
            {"setup": {"a": 1, "model": 7, "b": 2}},
            f"{PAYLOAD}Unknown name \"a\" at 'setup': Cannot find field.\n"
            "Invalid value at 'setup.model' (TYPE_STRING), 7\n"
            f"{PAYLOAD}Unknown name \"b\" at 'setup': Cannot find field.",
        ),
        ({"setup": {"model": True}}, "Invalid value at 'setup.model' (TYPE_STRING), true"),
        (
            {"setup": {"model": {}}},
            f"{PAYLOAD}Unknown name \"model\" at 'setup': Starting an object on a scalar field.",
        ),
        (
            {"setup": {"model": ["m"]}},
            f"{PAYLOAD}Unknown name \"model\" at 'setup': Proto field is not repeating, cannot start list.",
        ),
        ({"setup": []}, f'{PAYLOAD}Unknown name "setup": Proto field is not repeating, cannot start list.'),
        ({"setup": "x"}, f"Invalid value at 'setup' ({TYPE}.BidiGenerateContentSetup), \"x\""),
        (
            {"setup": {"systemInstruction": "be brief"}},
            f"Invalid value at 'setup.system_instruction' ({TYPE}.Content), ",
        ),
        ({"setup": {"sessionResumption": 1}}, "Invalid value at 'setup.session_resumption' (type message), 1"),
        (
            {"setup": {"generationConfig": {"topK": "many"}}},
            "Invalid value at 'setup.generation_config.top_k' (TYPE_INT32)",
        ),
        ({"setup": {"generationConfig": {"topK": 40.5}}}, "'setup.generation_config.top_k' (TYPE_INT32), 40.5"),
        ({"setup": {"generationConfig": {"seed": 2**31}}}, "'setup.generation_config.seed' (TYPE_INT32), 2147483648"),
        ({"setup": {"generationConfig": {"topP": "NaN"}}}, "'setup.generation_config.top_p' (TYPE_FLOAT), \"NaN\""),
        ({"setup": {"generationConfig": {"topP": 10**400}}}, "'setup.generation_config.top_p' (TYPE_FLOAT), 1000"),
        ({"setup": {"generationConfig": {"topP": "1_0"}}}, "'setup.generation_config.top_p' (TYPE_FLOAT), \"1_0\""),
        (
            {"setup": {"generationConfig": {"responseModalities": ["AUDIO", "SMELL"]}}},
            "Invalid value at 'setup.generation_config.response_modalities[1]' "
            f'({TYPE}.GenerationConfig.Modality), "SMELL"',
        ),
        ({"setup": {"generationConfig": {"mediaResolution": 9}}}, f"({TYPE}.GenerationConfig.MediaResolution), 9"),
        (
            {
                "setup": {
                    "tools": [{"functionDeclarations": [{"parameters": {"properties": {"a": {}, "b": {"$ref": "x"}}}}]}]
                }
            },
            "Unknown name \"$ref\" at 'setup.tools[0].function_declarations[0].parameters.properties[1].value': "
            "Cannot find field.",
        ),
        ({"setup": {"labels": {"a": 1}}}, "Invalid value at 'setup.labels[0].value' (TYPE_STRING), 1"),
        (
            {"toolResponse": {"functionResponses": [{"response": "fine"}]}},
            "'tool_response.function_responses[0].response' (type.googleapis.com/google.protobuf.Struct), \"fine\"",
        ),
        ({"realtimeInput": {"audio": {"data": "@@@@"}}}, 'Base64 decoding failed for "@@@@"'),
        ({"realtimeInput": {"audio": {"data": "AAAAA"}}}, "Base64 decoding failed"),
    ],
)
def test_bad_frames_close_with_1007_and_a_reason(frame: Any, reason: str) -> None:
    assert reason in refused(frame)


@behaviour("13.5", off=patched("emulator.api.schema.message", lambda *_: schema._Api("developer", "v1alpha").message()))
def test_proactivity_is_known_to_v1alpha_and_vertex_only() -> None:
    message = {"setup": {"model": "m", "proactivity": {"proactive_audio": True}}}
    for version in ("v1", "v1beta"):
        text = refused(message, version=version)
        assert text == f"{PAYLOAD}Unknown name \"proactivity\" at 'setup': Cannot find field."
    assert decode(message, version="v1alpha").body["proactivity"] == {"proactiveAudio": True}
    assert "proactivity" in decode(message, backend="vertex", version="v1beta1").body


@behaviour(
    "setup.vertex_only", off=patched("emulator.api.schema.message", lambda *_: schema._Api("vertex", "v1").message())
)
def test_what_only_vertex_has_is_unknown_to_the_developer_api() -> None:
    for field, inner in (("explicitVadSignal", True), ("sessionResumption", {"transparent": True})):
        message = {"setup": {"model": "m", field: inner}}
        assert decode(message, backend="vertex", version="v1beta1").body == message["setup"]
        assert "Unknown name" in refused(message)
    newest = {"realtimeInputConfig": {"turnCoverage": "TURN_INCLUDES_AUDIO_ACTIVITY_AND_ALL_VIDEO"}}
    assert decode({"setup": newest}).body == newest
    assert "turn_coverage" in refused({"setup": newest}, backend="vertex", version="v1")


def strictly(self: protojson._Reader, *, strict: bool) -> None:
    self._strict, self._values, self.mistakes = True, 0, []


@behaviour("10.11", off=patched("emulator.api.protojson._Reader.__init__", strictly))
def test_leniently_what_is_unknown_is_ignored() -> None:
    message = {"setup": {"model": "m", "proactivity": {"proactive_audio": True}, "bogus": 1}}
    assert decode(message, strict=False) == Setup({"model": "m"}, message["setup"])
    assert decode({"brandNew": {"a": 1}}, strict=False) == Unknown()
    assert "TYPE_STRING" in refused({"setup": {"model": 7}}, strict=False)
    assert refused({}, strict=False) == refused({"setup": None}, strict=False) == INVALID


@behaviour("10.13", off=patched("emulator.api.protojson._integer", lambda value: value if type(value) is int else None))
def test_numbers_come_as_integers_floats_or_text() -> None:
    for topk in (40, 40.0, "40", "4e1"):
        assert decode({"setup": {"generationConfig": {"topK": topk}}}).body == {"generationConfig": {"topK": 40}}
    for tokens in (25_000, "25000", 25e3):
        body = decode({"setup": {"contextWindowCompression": {"triggerTokens": tokens}}}).body
        assert body == {"contextWindowCompression": {"triggerTokens": 25_000}}
    assert decode({"setup": {"generationConfig": {"topK": 0.5}}}, backend="vertex").body["generationConfig"] == {
        "topK": 0.5
    }


def test_nulls_are_unset_but_for_a_null_handle_and_schemas_are_left_alone() -> None:
    declaration = {"name": "f", "parameters_json_schema": {"properties": {"snake_case": {"type": None}}}}
    setup = {
        "model": "m",
        "generationConfig": {"topK": 40.0, "seed": None, "mediaResolution": "MEDIA_RESOLUTION_UNSPECIFIED"},
        "tools": [{"function_declarations": [declaration]}],
        "sessionResumption": {"handle": None},
    }
    body = decode({"setup": setup}).body
    assert body["generationConfig"] == {"topK": 40}
    assert body["sessionResumption"] == {"handle": None}
    parsed = body["tools"][0]["functionDeclarations"][0]
    assert parsed["parametersJsonSchema"] == declaration["parameters_json_schema"]


def test_enums_come_by_name_in_any_case_or_by_number() -> None:
    def modalities(*wanted: Any) -> Any:
        return decode({"setup": {"generationConfig": {"responseModalities": list(wanted)}}}).body["generationConfig"]

    assert modalities("AUDIO", "audio", 3) == {"responseModalities": ["AUDIO"] * 3}
    assert decode({"setup": {"generationConfig": {"responseModalities": "audio"}}}).body == {
        "generationConfig": {"responseModalities": ["AUDIO"]}
    }


def test_of_a_field_that_stands_twice_the_last_value_counts() -> None:
    assert decode('{"setup": {"model": "a", "model": "b"}}').body == {"model": "b"}
    twice = '{"setup": {"model": "a"}, "setup": {"model": "b"}}'
    assert decode(twice) == Setup({"model": "b"}, {"model": "b"})
    both = {"setup": {"historyConfig": {"initialHistoryInClientContent": True}, "history_config": {}}}
    assert decode(both).body == {"historyConfig": {}}


def test_what_the_sdk_was_seen_to_send_is_read() -> None:
    lines = (Path(__file__).parents[1] / "data" / "live-frames.jsonl").read_text().splitlines()
    sent = [json.loads(line) for line in lines]
    frames = [one for one in sent if one["direction"] == "client->server" and one["transport"] == "ws-text"]
    assert len(frames) > 20
    for one in frames:
        backend = "vertex" if "vertex" in one["label"] else "developer"
        decode(one["frame"], version="v1alpha", backend=backend)


class Sent:
    """A socket that keeps what the SDK sends."""

    def __init__(self) -> None:
        self.frames: list[str] = []

    async def send(self, frame: str) -> None:
        self.frames.append(frame)


IMAGE = types.Blob(data=BYTES, mime_type="image/jpeg")
AUDIO = types.Blob(data=BYTES, mime_type="audio/pcm")
RESULT = types.FunctionResponse(id="1", name="f", response={"output": 1})
ANSWER = ToolResponse((FunctionResponse("1", "f", {"output": 1}, "", False),))
HELLO = (Content("user", "hello"),)


@pytest.mark.filterwarnings("ignore:The `session.send` method is deprecated")
@pytest.mark.parametrize(
    ("given", "event"),
    [
        (None, ClientContent((), True)),
        ("hello", ClientContent(HELLO, True)),
        (["hello"], ClientContent(HELLO, True)),
        ({"data": BYTES, "mime_type": "audio/pcm"}, MediaChunks(((BYTES, "audio/pcm"),))),
        (AUDIO, MediaChunks(((BYTES, "audio/pcm"),))),
        ([AUDIO, IMAGE], MediaChunks(((BYTES, "audio/pcm"), (BYTES, "image/jpeg")))),
        (types.LiveClientRealtimeInput(media_chunks=[IMAGE]), MediaChunks(((BYTES, "image/jpeg"),))),
        ({"turns": {"role": "user", "parts": [{"text": "hello"}]}}, ClientContent(HELLO, False)),
        (
            types.LiveClientContent(
                turns=[types.Content(role="user", parts=[types.Part(text="hello")])], turn_complete=True
            ),
            ClientContent(HELLO, True),
        ),
        (RESULT, ANSWER),
        ({"id": "1", "name": "f", "response": {"output": 1}}, ANSWER),
        (types.LiveClientToolResponse(function_responses=[RESULT]), ANSWER),
        ({"function_responses": [RESULT]}, ANSWER),
    ],
)
async def test_every_form_of_the_python_sdks_old_send_is_read(given: Any, event: Any) -> None:
    socket = Sent()
    session = live.AsyncSession(genai.Client(api_key="k")._api_client, socket)  # type: ignore[arg-type]
    await session.send(input=given, end_of_turn=True)
    assert decode(socket.frames[0]) == event


def unknown(kind: Any, model: Any, path: str = "") -> list[str]:
    """Paths of the fields that ``model`` of the SDK has and ``kind`` does not know."""
    missing: list[str] = []
    for name, field in model.model_fields.items():
        alias = field.alias or name
        if alias not in kind:
            missing.append(path + alias)
            continue
        inner = kind[alias][0] if isinstance(kind[alias], list) else kind[alias]
        messages = _messages(field.annotation)
        # A union of everything that the SDK makes a Content of.
        message = types.Content if types.Content in messages else messages[0] if messages else model
        if isinstance(inner, dict) and message is not model:
            missing += unknown(inner, message, f"{path}{alias}.")
    return missing


def _messages(annotation: Any) -> list[Any]:
    if hasattr(annotation, "model_fields"):
        return [annotation]
    return [found for one in getattr(annotation, "__args__", ()) for found in _messages(one)]


# The SDK itself refuses to send these to the Developer API, or the service was seen to refuse them.
ELSEWHERE = {"explicitVadSignal", "transparent", "additionalProperties", "defs", "ref"}


@pytest.mark.parametrize(
    ("backend", "version", "elsewhere"), [("developer", "v1alpha", ELSEWHERE), ("vertex", "v1", set())]
)
def test_every_field_that_the_sdk_can_send_is_known(backend: str, version: str, elsewhere: set[str]) -> None:
    missing = unknown(schema.message(backend, version), types.LiveClientMessage)
    assert {path.rpartition(".")[2] for path in missing} == elsewhere, missing


@behaviour("10.8", off=patched("emulator.errors.MAX_REASON_BYTES", 1000))
def test_reasons_are_cut_at_123_bytes_between_characters() -> None:
    assert reason_bytes("a" * 200) == b"a" * 123
    assert reason_bytes("a" * 122 + "é") == b"a" * 122


@pytest.mark.parametrize(("value", "text"), [(1.2, "1.2s"), (2.0, "2s"), (0.18, "0.18s"), (10, "10s"), (0, "0s")])
def test_durations(value: float, text: str) -> None:
    assert seconds(value) == text
