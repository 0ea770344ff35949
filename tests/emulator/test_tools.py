"""Function calls: how they are made, what their results bring about, and what becomes of those that are given up."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from google.genai import types
from google.genai.live import AsyncSession

from emulator.api.protocol import FunctionResponse
from emulator.errors import Refusal
from emulator.mind import plan
from emulator.scenarios.script import CallSpec
from emulator.tools.calls import media
from emulator.tools.ledger import Ledger
from emulator.tools.pending import Lost, Pending
from emulator.tools.results import Results
from tests.emulator import sdk
from tests.emulator.behaviour import behaviour, patched, without
from tests.emulator.caller import Caller, scenario, typed
from tests.emulator.conftest import Here
from tests.emulator.patience import in_time
from tests.emulator.service import Service

NATIVE = "gemini-2.5-flash-native-audio-preview-12-2025"
FLASH = "gemini-3.1-flash-live-preview"
THINKING = "gemini-3.8-live-extended-thinking"
LEVEL = {"generationConfig": {"thinkingConfig": {"thinking_level": "LOW"}}}
LATER = 90.0

CITY = {"properties": {"city": {"type": "STRING"}}, "required": ["city"]}
PARIS = {"city": "paris", "condition": "sunny", "temperature_celsius": 21}
ASKED = "what is the weather in paris"
ANSWER = "it is sunny in paris and twenty one degrees"
BOTH = {
    "name": "both",
    "hear": "hello",
    "call": [
        {"tool": "get_weather", "args": {"city": "paris"}, "as": "first"},
        {"tool": "get_weather", "args": {"city": "london"}, "as": "second"},
    ],
    "say": "it is <first.condition> in paris and <second.condition> in london",
}


def weather(**fields: Any) -> dict[str, Any]:
    """The setup's tools."""
    return {"tools": [{"functionDeclarations": [{"name": "get_weather", "parameters": CITY, **fields}]}]}


BLOCKING = weather(behavior="BLOCKING")


def asked(model: str = "gemini-3.8-live", **options: Any) -> Caller:
    """A caller for whom the weather is being looked up; the latest messages are those of the call."""
    caller = Caller(model, **{**weather(), **options})
    caller.ask(ASKED)
    return caller


def texts(caller: Caller) -> list[str]:
    caller.until(caller.now + LATER)
    return [said["text"] for said in caller.said()]


def made(caller: Caller) -> list[list[dict[str, Any]]]:
    """The calls of each ``toolCall`` among the latest messages."""
    return [message["toolCall"]["functionCalls"] for message in caller.messages if "toolCall" in message]


def calling_without(name: str) -> Callable[..., list[plan.Op]]:
    """Calls without some of what is said around them."""
    right = plan.calling

    def calling(group: Any, **options: Any) -> list[plan.Op]:
        return right(group, **{**options, name: ""})

    return calling


