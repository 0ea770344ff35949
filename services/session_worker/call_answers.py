"""Gives the model the results of functions: on the link that called, or else in words."""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol

import structlog
from google.genai import types

from parley.v1 import live_pb2
from services.fabric.capabilities import ModelCapabilities
from services.session_worker import events, responses, retelling
from services.session_worker.conversation import Conversation
from services.session_worker.journal import Journal
from services.session_worker.link import LinkClosedError
from services.session_worker.link_in_use import LinkInUse
from services.session_worker.model_calls import ModelCalls
from services.session_worker.turns import TurnState

log = structlog.get_logger()

_SILENT: Final = types.FunctionResponseScheduling.SILENT
_INTERRUPT: Final = types.FunctionResponseScheduling.INTERRUPT
_LOOK_EVERY: Final = 0.05
_LONGEST_WAIT: Final = 10.0
"""Seconds after which what is told in words cuts off who speaks: most answers are shorter."""
_SPEAKING: Final = 1.0
"""Seconds after a sound in which the caller counts as speaking."""


class Links(Protocol):
    """Whoever has the link. Handed in, not kept: the two would keep each other in memory."""

    @property
    def in_use(self) -> LinkInUse | None:
        """The link of this moment."""

    async def there(self) -> LinkInUse:
        """The link, as soon as there is one."""


class CallAnswers:
    """Of one session."""

    def __init__(
        self,
        calls: ModelCalls,
        model: ModelCapabilities,
        turns: TurnState,
        journal: Journal,
        conversation: Conversation,
        *,
        session: str,
    ) -> None:
        """`session`: its id, for the log."""
        self._session = session
        self._calls = calls
        self._model = model
        self._turns = turns
        self._journal = journal
        self._conversation = conversation

    async def give(self, links: Links, response: types.FunctionResponse, *, final: bool) -> None:
        """A result that is in the conversation by now. `final`: no other follows."""
        repeats = final and self._calls.is_told(response)
        issued = self._calls.answered(response.id or "", final=final)
        if issued is None:
            return  # cancelled, or called again since
        number, call = issued
        logged = self._conversation.position
        link = await links.there()
        try:
            if link.number == number:
                await self._on_its_link(link, response, final=final, repeats=repeats)
            elif link.told_until < logged:
                await self._in_words(links, link, call, response)
        except LinkClosedError:
            # The next link is told of it with the rest of the exchange.
            log.info("a result goes to the next link", session=self._session, tool=call.name)

    async def give_partly(self, links: Links, response: types.FunctionResponse) -> None:
        """A result that is not the last, and that nobody misses: on its link, if that is there, or not at all."""
        issued, link = self._calls.answered(response.id or "", final=False), links.in_use
        if issued is None or link is None or link.number != issued[0]:
            return
        self._calls.answered_partly(response)
        try:
            await link.link.send_tool_response(response)
        except LinkClosedError:
            log.info("a partial result is lost with its link", session=self._session, tool=response.name)

    async def _on_its_link(
        self, link: LinkInUse, response: types.FunctionResponse, *, final: bool, repeats: bool
    ) -> None:
        if repeats and self._model.response_scheduling:
            # The model has spoken of it, or will: what it is told now is that nothing more follows.
            response = response.model_copy(update={"scheduling": _SILENT})
        if final:
            silent = response.scheduling == _SILENT
            self._turns.call_settled(response.id or "", time.monotonic(), silent=silent)
        await link.link.send_tool_response(response)

    async def _in_words(
        self, links: Links, link: LinkInUse, call: events.FunctionCall, response: types.FunctionResponse
    ) -> None:
        """A call that another link made cannot be answered on this one, as conversation it can."""
        if response.scheduling != _INTERRUPT:
            await self._pause(links, link)
        if links.in_use is not link:
            return  # the next one is told with the rest of the exchange
        silent = response.scheduling == _SILENT
        if not silent:
            self._turns.asked(time.monotonic(), typed=True)
        outcome = live_pb2.TOOL_OUTCOME_UNSPECIFIED
        record = responses.tool_record(call, response.response or {}, outcome)
        await link.link.send_turn(retelling.in_words(record), turn_complete=not silent)

    async def _pause(self, links: Links, link: LinkInUse) -> None:
        """Until nobody speaks or is about to, because ordered content cuts off what the model says; and until the model
        waits for no call, because it takes back the call then, whose effect nobody takes back. Calls have limits of
        their own."""
        until = time.monotonic() + _LONGEST_WAIT
        while links.in_use is link:
            now = time.monotonic()
            speaks = self._turns.speaks or self._turns.owes_answer or self._journal.spoke_since(now - _SPEAKING)
            if not self._turns.waits_for_call and (not speaks or now >= until):
                return
            await asyncio.sleep(_LOOK_EVERY)
