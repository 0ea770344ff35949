"""What is known of the conversation in text, and what a new link is told of it. Plain code.

A session's log entries are told to a :class:`Conversation` in order, as they are written or as they are read back after
a crash; it remembers the newest. A link that resumes by a handle is told what came after the handle
(:meth:`Conversation.since`), a fresh one the newest turns (:meth:`Conversation.seed`). Neither is to be answered: what
the caller said last and the model has not answered is given separately, as audio or as text
(:meth:`Conversation.unanswered`).

What links take, as tests/session_worker/test_seeding.py sees it of every model of the table (what begins with dots:
tests/emulator, rows 13.12 and 13.8):

=====================  ====================================  ========================================
`client_content`       3.1, 3.8, 3.8 extended thinking       2.5 native audio, half cascade
=====================  ====================================  ========================================
resumed: `False`       taken, not answered, known to what is asked next; also before speech
resumed: `True`        answered, whoever has the last word: only to have something answered (again)
... while it speaks    either cuts the answer off            the answer is finished first
... nothing to answer  bare `True` is answered               bare `True`: 1007 `No turn to complete`
fresh, historyConfig   `True` ends it: not answered,         `True` ends it: the user has the last
                       whoever has the last word             word (else 1007), answered at once
fresh, without it      `False`: as on a resumed link (3.1    `False`: as on a resumed link, whoever
                       was reported to refuse it)            has the last word
=====================  ====================================  ========================================

`True` and `False` are `turn_complete`. So: `since` goes with `False`, before any input of the link (3.1 was reported to
refuse it later, 1007), and `seed` says how it goes. Once something was answered, 2.5 gets its seed without
historyConfig: otherwise it would answer again what it has answered. Models that only translate or transcribe take no
text. What a link was told is in no handle that came before: until the next handle, the old one's position counts.

How it is told, in the terms of :mod:`services.session_worker.retelling`:

- Roles alternate. What follows one another on one side are parts of one content: a question that got no answer stands
  together with the next one. At the end, where it would wait for an answer, `(silence)` is the model's turn; where the
  model spoke first, it is the caller's.
- An answer that was cut off ends with a dash, as in a written dialogue. What was not delivered is not told.
- Outcomes of functions are told in words by the user's side: calls and responses mean nothing to a link that did not
  call. A result that the caller sent is told once: as the outcome that the model got, or by itself until there is one.
  One that the model is not to speak of is told with what is over.
- With the log off (`words=False`) nothing that was said or typed is known here, and nothing is told but what functions
  returned and the model has not spoken of. What was answered is counted, so that it can be named where it is lost.
- Thoughts and context updates are no conversation (the latter are in the new set-up). Pictures in turns become a note:
  their bytes would break every bound, and what the model made of them is in its answers. Streamed ones are not logged.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from google.genai import types
from google.protobuf import json_format

from parley.v1 import fabric_pb2, live_pb2
from services.fabric.capabilities import ModelCapabilities
from services.session_worker import retelling
from services.session_worker.retelling import MOST_TOKENS, Piece, Role

MOST_TURNS: Final = 30
"""Turns that a fresh link is told. A turn is an answer of the model and what led to it."""
_MOST_ANSWERS: Final = 64
"""Answers without words that are remembered; handles are a few behind at most."""
_UNNUMBERED: Final = 2**64
"""For `seq`: the stream that numbered it is gone, and the next one has not sent it. Beyond every number."""
_MOST_PIECES: Final = 1_000
"""Pieces that are remembered: each costs memory beyond its text."""


@dataclass(frozen=True, slots=True)
class Seed:
    """What a fresh link is told before anything else, and how."""

    turns: list[types.Content]
    """Empty: tell it nothing."""
    as_history: bool
    """Whether the set-up announces it (`initial_history_in_client_content`). Announced and not sent, the caller's first
    turn would be taken for it."""
    turn_complete: bool
    """To be sent with the turns."""
    answered: bool
    """The model answers the last of them at once."""


@dataclass(frozen=True, slots=True)
class _Request(Piece):
    """Something that the caller sent as a request."""

    seq: int = 0
    entry: int = 0
    """Position of the log entry that brought it, which it keeps when what is said before it moves it on."""


@dataclass(frozen=True, slots=True)
class _Outcome(_Request):
    """What a function returned."""

    call_id: str = ""
    told: bool = False
    """The model got it; otherwise it is what the caller sent."""
    more: bool = False
    """More for the same call follows."""
    turn: int = 0
    """That made the call; 0: not known."""
    silent: bool = False
    """The model is not to speak of it."""
    sent_seq: int = 0
    """Number of the caller's request that brought it; 0: it came from elsewhere."""


