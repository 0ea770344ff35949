"""A text that a regular expression matches: what a declared argument with a ``pattern`` is given.

The expression is read, and run only where that cannot take long: a declaration may hold one that takes for ever on a
text that it does not match.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

# What is made of an expression, and what is looked for with one, stays within these.
_LONGEST_MADE = 2000
_LONGEST_MATCHED = 32
_LONGEST_RUN = 300
_MOST_REPEATS = 3

_ANY = "a"
_CANDIDATES = [
    chr(code) for code in (*range(ord("a"), ord("z") + 1), *range(0x30, 0x3A), *range(0x20, 0x7F), 0x09, 0xE9)
]
_CATEGORIES: dict[Any, Callable[[str], bool]] = {
    parser.CATEGORY_DIGIT: lambda char: char.isdigit(),
    parser.CATEGORY_NOT_DIGIT: lambda char: not char.isdigit(),
    parser.CATEGORY_SPACE: lambda char: char.isspace(),
    parser.CATEGORY_NOT_SPACE: lambda char: not char.isspace(),
    parser.CATEGORY_WORD: lambda char: char.isalnum() or char == "_",
    parser.CATEGORY_NOT_WORD: lambda char: not (char.isalnum() or char == "_"),
}


class NoMatchError(Exception):
    """Nothing was found that the expression matches."""


def matches(pattern: str, text: str) -> bool | None:
    """Whether ``pattern`` matches somewhere in ``text``; None where finding that out might take long."""
    if len(pattern) > _LONGEST_RUN or len(text) > _LONGEST_MATCHED or not _quick(pattern):
        return None
    return re.search(pattern, text) is not None


@lru_cache(maxsize=1000)
def _quick(pattern: str) -> bool:
    """Whether it is an expression that takes little time: few repetitions, and none within another."""
    try:
        tree = parser.parse(pattern)
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    repeats = list(_repeats(tree))
    return len(repeats) <= _MOST_REPEATS and not any(True for _, items in repeats for _ in _repeats(items))


def _repeats(items: Any) -> Iterator[tuple[int, Any]]:
    """The parts of an expression that may occur more than once, those within others too."""
    for kind, value in items:
        match kind:
            case parser.MAX_REPEAT | parser.MIN_REPEAT | parser.POSSESSIVE_REPEAT:
                if value[1] > 1:
                    yield int(value[1]), value[2]
                yield from _repeats(value[2])
            case parser.SUBPATTERN:
                yield from _repeats(value[3])
            case parser.ASSERT | parser.ASSERT_NOT:
                yield from _repeats(value[1])
            case parser.ATOMIC_GROUP:
                yield from _repeats(value)
            case parser.BRANCH:
                for branch in value[1]:
                    yield from _repeats(branch)


def shortest(pattern: str, length: int = 0) -> str:
    """A text of at least ``length`` characters that ``pattern`` matches somewhere. Raises :class:`NoMatchError`.

    Assertions other than ``^`` and ``$`` are not looked at, so that the text may not match after all.
    """
    try:
        tree = parser.parse(pattern)
    except (re.error, RecursionError, OverflowError):
        raise NoMatchError(pattern) from None
    text = ""
    groups: dict[int, str] = {}
    for extra in range(length + 1):
        groups.clear()
        text = _walk(tree, [extra], groups)
        if len(text) >= length:
            return text
    # An expression that ends nowhere matches a longer text, too.
    anchored = bool(tree) and tree[-1] == (parser.AT, parser.AT_END)
    if anchored:
        raise NoMatchError(pattern)
    return text.ljust(length, _ANY)


def _walk(items: Any, extra: list[int], groups: dict[int, str]) -> str:
    """The text of a sequence; ``extra``: how many repetitions more than needed may be spent."""
    return "".join(_one(kind, value, extra, groups) for kind, value in items)


def _one(kind: Any, value: Any, extra: list[int], groups: dict[int, str]) -> str:
    match kind:
        case parser.LITERAL:
            return chr(value)
        case parser.NOT_LITERAL:
            return _first(lambda char: ord(char) != value)
        case parser.ANY:
            return _ANY
        case parser.IN:
            return _member(value)
        case parser.BRANCH:
            return _walk(value[1][0], extra, groups)
        case parser.SUBPATTERN:
            number, _, _, items = value
            text = _walk(items, extra, groups)
            if number is not None:
                groups[number] = text
            return text
        case parser.GROUPREF:
            return groups.get(value, "")
        case parser.ATOMIC_GROUP:
            return _walk(value, extra, groups)
        case parser.MAX_REPEAT | parser.MIN_REPEAT | parser.POSSESSIVE_REPEAT:
            least, most, items = value
            more = min(extra[0], int(most) - least)
            extra[0] -= more
            made = ""
            for _ in range(least + more):
                made += _walk(items, extra, groups)
                if len(made) > _LONGEST_MADE or (not made and least > _LONGEST_MADE):
                    raise NoMatchError
            return made
        case parser.AT | parser.ASSERT | parser.ASSERT_NOT:
            return ""
    raise NoMatchError


def _member(items: Any) -> str:
    negated = bool(items) and items[0][0] is parser.NEGATE
    tests = [item for item in items if item[0] is not parser.NEGATE]
    return _first(lambda char: any(_is(char, *test) for test in tests) != negated, tests)


def _is(char: str, kind: Any, value: Any) -> bool:
    match kind:
        case parser.LITERAL:
            return bool(ord(char) == value)
        case parser.RANGE:
            return bool(value[0] <= ord(char) <= value[1])
        case parser.CATEGORY:
            return _CATEGORIES[value](char)
    return False


def _first(test: Callable[[str], bool], items: Any = ()) -> str:
    """The plainest character that will do."""
    outside = [
        chr(value[0] if kind is parser.RANGE else value)
        for kind, value in items
        if kind in (parser.RANGE, parser.LITERAL)
    ]
    found = next((char for char in (*_CANDIDATES, *outside) if test(char)), None)
    if found is None:
        raise NoMatchError
    return found
