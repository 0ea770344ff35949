"""Function calls and turns: those that block, those that do not, and those that are given up."""

from typing import Any

import pytest

from emulator.errors import Refusal
from emulator.mind import plan
from tests.emulator.behaviour import behaviour, patched, without
from tests.emulator.caller import Caller, scenario, typed
from tests.emulator.weather import (
    ANSWER,
    ASKED,
    BLOCKING,
    BOTH,
    LATER,
    LEVEL,
    NATIVE,
    PARIS,
    THINKING,
    asked,
    texts,
    weather,
)

FLASH = "gemini-3.1-flash-live-preview"


class TestBlocking:
    @behaviour("10.28", "2.4.14", off=patched("emulator.mind.agenda._answered", lambda group: True))
    def test_nothing_is_said_until_every_call_is_answered(self) -> None:
        caller = Caller(scenario=scenario(BOTH), **BLOCKING)
        assert caller.ask("hello") == ["toolCall"]
        assert caller.until(30) == []
        assert caller.respond({"condition": "sunny"}, call=1) == []
        assert caller.until(60) == []
        assert caller.respond({"condition": "hello"}, call=0) == ["modelTurn"]
        assert texts(caller) == ["it is hello in paris and sunny in london"]

    @behaviour("13.17", off=without(blocking_call_completes="yes"))
    @pytest.mark.parametrize("model", ["gemini-3.8-live", FLASH])
    def test_the_turn_completes_after_the_answer_only(self, model: str, switches: dict[str, Any]) -> None:
        caller = asked(model, switches=switches, **BLOCKING)
        assert caller.summary() == ["toolCall"]
        caller.respond(PARIS)
        assert caller.until(LATER) == ["modelTurn", "generationComplete", "turnComplete"]

    @behaviour("13.17", off=without(blocking_call_completes="no"))
    @pytest.mark.parametrize(("model", "backend"), [(NATIVE, "developer"), ("gemini-live-2.5-flash", "vertex")])
    def test_on_2_5_it_completes_at_the_call_with_nothing_but_usage_and_again_after_the_answer(
        self, model: str, backend: str, switches: dict[str, Any]
    ) -> None:
        caller = asked(
            model, backend=backend, api_version="v1beta1" if backend == "vertex" else "v1beta", switches=switches
        )
        assert caller.summary() == ["toolCall", "turnComplete"]
        assert caller.messages[1]["serverContent"] == {"turnComplete": True}
        assert caller.messages[1]["usageMetadata"]["promptTokenCount"] > 0
        caller.respond(PARIS)
        assert caller.until(LATER) == ["modelTurn", "generationComplete", "turnComplete"]

    @behaviour(
        "13.17",
        off=patched("emulator.configuration.declared._blocking", lambda behavior, rules: behavior != "NON_BLOCKING"),
    )
    def test_3_1_reads_non_blocking_as_blocking(self) -> None:
        caller = asked(FLASH, **weather(behavior="NON_BLOCKING"))
        assert caller.summary() == ["toolCall"]

    @behaviour("2.4.13", "10.28", off=without(audio_during_blocking_call="accepted"))
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("aborted", "The operation was aborted."),
            ("not_enabled", "Operation is not implemented, or supported, or enabled."),
        ],
    )
    def test_audio_during_the_wait_may_close(self, value: str, text: str, switches: dict[str, Any]) -> None:
        caller = Caller(**BLOCKING, switches={"audio_during_blocking_call": value, **switches})
        caller.hear(bytes(640))
        caller.ask(ASKED)
        with pytest.raises(Refusal) as caught:
            caller.hear(bytes(640))
        assert (caught.value.code, caught.value.text) == (1008, text)

    @behaviour(
        "13.18",
        off=patched(
            "emulator.mind.plan.calling",
            lambda group, **_: [plan.Place(group), plan.Say(("hello",)), plan.Await(group)],
        ),
    )
    @pytest.mark.parametrize("model", ["gemini-3.8-live", FLASH, NATIVE])
    @pytest.mark.parametrize("behavior", ["BLOCKING", "NON_BLOCKING"])
    def test_nothing_that_looks_like_new_content_follows_the_call(self, model: str, behavior: str) -> None:
        caller = Caller(model, outputAudioTranscription={}, **weather(behavior=behavior))
        caller.speak("weather_paris")
        caller.understood(ASKED)
        at = next(index for index, message in enumerate(caller.messages) if "toolCall" in message)
        after = caller.messages[at + 1 :]
        caller.until(30)
        for message in [*after, *caller.messages]:
            assert set(message) <= {"serverContent", "usageMetadata"}
            assert set(message["serverContent"]) <= {"turnComplete", "interactionStatus"}