@dataclass(frozen=True, slots=True)
class _Heard(Piece):
    """A transcript, which the next piece of it goes on."""


def _sent_as(piece: Piece) -> int:
    """Number of the request that it is, or 0."""
    match piece:
        case _Outcome(sent_seq=seq) | _Request(seq=seq):
            return 0 if seq == _UNNUMBERED else seq
        case _:
            return 0


def _numbered(piece: _Request, seq: int) -> _Request:
    return replace(piece, seq=seq, sent_seq=seq) if isinstance(piece, _Outcome) else replace(piece, seq=seq)


def _led_to(piece: Piece, last_seq: float, end: float) -> bool:
    match piece:
        case _Outcome(told=True):
            return True
        case _Request():
            return piece.seq <= last_seq
        case _:
            return piece.position <= end


def _was_taken_back(record: fabric_pb2.ToolRecord) -> bool:
    """The model got no response."""
    return record.outcome == live_pb2.TOOL_OUTCOME_CANCELLED and not record.response_json


def _is_silent(piece: Piece) -> bool:
    return isinstance(piece, _Outcome) and piece.silent


def _came_too_late(piece: Piece, said: fabric_pb2.ModelSaid) -> bool:
    """It came when this turn was being answered already, and is not about a call of its own."""
    match piece:
        case _Outcome(told=True):
            return 0 < piece.turn < said.turn and 0 < said.given_position < piece.position
        case _Request():
            return 0 < said.given_seq < piece.seq
        case _:
            return False


