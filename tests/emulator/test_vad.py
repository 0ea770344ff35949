import numpy as np
import pytest

from emulator.audio import resample
from emulator.vad import FRAME_BYTES, RATE, Detector, Segmenter, Sensitivity, SpeechEnded, SpeechStarted
from tests.support.speech import question

FRAME = bytes(FRAME_BYTES)


def boundaries(segmenter: Segmenter, pattern: str) -> list[tuple[int, object]]:
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

    def test_the_utterance_keeps_what_came_just_before(self) -> None:
        segmenter = Segmenter(Sensitivity(prefix=0.06, silence=0.06))
        frames = [index.to_bytes(2, "little") * (FRAME_BYTES // 2) for index in range(60)]
        ended = [b for i, f in enumerate(frames) if isinstance(b := segmenter.push(f, 40 <= i < 45), SpeechEnded)]
        assert ended[0].pcm.startswith(frames[24])
        assert ended[0].pcm.endswith(frames[47])


def detect(pcm: bytes, rate: int = RATE, piece: int = 1280, **sensitivity: float) -> list[object]:
    detector = Detector(Sensitivity(**sensitivity), 150.0)  # type: ignore[arg-type]
    return [found for at in range(0, len(pcm), piece) for found in detector.feed(pcm[at : at + piece], rate)]


class TestDetector:
    @pytest.mark.parametrize("piece", [640, 1280, 3200, 1000])
    def test_a_question_is_one_utterance_however_it_is_cut(self, piece: int) -> None:
        found = detect(bytes(16000) + question("weather_paris") + bytes(32000), piece=piece)
        assert [type(one) for one in found] == [SpeechStarted, SpeechEnded]
        assert isinstance(found[0], SpeechStarted)
        assert 0.5 < found[0].at < 0.9

    @pytest.mark.parametrize("rate", [8000, 24000, 44100, 48000])
    def test_other_rates_are_resampled(self, rate: int) -> None:
        pcm = resample(bytes(16000) + question("weather_paris") + bytes(32000), RATE, rate)
        assert [type(one) for one in detect(pcm, rate=rate)] == [SpeechStarted, SpeechEnded]

    def test_silence_and_faint_noise_are_not_speech(self) -> None:
        noise = np.random.default_rng(1).normal(0, 60, RATE * 3).astype("<i2").tobytes()
        assert detect(bytes(RATE * 2)) == []
        assert detect(noise) == []

    def test_the_silence_that_ends_an_utterance_is_what_was_asked_for(self) -> None:
        pcm = question("weather_paris")
        pause = bytes(RATE * 2 * 6 // 10)
        two = pcm + pause + pcm + bytes(RATE * 4)
        assert sum(isinstance(one, SpeechEnded) for one in detect(two, silence=0.3)) == 2
        assert sum(isinstance(one, SpeechEnded) for one in detect(two, silence=1.2)) == 1