class TestCalls:
    @behaviour("10.27", off=patched("emulator.tools.pending.Pending.new_id", lambda self: "call"))
    def test_a_call_has_an_id_of_its_own_a_name_and_arguments(self) -> None:
        caller = asked()
        caller.ask(ASKED)
        first, second = caller.calls()
        assert first["id"] != second["id"]
        assert caller.messages[0]["toolCall"] == {
            "functionCalls": [{"id": second["id"], "name": "get_weather", "args": {"city": "paris"}}]
        }

    @behaviour("10.27", off=patched("emulator.api.server_content._TOGETHER", ""))
    def test_parallel_calls_come_in_one_message(self) -> None:
        caller = Caller(scenario=scenario(BOTH), **BLOCKING)
        assert caller.ask("hello") == ["toolCall"]
        assert [[call["args"]["city"] for call in calls] for calls in made(caller)] == [["paris", "london"]]

    @behaviour("scenario.frames", off=patched("emulator.api.server_content._TOGETHER", "each"))
    def test_or_in_one_each(self) -> None:
        caller = Caller(scenario=scenario({**BOTH, "frames": "each"}), **BLOCKING)
        caller.ask("hello")
        assert [len(calls) for calls in made(caller)] == [1, 1]

    @behaviour("10.27", off=patched("emulator.mind.planner.Planner.following", lambda *_: plan.speech(["sorry"])))
    def test_a_result_may_lead_to_another_call(self) -> None:
        chain = {
            "name": "chain",
            "hear": "hello",
            "call": {"tool": "find_order", "args": {"number": 7}},
            "then": {
                "call": {"tool": "track", "args": {"parcel": "<parcel.id>", "note": "from <find_order.parcel.city>"}},
                "say": "it is in <city>",
            },
        }
        tools = [{"functionDeclarations": [{"name": "find_order"}, {"name": "track", "behavior": "BLOCKING"}]}]
        caller = Caller(scenario=scenario(chain), tools=tools)
        assert caller.ask("hello") == ["toolCall", "turnComplete"]
        assert caller.respond({"output": {"parcel": {"id": 4711, "city": "paris"}}}) == ["toolCall"]
        assert made(caller)[0][0]["args"] == {"parcel": 4711, "note": "from paris"}
        assert caller.respond({"city": "london"}) == ["modelTurn"]
        assert texts(caller) == ["it is in london"]

    def test_a_chain_ends_where_a_call_fails(self) -> None:
        chain = {
            "name": "chain",
            "hear": "hello",
            "call": {"tool": "get_weather", "args": {"city": "paris"}},
            "then": {"call": {"tool": "get_weather", "args": {"city": "london"}}, "say": "hello"},
        }
        caller = Caller(scenario=scenario(chain), **BLOCKING)
        caller.ask("hello")
        assert caller.respond({"error": "no"}) == ["modelTurn"]
        assert texts(caller) == ["sorry that"]

    @behaviour("2.4.24", "10.32", off=patched("emulator.mind.plan.calling", calling_without("trailing")))
    @pytest.mark.parametrize(
        ("model", "tools", "options", "expected"),
        [
            (NATIVE, BLOCKING, {}, ["toolCall", "modelTurn", "turnComplete"]),
            ("gemini-3.8-live", BLOCKING, {}, ["toolCall", "modelTurn"]),
            ("gemini-3.8-live", weather(), {}, ["toolCall", "modelTurn", "turnComplete"]),
            (
                THINKING,
                weather(behavior="NON_BLOCKING"),
                LEVEL,
                ["turnComplete", "toolCall", "modelTurn", "turnComplete"],
            ),
        ],
    )
    def test_speech_may_trail_behind_the_call(
        self, model: str, tools: dict[str, Any], options: dict[str, Any], expected: list[str]
    ) -> None:
        late = {"name": "late", "hear": "hello", "call": {"tool": "get_weather"}, "trailing": "hello", "say": "sorry"}
        caller = Caller(model, scenario=scenario(late), **tools, **options)
        found = caller.ask("hello")
        messages = list(caller.messages)
        caller.until(5)
        caller.messages[:] = messages + caller.messages
        assert caller.summary() == expected and found[-1] == "modelTurn"
        caller.respond(PARIS)
        assert texts(caller) == ["hello", "sorry"]

    @behaviour("13.17", off=patched("emulator.mind.plan.calling", calling_without("filler")))
    def test_extended_thinking_fills_the_time_and_is_in_progress_until_it_has_answered(self) -> None:
        rule = {
            "name": "think",
            "hear": "hello",
            "filler": "hello",
            "call": {"tool": "get_weather"},
            "say": "it is sunny",
        }
        caller = Caller(THINKING, scenario=scenario(rule), **weather(behavior="NON_BLOCKING"), **LEVEL)
        assert caller.ask("hello") == ["modelTurn"]
        assert caller.until(5) == ["modelTurn", "generationComplete", "turnComplete", "toolCall"]
        assert caller.contents("interactionStatus") == ["IN_PROGRESS"]
        assert caller.respond(PARIS) == ["modelTurn"]
        assert caller.until(LATER)[-2:] == ["generationComplete", "turnComplete"]
        assert caller.contents("interactionStatus") == ["IDLE"]

    def test_without_a_filler_it_says_so_before_it_calls(self) -> None:
        caller = asked(THINKING, **weather(behavior="NON_BLOCKING"), **LEVEL)
        assert caller.summary() == ["turnComplete", "toolCall"]
        assert caller.contents("interactionStatus") == ["IN_PROGRESS"]

    def test_a_filler_of_another_model_is_part_of_the_turn_that_calls(self) -> None:
        rule = {
            "name": "think",
            "hear": "hello",
            "filler": "hello",
            "call": {"tool": "get_weather"},
            "say": "it is sunny",
        }
        caller = Caller(scenario=scenario(rule), **BLOCKING)
        caller.ask("hello")
        assert caller.until(5) == ["modelTurn", "toolCall"]
        caller.respond(PARIS)
        assert caller.until(LATER) == ["modelTurn", "generationComplete", "turnComplete"]
        caller = Caller(scenario=scenario(rule), **weather())
        caller.ask("hello")
        assert caller.until(5) == ["modelTurn", "generationComplete", "toolCall", "turnComplete"]
        usage = [message["usageMetadata"] for message in caller.messages if "usageMetadata" in message]
        assert [one["responseTokensDetails"][0] for one in usage] == [{"modality": "AUDIO", "tokenCount": 25}]

    def test_a_tool_that_is_not_declared_is_apologised_for(self) -> None:
        caller = Caller(scenario=scenario({**BOTH, "call": [*BOTH["call"], {"tool": "other"}]}), **weather())  # type: ignore[misc]
        assert caller.ask("hello") == ["modelTurn"]
        assert texts(caller) == ["sorry not"] and caller.calls() == []

    @behaviour("call.bound", off=patched("emulator.mind.planner.MAX_CALLS", 1000))
    def test_calls_are_bounded(self) -> None:
        caller = Caller(**weather())
        for _ in range(70):
            caller.ask(ASKED)
        assert len(caller.calls()) == 64

    @behaviour("10.26", off=patched("emulator.configuration.setup.Config.with_tools", lambda self, tools: self))
    def test_a_context_update_changes_the_tools_of_what_comes_after_it(self) -> None:
        caller = Caller()
        caller.ask(ASKED)
        caller.until(20)
        caller.send(contextUpdate={"tools": weather()})
        assert caller.ask(ASKED) == ["toolCall", "turnComplete"]
        # Tools that are not mentioned stay; an empty list clears them.
        caller.send(contextUpdate={"systemInstruction": {"parts": [{"text": "Be brief."}]}})
        assert caller.ask(ASKED) == ["toolCall", "turnComplete"]
        caller.send(contextUpdate={"tools": {"tools": []}})
        assert caller.ask(ASKED) == ["modelTurn"]


