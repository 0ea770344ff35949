"""Calls of the model across links: which link waits for a result, and where a model waits in vain. Plain code.

A call can be answered on the link that made it only. A model that resumes goes on waiting for the calls that the
restored state knows of, until each is answered; of a call that was lost with its link nobody knows at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from google.genai import types

from services.session_worker import events

_MOST_CALLS: Final = 128
"""Calls since the newest handle that are remembered; a session without handles would collect them for ever."""


class ModelCalls:
    """The calls of one session's model that are of some concern to its links."""

    def __init__(self, *, gets_stuck: bool) -> None:
        """`gets_stuck`: the model goes on waiting for calls of a link that is gone (a capability)."""
        self._gets_stuck = gets_stuck
        self._issued: dict[str, tuple[int, events.FunctionCall]] = {}
        """Calls without an answer, and the link that each came from."""
        self._told: dict[str, types.FunctionResponse] = {}
        """The newest result of each of them that was not the last."""
        self._since_handle: deque[events.FunctionCall] = deque(maxlen=_MOST_CALLS)
        self._stale_end = False
        """The end of a turn is due that is nobody's: of a call that was lost."""
        self._may_be_stuck = False
        """It was answering when the link before ended, and has not answered anything on this one yet."""

    # Calls

    def made(self, call: events.FunctionCall, link: int) -> None:
        """The model made a call on the link of this number."""
        self._stale_end = False
        self._issued[call.id] = (link, call)
        self._since_handle.append(call)

    @property
    def out(self) -> bool:
        """Calls are without their results."""
        return bool(self._issued)

    def adopt(self, call: events.FunctionCall) -> None:
        """A call of a link of another worker, whose result is told in words."""
        self._issued[call.id] = (0, call)

    def cancelled(self, ids: Iterable[str]) -> None:
        """Nobody wants these results: the model cancelled them, or makes the calls again."""
        for call_id in ids:
            self._forget(call_id)

    def _forget(self, call_id: str) -> tuple[int, events.FunctionCall] | None:
        self._told.pop(call_id, None)
        return self._issued.pop(call_id, None)

    def answered(self, call_id: str, *, final: bool) -> tuple[int, events.FunctionCall] | None:
        """The link that made a call whose result is here, and the call; None when nobody waits for it.

        `final`: no other result follows.
        """
        return self._forget(call_id) if final else self._issued.get(call_id)

    def answered_partly(self, response: types.FunctionResponse) -> None:
        """The model has this result, which is not the last."""
        if response.id in self._issued:
            self._told[response.id] = response

    def is_told(self, response: types.FunctionResponse) -> bool:
        """The model has this result already, as one that was not the last."""
        told = self._told.get(response.id or "")
        return told is not None and told.response == response.response

    # What a state that is restored may wait for

    def inherit(self, calls: Iterable[events.FunctionCall]) -> None:
        """Calls of another worker since its newest handle."""
        self._since_handle.extend(calls)

    def handle_came(self) -> None:
        """No call waits in the state that it restores."""
        self._since_handle.clear()

    @property
    def since_handle(self) -> list[events.FunctionCall]:
        """Calls that may wait for their results, in the state that the newest handle restores, for ever."""
        return list(self._since_handle) if self._gets_stuck else []

    def link_began(self, *, may_be_stuck: bool, closed: bool) -> None:
        """There is a new link. `may_be_stuck`: its model may wait for a call that nobody knows of. `closed`: calls that
        it waited for were answered with errors; the turn that this ends is nobody's."""
        self._since_handle.clear()
        self._may_be_stuck = may_be_stuck and self._gets_stuck
        self._stale_end = closed

    def answering(self) -> None:
        """The model answers: it is not stuck."""
        self._may_be_stuck = False

    # Empty turns, with which a model lets go of a call

    def empty_turn(self, *, between_turns: bool) -> bool:
        """A turn without content ended; whether that is the end of a call that was closed here, and nobody's."""
        if not (self._stale_end and between_turns):
            return False
        self._stale_end = False
        return True

    def was_stuck(self) -> bool:
        """Whether an empty turn stands in place of an answer: the model let go of a call that nobody knows of."""
        stuck, self._may_be_stuck = self._may_be_stuck, False
        return stuck
