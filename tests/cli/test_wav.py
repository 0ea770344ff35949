import array
import math
import wave

import pytest

from parley.cli._failures import CliError
from parley.cli.wav import read_wav, resample, speech_end, write_wav


def tone(rate, hertz, seconds=0.2):
    return array.array(
        "h", [round(10_000 * math.sin(2 * math.pi * hertz * n / rate)) for n in range(int(rate * seconds))]
    )


def power(samples):
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    return math.sqrt(sum(value * value for value in middle) / len(middle))


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 24_000, 44_100, 48_000])
def test_a_tone_keeps_pitch_and_loudness_at_another_rate(rate):
    out = array.array("h", resample(tone(rate, 1000).tobytes(), rate, 16_000))
    wanted = tone(16_000, 1000)
    assert abs(len(out) - len(wanted)) <= 1
    middle = range(len(wanted) // 4, 3 * len(wanted) // 4)
    assert max(abs(out[n] - wanted[n]) for n in middle) < 200


def test_what_the_new_rate_cannot_carry_is_not_folded_back():
    out = array.array("h", resample(tone(48_000, 12_000).tobytes(), 48_000, 16_000))
    assert power(out) < 0.01 * power(tone(48_000, 12_000))


def test_the_same_rate_is_the_same_bytes(tmp_path):
    pcm = tone(16_000, 440).tobytes()
    write_wav(tmp_path / "new" / "x.wav", pcm, 16_000)
    assert read_wav(tmp_path / "new" / "x.wav") == pcm


def test_speech_ends_where_the_voice_does():
    voice = tone(16_000, 300, 0.4).tobytes()
    assert speech_end(voice + bytes(32_000), 1280) == len(voice)
    assert speech_end(bytes(32_000), 1280) == 0
    assert speech_end(b"", 1280) == 0
    assert speech_end(voice[:1300], 1280) == 1300


def test_a_file_that_was_cut_off_within_a_sample_is_spoken_to_its_last_whole_one(tmp_path):
    path = tmp_path / "cut.wav"
    write_wav(path, tone(8000, 440).tobytes(), 8000)
    path.write_bytes(path.read_bytes()[:-1])
    assert len(read_wav(path)) == 2 * (2 * 1600 - 2)


def test_a_file_that_does_not_fit_is_named_with_what_would(tmp_path):
    stereo = tmp_path / "stereo.wav"
    with wave.open(str(stereo), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(400))
    with pytest.raises(CliError, match=r"stereo\.wav has 2 channel.*wanted is 16 bit PCM, mono"):
        read_wav(stereo)
    text = tmp_path / "text.wav"
    text.write_text("no sound")
    with pytest.raises(CliError, match=r"text\.wav is no PCM WAV"):
        read_wav(text)
    empty, silent, cut = tmp_path / "empty.wav", tmp_path / "silent.wav", tmp_path / "cut.wav"
    empty.touch()
    with pytest.raises(CliError, match=r"empty\.wav is no PCM WAV file: it is empty \(0 bytes\)$"):
        read_wav(empty)
    write_wav(silent, b"", 16_000)
    with pytest.raises(CliError, match=r"silent\.wav has no sound"):
        read_wav(silent)
    cut.write_bytes(silent.read_bytes()[:20])
    with pytest.raises(CliError, match=r"cut\.wav is no PCM WAV file: it ends within its header$"):
        read_wav(cut)
    with pytest.raises(CliError, match=f"^cannot read {tmp_path}: Is a directory$"):
        read_wav(tmp_path)
    with pytest.raises(CliError, match="there is no file"):
        read_wav(tmp_path / "absent.wav")
    with pytest.raises(CliError, match="cannot write"):
        write_wav(text / "below.wav", b"", 16_000)
