"""How a conversation is told to a link that was not there: words, roles, length. Plain code."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from google.genai import types

from parley.v1 import fabric_pb2, live_pb2

Role = Literal["user", "model"]

MOST_TOKENS: Final = 16_384
"""Tokens that a link is told, as estimated by `Piece.tokens`. As many again may wait for an answer."""
SILENCE: Final = "(silence)"
PICTURE: Final = "[A picture was shown here.]"
LEFT_OUT: Final = "[The conversation before this is left out.]"
_CUT_OFF: Final = " —"
_CLIPPED: Final = " [...] "
_BYTES_PER_TOKEN: Final = 4
_SHORTEST: Final = 16
"""Tokens below which the rest of a text says nothing."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Something that one side said, or that a function returned."""

    position: int
    """After the log entry that said it."""
    role: Role
    text: str
    answer: bool = False
    """With it the model's turn is over. It may have no text."""

    @property
    def tokens(self) -> int:
        """About what it costs: a token for 4 bytes of UTF-8 (Google's rule for English; scripts of several bytes a
        letter are counted no lower than they are), and one for being a piece of its own."""
        return 1 + -(-len(self.text.encode()) // _BYTES_PER_TOKEN)


def clipped(piece: Piece, tokens: int) -> Piece:
    """The piece, without its middle where it costs more than `tokens`."""
    if piece.tokens <= tokens:
        return piece
    raw = piece.text.encode()
    half = ((tokens - 1) * _BYTES_PER_TOKEN - len(_CLIPPED)) // 2
    text = raw[:half].decode(errors="ignore") + _CLIPPED + raw[-half:].decode(errors="ignore")
    return replace(piece, text=text)


def newest(pieces: Sequence[Piece], turns: int, tokens: int) -> list[Piece]:
    """As much of the end as fits. It begins where a turn does, unless the last turn alone is too long: of that, what
    comes first is clipped or left out."""
    chosen: list[Piece] = []
    answers = 0
    for piece in reversed(pieces):
        answers += piece.answer
        if answers > turns:
            break
        if piece.tokens > tokens:
            if answers <= 1 and tokens >= _SHORTEST:
                chosen.append(clipped(piece, tokens))
            break
        tokens -= piece.tokens
        chosen.append(piece)
    chosen.reverse()
    whole = len(chosen) == len(pieces) or pieces[-len(chosen) - 1].answer
    first = next((index for index, piece in enumerate(chosen) if piece.answer), len(chosen))
    return chosen if whole or answers <= 1 else chosen[first + 1 :]


def contents(pieces: Iterable[Piece]) -> list[types.Content]:
    """In alternating roles: what follows one another on one side are parts of one content."""
    return joined(
        types.Content(role=piece.role, parts=[types.Part(text=text)])
        for piece in pieces
        if (text := piece.text.strip())
    )


def joined(turns: Iterable[types.Content]) -> list[types.Content]:
    """The same with neighbours of one role as one."""
    found: list[types.Content] = []
    for turn in turns:
        if found and found[-1].role == turn.role:
            found[-1] = types.Content(role=turn.role, parts=[*(found[-1].parts or ()), *(turn.parts or ())])
        else:
            found.append(turn)
    return found


def settled(pieces: Iterable[Piece], *, left_out: bool = False, after_user: bool = False) -> list[types.Content]:
    """As `contents`, of what is over: it ends with the model's turn, and begins with the user's unless that came before
    (`after_user`). `left_out`: there was more before it. Empty when nothing was said."""
    turns = contents(pieces)
    if left_out:
        turns.insert(0, _content("user", LEFT_OUT))
    elif not turns:
        return []
    elif turns[0].role == "model" and not after_user:
        turns.insert(0, _content("user", SILENCE))
    if turns[-1].role == "user":
        turns.append(_content("model", SILENCE))
    return joined(turns)


def answer(said: fabric_pb2.ModelSaid) -> str:
    """What the model said, as far as it was delivered."""
    text = said.text.strip()
    return text + _CUT_OFF if said.interrupted and text else text


def outcome(record: fabric_pb2.ToolRecord) -> str:
    """A function's call and what the model was answered."""
    response = _loaded(record.response_json)
    if isinstance(response, dict) and len(response) == 1 and "error" in response:
        what = f"failed: {_written(response['error'])}"
    else:
        alone = isinstance(response, dict) and len(response) == 1 and "output" in response
        what = f"returned {_written(response['output'] if alone else response)}"
    return f"[The function {record.name}({_written(_loaded(record.arguments_json))}) {what}]"


def in_words(record: fabric_pb2.ToolRecord) -> list[types.Content]:
    """The same, to be told by itself."""
    return contents([clipped(Piece(0, "user", outcome(record)), MOST_TOKENS)])


def result(sent: live_pb2.ToolResult, output: dict[str, Any]) -> str:
    """What the caller returned for a call that nothing else is known of."""
    what = f"failed: {sent.error}" if sent.WhichOneof("outcome") == "error" else f"returned {_written(output)}"
    return f"[A function that you called {what}]"


def _content(role: Role, text: str) -> types.Content:
    return types.Content(role=role, parts=[types.Part(text=text)])


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _written(value: Any) -> str:
    """Compact JSON that is the same for the same value; a text stays as it is."""
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
