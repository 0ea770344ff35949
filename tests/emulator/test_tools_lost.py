"""Calls whose link was lost before they were answered."""

from typing import Any

from emulator.tools.ledger import Ledger
from emulator.tools.pending import Lost
from tests.emulator.behaviour import behaviour, patched, without
from tests.emulator.caller import Caller
from tests.emulator.service import Service
from tests.emulator.weather import ASKED, BLOCKING, LATER, NATIVE, PARIS, contents, weather


class Orphan:
    """A conversation that lost its connection while the weather was looked up, and was resumed."""

    def __init__(self, model: str = "gemini-3.8-live", **options: Any) -> None:
        self.service = Service()
        options = {**weather(), **options}
        first = self.service.dial(model=model, **options)
        first.ask("hello")
        first.later(LATER)
        handle = [message for message in first.messages if "sessionResumptionUpdate" in message][-1]
        first.ask(ASKED)
        call = next(message["toolCall"]["functionCalls"][0] for message in first.messages if "toolCall" in message)
        self.response = {"id": call["id"], "name": call["name"], "response": {"error": "lost"}}
        first.close()
        self.line = self.service.dial(handle["sessionResumptionUpdate"]["newHandle"], model=model, **options)

    def ask(self, text: str) -> list[dict[str, Any]]:
        """What a typed turn brings until nothing more comes."""
        before = len(self.line.messages)
        self.line.ask(text)
        self.line.later(LATER)
        return contents(self.line.messages[before:])

    def respond(self) -> list[dict[str, Any]]:
        before = len(self.line.messages)
        self.line.send(tool_response={"functionResponses": [self.response]})
        self.line.later(LATER)
        return contents(self.line.messages[before:])


EMPTY = {"turnComplete": True, "interactionStatus": "IDLE"}


class TestLostCalls:
    @behaviour("13.20", off=without(lost_calls="forgotten"))
    def test_3_8_is_stuck_and_the_next_input_only_closes_the_stale_exchange(self, switches: dict[str, Any]) -> None:
        orphan = Orphan(switches=switches)
        assert orphan.ask("hello") == [EMPTY]
        assert "modelTurn" in orphan.ask("hello")[0]

    @behaviour("13.20", "2.4.12", off=without(lost_calls="forgotten"))
    def test_an_answer_closes_it_too_and_is_not_spoken_about(self, switches: dict[str, Any]) -> None:
        orphan = Orphan(switches=switches)
        assert orphan.respond() == [EMPTY]
        assert "modelTurn" in orphan.ask("hello")[0]

    @behaviour("13.20", off=patched("emulator.mind.turns.Turns.respond", lambda self, response, now: None))
    def test_of_two_lost_calls_each_is_to_be_answered(self) -> None:
        caller = Caller(ledger=Ledger(unanswered={"one": "a", "two": "b"}), sessionResumption={"handle": "h"})
        first, second = (
            caller.send(toolResponse={"functionResponses": [{"id": number, "name": name, "response": {}}]})
            for number, name in (("one", "a"), ("two", "b"))
        )
        assert (first, second[:1]) == ([], ["turnComplete"])

    @behaviour("13.20", off=without(lost_calls="stuck"))
    def test_2_5_has_forgotten_it(self, switches: dict[str, Any]) -> None:
        orphan = Orphan(NATIVE, switches=switches)
        assert orphan.respond() == []
        assert "modelTurn" in orphan.ask("hello")[0]

    @behaviour("13.20", off=patched("emulator.mind.turns.Turns.cut_short", lambda self, now: None))
    def test_speech_closes_it_even_when_it_goes_on(self) -> None:
        caller = Caller(
            ledger=Ledger(unanswered={"lost": "get_weather"}), sessionResumption={"handle": "h"}, **weather()
        )
        caller.speak()
        caller.begin_to_speak()
        assert caller.understood("hello")[-1] == "sessionResumptionUpdate"
        assert "turnComplete" in caller.summary()

    def test_it_is_forgotten_for_good_once_it_is_closed(self) -> None:
        ledger = Ledger(unanswered={"one": "a", "two": "b"})
        lost = Lost(ledger, stuck=True)
        assert lost.answered("one") and lost and not lost.answered("one")
        lost.forget()
        assert not lost and ledger.unanswered == {}
        assert not Lost(ledger, stuck=True)

    def test_an_answered_or_cancelled_call_is_not_lost(self) -> None:
        for tools, end in ((weather(), lambda caller: caller.respond(PARIS)), (BLOCKING, Caller.begin_to_speak)):
            ledger = Ledger()
            caller = Caller(ledger=ledger, **tools)
            caller.ask(ASKED)
            assert list(ledger.unanswered.values()) == ["get_weather"]
            end(caller)
            assert ledger.unanswered == {}