def looked_at(self: Results, call: Any, response: FunctionResponse, config: Any, now: float) -> dict[str, Any]:
    return {"text": media(response, ()).text}


class TestResults:
    @pytest.mark.parametrize("wrapper", ["output", "result", None])
    def test_results_are_read_wrapped_or_not(self, wrapper: str | None) -> None:
        caller = asked()
        caller.respond({wrapper: PARIS} if wrapper else PARIS)
        assert texts(caller) == [ANSWER]

    @pytest.mark.parametrize("response", [{"error": "no"}, {"output": {"error": "no"}}])
    def test_an_error_is_said_to_be_one(self, response: dict[str, Any]) -> None:
        caller = asked()
        caller.respond(response)
        caller.until(30)
        assert caller.said()[-1]["text"] == "sorry i could not find that"

    @behaviour("2.4.25", "10.31", off=without(nameless_response="accepted"))
    def test_a_response_without_a_name_may_be_taken_for_a_failure(self, switches: dict[str, Any]) -> None:
        caller = asked(switches={"nameless_response": "degraded", **switches})
        caller.respond(PARIS, name="")
        assert texts(caller) == ["sorry i could not find that"]

    @behaviour("10.31", off=without(nameless_response="degraded"))
    def test_it_is_accepted_otherwise(self, switches: dict[str, Any]) -> None:
        caller = asked(switches=switches)
        caller.respond(PARIS, name="")
        assert texts(caller) == [ANSWER]

    @behaviour("call.ids", off=without(call_ids=True))
    def test_without_ids_a_response_means_the_oldest_call_of_its_name(self, switches: dict[str, Any]) -> None:
        caller = Caller(scenario=scenario(BOTH), switches={"call_ids": False, **switches}, **BLOCKING)
        caller.ask("hello")
        assert made(caller) == [
            [{"name": "get_weather", "args": {"city": "paris"}}, {"name": "get_weather", "args": {"city": "london"}}]
        ]
        # One client sends none, another an id that it has made up.
        answers = [{"name": "get_weather", "response": {"condition": condition}} for condition in ("sunny", "hello")]
        assert caller.send(tool_response={"functionResponses": [answers[0]]}) == []
        assert caller.send(tool_response={"functionResponses": [{**answers[1], "id": "mine"}]}) == ["modelTurn"]
        assert texts(caller) == ["it is sunny in paris and hello in london"]

    @behaviour("13.19", off=patched("emulator.mind.history.History.saw", lambda self: None))
    @pytest.mark.parametrize("kind", ["image/png", "image/jpeg", "image/webp"])
    def test_pictures_in_a_response_are_seen(self, kind: str) -> None:
        caller = asked()
        caller.respond(PARIS, parts=[blob(kind, b"picture")])
        caller.until(30)
        usage = caller.messages[-1]["usageMetadata"]
        assert {"modality": "VIDEO", "tokenCount": 258} in usage["promptTokensDetails"]

    @behaviour("13.19", off=patched("emulator.tools.results.Results._shown", lambda *_: {}))
    def test_so_are_texts(self) -> None:
        rule = {"name": "read", "hear": "hello", "call": {"tool": "get_weather"}, "say": "it is <text>"}
        caller = Caller(scenario=scenario(rule), **BLOCKING)
        caller.ask("hello")
        caller.respond({}, parts=[blob("text/plain", b"sunny")])
        assert texts(caller) == ["it is sunny"]

    @behaviour("13.19", off=patched("emulator.tools.results.Results._shown", lambda *_: {}))
    def test_other_documents_close_on_3_x(self) -> None:
        with pytest.raises(Refusal, match="1007"):
            asked().respond(PARIS, parts=[blob("application/pdf", b"%PDF")])

    @behaviour("13.19", off=patched("emulator.tools.results.Results._shown", looked_at))
    def test_and_are_not_looked_at_on_2_5(self) -> None:
        caller = asked(NATIVE)
        caller.respond(PARIS, parts=[blob("application/pdf", b"%PDF")])
        assert texts(caller) == [ANSWER]

    @behaviour(
        "call.duplicate",
        off=patched("emulator.tools.pending.Pending.close", lambda self, call: call.group.remaining.discard(call.id)),
    )
    def test_a_second_response_changes_nothing(self) -> None:
        caller = asked()
        entry = {"id": caller.calls()[0]["id"], "name": "get_weather", "response": PARIS}
        caller.send(tool_response={"functionResponses": [entry, entry]})
        caller.send(tool_response={"functionResponses": [entry]})
        assert texts(caller) == [ANSWER]
        assert len(caller.events("late_response")) == 2


