from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from parley.v1 import live_pb2
from services.fabric.errors import ServiceError
from services.gateway.session_config import check_config, check_open

MODEL = "gemini-3.8-live"


def config(**fields: Any) -> live_pb2.SessionConfig:
    return live_pb2.SessionConfig(**{"model": MODEL, **fields})


def opening(**fields: Any) -> live_pb2.ConverseRequest:
    return live_pb2.ConverseRequest(open=live_pb2.Open(**{"request_id": "r", "profile": "p", **fields}))


def said(text: str, role: int = live_pb2.ROLE_USER) -> live_pb2.Content:
    return live_pb2.Content(role=role, parts=[live_pb2.Part(text=text)])  # type: ignore[arg-type]


def function(name: str, schema: dict[str, Any] | None = None, **fields: Any) -> live_pb2.FunctionDeclaration:
    made = live_pb2.FunctionDeclaration(name=name, **fields)
    if schema is not None:
        made.parameters.update(schema)
        made.parameters.SetInParent()
    return made


def detection(**fields: Any) -> live_pb2.VoiceActivityDetection:
    return live_pb2.VoiceActivityDetection(**fields)


@pytest.mark.parametrize(
    "right",
    [
        config(),
        config(model=f"models/{MODEL}"),
        config(instructions="ä" * 16_384, input_sample_rate_hertz=8000, tools=["a", "b.c-d"]),
        config(voice_activity_detection=detection(silence=Duration(seconds=10), prefix_padding=Duration(seconds=1))),
        config(context_compression=live_pb2.ContextCompression(trigger_tokens=5000, target_tokens=4999)),
        config(context_compression=live_pb2.ContextCompression(disabled=True)),
        config(sampling=live_pb2.Sampling(temperature=2, top_p=0, top_k=1, max_output_tokens=1, seed=-1)),
        config(response_modality=live_pb2.MODALITY_AUDIO, voice="kore", language="zh-Hans-CN"),
        config(history=[said("hi"), said("hello", live_pb2.ROLE_MODEL)], google_search=True, include_thoughts=True),
        config(tools=["a"], caller_tools=[function("b", {"type": "object"}), function("c")]),
        config(resumption=live_pb2.Resumption(disabled=True, window=Duration(seconds=0))),
    ],
)
def test_right_settings(right: live_pb2.SessionConfig) -> None:
    check_config(right, "open.config")


@pytest.mark.parametrize(
    ("wrong", "reason", "field"),
    [
        (config(model=""), "MODEL_UNKNOWN", "model"),
        (config(model="gemini-1"), "MODEL_UNKNOWN", "model"),
        (config(instructions="ä" * 16_385), "FIELD_INVALID", "instructions"),
        (config(input_sample_rate_hertz=7999), "FIELD_INVALID", "input_sample_rate_hertz"),
        (config(input_sample_rate_hertz=48_001), "FIELD_INVALID", "input_sample_rate_hertz"),
        (config(response_modality=live_pb2.MODALITY_TEXT), "FIELD_INVALID", "response_modality"),
        (config(thinking_level=77), "FIELD_INVALID", "thinking_level"),
        (
            config(voice_activity_detection=detection(end_sensitivity=9)),
            "FIELD_INVALID",
            "voice_activity_detection.end_sensitivity",
        ),
        (
            config(voice_activity_detection=detection(prefix_padding=Duration(seconds=1, nanos=1))),
            "FIELD_INVALID",
            "voice_activity_detection.prefix_padding",
        ),
        (
            config(voice_activity_detection=detection(silence=Duration(seconds=-1))),
            "FIELD_INVALID",
            "voice_activity_detection.silence",
        ),
        (
            config(context_compression=live_pb2.ContextCompression(trigger_tokens=4999)),
            "FIELD_INVALID",
            "context_compression.trigger_tokens",
        ),
        (
            config(context_compression=live_pb2.ContextCompression(trigger_tokens=6000, target_tokens=6000)),
            "FIELD_INVALID",
            "context_compression.target_tokens",
        ),
        (config(sampling=live_pb2.Sampling(temperature=2.1)), "FIELD_INVALID", "sampling.temperature"),
        (config(sampling=live_pb2.Sampling(temperature=float("nan"))), "FIELD_INVALID", "sampling.temperature"),
        (config(sampling=live_pb2.Sampling(top_p=1.1)), "FIELD_INVALID", "sampling.top_p"),
        (config(sampling=live_pb2.Sampling(top_k=0)), "FIELD_INVALID", "sampling.top_k"),
        (config(sampling=live_pb2.Sampling(max_output_tokens=0)), "FIELD_INVALID", "sampling.max_output_tokens"),
        (config(tools=["a", "not ok"]), "TOOL_UNKNOWN", "tools[1]"),
        (config(tools=["a", "a"]), "FIELD_INVALID", "tools[1]"),
        (config(tools=[f"t{n}" for n in range(129)]), "FIELD_INVALID", "tools"),
        (config(history=[live_pb2.Content()]), "FIELD_INVALID", "history[0].role"),
        (config(history=[said("hi"), said("")]), "FIELD_INVALID", "history[1].parts[0].text"),
        (config(history=[said("hi")] * 101), "FIELD_INVALID", "history"),
        (config(history=[said("hi", 7)]), "FIELD_INVALID", "history[0].role"),
        (config(resumption=live_pb2.Resumption(window=Duration(seconds=-1))), "FIELD_INVALID", "resumption.window"),
        (config(caller_tools=[live_pb2.FunctionDeclaration()]), "FIELD_INVALID", "caller_tools[0].name"),
        (config(caller_tools=[function("a"), function("a")]), "FIELD_INVALID", "caller_tools[1].name"),
        (config(tools=["a"], caller_tools=[function("a")]), "FIELD_INVALID", "caller_tools[0].name"),
        (config(caller_tools=[function("a", behavior=9)]), "FIELD_INVALID", "caller_tools[0].behavior"),
        (
            config(caller_tools=[function("a", description="x" * 4097)]),
            "FIELD_INVALID",
            "caller_tools[0].description",
        ),
        (config(caller_tools=[function("a", {})]), "FIELD_INVALID", "caller_tools[0].parameters.type"),
        (
            config(caller_tools=[function("a", {"type": "object", "x": "x" * 65_536})]),
            "FIELD_INVALID",
            "caller_tools[0].parameters",
        ),
        (
            config(caller_tools=[function("a", {"type": "object", "x": float("inf")})]),
            "FIELD_INVALID",
            "caller_tools[0].parameters",
        ),
        (config(caller_tools=[function(f"t{n}") for n in range(129)]), "FIELD_INVALID", "caller_tools"),
        (config(history=[said("x" * 65_536)] * 12), "FIELD_INVALID", None),  # each is right, all together are too much
    ],
)
def test_wrong_settings_are_named(wrong: live_pb2.SessionConfig, reason: str, field: str | None) -> None:
    with pytest.raises(ServiceError) as raised:
        check_config(wrong, "open.config")
    assert raised.value.reason_name == reason
    assert list(raised.value.violations) == [f"open.config.{field}" if field else "open.config"]


