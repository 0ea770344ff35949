"""Audio arithmetic and picture headers."""

import hashlib
import struct
from datetime import timedelta

import numpy as np
import pytest
from pydantic import ValidationError

from emulator.audio import Intake, Resampler, loudness, resample
from emulator.errors import Refusal
from emulator.hearing.listening import check
from emulator.hearing.pictures import describe, size
from emulator.settings import EmulatorSettings
from tests.emulator.behaviour import behaviour, patched


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
    assert 16000 - 13 <= len(given) // 2 <= 16000  # what the filter has not seen to its end
    assert difference(given, tone(16000)) < 0.02


@behaviour("audio.resampling", off=patched("emulator.audio._taps", lambda source, target: np.eye(1, 24, 11)))
@pytest.mark.parametrize("rate", [24000, 44100, 48000])
def test_what_the_lower_rate_cannot_carry_does_not_come_back_as_another_sound(rate: int) -> None:
    resampler = Resampler(rate, 16000)
    hiss = tone(rate, 10_500)
    heard = b"".join(resampler.feed(hiss[at : at + 1920]) for at in range(0, len(hiss), 1920))
    assert loudness(heard) < 0.01 * loudness(hiss)


@behaviour("audio.rate", off=patched("emulator.hearing.listening.rate_of", lambda mime_type: 24000))
def test_rates_are_read_from_the_mime_type_and_16_khz_where_it_names_none() -> None:
    rates = [
        check(mime) for mime in ("audio/pcm;rate=24000", "audio/pcm; rate=8000", "audio/pcm", "Audio/PCM;rate=48000")
    ]
    assert rates == [24000, 8000, 16000, 48000]


@pytest.mark.parametrize(
    "mime", ["", "audio/webm;codecs=opus", "image/png", "audio/pcm;rate=7999", "audio/pcm;rate=96000"]
)
def test_other_audio_is_refused_with_what_would_be_right(mime: str) -> None:
    with pytest.raises(Refusal, match="1007 Audio must be audio/pcm"):
        check(mime)


@behaviour("audio.odd_bytes", off=patched("emulator.audio.BYTES_PER_SAMPLE", 1))
def test_half_a_sample_waits_for_its_other_half() -> None:
    pcm = tone(16000, length=0.1)
    intake = Intake(16000)
    pieces = [intake.feed(pcm[at : at + 333], 16000) for at in range(0, len(pcm), 333)]
    assert b"".join(pieces) == pcm
    assert all(len(piece) % 2 == 0 for piece in pieces)


def test_a_rate_may_change_in_mid_stream() -> None:
    intake = Intake(16000)
    given = [len(intake.feed(tone(rate, length=0.5), rate)) // 2 for rate in (16000, 48000, 8000, 16000)]
    assert given[0] == given[3] == 8000
    assert all(8000 - 24 <= length <= 8000 for length in given)


PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480)
JPEG = b"\xff\xd8\xff\xe0" + struct.pack(">H", 4) + b"JF\xff\xc0" + struct.pack(">HBHH", 11, 8, 480, 640) + b"\3"


WEBP, HEIC = b"RIFF\x00\x00\x00\x00WEBPVP8 ", b"\x00\x00\x00\x18ftypheic"


@behaviour("video.kind", off=patched("emulator.hearing.pictures._known", lambda data: True))
def test_what_is_no_picture_is_refused() -> None:
    for data in (PNG, JPEG, WEBP, HEIC):
        assert describe(data, "image/png")["bytes"] == len(data)
    for data in (b"", b"%PDF-1.7", b"<svg/>", PNG[1:]):
        with pytest.raises(Refusal, match="1007 Unable to process input image"):
            describe(data, "image/jpeg")


def test_a_picture_is_described_by_its_size_and_what_is_in_it() -> None:
    assert describe(JPEG, "image/jpeg") == {
        "bytes": len(JPEG),
        "mime": "image/jpeg",
        "sha256": hashlib.sha256(JPEG).hexdigest(),
        "width": 640,
        "height": 480,
    }
    with pytest.raises(Refusal, match="1007 Unable to process input image"):
        describe(JPEG, "video/mp4")


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
