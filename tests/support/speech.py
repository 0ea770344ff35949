"""Callers' recorded questions (16 kHz mono PCM16), with the tests or in the package where the demo needs them."""

import wave
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (ROOT / "tests" / "data" / "speech", ROOT / "parley" / "cli" / "demo_data")

TEXTS = {
    "weather_paris": "what is the weather in paris",
    "weather_london": "what is the weather in london",
    "weather_london_noisy": "what is the weather in london",
    "tell_me_about_your_service": "tell me about your service",
    "order_4711": "where is my order four seven one one",
    "order_4711_padded": "where is my order four seven one one",
    "order_1234": "where is my order one two three four",
    "what_do_you_see": "what do you see",
    "hello": "hello",
    "goodbye": "thank you goodbye",
    "what_can_you_do": "what can you do",
    "stop": "stop",
    "pizza": "i would like to buy a large pizza with cheese",
}
"""What is said in each. The scenario ``support`` does not know the last."""


def question_path(name: str) -> Path:
    """The WAV file of a question."""
    return next(path for folder in FOLDERS if (path := folder / f"{name}.wav").is_file())


def question(name: str) -> bytes:
    """The PCM of a question."""
    with wave.open(str(question_path(name)), "rb") as source:
        assert (source.getframerate(), source.getnchannels(), source.getsampwidth()) == (16000, 1, 2)
        return source.readframes(source.getnframes())
