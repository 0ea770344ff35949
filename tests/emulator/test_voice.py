import itertools

import pytest

from emulator import voice
from emulator.scenarios import language
from emulator.scenarios.scenario import named
from emulator.voice import RATE
from tests.support.hearing import hear, seconds

STATUSES = ("shipped", "delayed", "delivered", "cancelled", "processing", "returned")
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
DIGIT = "(zero|one|two|three|four|five|six|seven|eight|nine)"
REPLY = f"order {DIGIT}+ is ({'|'.join(STATUSES)}) and arrives on ({'|'.join(DAYS)})"


def spoken(text: str) -> bytes:
    return b"".join(piece.pcm for piece in voice.recorded().say(text))


def test_every_status_and_day_of_an_order_is_heard_in_the_voice() -> None:
    for status, day in itertools.product(STATUSES, DAYS):
        # Recorded by themselves: they sound the same next to each other's, so not every pair is listened to.
        pieces = voice.recorded().say(f"order 1 is {status} and arrives on {day}")
        assert {status, day} <= {piece.text for piece in pieces}
    wrong = []
    for number, (status, day) in enumerate(zip(itertools.cycle(STATUSES), DAYS, strict=False)):
        text = f"order {number} is {status} and arrives on {day}"
        heard = hear(spoken(text), RATE, REPLY)
        if heard.split()[2:] != f"is {status} and arrives on {day}".split():
            wrong.append((text, heard))
    assert wrong == []


def test_every_digit_is_heard_in_the_voice() -> None:
    text = "order zero one two three four five six seven eight nine is shipped and arrives on monday"
    assert hear(spoken(text), RATE, REPLY) == text


@pytest.mark.parametrize("condition", ["sunny", "cloudy", "rainy", "windy", "snowy", "foggy"])
def test_the_weather_is_heard_in_the_voice(condition: str) -> None:
    grammar = (
        "it is (sunny|cloudy|rainy|windy|snowy|foggy) in (paris|london|tokyo|berlin|madrid)"
        " and (two|twelve|twenty one|thirty|forty) degrees"
    )
    text = f"it is {condition} in madrid and twenty one degrees"
    assert hear(spoken(text), RATE, grammar) == text


def test_the_long_answer_is_long_enough_to_interrupt() -> None:
    rule = named("support").match("what can you do").rule
    assert rule is not None
    assert seconds(spoken(" ".join(rule.say)), RATE) > 10


def test_whatever_the_scenarios_say_has_been_recorded() -> None:
    file = named("support").file
    templates = [text for rule in file.rules for text in rule.say] + [file.unknown, file.tool_failed, file.tool_missing]
    filled = [named("support").word(template, dict.fromkeys(("city", "order_id"), "paris")) for template in templates]
    tone = voice.recorded().say("xyzzy")[0].pcm
    assert [piece.text for text in filled for piece in voice.recorded().say(text) if piece.pcm == tone] == []


def test_any_text_can_be_spoken() -> None:
    pieces = voice.recorded().say("The frobnicator says: order 42 — ärger!")
    assert [piece.text for piece in pieces][3:6] == ["order", "four", "two"]
    assert all(piece.pcm for piece in pieces)
    assert voice.recorded().say(" ... ") == []


def test_what_is_said_at_once_is_bounded() -> None:
    assert len(voice.recorded().say("order " * 10_000)) == voice.MOST_WORDS
    assert len(language.say("9" * 100_000, digits=True).split()) == 2000
