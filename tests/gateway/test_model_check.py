"""What each model and backend refuse: one row for each combination, and what it says would be accepted."""

from __future__ import annotations

from typing import Any

import pytest

from parley.v1 import live_pb2
from services.fabric.capabilities import MODELS, Backend
from services.fabric.errors import ServiceError
from services.gateway.model_check import check_model
from tests.gateway.test_session_config import function, said

LIVE, THINKING, FLASH = "gemini-3.8-live", "gemini-3.8-live-extended-thinking", "gemini-3.1-flash-live-preview"
NATIVE, CASCADE = "gemini-2.5-flash-native-audio-preview-12-2025", "gemini-live-2.5-flash"
TRANSLATE, TRANSCRIBE = "gemini-3.5-live-translate-preview", "gemini-3.5-transcribe-live"
LOW = live_pb2.THINKING_LEVEL_LOW
SPANISH = live_pb2.Translation(target_language="es")
TEXT, AUDIO = live_pb2.MODALITY_TEXT, live_pb2.MODALITY_AUDIO


def check(model: str, backend: Backend = "developer", **fields: Any) -> None:
    check_model(live_pb2.SessionConfig(model=model, **fields), "open.config", backend)


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (LIVE, {"proactive_audio": True, "voice": "Zephyr"}),
        (LIVE, {"caller_tools": [function("f", behavior=behavior) for behavior in (0, 1, 2)]}),
        (LIVE, {"history": [said("hi", live_pb2.ROLE_MODEL)]}),
        (THINKING, {"thinking_level": LOW, "caller_tools": [function("f", behavior=2), function("g")]}),
        (FLASH, {"thinking_level": live_pb2.THINKING_LEVEL_MINIMAL, "caller_tools": [function("f", behavior=1)]}),
        (NATIVE, {"thinking_budget_tokens": -1, "affective_dialog": True, "proactive_audio": True}),
        (NATIVE, {"thinking_budget_tokens": 24_576, "language": "de-DE", "history": [said("hi")]}),
        (TRANSLATE, {"translation": SPANISH, "input_transcription": True}),
        (TRANSCRIBE, {"response_modality": TEXT, "input_transcription": True}),
    ],
)
def test_what_a_model_takes_passes(model: str, fields: dict[str, Any]) -> None:
    check(model, **fields)


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("gemini-1", {}, "model", LIVE),
    (LIVE, {"response_modality": TEXT}, "response_modality", "MODALITY_AUDIO"),
    (LIVE, {"voice": "Alice"}, "voice", "Achernar"),
    (LIVE, {"language": "german"}, "language", "en-US"),
    (NATIVE, {"language": "en-IN"}, "language", "de-DE"),
    (LIVE, {"thinking_level": LOW}, "thinking_level", "accepts unset"),
    (LIVE, {"thinking_budget_tokens": 0}, "thinking_budget_tokens", "accepts unset"),
    (THINKING, {}, "thinking_level", "THINKING_LEVEL_LOW"),
    (THINKING, {"thinking_level": live_pb2.THINKING_LEVEL_MINIMAL}, "thinking_level", "THINKING_LEVEL_MEDIUM"),
    (THINKING, {"thinking_level": LOW, "thinking_budget_tokens": 1}, "thinking_budget_tokens", "`thinking_level`"),
    (NATIVE, {"thinking_level": LOW}, "thinking_level", "`thinking_budget_tokens`"),
    (NATIVE, {"thinking_budget_tokens": 24_577}, "thinking_budget_tokens", "24,576"),
    (NATIVE, {"thinking_budget_tokens": -2}, "thinking_budget_tokens", "-1 to"),
    (FLASH, {"proactive_audio": True}, "proactive_audio", "unset"),
    (LIVE, {"affective_dialog": True}, "affective_dialog", "unset"),
    (LIVE, {"sampling": live_pb2.Sampling(max_output_tokens=65_537)}, "sampling.max_output_tokens", "65,536"),
    (
        NATIVE,
        {"context_compression": live_pb2.ContextCompression(trigger_tokens=128_001)},
        "context_compression.trigger_tokens",
        "128,000",
    ),
    (
        NATIVE,
        {"context_compression": live_pb2.ContextCompression(target_tokens=128_001)},
        "context_compression.target_tokens",
        "128,000",
    ),
    (
        THINKING,
        {"thinking_level": LOW, "caller_tools": [function("f", behavior=1)]},
        "caller_tools[0].behavior",
        "TOOL_BEHAVIOR_NON_BLOCKING",
    ),
    (
        FLASH,
        {"caller_tools": [function("e"), function("f", behavior=2)]},
        "caller_tools[1].behavior",
        "TOOL_BEHAVIOR_BLOCKING",
    ),
    (NATIVE, {"history": [said("hi"), said("hello", live_pb2.ROLE_MODEL)]}, "history", "ROLE_USER"),
    (LIVE, {"translation": SPANISH}, "translation", TRANSLATE),
    (TRANSLATE, {}, "translation", "a target language"),
    (TRANSLATE, {"translation": live_pb2.Translation(target_language="Spanish")}, "translation.target_language", "es"),
    (TRANSLATE, {"translation": SPANISH, "tools": ["a"]}, "tools", "unset"),
    (TRANSLATE, {"translation": SPANISH, "instructions": "be kind"}, "instructions", "unset"),
    (TRANSLATE, {"translation": SPANISH, "history": [said("hi")]}, "history", "unset"),
    (TRANSLATE, {"translation": SPANISH, "google_search": True}, "google_search", "unset"),
    (TRANSCRIBE, {"caller_tools": [function("f")]}, "caller_tools", "unset"),
    (TRANSCRIBE, {"response_modality": AUDIO}, "response_modality", "MODALITY_TEXT"),
    (TRANSCRIBE, {"voice": "Kore"}, "voice", "unset"),
]


@pytest.mark.parametrize(("model", "fields", "field", "accepted"), REFUSED)
def test_what_a_model_does_not_take_is_refused(model: str, fields: dict[str, Any], field: str, accepted: str) -> None:
    with pytest.raises(ServiceError) as raised:
        check(model, **fields)
    assert list(raised.value.violations) == [f"open.config.{field}"]
    assert accepted in raised.value.message


def test_vertex_has_its_own_table() -> None:
    check(CASCADE, "vertex", response_modality=TEXT)
    check(LIVE, "vertex", affective_dialog=True)
    coverage = live_pb2.TURN_COVERAGE_AUDIO_ACTIVITY_AND_ALL_VIDEO
    for model, fields, field in (
        (THINKING, {}, "model"),
        (CASCADE, {"response_modality": TEXT, "voice": "Kore"}, "voice"),
        (CASCADE, {"voice": "Sulafat"}, "voice"),
        (LIVE, {"turn_coverage": coverage}, "turn_coverage"),
    ):
        with pytest.raises(ServiceError) as raised:
            check(model, "vertex", **fields)
        assert list(raised.value.violations) == [f"open.config.{field}"]


def test_every_model_is_reached_by_its_bare_name_and_its_resource_name() -> None:
    for backend, rows in MODELS.items():
        for name, model in rows.items():
            needed: dict[str, Any] = {"thinking_level": LOW} if model.thinking_level_required else {}
            if model.task == "translation":
                needed["translation"] = SPANISH
            check(name, backend, **needed)
            check(f"models/{name}", backend, **needed)