class Conversation:
    """The newest of one session's conversation. A position counts the log's entries from the session's first on, as
    `LogEntry.position` does: it means the same to the worker that comes next."""

    def __init__(self, model: ModelCapabilities, *, words: bool = True) -> None:
        """`words`: False where the log is off."""
        self.words = words
        self.position = 0
        """After the newest entry."""
        self.settled = 0
        """After the newest answer and what it answers; what comes later is open. Remember it with a handle that covers
        that answer: it never moves back, and what was typed while the model spoke is behind it."""
        self.oldest = 0
        """Whatever came after this is remembered."""
        self._model = model
        self._pieces: deque[Piece] = deque()
        self._answers: deque[tuple[int, int]] = deque(maxlen=_MOST_ANSWERS)
        """Without words: position of each answer, and number of the last request that led to it."""
        self._tokens = 0
        self._turns = 0

    def add(self, entry: fabric_pb2.LogEntry) -> None:
        """Take the log's next entry, before or after it was stored."""
        if entry.HasField("epoch_begins"):
            return
        if entry.position > self.position + 1:
            # What was before was not read back, or is not there any more.
            self.oldest = self.settled = entry.position - 1
            self._pieces.clear()
            self._tokens = self._turns = 0
        self.position = max(entry.position, self.position + 1)
        if self._model.task != "conversation":
            return
        match entry.WhichOneof("entry"):
            case "request":
                self._request(entry.request)
            case "input_transcript" if self.words:
                self._transcript(entry.input_transcript)
            case "tool" if not _was_taken_back(entry.tool):
                self._outcome(entry.tool)
            case "model_said":
                self._answer(entry.model_said)
            case "renumbered":
                self._renumber(entry.renumbered)
            case _:
                pass
        while self._turns > MOST_TURNS or self._tokens > 2 * MOST_TOKENS or len(self._pieces) > _MOST_PIECES:
            self.oldest = self._pieces[0].position
            self._drop(self._pieces[0])

    def since(self, position: int, until: int | None = None) -> list[types.Content]:
        """What happened after `position` up to `until`, for a resumed link; to be sent with `turn_complete=False`.

        What is up to `until` counts as over, whether it was answered or not; None stands for `settled`. Empty when
        nothing happened. Begins with a note where some of it is not remembered any more (`position` before `oldest`).
        """
        known = [piece for piece in self._until(until) if piece.position <= position]
        pieces = [piece for piece in self._until(until) if piece.position > position]
        after_user = bool(known) and known[-1].role == "user"
        left_out = self.words and position < self._forgotten(until)
        return retelling.settled(pieces, left_out=left_out, after_user=after_user)

    def silent_since(self, position: int) -> list[types.Content]:
        """What came after `position` that the model is not to speak of, told as in `since`."""
        return retelling.settled(piece for piece in self._pieces if piece.position > position and _is_silent(piece))

    def untold(self, position: int) -> tuple[int, int] | None:
        """First and last `seq` of what was answered after `position` and cannot be told, as there are no words."""
        last = max((seq for at, seq in self._answers if at > position), default=0)
        before = max((seq for at, seq in self._answers if at <= position), default=0)
        return (before + 1, last) if last > before else None

    def seed(self, history: Sequence[types.Content], until: int | None = None) -> Seed:
        """The configured history as it is, then the newest turns up to `until` (as in `since`), for a fresh link."""
        known = self._until(until)
        pieces = retelling.newest(known, MOST_TURNS, MOST_TOKENS)
        left_out = self.words and (self._forgotten(until) > 0 or len(pieces) < len(known))
        after_user = bool(history) and history[-1].role == "user"
        turns = retelling.joined([*history, *retelling.settled(pieces, left_out=left_out, after_user=after_user)])
        asks = bool(turns) and turns[-1].role == "user"
        as_history = bool(turns) and (asks or not self._model.history_ends_with_user)
        answered = asks and self._model.history_ends_with_user
        return Seed(turns, as_history=as_history, turn_complete=as_history, answered=answered)

    def unanswered(self, seq: int | None = None, position: int | None = None, *, known: int = 0) -> list[types.Content]:
        """What was said and returned after `settled`: sent with `turn_complete=True`, it is asked (again).

        Without requests after `seq` and speech after `position`, where these are given: they came too late for the
        answer that was not completed. Without what the link knows, up to `known`. Speech is in it as far as it was
        transcribed, outcomes of functions always.
        """
        return retelling.contents(self._asked(seq, position, known))

    def _asked(self, seq: int | None, position: int | None, known: int) -> list[Piece]:
        last = _UNNUMBERED - 1 if seq is None else seq
        end = math.inf if position is None else position
        asked = [piece for piece in self._open() if not _is_silent(piece)]
        return [piece for piece in asked if piece.position > known and _led_to(piece, last, end)]

    def told_requests(self, position: int, seq: int | None = None, end: int | None = None) -> list[int]:
        """Numbers of the requests in what `since` (of `position`) and `unanswered` (of `seq`, `end`, known up to
        `position`) tell together."""
        told = [piece for piece in self._until(None) if piece.position > position] if self.words else []
        return sorted({_sent_as(piece) for piece in (*told, *self._asked(seq, end, position))} - {0})

    @property
    def unanswered_requests(self) -> dict[int, int]:
        """Numbers of the texts and turns that no answer has settled, by the position of their log entries."""
        requests = [piece for piece in self._open() if isinstance(piece, _Request) and not isinstance(piece, _Outcome)]
        return {piece.entry: piece.seq for piece in requests}

    @property
    def has_outcomes(self) -> bool:
        """The model was told what a function returned, and its answer to that is not complete."""
        return any(isinstance(piece, _Outcome) and piece.told and not piece.silent for piece in self._open())

    def forget_outcomes(self, turn: int) -> None:
        """The model makes the calls of this turn and later ones again: what they returned comes again, too."""
        outcomes = [piece for piece in self._open() if isinstance(piece, _Outcome)]
        for piece in [piece for piece in outcomes if not 0 < piece.turn < turn]:
            self._drop(piece)

    def unnumber(self, first: int) -> None:
        """Another stream of the caller's numbers what it sends from here on: what is remembered with such a number has
        none until it comes again."""
        for at, piece in enumerate(self._pieces):
            if isinstance(piece, _Request) and first <= piece.seq:
                self._pieces[at] = _numbered(piece, _UNNUMBERED)

    # What entries say

    def _renumber(self, renumbered: fabric_pb2.Renumbered) -> None:
        for at, piece in enumerate(self._pieces):
            if isinstance(piece, _Request) and piece.entry == renumbered.position:
                self._pieces[at] = _numbered(piece, renumbered.seq)

    def _request(self, request: live_pb2.ConverseRequest) -> None:
        here = self.position
        match request.WhichOneof("payload"):
            case "text" if self.words:
                self._keep(_Request(here, "user", request.text.text, seq=request.seq, entry=here))
            case "turn" if self.words:
                for content in request.turn.content:
                    role: Role = "model" if content.role == live_pb2.ROLE_MODEL else "user"
                    words = "\n".join(part.text for part in content.parts if part.text)
                    seen = any(part.HasField("image") for part in content.parts)
                    for text in filter(None, (words, retelling.PICTURE if seen else "")):
                        self._keep(_Request(here, role, text, seq=request.seq, entry=here))
            case "tool_result":
                self._result(request.tool_result, request.seq)
            case _:
                pass

    def _transcript(self, transcript: live_pb2.Transcript) -> None:
        text, newest = transcript.text, self._pieces[-1] if self._pieces else None
        if isinstance(newest, _Heard):
            self._pieces.pop()
            self._tokens -= newest.tokens
            text = newest.text + text
        goes_on = self._model.transcribes_words and not transcript.finished
        self._keep((_Heard if goes_on else Piece)(self.position, "user", text))

    def _result(self, sent: live_pb2.ToolResult, seq: int) -> None:
        told = self._outcomes(sent.call_id, told=True)
        if told and not told[-1].more:
            return  # a second result, which no model gets
        text = retelling.result(sent, json_format.MessageToDict(sent.output))
        here, more = self.position, sent.will_continue
        known = _Outcome(here, "user", text, seq=seq, entry=here, call_id=sent.call_id, more=more, sent_seq=seq)
        self._keep(known)

    def _outcome(self, record: fabric_pb2.ToolRecord) -> None:
        call_id = record.told_as or record.call_id
        sent = self._outcomes(call_id, told=False)[:1]
        for piece in sent:
            self._drop(piece)
        more = any(piece.more for piece in sent)
        sent_seq = max((piece.sent_seq for piece in sent), default=0)
        text = retelling.outcome(record)
        # A turn that begins anew calls again, and is told the same again.
        for piece in [piece for piece in self._open() if isinstance(piece, _Outcome) and piece.text == text]:
            self._drop(piece)
        self._keep(
            _Outcome(
                self.position,
                "user",
                text,
                call_id=call_id,
                told=True,
                more=more,
                turn=record.turn,
                silent=record.silent,
                sent_seq=sent_seq,
            )
        )

    def _outcomes(self, call_id: str, *, told: bool) -> list[_Outcome]:
        found = [piece for piece in self._pieces if isinstance(piece, _Outcome) and piece.call_id == call_id]
        return [piece for piece in found if piece.told is told]

    def _answer(self, said: fabric_pb2.ModelSaid) -> None:
        later = [piece for piece in self._open() if _came_too_late(piece, said)]
        places = sorted({piece.position for piece in later})
        end = self.position - len(places)
        answer = Piece(end, "model", retelling.answer(said) if self.words else "", answer=True)
        if later:
            # They came while the model spoke: the next answer's.
            before = [replace(piece, position=min(piece.position, end)) for piece in self._open() if piece not in later]
            after = [replace(piece, position=end + 1 + places.index(piece.position)) for piece in later]
            for piece in list(self._open()):
                self._drop(piece)
            for piece in (*before, answer, *after):
                self._keep(piece)
        else:
            self._keep(answer)
        self.settled = end
        if not self.words:
            self._answers.append((end, said.given_seq))
            for piece in [piece for piece in self._pieces if piece.position <= end]:
                self._drop(piece)

    # Memory

    def _keep(self, piece: Piece) -> None:
        piece = retelling.clipped(piece, MOST_TOKENS)
        self._pieces.append(piece)
        self._tokens += piece.tokens
        self._turns += piece.answer

    def _drop(self, piece: Piece) -> None:
        self._pieces.remove(piece)
        self._tokens -= piece.tokens
        self._turns -= piece.answer

    def _open(self) -> list[Piece]:
        return [piece for piece in self._pieces if piece.position > self.settled]

    def _until(self, until: int | None) -> list[Piece]:
        if until is not None:
            return [piece for piece in self._pieces if piece.position <= until]
        return [piece for piece in self._pieces if piece.position <= self.settled or _is_silent(piece)]

    def _forgotten(self, until: int | None) -> int:
        """How far what is up to `until` is not remembered."""
        return min(self.oldest, self.settled if until is None else until)