class TestNonBlocking:
    @behaviour("13.17", off=patched("emulator.configuration.declared._blocking", lambda behavior, rules: True))
    @pytest.mark.parametrize("behavior", [{}, {"behavior": "NON_BLOCKING"}])
    def test_on_3_8_the_turn_completes_with_the_call_and_the_conversation_goes_on(
        self, behavior: dict[str, str]
    ) -> None:
        caller = asked(**weather(**behavior))
        assert caller.summary() == ["toolCall", "turnComplete"]
        assert "interactionStatus" not in caller.messages[1]["serverContent"]
        assert caller.ask("hello") == ["modelTurn"]
        assert caller.respond(PARIS) == []
        assert texts(caller) == ["hello how can i help you", ANSWER]

    @behaviour("handle.calls", off=patched("emulator.tools.pending.Pending.__len__", lambda self: 0))
    def test_no_handle_is_issued_while_a_call_runs(self) -> None:
        caller = asked(sessionResumption={})
        assert caller.summary() == ["toolCall", "turnComplete"]
        assert caller.respond(PARIS, scheduling="SILENT") == ["sessionResumptionUpdate"]

    @behaviour("10.29", off=patched("emulator.tools.calls.scheduling", lambda response: "WHEN_IDLE"))
    @pytest.mark.parametrize("inside", [False, True])
    @pytest.mark.parametrize(
        ("scheduling", "at_once", "said"),
        [
            ("SILENT", [], 1),
            ("INTERRUPT", ["interrupted", "turnComplete", "modelTurn"], 2),
            ("INTERRUPTED", ["interrupted", "turnComplete", "modelTurn"], 2),
        ],
    )
    def test_a_result_says_when_it_is_spoken_about(
        self, scheduling: str, at_once: list[str], said: int, inside: bool
    ) -> None:
        caller = asked()
        caller.ask("hello")
        if inside:
            assert caller.respond({**PARIS, "scheduling": scheduling}) == at_once
        else:
            assert caller.respond(PARIS, scheduling=scheduling) == at_once
        assert len(texts(caller)) == said

    @behaviour("10.29", off=patched("emulator.tools.calls.scheduling", lambda response: "INTERRUPT"))
    @pytest.mark.parametrize("scheduling", ["WHEN_IDLE", ""])
    def test_without_a_wish_it_waits_until_the_model_is_idle(self, scheduling: str) -> None:
        caller = asked()
        caller.ask("hello")
        assert caller.respond(PARIS, **({"scheduling": scheduling} if scheduling else {})) == []
        assert texts(caller) == ["hello how can i help you", ANSWER]

    @behaviour("10.29", off=patched("emulator.tools.results.check", lambda response, config: "WHEN_IDLE"))
    def test_extended_thinking_refuses_scheduling_and_3_1_ignores_it(self) -> None:
        caller = asked(THINKING, **weather(behavior="NON_BLOCKING"), **LEVEL)
        with pytest.raises(Refusal, match=r"1007 Function response scheduling is not supported for this model\."):
            caller.respond(PARIS, scheduling="SILENT")
        assert asked(FLASH).respond(PARIS, scheduling="SILENT") == ["modelTurn"]

    @behaviour("10.29", off=patched("emulator.tools.results._continues", lambda response, group: False))
    def test_results_may_come_bit_by_bit(self) -> None:
        rule = {
            "name": "bits",
            "hear": "hello",
            "call": {"tool": "get_weather"},
            "interim": "it is <condition>",
            "say": "it is <condition> and <temperature_celsius> degrees",
        }
        caller = Caller(scenario=scenario(rule), **weather())
        caller.ask("hello")
        assert caller.respond({"condition": "sunny"}, willContinue=True) == ["modelTurn"]
        caller.until(20)
        # Remembered, and not spoken about.
        assert caller.respond({"temperature_celsius": 21}, willContinue=True, scheduling="SILENT") == []
        # The last may be empty.
        assert caller.respond({}) == ["modelTurn"]
        assert texts(caller) == ["it is sunny", "it is sunny and twenty one degrees"]
        assert caller.respond(PARIS) == []

    @behaviour("call.bound", off=patched("emulator.tools.pending.MAX_SIZE", 10**9))
    def test_what_is_remembered_of_results_is_bounded(self) -> None:
        caller = asked()
        for number in range(4):
            caller.respond({f"field{number}": "x" * 10}, willContinue=True, scheduling="SILENT")
        assert caller.events("result_dropped") == []
        pending = caller.mind._turns._pending
        call = pending.find(caller.calls()[0]["id"], "", by_name=False)
        assert call is not None and not call.group.learn(call, {"big": 1}, 4 * 1024 * 1024)
        assert "big" not in call.group.values and "field3" in call.group.values

    def test_the_last_of_them_may_be_silent(self) -> None:
        caller = asked(sessionResumption={})
        caller.respond(PARIS, willContinue=True, scheduling="SILENT")
        assert caller.respond({}, scheduling="SILENT") == ["sessionResumptionUpdate"]
        assert texts(caller) == []

    @behaviour("10.29", off=patched("emulator.tools.results._ABANDONED", ""))
    def test_extended_thinking_abandons_a_call_that_is_to_be_continued(self) -> None:
        caller = asked(THINKING, **weather(behavior="NON_BLOCKING"), **LEVEL)
        assert caller.respond(PARIS, willContinue=True) == []
        assert caller.respond(PARIS) == []
        assert texts(caller) == []
        assert caller.ask("stop") == ["turnComplete"]
        assert caller.contents("interactionStatus") == ["IDLE"]

    def test_a_blocking_call_is_not_continued(self) -> None:
        caller = asked(**BLOCKING)
        assert caller.respond(PARIS, willContinue=True) == ["modelTurn"]

    def test_parallel_results_are_spoken_about_together(self) -> None:
        caller = Caller(scenario=scenario(BOTH), **weather())
        caller.ask("hello")
        assert caller.respond({"condition": "sunny"}, call=0) == []
        assert caller.respond({"condition": "hello"}, call=1) == ["modelTurn"]
        assert texts(caller) == ["it is sunny in paris and hello in london"]

    def test_a_result_that_interrupts_does_not_end_the_wait_for_another(self) -> None:
        rules = [{"name": name, "hear": heard, "call": {"tool": name}, "say": say} for name, heard, say in (
            ("slow", "hello", "it is sunny"), ("quick", "paris", "hello"))]  # fmt: skip
        declared = [{"name": "slow", "behavior": "NON_BLOCKING"}, {"name": "quick"}]
        caller = Caller(NATIVE, scenario=scenario(*rules), tools=[{"functionDeclarations": declared}])
        caller.ask("hello")
        caller.ask("paris")
        assert caller.respond({}, call=0, scheduling="INTERRUPT") == []
        assert caller.respond({}, call=1) == ["modelTurn"]
        assert texts(caller) == ["hello", "it is sunny"]

    def test_a_response_while_the_caller_speaks_waits_until_it_is_quiet(self) -> None:
        caller = asked()
        caller.begin_to_speak()
        assert caller.respond(PARIS) == []
        caller.send(realtimeInput={"audioStreamEnd": True})
        assert caller.understood("hello") == ["inputTranscription", "modelTurn"]
        assert [text.split()[0] for text in texts(caller)] == ["it", "hello"]


