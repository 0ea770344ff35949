"""Audio arithmetic and picture headers."""

import struct
from datetime import timedelta

import numpy as np
import pytest
from pydantic import ValidationError

from emulator.audio import Resampler, rate_of, resample
from emulator.pictures import size
from emulator.settings import EmulatorSettings


def tone(rate: int, hertz: float = 440, length: float = 1.0) -> bytes:
    times = np.arange(round(rate * length)) / rate
    return (10000 * np.sin(2 * np.pi * hertz * times)).astype("<i2").tobytes()


def difference(left: bytes, right: bytes) -> float:
    """Of the loudness of the right, away from the edges."""
    a, b = (np.frombuffer(pcm, "<i2").astype(float) for pcm in (left, right))
    length = min(len(a), len(b)) - 200
    return float(np.abs(a[200:length] - b[200:length]).mean() / np.abs(b[200:length]).mean())


@pytest.mark.parametrize(("source", "target"), [(16000, 24000), (24000, 16000), (48000, 16000), (44100, 16000)])
def test_a_tone_stays_itself_at_another_rate(source: int, target: int) -> None:
    assert difference(resample(tone(source), source, target), tone(target)) < 0.02


def test_what_the_lower_rate_cannot_carry_is_left_out() -> None:
    quiet = np.frombuffer(resample(tone(24000, 10_000), 24000, 16000), "<i2")
    assert np.abs(quiet[200:-200]).mean() < 100


@pytest.mark.parametrize("piece", [2, 641, 1764, 5000])
def test_a_stream_is_resampled_without_seams(piece: int) -> None:
    pcm = tone(44100)
    resampler = Resampler(44100, 16000)
    given = b"".join(resampler.feed(pcm[at : at + piece]) for at in range(0, len(pcm), piece))
    assert abs(len(given) // 2 - 16000) <= 2
    assert difference(given, tone(16000)) < 0.02


def test_rates_are_read_from_the_mime_type() -> None:
    rates = [rate_of(mime) for mime in ("audio/pcm;rate=24000", "audio/pcm; rate=8000", "audio/pcm", "")]
    assert rates == [24000, 8000, 16000, 16000]


PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480)
JPEG = b"\xff\xd8\xff\xe0" + struct.pack(">H", 4) + b"JF\xff\xc0" + struct.pack(">HBHH", 11, 8, 480, 640) + b"\3"


@pytest.mark.parametrize(
    ("data", "expected"),
    [(PNG, (640, 480)), (JPEG, (640, 480)), (JPEG[:9], None), (b"", None), (b"\xff\xd8" + b"\xff" * 50, None)],
)
def test_picture_sizes(data: bytes, expected: tuple[int, int] | None) -> None:
    assert size(data) == expected


def test_settings_read_durations_and_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_EMULATOR_CHUNK", "20ms")
    monkeypatch.setenv("PARLEY_EMULATOR_HANDLE_TTL", "1.5h")
    monkeypatch.setenv("PARLEY_EMULATOR_VAD_SILENCE", "0.8")
    monkeypatch.setenv("PARLEY_EMULATOR_SETUP_TIMEOUT", "PT5S")
    monkeypatch.setenv("PARLEY_EMULATOR_API_KEYS", "a, b,")
    settings = EmulatorSettings()
    assert settings.chunk == timedelta(milliseconds=20)
    assert settings.handle_ttl == timedelta(minutes=90)
    assert settings.vad_silence == timedelta(milliseconds=800)
    assert settings.setup_timeout == timedelta(seconds=5)
    assert [key.get_secret_value() for key in settings.api_keys] == ["a", "b"]
    assert "'a'" not in repr(settings)


def test_every_setting_is_documented() -> None:
    assert [
        name for name, field in EmulatorSettings.model_fields.items() if not (field.description or "").strip()
    ] == []


@pytest.mark.parametrize(("name", "value"), [("CHUNK", "1h"), ("PORT", "70000"), ("GENERATION_SPEED", "0")])
def test_settings_out_of_range_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"PARLEY_EMULATOR_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        EmulatorSettings()
