from pathlib import Path

import pytest

from emulator import scenario
from emulator.scenario import ScenarioError
from tests.support.speech import TEXTS

SUPPORT = scenario.named("support")


@pytest.mark.parametrize(
    ("sentence", "rule", "slots"),
    [
        ("Hello!", "greeting", {}),
        ("what can you do", "service", {}),
        ("What's the weather in PARIS, please?", "weather", {"city": "paris"}),
        ("where is my order 4711?", "order", {"order_id": "4711"}),
        ("where is order four seven one oh", "order", {"order_id": "4710"}),
        ("hello, where is my order 12", "order", {"order_id": "12"}),
        ("Thank you. Goodbye!", "farewell", {}),
        ("STOP", "silence", {}),
    ],
)
def test_typed_and_spoken_sentences_find_their_rule(sentence: str, rule: str, slots: dict[str, str]) -> None:
    match = SUPPORT.match(sentence)
    assert match.rule is not None
    assert (match.rule.name, match.slots) == (rule, slots)


@pytest.mark.parametrize("sentence", ["", " ", ".", "buy a pizza", "what is the weather in atlantis", "unstoppable"])
def test_what_no_rule_knows_matches_none(sentence: str) -> None:
    assert SUPPORT.match(sentence).rule is None


def test_every_recorded_question_is_known_but_the_one_that_should_not_be() -> None:
    unknown = [name for name, text in TEXTS.items() if SUPPORT.match(text).rule is None]
    assert unknown == ["pizza"]


def test_answers_word_digits_one_by_one_and_numbers_as_numbers() -> None:
    words = SUPPORT.word("order <order_id> has <n> parts at <t> <missing>", {"order_id": "4711", "n": 21, "t": -3.4})
    assert words == "order four seven one one has twenty one parts at minus three"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("name: x\nrules: [", 2, "expected"),
        ("name: x\nrulez: []\n", 2, "rulez"),
        ("name: x\nrules:\n  - name: a\n    hear: hi\n    sai: ho\n", 5, "rules.0.sai"),
        ("name: x\nrules:\n  - name: a\n    hear: [hi, 'go to <place>']\n", 4, "slot <place> is not defined"),
        ("name: x\nrules:\n  - name: a\n    hear: ['<c>', '<c> to <c>']\nslots: {c: [x]}\n", 4, "twice"),
        ("name: x\nrules:\n  - name: a\n    hear: ['!']\n", 4, "nothing to hear"),
        ("name: X Y\n", 1, "name"),
        ("- a\n", 1, "file"),
    ],
)
def test_errors_name_file_line_and_reason(tmp_path: Path, text: str, line: int, reason: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(ScenarioError) as caught:
        scenario.load(path)
    assert caught.value.line == line
    assert reason in str(caught.value)
    assert str(caught.value).startswith(f"{path}:{line}: ")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ScenarioError, match=r"/nowhere/x\.yaml: cannot be read"):
        scenario.named("/nowhere/x.yaml")