@pytest.mark.parametrize(
    "right",
    [
        opening(),
        opening(request_id="a.B:c_d-9" + "x" * 119, labels={f"k{n}": "v" * 128 for n in range(16)}),
        live_pb2.ConverseRequest(open=live_pb2.Open(request_id="r", config=config())),
        live_pb2.ConverseRequest(open=live_pb2.Open(resume=live_pb2.Resume(session_id="ses_x", resume_token="t"))),
    ],
)
def test_right_opens(right: live_pb2.ConverseRequest) -> None:
    assert check_open(right) == right.open


@pytest.mark.parametrize(
    ("wrong", "reason", "field"),
    [
        (live_pb2.ConverseRequest(), "PAYLOAD_MISSING", "payload"),
        (live_pb2.ConverseRequest(seq=1, open=live_pb2.Open()), "SEQUENCE_BROKEN", "seq"),
        (opening(request_id=""), "FIELD_INVALID", "open.request_id"),
        (opening(request_id="x" * 129), "FIELD_INVALID", "open.request_id"),
        (opening(request_id="ä"), "FIELD_INVALID", "open.request_id"),
        (live_pb2.ConverseRequest(open=live_pb2.Open(request_id="r")), "FIELD_INVALID", "open.profile"),
        (opening(labels={f"k{n}": "" for n in range(17)}), "FIELD_INVALID", "open.labels"),
        (opening(labels={"Key": ""}), "FIELD_INVALID", "open.labels"),
        (opening(labels={"key": "v" * 129}), "FIELD_INVALID", "open.labels.key"),
        (opening(resume=live_pb2.Resume(session_id="s", resume_token="t")), "FIELD_INVALID", "open.profile"),
        (
            live_pb2.ConverseRequest(open=live_pb2.Open(resume=live_pb2.Resume(resume_token="t"))),
            "FIELD_INVALID",
            "open.resume.session_id",
        ),
        (
            live_pb2.ConverseRequest(open=live_pb2.Open(resume=live_pb2.Resume(session_id="s"))),
            "FIELD_INVALID",
            "open.resume.resume_token",
        ),
    ],
)
def test_wrong_opens_are_named(wrong: live_pb2.ConverseRequest, reason: str, field: str) -> None:
    with pytest.raises(ServiceError) as raised:
        check_open(wrong)
    assert (raised.value.reason_name, list(raised.value.violations)) == (reason, [field])