def blob(kind: str, data: bytes) -> dict[str, Any]:
    return {"inlineData": {"mimeType": kind, "data": base64.b64encode(data).decode()}}


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


def contents(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message["serverContent"] for message in messages if "serverContent" in message]


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


def test_calls_are_found_by_id_and_by_name_only_where_there_are_no_ids() -> None:
    pending = Pending(Ledger())
    assert pending.find("x", "get_weather", by_name=True) is None
    assert CallSpec.model_validate({"tool": "t", "as": "x"}).label == "x"


def connection(model: str, **function: Any) -> tuple[str, types.LiveConnectConfig]:
    """What the SDK connects with, to have the weather looked up."""
    city = types.Schema(
        type=types.Type.OBJECT, properties={"city": types.Schema(type=types.Type.STRING)}, required=["city"]
    )
    declaration = types.FunctionDeclaration(name="get_weather", parameters=city, **function)
    thinking = types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW) if model == THINKING else None
    config = types.LiveConnectConfig(
        tools=[types.Tool(function_declarations=[declaration])],
        output_audio_transcription=types.AudioTranscriptionConfig(),
        thinking_config=thinking,
    )
    return model, config


async def receive(live: AsyncSession, answer: dict[str, Any] | None = None) -> list[types.LiveServerMessage]:
    """One ``receive()``; calls in it are answered at once."""
    found = []
    async with in_time(in_vain=1.5):
        async for message in live.receive():
            found.append(message)
            for call in (message.tool_call.function_calls if message.tool_call else None) or ():
                if answer is not None:
                    response = types.FunctionResponse(id=call.id, name=call.name, response=answer)
                    await live.send_tool_response(function_responses=response)
    return found


