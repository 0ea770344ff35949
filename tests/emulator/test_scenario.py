import re
from pathlib import Path

import pytest

from emulator.scenarios import scenario
from emulator.scenarios.scenario import Scenario, ScenarioError
from emulator.scenarios.script import CallSpec, Rule, ScenarioFile, Step
from tests.emulator.caller import Caller
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


def test_results_are_looked_up_by_their_path() -> None:
    values = {"weather": {"days": [{"sky": "sunny"}, {"sky": "cloudy"}], "city": "paris"}, "city": "london"}
    words = SUPPORT.word(
        "it is <weather.days.1.sky> in <weather.city> and <city> <weather.days.2.sky> <city.x>", values
    )
    assert words == "it is cloudy in paris and london"


def test_arguments_keep_the_type_of_what_fills_them() -> None:
    args = {"id": "<order.id>", "note": "order <order.id> of <city>", "list": ["<n>", {"deep": "<n>"}], "plain": 7}
    call = CallSpec.model_validate({"tool": "t", "args": args})
    values = {"order": {"id": 4711}, "city": "paris", "n": 2.5}
    assert SUPPORT.arguments(call, values) == {
        "id": 4711,
        "note": "order 4711 of paris",
        "list": [2.5, {"deep": 2.5}],
        "plain": 7,
    }
    assert SUPPORT.arguments(CallSpec(tool="t", args={"x": "<nothing>"}), {}) == {"x": ""}


RULE = "name: x\nrules:\n  - name: a\n    hear: hi\n"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("name: x\nrules: [", 2, "expected"),
        ("name: x\nrulez: []\n", 2, "rulez"),
        ("name: x\nname: y\n", 2, "'name' is there twice"),
        ("name: x\nrules: &a [*a]\n", 2, "more than 100000 values"),
        ("name: x\nrules:\n  - name: a\n    hear: hi\n    sai: ho\n", 5, "rules.0.sai"),
        ("name: x\nrules:\n  - name: a\n    hear: [hi, 'go to <place>']\n", 4, "slot <place> is not defined"),
        ("name: x\nrules:\n  - name: a\n    hear: ['<c>', '<c> to <c>']\nslots: {c: [x]}\n", 4, "twice"),
        ("name: x\nrules:\n  - name: a\n    hear: ['!']\n", 4, "nothing to hear"),
        ("name: x\nrules:\n  - name: a\n", 3, "either `hear` or `on`"),
        ("name: x\nrules:\n  - name: a\n    hear: hi\n  - name: a\n    hear: ho\n", 5, "another rule is called a"),
        ("name: X Y\n", 1, "name"),
        ("- a\n", 1, "file"),
        ("name: x\nslots:\n  c: []\n", 3, "list of words"),
        ("name: x\nslots:\n  C: [a]\n", 3, "small letters"),
        # Whatever is nested.
        (RULE + "    call: {tool: ''}\n", 5, "rules.0.call.0.tool"),
        (RULE + "    call:\n      - tool: t\n      - tool: u\n        argz: {}\n", 8, "rules.0.call.1.argz"),
        (RULE + "    call:\n      tool: t\n      args: {x: 1e999}\n", 7, "too large"),
        (RULE + "    call: {tool: t}\n    then:\n      then:\n        say: ho\n", 6, "`then` belongs to a `call`"),
        (RULE + "    call: {tool: t}\n    then:\n      call: {tool: u}\n      delay: soon\n", 8, "rules.0.then.delay"),
        (RULE + "    call: {tool: t}\n    then: {say: ho}\n    say: ha\n", 3, "belongs into it"),
        (RULE + "    call: [{tool: t}, {tool: t}]\n", 3, "need different names"),
        (RULE + "    filler: um\n", 3, "`filler` belongs to a `call`"),
        (RULE + "    delay: -1s\n", 5, "rules.0.delay"),
        (RULE + "    turn_complete_reason: because\n", 5, "rules.0.turn_complete_reason"),
        (RULE + "    code_execution_result: {outcome: OK, prints: 1}\n", 5, "code_execution_result.prints"),
        (RULE + "    when: {pictures: many}\n", 5, "rules.0.when.pictures"),
        (RULE + "    on: start\n", 3, "either `hear` or `on`"),
        ("name: x\nrules:\n  - {name: a, on: timer, say: hi}\n", 3, "`on: timer` and `after`"),
        ("name: x\nrules:\n  - {name: a, on: start, every: 5s}\n", 3, "`every` belongs"),
        ("name: x\nrules:\n  - {name: a, on: midnight}\n", 3, "rules.0.on"),
        # What belongs to others.
        ("name: x\nswitches:\n  chunk: 20ms\n  chunks: 20ms\n", 4, "unknown switch 'chunks'"),
        ("name: x\nswitches:\n  wrong_key: maybe\n", 3, "switch wrong_key"),
        ("name: x\nswitches:\n  chunk: [1]\n", 3, "switches.chunk"),
        ("name: x\nfaults:\n  - do: reset\n  - do: explode\n", 4, "explode"),
        ("name: x\nfaults:\n  - do: reset\n    on: turn_complete\n    volume: 3\n", 3, "volume"),
    ],
)
def test_errors_name_file_line_and_reason(tmp_path: Path, text: str, line: int, reason: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(ScenarioError) as caught:
        scenario.load(path)
    assert caught.value.line == line, str(caught.value)
    assert reason in str(caught.value)
    assert str(caught.value).startswith(f"{path}:{line}: ")


BOMB = (
    b"name: x\nrules:\n  - name: a\n    hear: hi\n    grounding:\n      a: &a [x, x, x, x, x, x, x, x, x]\n"
    + b"".join(b"      %c: &%c [%s]\n" % (name + 1, name + 1, b", ".join([b"*%c" % name] * 9)) for name in b"abcdefgh")
)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"name: x\n\xff\xfe", "s.yaml:2: is not UTF-8"),
        (b"name: x\nrules: \x00", "s.yaml:2: a character that YAML does not allow: 0x0"),
        (b"name: x\nrules: " + b"[" * 5000, "s.yaml:2: nested too deeply"),
        (b"", "s.yaml:1: is empty"),
        (b"name: x\nrules: !!int foo", "s.yaml:2: 'foo' is no int"),
        (b"name: x\nrules: !!float foo", "s.yaml:2: 'foo' is no float"),
        (b"name: x\nrules: !!bool foo", "s.yaml:2: 'foo' is no bool"),
        (b"name: x\nrules: !!timestamp 2001-13-45", "s.yaml:2: '2001-13-45' is no timestamp"),
        (b"name: x\nrules: !!python/object:os.system x", "s.yaml:2: 'x' is no "),
        (b"name: x\nrules:\n  - name: a\n    hear: hi\n    delay: 99999999999999999999h", "s.yaml:5: "),
        (b"name: x\nrules: " + b"9" * 5000, "s.yaml:2: "),
        (b'name: x\nunknown: "\\ud800 bye"', "s.yaml:2: half a surrogate pair"),
        (BOMB, "more than 100000 values"),
    ],
)
def test_what_is_no_text_or_no_yaml_is_said_to_be_so(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(content)
    with pytest.raises(ScenarioError, match=reason):
        scenario.load(path)


def test_words_that_other_yaml_takes_for_something_else_stay_words(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: x\nrules:\n  - name: a\n    hear: [yes, no, on, off, 12:30, 2026-11-24]\n"
        "    call: {tool: t, args: {id: 007, n: 7, f: 1.5, big: 1e3, b: true, z: null, day: 2026-11-24, w: yes}}\n"
    )
    rule = scenario.load(path).file.rules[0]
    assert rule.hear == ["yes", "no", "on", "off", "12:30", "2026-11-24"]
    expected = {"id": "007", "n": 7, "f": 1.5, "big": 1000.0, "b": True, "z": None, "day": "2026-11-24", "w": "yes"}
    assert rule.call[0].args == expected


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ScenarioError, match=r"/nowhere/x\.yaml: cannot be read"):
        scenario.named("/nowhere/x.yaml")


