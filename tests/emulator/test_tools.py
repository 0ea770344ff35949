"""Function calls: how they are made, and what their results bring about."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from emulator.api.protocol import FunctionResponse
from emulator.errors import Refusal
from emulator.mind import plan
from emulator.scenarios.script import CallSpec
from emulator.tools.calls import media
from emulator.tools.ledger import Ledger
from emulator.tools.pending import Pending
from emulator.tools.results import Results
from tests.emulator.behaviour import behaviour, patched, without
from tests.emulator.caller import Caller, scenario
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


def test_calls_are_found_by_id_and_by_name_only_where_there_are_no_ids() -> None:
    pending = Pending(Ledger())
    assert pending.find("x", "get_weather", by_name=True) is None
    assert CallSpec.model_validate({"tool": "t", "as": "x"}).label == "x"


def test_what_is_recorded_of_a_call_is_json() -> None:
    assert json.loads(json.dumps(asked().calls()))[0]["blocking"] is False
