"""Makes the recordings that the repository keeps: the words the emulator speaks with, and callers' questions for tests.

Run by hand when a word is wanted that is not there yet; nothing else in the repository needs it. It needs ``flite`` 2.2
on the PATH (Debian: ``apt-get install flite``), and the same flite gives the same bytes again::

    python -m emulator.voice.record words emulator/voice/words
    python -m emulator.voice.record questions tests/data/speech parley/cli/demo_data

The model speaks with the voice ``slt``, callers with ``rms``: a test that hears the one cannot be hearing the other.
All files are 16 kHz, mono, PCM16. A word's file is named for its text, with underscores for spaces.
"""

import shutil
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt

RATE = 16000
MODEL_VOICE = "slt"
CALLER_VOICE = "rms"

NUMBERS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
    "thirty",
    "forty",
    "fifty",
)
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
STATUSES = ("shipped", "delayed", "delivered", "cancelled", "processing", "returned")
WEATHER = ("sunny", "cloudy", "rainy", "windy", "snowy", "foggy")
CITIES = ("paris", "london", "tokyo", "berlin", "madrid")
PHRASES = (
    "hello how can i help you",
    "it is",
    "in",
    "and",
    "degrees",
    "minus",
    "order",
    "is",
    "and arrives on",
    "i see",
    "pictures",
    "you have your money back",
    "see you on",
    "at",
    "goodbye",
    "sorry i could not find that",
    "sorry i did not understand that",
    "sorry i can not do that",
    "i can answer questions about the weather in many cities",
    "and i can look up any order that you have placed with us",
    "just tell me the number of the order and i will find it for you",
    "i can also look at the pictures from your camera",
    "and tell you how many of them i have seen so far",
    "you can stop me at any time simply by speaking",
)

# Text of each question, and whether the demonstration needs it: those live in the package, the others with the tests.
QUESTIONS = {
    "weather_paris": ("what is the weather in paris", True),
    "weather_london": ("what is the weather in london", False),
    "tell_me_about_your_service": ("tell me about your service", True),
    "order_4711": ("where is my order four seven one one", True),
    "order_1234": ("where is my order one two three four", False),
    "what_do_you_see": ("what do you see", True),
    "hello": ("hello", False),
    "goodbye": ("thank you goodbye", True),
    "what_can_you_do": ("what can you do", False),
    "stop": ("stop", False),
    "pizza": ("i would like to buy a large pizza with cheese", False),
}
# Variants of a question: (source, seconds of silence before, after, level of white noise of full scale 32767).
VARIANTS = {
    "weather_london_noisy": ("weather_london", 0.4, 0.8, 60.0),
    "order_4711_padded": ("order_4711", 1.5, 2.0, 0.0),
}

# A soft onset before a word is heard as a word of its own ("eight six"); a soft end belongs to it ("six").
_ONSET_LEVEL = 150.0
_END_LEVEL = 30.0
_KEPT_AROUND = RATE // 50
_PEAK = 16000.0


def speak(text: str, voice: str) -> npt.NDArray[np.int16]:
    """What flite makes of ``text``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(path)], check=True)
        with wave.open(str(path), "rb") as source:
            if (source.getframerate(), source.getnchannels(), source.getsampwidth()) != (RATE, 1, 2):
                raise ValueError(f"flite's voice {voice!r} does not speak 16 kHz mono PCM16")
            return np.frombuffer(source.readframes(source.getnframes()), dtype="<i2")


def trim(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Without the silence at both ends, except for 20 ms, at one common loudness."""
    level = np.abs(samples.astype(np.float64))
    started = np.flatnonzero(level > _ONSET_LEVEL)
    if started.size:
        ended = np.flatnonzero(level > _END_LEVEL)
        samples = samples[max(0, started[0] - _KEPT_AROUND) : ended[-1] + _KEPT_AROUND]
    peak = float(level.max()) or 1.0
    return np.round(samples * (_PEAK / peak)).astype(np.int16)


def write(path: Path, samples: npt.NDArray[np.int16]) -> None:
    """One WAV file."""
    with wave.open(str(path), "wb") as target:
        target.setnchannels(1)
        target.setsampwidth(2)
        target.setframerate(RATE)
        target.writeframes(samples.astype("<i2").tobytes())


def record_words(folder: Path) -> None:
    """Every word and phrase of the model's voice."""
    folder.mkdir(parents=True, exist_ok=True)
    for text in (*NUMBERS, *DAYS, *STATUSES, *WEATHER, *CITIES, *PHRASES):
        write(folder / f"{text.replace(' ', '_')}.wav", trim(speak(text, MODEL_VOICE)))


def record_questions(tests: Path, demo: Path) -> None:
    """Callers' questions, untouched as a microphone would give them, and their variants."""
    for folder in (tests, demo):
        folder.mkdir(parents=True, exist_ok=True)
    spoken = {}
    for name, (text, wanted_by_demo) in QUESTIONS.items():
        spoken[name] = speak(text, CALLER_VOICE)
        write((demo if wanted_by_demo else tests) / f"{name}.wav", spoken[name])
    noise = np.random.default_rng(20261122)
    for name, (source, before, after, level) in VARIANTS.items():
        padded = np.pad(spoken[source].astype(np.float64), (int(before * RATE), int(after * RATE)))
        padded += noise.normal(0.0, level, padded.size) if level else 0.0
        write(tests / f"{name}.wav", np.clip(np.round(padded), -32768, 32767).astype(np.int16))


def main(arguments: list[str]) -> None:
    """Command line; see the module's first lines."""
    if shutil.which("flite") is None:
        raise SystemExit("flite is not on the PATH (Debian: apt-get install flite)")
    match arguments:
        case ["words", folder]:
            record_words(Path(folder))
        case ["questions", tests, demo]:
            record_questions(Path(tests), Path(demo))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