def words(messages: list[types.LiveServerMessage]) -> str:
    contents = [message.server_content for message in messages if message.server_content]
    return "".join(one.output_transcription.text or "" for one in contents if one.output_transcription).strip()


@pytest.mark.asyncio(loop_scope="module")
class TestSdk:
    """The unmodified Python SDK."""

    @behaviour("10.27", "13.17", off=patched("emulator.mind.planner.fit", lambda *_: {}))
    async def test_it_receives_a_call_as_one_turn_and_its_result_as_another(self, here: Here) -> None:
        model, config = connection("gemini-3.8-live")
        async with sdk.client(here).aio.live.connect(model=model, config=config) as live:
            await sdk.ask(live, ASKED)
            messages = await receive(live)
            calls = [
                call for message in messages if message.tool_call for call in message.tool_call.function_calls or ()
            ]
            assert [(call.name, call.args) for call in calls] == [("get_weather", {"city": "paris"})]
            assert messages[-1].server_content and messages[-1].server_content.turn_complete
            response = types.FunctionResponse(
                id=calls[0].id,
                name="get_weather",
                response=PARIS,
                scheduling=types.FunctionResponseScheduling.WHEN_IDLE,
            )
            await live.send_tool_response(function_responses=response)
            assert words(await receive(live)) == ANSWER

    @behaviour("10.28", off=without(blocking_call_completes="yes"))
    async def test_a_blocking_call_is_answered_within_one_turn(self, here: Here, switches: dict[str, Any]) -> None:
        model, config = connection("gemini-3.8-live", behavior=types.Behavior.BLOCKING)
        async with sdk.client(here, **switches).aio.live.connect(model=model, config=config) as live:
            await sdk.ask(live, ASKED)
            assert words(await receive(live, PARIS)) == ANSWER

    @behaviour("10.25", off=without(interaction_status="none"))
    async def test_extended_thinking_is_received_until_it_is_idle(self, here: Here, switches: dict[str, Any]) -> None:
        model, config = connection(THINKING, behavior=types.Behavior.NON_BLOCKING)
        async with sdk.client(here, **switches).aio.live.connect(model=model, config=config) as live:
            await sdk.ask(live, ASKED)
            messages = await receive(live, PARIS)
            assert words(messages) == ANSWER
            contents = [message.server_content for message in messages if message.server_content]
            told = [one.interaction_status for one in contents if one.interaction_status]
            assert told == [types.InteractionStatus.IN_PROGRESS, types.InteractionStatus.IDLE]


def test_what_is_recorded_of_a_call_is_json() -> None:
    assert json.loads(json.dumps(asked().calls()))[0]["blocking"] is False
