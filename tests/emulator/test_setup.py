from typing import Any

import pytest

from emulator import setup
from emulator.errors import Refusal
from emulator.models import MODELS
from emulator.setup import accept

LIVE = "models/gemini-3.8-live"
THINKING = "models/gemini-3.8-live-extended-thinking"
FLASH = "models/gemini-3.1-flash-live-preview"
NATIVE = "models/gemini-2.5-flash-native-audio-preview-12-2025"


def thinking(**fields: Any) -> dict[str, Any]:
    return {"generationConfig": {"thinkingConfig": fields}}


def function(**fields: Any) -> dict[str, Any]:
    return {"tools": [{"functionDeclarations": [{"name": "f", **fields}]}]}


LOW = thinking(thinkingLevel="LOW")
INVALID = "Request contains an invalid argument."


@pytest.mark.parametrize(
    ("model", "fields", "refusal"),
    [
        (LIVE, {}, None),
        (LIVE, {"generationConfig": {"responseModalities": ["TEXT"]}}, setup.TEXT_REFUSED),
        (NATIVE, {"generationConfig": {"responseModalities": ["AUDIO", "TEXT"]}}, setup.TEXT_REFUSED),
        (LIVE, thinking(thinkingLevel="LOW"), setup.THINKING_REFUSED),
        (LIVE, thinking(thinkingBudget=0), setup.THINKING_REFUSED),
        (THINKING, {}, setup.THINKING_MISSING),
        (THINKING, LOW, None),
        (THINKING, thinking(thinkingLevel="minimal"), setup.THINKING_REFUSED),
        (THINKING, thinking(thinkingLevel="LOW", thinkingBudget=10), setup.THINKING_REFUSED),
        (FLASH, LOW, None),
        (FLASH, thinking(thinkingBudget=10), INVALID),
        (NATIVE, thinking(thinkingBudget=10), None),
        (NATIVE, LOW, setup.THINKING_REFUSED),
        (LIVE, function(behavior="BLOCKING"), None),
        (THINKING, {**LOW, **function(behavior="BLOCKING")}, setup.BLOCKING_REFUSED),
        (THINKING, {**LOW, **function()}, setup.BLOCKING_REFUSED),
        (THINKING, {**LOW, **function(behavior="NON_BLOCKING")}, None),
        (LIVE, {"proactivity": {"proactiveAudio": True}}, None),
        (LIVE, {"proactivity": {"proactiveAudio": False}}, INVALID),
        (FLASH, {"proactivity": {"proactiveAudio": True}}, setup.PROACTIVITY_REFUSED),
        (FLASH, {"generationConfig": {"enableAffectiveDialog": True}}, INVALID),
        (NATIVE, {"generationConfig": {"enableAffectiveDialog": True}}, None),
        (NATIVE, {"tools": [{"codeExecution": {}}]}, setup.CODE_EXECUTION_REFUSED),
        (LIVE, {"tools": [{"googleSearch": {}}]}, None),
        (LIVE, {"tools": [{"functionDeclarations": [{"name": ""}]}]}, INVALID),
        (LIVE, {"tools": [{"functionDeclarations": [{"name": "f"}, {"name": "f"}]}]}, INVALID),
    ],
)
def test_each_model_takes_and_refuses_what_it_is_known_to(
    model: str, fields: dict[str, Any], refusal: str | None
) -> None:
    def attempt() -> None:
        accept({"model": model, **fields}, backend="developer", api_version="v1beta")

    if refusal is None:
        attempt()
        return
    with pytest.raises(Refusal) as caught:
        attempt()
    assert (caught.value.code, caught.value.text) == (1007, refusal)


@pytest.mark.parametrize("model", ["models/gemini-9", "gemini-3.8-live", "models/gemini-2.0-flash-live-001"])
def test_an_unknown_model_is_not_found(model: str) -> None:
    with pytest.raises(Refusal) as caught:
        accept({"model": model}, backend="developer", api_version="v1beta")
    assert caught.value.code == 1008
    assert caught.value.text == (
        f"{model} is not found for API version v1beta, or is not supported for bidiGenerateContent"
    )


@pytest.mark.parametrize(
    "model",
    ["publishers/google/models/gemini-3.8-live", "projects/p/locations/l/publishers/google/models/gemini-3.8-live"],
)
def test_vertex_names_are_understood(model: str) -> None:
    assert accept({"model": model}, backend="vertex", api_version="v1beta1").rules is MODELS["gemini-3.8-live"]


def test_unset_behaviour_blocks_or_not_by_model() -> None:
    blocking = {
        model: accept({"model": model, **function()}, backend="developer", api_version="v1beta").functions["f"].blocking
        for model in (LIVE, FLASH, NATIVE)
    }
    assert blocking == {LIVE: False, FLASH: True, NATIVE: True}


def test_detection_is_read_and_sensitivity_defaults_by_backend() -> None:
    wanted = {"silenceDurationMs": 300, "prefixPaddingMs": 20, "endOfSpeechSensitivity": "END_SENSITIVITY_LOW"}
    body = {"model": LIVE, "realtimeInputConfig": {"automaticActivityDetection": wanted}}
    detection = accept(body, backend="developer", api_version="v1").detection
    assert (detection.silence_ms, detection.prefix_ms) == (300, 20)
    assert (detection.easy_start, detection.easy_end) == (True, False)
    assert not accept({"model": LIVE}, backend="vertex", api_version="v1").detection.easy_start
