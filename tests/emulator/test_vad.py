"""Where speech begins and ends, frame by frame and on recorded questions."""

from typing import Any

import numpy as np
import pytest

from emulator.audio import resample
from emulator.configuration.setup import accept
from emulator.hearing.listening import sensitivity
from emulator.hearing.vad import (
    FRAME_BYTES,
    RATE,
    Boundary,
    Detector,
    Segmenter,
    Sensitivity,
    SpeechEnded,
    SpeechStarted,
)
from emulator.switches import Switches
from tests.emulator.behaviour import behaviour, patched, without
from tests.support.speech import question

FRAME = bytes(FRAME_BYTES)


def boundaries(segmenter: Segmenter, pattern: str) -> list[tuple[int, Boundary]]:
    """Each boundary with the index of the frame that brought it; ``x`` is speech."""
    found = [(index, segmenter.push(FRAME, mark == "x")) for index, mark in enumerate(pattern)]
    return [(index, boundary) for index, boundary in found if boundary is not None]


class TestSegmenter:
    def test_speech_begins_after_the_prefix_and_is_dated_at_its_onset(self) -> None:
        assert boundaries(Segmenter(Sensitivity(prefix=0.06)), "....xxx") == [(6, SpeechStarted(at=0.08))]

    def test_a_click_is_not_speech(self) -> None:
        assert boundaries(Segmenter(Sensitivity(prefix=0.06)), "..x....xx....x..") == []

    def test_no_prefix_takes_the_first_voiced_frame(self) -> None:
        assert boundaries(Segmenter(Sensitivity(prefix=0)), "..x") == [(2, SpeechStarted(at=0.04))]

    def test_speech_ends_after_the_silence_and_not_before(self) -> None:
        segmenter = Segmenter(Sensitivity(prefix=0.06, silence=0.1))
        found = boundaries(segmenter, "xxx....x.....")
        assert [index for index, _ in found] == [2, 12]
        assert isinstance(found[1][1], SpeechEnded)
        assert not segmenter.speaking

    def test_an_utterance_is_bounded(self) -> None:
        segmenter = Segmenter(Sensitivity(prefix=0.02, longest=0.2))
        found = boundaries(segmenter, "x" * 15)
        assert isinstance(found[1][1], SpeechEnded)
        assert len(found[1][1].pcm) <= 10 * FRAME_BYTES

    def test_flush_ends_what_has_begun_and_nothing_else(self) -> None:
        segmenter = Segmenter(Sensitivity())
        assert segmenter.flush() is None
        boundaries(segmenter, "xxxx")
        assert isinstance(segmenter.flush(), SpeechEnded)
        assert segmenter.flush() is None

    def test_the_end_is_dated_at_the_silence_that_made_it(self) -> None:
        ended = boundaries(Segmenter(Sensitivity(prefix=0.02, silence=0.1)), "..xxxx.....")[1][1]
        assert isinstance(ended, SpeechEnded) and ended.at == 0.12

    def test_what_was_heard_before_a_pause_of_the_stream_is_not_part_of_what_comes_after_it(self) -> None:
        segmenter = Segmenter(Sensitivity(prefix=0.06))
        boundaries(segmenter, "....xx")
        segmenter.flush()
        assert boundaries(segmenter, "x") == []
        boundaries(segmenter, "xx")
        assert len(segmenter.so_far()) == 3 * FRAME_BYTES

    def test_the_utterance_keeps_what_came_just_before(self) -> None:
        segmenter = Segmenter(Sensitivity(prefix=0.06, silence=0.06))
        frames = [index.to_bytes(2, "little") * (FRAME_BYTES // 2) for index in range(60)]
        ended = [b for i, f in enumerate(frames) if isinstance(b := segmenter.push(f, 40 <= i < 45), SpeechEnded)]
        assert ended[0].pcm.startswith(frames[25])
        assert ended[0].pcm.endswith(frames[47])


def detect(pcm: bytes, rate: int = RATE, piece: int = 1280, **fields: Any) -> list[Boundary]:
    detector = Detector(Sensitivity(**fields), 150.0)
    return [found for at in range(0, len(pcm), piece) for found in detector.feed(pcm[at : at + piece], rate)]


def kinds(found: list[Boundary]) -> list[type]:
    return [type(one) for one in found]


def at_gain(pcm: bytes, gain: float) -> bytes:
    return (np.frombuffer(pcm, "<i2") * gain).astype("<i2").tobytes()


SILENCE = bytes(RATE * 2)
ONE = [SpeechStarted, SpeechEnded]


class TestDetector:
    @pytest.mark.parametrize("piece", [640, 1280, 3200, 1000, 333])
    def test_a_question_is_one_utterance_however_it_is_cut(self, piece: int) -> None:
        found = detect(bytes(16000) + question("weather_paris") + SILENCE, piece=piece)
        assert kinds(found) == ONE
        assert isinstance(found[0], SpeechStarted)
        assert 0.5 < found[0].at < 0.9

    @pytest.mark.parametrize("rate", [8000, 11025, 24000, 32000, 44100, 48000])
    def test_other_rates_are_resampled(self, rate: int) -> None:
        pcm = resample(bytes(16000) + question("weather_paris") + SILENCE, RATE, rate)
        assert kinds(detect(pcm, rate=rate, piece=1281)) == ONE

    def test_silence_and_faint_noise_are_not_speech(self) -> None:
        noise = np.random.default_rng(1).normal(0, 60, RATE * 3).astype("<i2").tobytes()
        assert detect(SILENCE) == []
        assert detect(noise) == []

    def test_audio_time_goes_on_over_a_pause_of_the_stream(self) -> None:
        detector = Detector(Sensitivity(), 150.0)
        detector.feed(bytes(RATE * 2 + 100), RATE)
        detector.flush()
        (started,) = detector.feed(question("hello")[:16000], RATE)
        assert isinstance(started, SpeechStarted) and 1.0 < started.at < 1.4

    @behaviour("vad.start_sensitivity", off=patched("emulator.hearing.vad._HARD_START", 1.0))
    def test_low_start_sensitivity_does_not_take_a_faint_voice_for_the_caller(self) -> None:
        faint = at_gain(question("weather_paris"), 0.1) + SILENCE
        assert kinds(detect(faint, easy_start=True)) == ONE
        assert detect(faint, easy_start=False) == []
        assert kinds(detect(question("weather_paris") + SILENCE, easy_start=False)) == ONE

    @behaviour("vad.end_sensitivity", off=patched("emulator.hearing.vad._HARD_END", 1.0))
    def test_low_end_sensitivity_lets_a_voice_that_fades_go_on(self) -> None:
        fading = question("weather_paris") + at_gain(question("weather_london"), 0.025) + SILENCE
        faded, held = (
            [one.at for one in detect(fading, easy_end=easy, silence=0.7) if isinstance(one, SpeechEnded)]
            for easy in (True, False)
        )
        assert faded[0] + 1 < held[0]


def wanted(*, vertex: bool = False, switches: dict[str, Any] | None = None, **detection: Any) -> Sensitivity:
    """What a setup asks for."""
    backend, prefix = ("vertex", "publishers/google/models") if vertex else ("developer", "models")
    body = {
        "model": f"{prefix}/gemini-3.8-live",
        "realtimeInputConfig": {"automaticActivityDetection": detection},
    }
    chosen = Switches().changed(switches or {})
    return sensitivity(accept(body, backend=backend, api_version="v1beta", switches=chosen))


def heard(pcm: bytes, how: Sensitivity) -> list[Boundary]:
    return detect(pcm, piece=640, **vars(how))


class TestSetup:
    """What the fields of automaticActivityDetection change, on recorded questions."""

    @behaviour("10.21", "vad.silence", off=without(silence_duration="ignored"))
    @pytest.mark.parametrize(("milliseconds", "utterances"), [(200, 2), (700, 2), (1200, 1)])
    def test_the_silence_that_ends_speech_is_as_long_as_asked(
        self, milliseconds: int, utterances: int, switches: dict[str, Any]
    ) -> None:
        how = wanted(switches=switches, silenceDurationMs=milliseconds)
        pause = bytes(RATE * 2 * 8 // 10)
        detector = Detector(how, 150.0)
        ends = []
        for at in range(0, len(pcm := question("weather_paris") + pause + question("hello") + 2 * SILENCE), 640):
            for one in detector.feed(pcm[at : at + 640], RATE):
                if isinstance(one, SpeechEnded):
                    ends.append(round((at + 640) / (2 * RATE) - one.at, 3))
        assert ends == [milliseconds / 1000] * utterances

    @behaviour("vad.prefix", off=without(prefix_padding="look_back"))
    def test_prefix_padding_is_the_speech_needed_before_it_counts(self, switches: dict[str, Any]) -> None:
        pcm = question("stop") + SILENCE
        assert kinds(heard(pcm, wanted(switches=switches, prefixPaddingMs=40))) == ONE
        # The word is not that long.
        assert heard(pcm, wanted(switches=switches, prefixPaddingMs=800)) == []

    @behaviour("vad.prefix", off=without(prefix_padding="minimum"))
    def test_prefix_padding_is_what_is_kept_from_before_it(self, switches: dict[str, Any]) -> None:
        pcm = SILENCE + question("weather_paris") + SILENCE
        begun = []
        for padding in (300, 700):
            started, ended = heard(pcm, wanted(switches=switches, prefixPaddingMs=padding))
            assert isinstance(started, SpeechStarted) and isinstance(ended, SpeechEnded)
            until = len(ended.pcm) / (2 * RATE) - (ended.at + 0.16 - started.at)
            begun.append(round(until, 3))
        assert begun == [0.3, 0.7]

    def test_prefix_padding_as_look_back_only_and_as_minimum_only(self) -> None:
        look_back = wanted(switches={"prefix_padding": "look_back"}, prefixPaddingMs=0)
        assert (look_back.look_back, look_back.prefix) == (0.0, 0.06)
        minimum = wanted(switches={"prefix_padding": "minimum"}, prefixPaddingMs=500)
        assert (minimum.look_back, minimum.prefix) == (0.3, 0.5)

    @behaviour(
        "vad.defaults", off=patched("emulator.configuration.setup._last_word", lambda value, known, default: "HIGH")
    )
    def test_sensitivity_is_high_on_the_developer_api_and_low_on_vertex(self) -> None:
        developer, vertex = wanted(), wanted(vertex=True)
        assert (developer.easy_start, developer.easy_end) == (True, True)
        assert (vertex.easy_start, vertex.easy_end) == (False, False)
        other = wanted(vertex=True, startOfSpeechSensitivity="START_SENSITIVITY_HIGH")
        assert (other.easy_start, other.easy_end) == (True, False)


@pytest.mark.parametrize("pause", [0.02, 0.3, 0.42, 3.0])
def test_a_muted_microphone_changes_nothing_in_what_is_heard(pause: float, monkeypatch: pytest.MonkeyPatch) -> None:
    muted = bytes(int(pause * RATE) * 2)
    faint = b"".join(one.to_bytes(2, "little", signed=True) for one in (3, -2, 1, -4)) * RATE
    pcm = muted.join([question("weather_paris"), question("hello"), faint, question("weather_london"), b""]) + muted
    quick = Detector(Sensitivity(), gate=150.0).feed(pcm, RATE)
    assert quick
    monkeypatch.setattr("emulator.hearing.vad._HANGOVER_FRAMES", 10**9)
    assert Detector(Sensitivity(), gate=150.0).feed(pcm, RATE) == quick
