"""How a filter of sessions is written: the part of AIP-160 that fits them. Plain code: no I/O.

expression = factor { [ "AND" ] factor }         factors side by side are joined by AND, too
factor     = term { "OR" term }                  so OR binds tighter than AND: AIP-160 wants it so
term       = [ "NOT" | "-" ] ( comparison | "(" expression ")" )
comparison = field operator value                value: a word, or text in single or double quotes
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NoReturn

from google.protobuf.timestamp_pb2 import Timestamp

from services.fabric.errors import invalid_field
from services.gateway.session_filter import (
    FIELD_NAMES,
    ORDER,
    All,
    AnyOf,
    Comparison,
    Expression,
    Field,
    Not,
    field_named,
)

MAX_LENGTH: Final = 2048
"""Characters of a filter."""
MAX_DEPTH: Final = 16
"""Parentheses inside each other: the parser recurses."""
_SHOWN: Final = 40
"""Characters of a token that an error shows."""


class _Kind(Enum):
    WORD = auto()
    TEXT = auto()
    SIGN = auto()
    END = auto()


@dataclass(frozen=True)
class _Token:
    kind: _Kind
    value: str
    """Without quotes."""
    raw: str
    position: int
    """Of its first character, from 1."""


_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)
    | (?P<WORD>[A-Za-z0-9_][A-Za-z0-9_.-]*)
    | (?P<TEXT>"(?:[^"\\]|\\["'\\])*" | '(?:[^'\\]|\\["'\\])*')
    | (?P<SIGN><=|>=|!=|[=<>:()-])""",
    re.VERBOSE,
)
_KEYWORDS: Final = frozenset({"AND", "OR", "NOT"})
_TERM: Final = f"NOT, `(` or a field ({', '.join(FIELD_NAMES)})"


def parse(text: str) -> Expression:
    """What a filter means; an empty one matches everything. ServiceError FIELD_INVALID says where it is wrong."""
    if len(text) > MAX_LENGTH:
        raise invalid_field("filter", f"at most {MAX_LENGTH} characters, not {len(text)}")
    return All(()) if not text.strip() else _Parser(list(_tokens(text))).parse()


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            quote = text[at] in "\"'"
            _refuse(
                at + 1,
                repr(text[at]),
                "a closing quote; a backslash in quotes stands before a quote or a backslash only"
                if quote
                else "a word, or text in quotes",
            )
        kind = match.lastgroup
        if kind != "space":
            assert kind is not None
            value = re.sub(r"\\(.)", r"\1", match[0][1:-1]) if kind == "TEXT" else match[0]
            yield _Token(_Kind[kind], value, match[0], at + 1)
        at = match.end()
    yield _Token(_Kind.END, "", "", len(text) + 1)


def _refuse(position: int, read: str, accepted: str) -> NoReturn:
    raise invalid_field("filter", f"at character {position}: read {read}, expected {accepted}")


class _Parser:
    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        self._at += token.kind is not _Kind.END
        return token

    def _is(self, kind: _Kind, *values: str) -> bool:
        return self._next.kind is kind and self._next.value in values

    def _wrong(self, accepted: str) -> NoReturn:
        token = self._next
        shown = token.raw if len(token.raw) <= _SHOWN else f"{token.raw[:_SHOWN]}..."
        _refuse(token.position, "the end" if token.kind is _Kind.END else f"`{shown}`", accepted)

    def parse(self) -> Expression:
        expression = self._expression()
        if self._next.kind is not _Kind.END:
            self._wrong(f"AND, OR, {_TERM}, or the end")
        return expression

    def _expression(self) -> Expression:
        factors = [self._factor()]
        while True:
            if self._is(_Kind.WORD, "AND"):
                self._take()
            elif self._next.kind is not _Kind.WORD and not self._is(_Kind.SIGN, "(", "-"):
                break
            factors.append(self._factor())
        return factors[0] if len(factors) == 1 else All(tuple(factors))

    def _factor(self) -> Expression:
        terms = [self._term()]
        while self._is(_Kind.WORD, "OR"):
            self._take()
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else AnyOf(tuple(terms))

    def _term(self) -> Expression:
        if self._is(_Kind.WORD, "NOT") or self._is(_Kind.SIGN, "-"):
            self._take()
            return Not(self._simple())
        return self._simple()

    def _simple(self) -> Expression:
        if not self._is(_Kind.SIGN, "("):
            return self._comparison()
        if self._depth == MAX_DEPTH:
            self._wrong(f"at most {MAX_DEPTH} parentheses inside each other")
        self._take()
        self._depth += 1
        expression = self._expression()
        if not self._is(_Kind.SIGN, ")"):
            self._wrong(f"AND, OR, {_TERM}, or `)`")
        self._take()
        self._depth -= 1
        return expression

    def _comparison(self) -> Comparison:
        token = self._next
        field = field_named(token.value) if token.kind is _Kind.WORD else None
        if field is None:
            self._wrong(_TERM)
        self._take()
        if not self._is(_Kind.SIGN, *field.operators):
            self._wrong(f"{_listed(field.operators)} after `{token.value}`")
        operator = self._take().value
        written = self._next
        bound = _bound(field, written)
        if bound is None:
            self._wrong(_accepted_values(token.value, field))
        self._take()
        return Comparison(token.value, operator, written.value, field, bound)


def _bound(field: Field, token: _Token) -> object:
    """A value in the field's own type; None when it is none."""
    if field.operators is ORDER:
        return _timestamp(token)
    if token.kind is _Kind.TEXT or (token.kind is _Kind.WORD and token.value not in _KEYWORDS):
        return token.value if not field.words or token.value in field.words else None
    return None


def _timestamp(token: _Token) -> tuple[int, int] | None:
    time = Timestamp()
    try:
        time.FromJsonString(token.value if token.kind is _Kind.TEXT else "")
    except ValueError:
        return None
    return time.seconds, time.nanos


def _accepted_values(name: str, field: Field) -> str:
    if field.operators is ORDER:
        return f'a time of RFC 3339 in quotes for `{name}`, e.g. "2026-01-31T12:00:00Z"'
    if field.words:
        return f"{_listed(field.words)} for `{name}`"
    return f"a word or text in quotes for `{name}`"


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
