import ast
from pathlib import Path

import pytest

import emulator
from emulator import texts
from emulator.errors import MAX_REASON_BYTES, Refusal, reason_bytes
from emulator.faults.closes import CLOSES
from emulator.texts import REASONS, Reason, documented
from tests.emulator.behaviour import behaviour, patched

SOURCES = sorted(Path(emulator.__file__).parent.rglob("*.py"))
# Where a close has words of its own: the table itself; mistakes in a message, put together; a fault's, given by whoever
# asked for it; connections that end without a close frame; errors of the REST API, which are no closes.
FREE = {"texts.py", "errors.py", "protojson.py", "effects.py", "tokens.py"}


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: reason.text[:40])
def test_every_reason_is_recognised_whole_and_cut(reason: Reason) -> None:
    places = {name: name * 9 for name in texts._PLACE.findall(reason.text)}
    for filled in (places, dict.fromkeys(places, "x")):
        refusal = reason.refusal(**{name.strip("{}"): value for name, value in filled.items()})
        assert "{" not in refusal.text or "{" in "".join(filled.values())
        assert reason.fits(refusal.code, refusal.text)
        assert documented(refusal.code, reason_bytes(refusal.text))
    assert not reason.fits(4000, reason.text)


def test_the_table_says_everything_once() -> None:
    assert len(REASONS) > 50
    assert len({(one.code, one.text) for one in REASONS}) == len(REASONS)
    assert {one.code for one in REASONS} == {1001, 1007, 1008, 1009, 1011}
    assert all(one.when for one in REASONS)


@behaviour("texts.documented", off=patched("emulator.texts.Reason.fits", lambda self, code, reason: True))
def test_a_close_that_nobody_documented_is_told_apart() -> None:
    for code, reason in (
        (1007, "something went wrong"),
        (1007, ""),
        (1008, "Request contains an invalid argument."),
        (1011, "Internal error"),
        (1007, "Thinking level must be specified for this model. And more."),
        (1007, "Request contains an invalid argument." + " " * 100),
    ):
        assert documented(code, reason) is None, (code, reason)


def test_several_mistakes_in_a_message_are_documented_by_the_first() -> None:
    mistakes = [texts.UNKNOWN_NAME.refusal(name="a", place=""), texts.BAD_VALUE.refusal(path="b", type="c", value="d")]
    text = "\n".join(mistake.text for mistake in mistakes)
    assert len(text) < MAX_REASON_BYTES
    assert documented(1007, text) is texts.UNKNOWN_NAME


def test_faults_close_with_the_same_words() -> None:
    told = {(one.code, one.text) for one in REASONS}
    for name, close in CLOSES.items():
        near = [one for one in REASONS if one.code == close.code and one.text[:20] == close.text[:20] and close.text]
        assert (close.code, close.text) in told or not near, name


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_close_has_words_that_are_not_in_the_table(path: Path) -> None:
    if path.name in FREE:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        if node.func.id == "invalid":
            assert not node.args, f"{path.name}:{node.lineno}: give it a Reason in emulator/texts.py"
        elif node.func.id == "Refusal":
            code = node.args[0]
            silent = isinstance(code, ast.Constant) and code.value == 1006
            assert silent, f"{path.name}:{node.lineno}: give it a Reason in emulator/texts.py"


def test_places_are_filled_with_what_a_client_sent_as_it_is() -> None:
    refusal = texts.MODEL_NOT_FOUND.refusal(model="{version} {0}", version="v1")
    assert refusal.text.startswith("{version} {0} is not found for API version v1, or")
    assert isinstance(refusal, Refusal)