PAGE = Path(__file__).parents[2] / "docs" / "emulator-scenarios.md"


@pytest.fixture
def example(tmp_path: Path) -> Scenario:
    """The example of the documentation."""
    (text,) = re.findall(r"```yaml\n(name: .*?)```", PAGE.read_text(), re.DOTALL)
    path = tmp_path / "hotel.yaml"
    path.write_text(text)
    return scenario.load(path)


def test_the_documented_example_does_what_the_page_says(example: Scenario) -> None:
    place = {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]}
    declared = [
        {"name": "find_room"},
        {"name": "get_weather", "behavior": "BLOCKING"},
        {"name": "find_hotels", "parameters": {"properties": {"place": place, "guests": {"type": "INTEGER"}}}},
        {"name": "book"},
    ]
    caller = Caller(scenario=example, tools=[{"functionDeclarations": declared}])
    assert caller.start() == ["modelTurn"]
    caller.until(20)
    caller.ask("Is room 12 free?")
    assert caller.calls()[-1]["args"] == {"number": "12"}
    caller.respond({"status": "free"})
    caller.until(40)
    caller.ask("i want to go to london")
    caller.until(50)
    assert [call["args"] for call in caller.calls()[1:]] == [
        {"city": "london"},
        {"place": {"city": "london"}, "guests": 2},
    ]
    caller.respond({"condition": "rainy"}, call=1)
    caller.respond({"output": {"found": [{"id": "h7", "name": "the inn"}]}}, call=2)
    assert caller.calls()[-1]["args"] == {"hotel": "h7", "note": "rainy in london"}
    caller.respond({})
    caller.until(110)
    caller.send(realtimeInput={"video": {"data": "iVBORw0KGgo=", "mimeType": "image/png"}})
    caller.send(realtimeInput={"text": "can you read my passport"})
    caller.until(200)
    assert [said["text"] for said in caller.said()] == [
        "hello how can i help you",
        "room one two is free",
        "let me see",
        "it is rainy in london you stay at the inn",
        "i see one pictures",
        "just tell me the number of the order",
    ]


def test_every_field_of_a_scenario_is_documented() -> None:
    page = PAGE.read_text()
    fields = {
        field.alias or name
        for model in (ScenarioFile, Rule, Step, CallSpec)
        for name, field in model.model_fields.items()
    }
    assert [name for name in sorted(fields) if f"`{name}`" not in page] == []