class TestCancellation:
    @behaviour(
        "10.30", "2.4.15", off=patched("emulator.mind.turns.Turns._cancel", lambda self, now, also_non_blocking: None)
    )
    def test_who_speaks_cancels_the_calls_that_the_turn_waits_for(self) -> None:
        caller = Caller(scenario=scenario(BOTH), **BLOCKING)
        caller.ask("hello")
        assert caller.begin_to_speak() == ["voiceActivity", "interrupted", "toolCallCancellation", "turnComplete"]
        ids = [call["id"] for call in caller.calls()]
        assert caller.messages[2]["toolCallCancellation"] == {"ids": ids}
        assert caller.record.view()["cancelled_calls"] == ids

    @behaviour("10.30", off=patched("emulator.mind.turns.Turns._cancel", lambda self, now, also_non_blocking: None))
    @pytest.mark.parametrize("message", [{"clientContent": typed("stop")}, {"realtimeInput": {"text": "stop"}}])
    def test_so_does_who_types_where_that_interrupts(self, message: dict[str, Any]) -> None:
        caller = asked(**BLOCKING)
        assert caller.send(**message) == ["interrupted", "toolCallCancellation", "turnComplete", "turnComplete"]

    def test_on_2_5_a_typed_turn_waits_for_the_result(self) -> None:
        caller = asked(NATIVE)
        assert caller.ask("hello") == []
        caller.respond(PARIS)
        assert texts(caller) == [ANSWER, "hello how can i help you"]

    @behaviour("10.30", off=without(late_response="refused"))
    def test_a_response_that_comes_too_late_is_ignored(self, switches: dict[str, Any]) -> None:
        caller = asked(switches=switches, **BLOCKING)
        caller.begin_to_speak()
        assert caller.respond(PARIS) == []
        assert caller.mind.deadline is None
        assert caller.respond(PARIS, id="never", name="get_weather") == []

    @behaviour("10.30", off=without(late_response="ignored"))
    @pytest.mark.parametrize("cancelled", [True, False])
    def test_or_closes(self, cancelled: bool, switches: dict[str, Any]) -> None:
        caller = asked(switches={"late_response": "refused", **switches}, **BLOCKING)
        if cancelled:
            caller.begin_to_speak()
        with pytest.raises(Refusal, match="1007"):
            caller.respond(PARIS, **({} if cancelled else {"id": "never"}))

    @behaviour("10.30", off=without(cancelled_calls="all"))
    def test_a_call_whose_turn_is_over_goes_on_through_an_interruption(self, switches: dict[str, Any]) -> None:
        caller = asked(switches=switches)
        caller.ask("hello")
        assert caller.begin_to_speak() == ["voiceActivity", "interrupted", "turnComplete"]
        caller.send(realtimeInput={"audioStreamEnd": True})
        caller.understood("stop")
        assert caller.respond(PARIS) == ["modelTurn"]

    @behaviour("10.30", off=without(cancelled_calls="blocking"))
    def test_or_is_cancelled_by_it(self, switches: dict[str, Any]) -> None:
        caller = asked(switches={"cancelled_calls": "all", **switches})
        caller.ask("hello")
        assert caller.begin_to_speak() == ["voiceActivity", "interrupted", "toolCallCancellation", "turnComplete"]
