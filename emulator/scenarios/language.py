"""Words: how typed and heard sentences are made alike, and how values are said."""

import re
from typing import Any

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_VALUES = {word: str(value) for value, word in enumerate(DIGITS)} | {"oh": "0"}
_TEENS = (
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
_TENS = {2: "twenty", 3: "thirty", 4: "forty", 5: "fifty"}
_LARGEST = 59
# Characters of a value that are said; nobody speaks a whole document.
_LONGEST = 2000

_NOT_A_WORD = re.compile(r"[^a-z0-9' ]+")
_DIGIT = re.compile(r"([0-9])")
_CONTRACTIONS = {"what's": "what is", "where's": "where is", "it's": "it is", "can't": "can not"}


def normalise(text: str) -> str:
    """Lower case without punctuation, digits as words: ``Where's order 47?`` is ``where is order four seven``."""
    spaced = _DIGIT.sub(r" \1 ", _NOT_A_WORD.sub(" ", text.lower().replace("\u2019", "'")))
    words = [_CONTRACTIONS.get(word, word.strip("'")) for word in spaced.split()]
    return " ".join(DIGITS[int(word)] if word.isdigit() else word for word in words if word)


def to_digits(words: str) -> str:
    """``four seven one one`` as ``4711``."""
    return "".join(_VALUES[word] for word in words.split())


def spell(text: str) -> str:
    """Each digit of ``text`` by itself: ``4711`` as ``four seven one one``; the rest as words."""
    return normalise(text)


def number(value: float) -> str:
    """A number in words up to 59, rounded; larger ones digit by digit."""
    whole = round(value)
    if whole < 0:
        return f"minus {number(-whole)}"
    if whole > _LARGEST:
        return spell(str(whole))
    if whole < 10:
        return DIGITS[whole]
    if whole < 20:
        return _TEENS[whole - 10]
    tens, units = divmod(whole, 10)
    return _TENS[tens] if units == 0 else f"{_TENS[tens]} {DIGITS[units]}"


def say(value: Any, *, digits: bool = False) -> str:
    """``value`` as words; ``digits`` spells numbers digit by digit."""
    if isinstance(value, int | float) and not isinstance(value, bool) and not digits:
        return number(value)
    text = str(value)[:_LONGEST]
    if not digits and re.fullmatch(r"-?\d+(\.\d+)?", text):
        return number(float(text))
    return normalise(text)
