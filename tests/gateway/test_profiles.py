from __future__ import annotations

from pathlib import Path

import pytest

from parley.v1 import live_pb2
from services.gateway.profiles import ProfileError, load_profiles

GOOD = """\
model: gemini-3.8-live
instructions: |
  You answer for a shop.
voice: Kore
tools: [lookup_order, get_weather]
response_modality: MODALITY_AUDIO
voice_activity_detection:
  start_sensitivity: SENSITIVITY_HIGH
  silence: 0.5s
sampling: {temperature: 0.7, top_k: 40}
input_transcription: true
"""


def test_a_profile_is_a_session_config(tmp_path: Path) -> None:
    (tmp_path / "support.yaml").write_text(GOOD)
    (tmp_path / "plain.yml").write_text("model: gemini-3.8-live\n")
    (tmp_path / "README.md").write_text("not a profile")
    (tmp_path / ".hidden.yaml").write_text("not: one")
    profiles = load_profiles(tmp_path)
    assert set(profiles) == {"support", "plain"}
    config = profiles["support"]
    assert list(config.tools) == ["lookup_order", "get_weather"]
    assert config.voice_activity_detection.silence.ToMilliseconds() == 500
    assert config.voice_activity_detection.start_sensitivity == live_pb2.SENSITIVITY_HIGH
    assert config.sampling.temperature == 0.7
    assert config.input_transcription


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", 1, "is empty"),
        ("- model\n", 1, "expected the fields"),
        ("model: [\n", 2, "expected the node content"),
        ("model: gemini-3.8-live\n\tvoice: x\n", 2, "cannot start any token"),
        ("&a [*a]\n", 1, "nested too deeply"),
        ("model: x\nmodel: y\n", 2, "`model` is set twice (first on line 1)"),
        ("? [a]\n: b\n", 1, "a key must be a word"),
        ("model: gemini-3.8-live\ninstruction: x\n", 2, "no field `instruction`; did you mean `instructions`?"),
        ("model: gemini-3.8-live\nxyz: x\n", 2, "no field `xyz`"),
        ("model: gemini-3.8-live\nsampling:\n  temprature: 1\n", 3, "did you mean `temperature`?"),
        ("model: gemini-3.8-live\nsampling: warm\n", 2, "`sampling` must have fields of its own"),
        ("model: gemini-3.8-live\nsampling:\n  top_k: many\n", 3, "`top_k`"),
        ("model: gemini-3.8-live\nvoice: 7\n", 2, "`voice`"),
        ("model: gemini-3.8-live\nvoice:\n", 2, "`voice`: has no value"),
        ("model: gemini-3.8-live\ntools: lookup_order\n", 2, "`tools` must be a list"),
        ("model: gemini-3.8-live\ntools:\n  - a\n  - [b]\n", 4, "`tools`"),
        ("model: gemini-3.8-live\nthinking_level: LOTS\n", 2, "must be one of THINKING_LEVEL_UNSPECIFIED"),
        ("model: gemini-3.8-live\nvoice_activity_detection:\n  silence: soon\n", 3, "`silence`"),
        ("model: gemini-3.8-live\nvoice_activity_detection:\n  silence: 11s\n", 3, "0 to 10 s"),
        ("voice: Kore\nmodel: gpt\n", 2, "model: must be one of gemini-"),
        ("voice: Kore\n", 1, "model: must be one of gemini-"),
        ("model: gemini-3.8-live\ntools:\n  - ok\n  - not ok\n", 4, "no such tool"),
        ("model: gemini-3.8-live\nresponse_modality: MODALITY_TEXT\n", 2, "accepts MODALITY_AUDIO"),
        (
            "model: gemini-3.8-live\ntranslation: {target_language: de}\n",
            2,
            "gemini-3.5-live-translate-preview translates",
        ),
        ("model: gemini-3.8-live\ninput_transcription: 2024-13-45\n", 2, ""),
    ],
)
def test_a_mistake_is_told_with_file_line_and_reason(tmp_path: Path, text: str, line: int, reason: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ProfileError) as raised:
        load_profiles(tmp_path)
    assert str(raised.value).startswith(f"{path}:{line}: ")
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


def test_every_wrong_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "Upper.yaml").write_text(GOOD)
    (tmp_path / "twice.yaml").write_text(GOOD)
    (tmp_path / "twice.yml").write_text(GOOD)
    (tmp_path / "latin.yaml").write_bytes(b"model: gemini-3.8-live\nvoice: \xe4\n")
    (tmp_path / "control.yaml").write_bytes(b"model: gemini-3.8-live\nvoice: \x01\n")
    with pytest.raises(ProfileError) as raised:
        load_profiles(tmp_path)
    lines = str(raised.value).splitlines()
    assert [line.removeprefix(f"{tmp_path}/").split(": ")[0] for line in lines] == [
        "Upper.yaml:1",
        "control.yaml:2",
        "latin.yaml:2",
        "twice.yml:1",
    ]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="no folder"):
        load_profiles(tmp_path / "nowhere")
