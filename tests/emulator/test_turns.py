"""The model's side of a conversation: what a turn is made of, in which order, and how it ends."""

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from google.genai import types

from emulator.actions import Note, Send
from emulator.api import server_content
from emulator.mind import plan
from emulator.mind.chunks import Cutter
from emulator.mind.speaker import Speaker
from emulator.mind.speech import Answer
from emulator.mind.turns import Question, Turns
from tests.emulator.behaviour import behaviour, patched, without
from tests.emulator.caller import GREETING_SECONDS, PACE, VOICE, Caller, scenario, typed

NATIVE = "gemini-2.5-flash-native-audio-preview-12-2025"
FLASH = "gemini-3.1-flash-live-preview"
THINKING = "gemini-3.8-live-extended-thinking"
LEVEL = {"generationConfig": {"thinkingConfig": {"thinking_level": "LOW"}}}
TRANSCRIBED: dict[str, Any] = {"outputAudioTranscription": {}}
LATER = 60.0
"""Longer than any turn here."""


def parts(caller: Caller) -> list[dict[str, Any]]:
    """Every part of every ``modelTurn`` of the latest messages."""
    return [part for turn in caller.contents("modelTurn") for part in turn["parts"]]


def at_once(self: Any, op: Any, now: float) -> float:
    """Nothing is waited for."""
    return now


def never(self: Any, grounding: Any) -> list[Any]:
    return []


class TestSpeech:
    def test_it_goes_out_a_second_at_a_time_however_fast_it_is_produced(self) -> None:
        cut = Cutter(VOICE).cut(["hello how can i help you"], PACE.chunk)
        answer = Answer(cut, replace(PACE, generation_speed=1e6), 5.0, 0.0)
        sent = []
        while not answer.generated:
            assert answer.deadline <= 6.0
            sent.append(sum(chunk.seconds for chunk in answer.due(6.0)))
        assert sent == [1.0] * 6

    @behaviour("10.17", "13.9", off=patched("emulator.mind.chunks.MIME_TYPE", "audio/wav;rate=24000"))
    def test_speech_is_24_khz_pcm_in_the_first_part_of_each_frame(self) -> None:
        caller = Caller()
        caller.ask("hello")
        caller.until(LATER)
        first = [turn["parts"][0]["inlineData"] for turn in caller.contents("modelTurn")]
        assert first and {blob["mimeType"] for blob in first} == {"audio/pcm;rate=24000"}
        assert all(len(turn["parts"]) == 1 for turn in caller.contents("modelTurn"))
        assert {len(base64.b64decode(blob["data"])) for blob in first} == {24000}

    @behaviour("10.17", off=patched("emulator.mind.agenda.Agenda._end_of", at_once))
    def test_it_comes_faster_than_real_time_and_the_turn_completes_when_it_has_been_played(self) -> None:
        caller = Caller()
        assert caller.ask("hello") == ["modelTurn"]
        assert caller.until(GREETING_SECONDS / 4) == ["modelTurn", "generationComplete"]
        assert caller.until(GREETING_SECONDS - 0.01) == []
        assert caller.until(GREETING_SECONDS) == ["turnComplete"]

    @behaviour("10.19", off=without(server_content="split"))
    def test_speech_and_its_transcription_share_a_frame(self, switches: dict[str, Any]) -> None:
        caller = Caller(switches=switches, **TRANSCRIBED)
        caller.ask("hello")
        assert [sorted(message["serverContent"]) for message in caller.messages] == [
            ["modelTurn", "outputTranscription"]
        ]

    @behaviour(
        "10.20", off=patched("emulator.mind.transcripts.OutputTranscript.beside", lambda self, words: {"text": ""})
    )
    def test_what_the_model_says_is_transcribed_only_when_asked(self) -> None:
        caller = Caller()
        caller.ask("hello")
        assert [sorted(message["serverContent"]) for message in caller.messages] == [["modelTurn"]]
        assert [message["serverContent"]["modelTurn"]["role"] for message in caller.messages] == ["model"]

    @behaviour("10.19", off=without(server_content="joined"))
    def test_on_2_5_each_has_its_own(self, switches: dict[str, Any]) -> None:
        caller = Caller(NATIVE, switches=switches, **TRANSCRIBED)
        caller.ask("hello")
        assert [list(message["serverContent"]) for message in caller.messages] == [
            ["modelTurn"],
            ["outputTranscription"],
        ]

    @behaviour("scenario.parts", off=patched("emulator.mind.chunks._joined", lambda end, beginning: [end, beginning]))
    def test_where_one_text_ends_and_another_begins_both_are_parts_of_one_frame(self) -> None:
        caller = Caller(scenario=scenario({"name": "two", "hear": "hello", "say": ["hello how", "can i"]}))
        caller.ask("hello")
        caller.until(LATER)
        assert [len(turn["parts"]) for turn in caller.contents("modelTurn")] == [1, 1, 2, 1, 1, 1]
        assert [said["text"] for said in caller.said()] == ["hello how can i"]
        assert caller.said()[0]["audio_seconds_sent"] == 4.0


def generated_late(texts: Any, step: Any = None) -> list[plan.Op]:
    """``generationComplete`` before the last of the speech."""
    *most, last = texts
    return [plan.Say(tuple(most)), plan.Generated({}), plan.Say((last,)), plan.Played(), plan.Complete()]


def interrupted_as_if_generated(self: Any, now: float) -> None:
    self.out += [Send({"serverContent": {"interrupted": True}}), *self._speaker.generated({}), Note("interrupted")]


def impatient(self: Turns, question: Question, now: float, right: Callable[..., None] = Turns.ask) -> None:
    self.interrupt(now)
    right(self, question, now)


class TestOrder:
    @behaviour("10.18", "13.9", off=patched("emulator.mind.speaker.Speaker.generated", never))
    def test_speech_then_generation_complete_then_turn_complete_with_usage(self) -> None:
        caller = Caller()
        caller.ask("hello")
        assert caller.until(LATER) == ["modelTurn", "generationComplete", "turnComplete"]
        *before, last = caller.messages
        assert last["serverContent"]["turnComplete"] and last["usageMetadata"]["responseTokenCount"] == 150
        assert not any("usageMetadata" in message for message in before)

    @behaviour("13.10", off=patched("emulator.mind.plan.speech", generated_late))
    def test_nothing_is_spoken_after_generation_complete(self) -> None:
        caller = Caller(scenario=scenario({"name": "two", "hear": "hello", "say": ["hello", "how"]}))
        caller.ask("hello")
        assert caller.until(LATER) == ["modelTurn", "generationComplete", "turnComplete"]

    @behaviour("10.18", off=patched("emulator.mind.turns.Turns._say_interrupted", interrupted_as_if_generated))
    def test_an_interrupted_turn_completes_without_generation_complete(self) -> None:
        caller = Caller()
        caller.ask("hello")
        caller.until(0.5)
        assert caller.begin_to_speak() == ["voiceActivity", "interrupted", "turnComplete"]
        assert caller.until(LATER) == []

    @behaviour("10.18", off=patched("emulator.mind.agenda.Agenda._end_of", at_once))
    def test_an_interruption_may_come_after_generation_complete_while_the_answer_is_played(self) -> None:
        caller = Caller()
        caller.ask("hello")
        assert caller.until(GREETING_SECONDS - 1)[-1] == "generationComplete"
        assert caller.begin_to_speak() == ["voiceActivity", "interrupted", "turnComplete"]
        assert caller.said()[0]["interrupted"] and caller.said()[0]["audio_seconds_sent"] == 6.0

    @behaviour("history.cut", off=patched("emulator.mind.speech.Answer.said", "hello how can i help you"))
    def test_history_keeps_only_what_was_sent(self) -> None:
        caller = Caller(sessionResumption={})
        caller.ask("hello")
        caller.until(0.5)
        caller.begin_to_speak()
        assert caller.snapshots[-1].history == (("user", "hello"), ("model", "hello how can"))
        assert caller.said()[0]["audio_seconds_sent"] == 2.5

    @behaviour("13.12", off=patched("emulator.mind.turns.Turns.interrupt", lambda self, now: None))
    @pytest.mark.parametrize("model", ["gemini-3.8-live", FLASH])
    def test_a_typed_turn_interrupts_and_the_next_turn_answers_it(self, model: str) -> None:
        caller = Caller(model)
        caller.ask("hello")
        assert caller.ask("hello") == ["interrupted", "turnComplete", "modelTurn"]

    @behaviour("10.23", off=patched("emulator.mind.turns.Turns.interrupt", lambda self, now: None))
    def test_a_turn_interrupts_when_it_arrives_though_it_is_not_complete(self) -> None:
        caller = Caller()
        caller.ask("hello")
        assert caller.send(clientContent=typed("hello", turnComplete=False)) == ["interrupted", "turnComplete"]
        assert caller.send(clientContent={"turnComplete": True}) == ["modelTurn"]

    @behaviour("13.12", off=patched("emulator.mind.turns.Turns.ask", impatient))
    def test_2_5_finishes_first(self) -> None:
        caller = Caller(NATIVE)
        assert caller.ask("hello") == ["modelTurn"]
        assert caller.ask("hello") == []
        assert caller.until(GREETING_SECONDS)[-2:] == ["turnComplete", "modelTurn"]


def without_ends(*names: str) -> Callable[..., list[dict[str, Any]]]:
    """``turnComplete`` that forgets some of what it is to say."""
    right = server_content.turn_complete

    def turn_complete(*given: Any, **options: Any) -> list[dict[str, Any]]:
        return right(*given, **{name: value for name, value in options.items() if name not in names})

    return turn_complete


class TestEnds:
    @behaviour("10.24", off=patched("emulator.api.server_content.turn_complete", without_ends("reason")))
    @pytest.mark.parametrize("reason", [*(reason.value for reason in types.TurnCompleteReason), "NOT_KNOWN_YET"])
    def test_a_turn_says_why_it_is_complete(self, reason: str) -> None:
        rule = {"name": "no", "hear": "hello", "turn_complete_reason": reason}
        caller = Caller(scenario=scenario(rule))
        assert caller.ask("hello") == ["turnComplete", "turnCompleteReason"]
        assert caller.contents("turnCompleteReason") == [reason]

    @behaviour("10.24", off=patched("emulator.api.server_content.turn_complete", without_ends("wants_more")))
    def test_a_turn_says_that_it_waits_for_input(self) -> None:
        caller = Caller(scenario=scenario({"name": "wait", "hear": "hello", "waiting_for_input": True}))
        assert caller.ask("hello") == ["turnComplete", "waitingForInput"]

    @behaviour(
        "10.24",
        off=patched("emulator.mind.plan.speech", lambda texts, step=None: [plan.Say(("hello",)), plan.Complete()]),
    )
    def test_a_rule_without_words_is_an_empty_turn(self) -> None:
        caller = Caller()
        assert caller.ask("stop") == ["turnComplete"]
        assert caller.mind.deadline is None

    @behaviour("10.25", off=without(interaction_status="none"))
    def test_3_8_is_idle_with_turn_complete(self, switches: dict[str, Any]) -> None:
        caller = Caller(switches=switches)
        caller.ask("hello")
        caller.until(LATER)
        assert caller.messages[-1]["serverContent"] == {"turnComplete": True, "interactionStatus": "IDLE"}

    @behaviour("10.25", off=without(interaction_status="nested"))
    def test_the_status_may_stand_at_the_top(self, switches: dict[str, Any]) -> None:
        caller = Caller(switches={"interaction_status": "top", **switches})
        caller.ask("stop")
        assert caller.messages[0]["serverContent"] == {"turnComplete": True}
        assert caller.messages[0]["interactionStatus"] == "IDLE"

    @behaviour("10.25", off=without(interaction_status="top"))
    def test_or_in_both_places(self, switches: dict[str, Any]) -> None:
        caller = Caller(switches={"interaction_status": "both", **switches})
        caller.ask("stop")
        assert caller.messages[0]["serverContent"]["interactionStatus"] == "IDLE"
        assert caller.messages[0]["interactionStatus"] == "IDLE"

    @behaviour("10.25", off=without(idle_name="IDLE"))
    def test_it_may_have_its_old_name(self, switches: dict[str, Any]) -> None:
        caller = Caller(switches={"idle_name": "REQUIRES_ACTION", **switches})
        caller.ask("stop")
        assert caller.contents("interactionStatus") == ["REQUIRES_ACTION"]

    @behaviour("10.25", off=without(idle_frame="with_turn_complete"))
    @pytest.mark.parametrize(("model", "first"), [("gemini-3.8-live", None), (THINKING, "IN_PROGRESS")])
    def test_idle_may_come_alone(self, model: str, first: str | None, switches: dict[str, Any]) -> None:
        caller = Caller(model, switches={"idle_frame": "alone", **switches}, **(LEVEL if model == THINKING else {}))
        caller.ask("stop")
        complete, idle = caller.messages
        assert complete["serverContent"].get("interactionStatus") == first
        assert complete["serverContent"]["turnComplete"] and "usageMetadata" in complete
        assert idle == {"serverContent": {"interactionStatus": "IDLE"}}

    @behaviour(
        "10.25",
        off=patched(
            "emulator.api.server_content._tell",
            lambda message, status, config: message.update(interactionStatus=status),
        ),
    )
    @pytest.mark.parametrize("model", [NATIVE, FLASH])
    def test_older_models_tell_no_status(self, model: str) -> None:
        caller = Caller(model)
        caller.ask("stop")
        assert "interactionStatus" not in str(caller.messages)
        # And others do, in the one place.
        caller = Caller()
        caller.ask("stop")
        assert caller.contents("interactionStatus") == ["IDLE"]


THOUGHTFUL = {
    "name": "search",
    "hear": "hello",
    "thought": "Who is this?",
    "code_execution_result": "found",
    "grounding": {"webSearchQueries": ["hello"]},
    "say": "hello",
}


class TestOtherContent:
    @behaviour("13.15", off=patched("emulator.mind.plan.opening", lambda step: []))
    def test_a_thought_and_a_bare_code_execution_result_come_before_the_answer(self) -> None:
        caller = Caller(scenario=scenario(THOUGHTFUL))
        caller.ask("hello")
        thought, result, *speech = parts(caller)
        assert thought == {"text": "Who is this?", "thought": True}
        assert result == {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "found"}}
        assert speech and all("inlineData" in part for part in speech)
        # A client that reads the first part alone loses nothing.
        assert all(len(turn["parts"]) == 1 for turn in caller.contents("modelTurn"))

    @behaviour(
        "grounding",
        off=patched(
            "emulator.mind.speaker.Speaker.generated", lambda self, grounding, right=Speaker.generated: right(self, {})
        ),
    )
    def test_grounding_goes_with_the_end_of_what_rests_on_it(self) -> None:
        caller = Caller(scenario=scenario(THOUGHTFUL))
        caller.ask("hello")
        caller.until(LATER)
        assert {
            "serverContent": {"generationComplete": True, "groundingMetadata": {"webSearchQueries": ["hello"]}}
        } in (caller.messages)

    def test_thoughts_are_billed(self) -> None:
        caller = Caller(scenario=scenario(THOUGHTFUL))
        caller.ask("hello")
        caller.until(LATER)
        assert caller.messages[-1]["usageMetadata"]["thoughtsTokenCount"] == 3

    @behaviour("scenario.delay", off=patched("emulator.mind.agenda.Agenda._end_of", at_once))
    def test_thinking_takes_its_time_and_can_be_interrupted(self) -> None:
        slow = scenario({"name": "slow", "hear": "hello", "delay": "2s", "say": "hello"})
        caller = Caller(scenario=slow)
        assert caller.ask("hello") == []
        assert caller.until(1.9) == []
        assert caller.until(2.0) == ["modelTurn"]
        caller = Caller(scenario=slow)
        caller.ask("hello")
        assert caller.begin_to_speak() == ["voiceActivity", "interrupted", "turnComplete"]
        assert caller.until(1.0) == [] and caller.said() == []


class TestUnasked:
    @behaviour("scenario.start", off=patched("emulator.mind.unasked.Unasked.start", lambda self, now: []))
    def test_the_model_may_begin(self) -> None:
        greets = scenario({"name": "greet", "on": "start", "say": "hello"})
        assert Caller(scenario=greets).start() == ["modelTurn"]
        # But not again in the middle of a conversation.
        assert Caller(scenario=greets, sessionResumption={"handle": "h"}).start() == []

    @behaviour(
        "scenario.timer", off=patched("emulator.mind.unasked.Unasked.due", lambda self, now: self._due.clear() or [])
    )
    def test_it_may_speak_up_after_a_time_and_again(self) -> None:
        caller = Caller(
            scenario=scenario({"name": "nag", "on": "timer", "after": "5s", "every": "10s", "say": "hello"})
        )
        assert caller.start() == []
        assert caller.until(4.9) == []
        caller.until(26)
        assert len(caller.said()) == 3

    def test_a_timer_waits_for_its_turn_and_waits_once(self) -> None:
        nag = {"name": "nag", "on": "timer", "after": "1s", "every": "1s", "say": "sorry"}
        greet = {"name": "greet", "hear": "hello", "say": "hello how can i help you"}
        caller = Caller(scenario=scenario(nag, greet))
        caller.start()
        caller.ask("hello")
        caller.until(7.5)
        assert [said["text"] for said in caller.said()] == ["hello how can i help you", "sorry"]

    @behaviour("scenario.unasked_call", off=patched("emulator.mind.unasked.Unasked.start", lambda self, now: []))
    def test_it_may_call_a_function_unasked(self) -> None:
        rule = {"name": "warm", "on": "start", "call": {"tool": "warm_up"}, "say": "hello"}
        caller = Caller(scenario=scenario(rule), tools=[{"functionDeclarations": [{"name": "warm_up"}]}])
        assert caller.start() == ["toolCall", "turnComplete"]
        assert caller.respond({}) == ["modelTurn"]


class TestMoments:
    """What faults and resumption hang on."""

    @behaviour("turn.moments", off=patched("emulator.mind.speaker.Note", lambda what: Note("handle")))
    def test_a_turn_is_told_moment_by_moment(self) -> None:
        caller = Caller()
        caller.ask("hello")
        caller.until(LATER)
        assert caller.notes == ["turn_began", "first_audio", "generation_complete", "turn_complete"]

    @behaviour("turn.moments", off=patched("emulator.mind.turns.Note", lambda what, **_: Note("handle")))
    def test_so_is_one_that_is_interrupted(self) -> None:
        caller = Caller()
        caller.ask("hello")
        caller.ask("stop")
        assert caller.notes == [
            "turn_began",
            "first_audio",
            "interrupted",
            "turn_complete",
            "turn_began",
            "turn_complete",
        ]

    @behaviour("turn.moments", off=patched("emulator.mind.turns.Note", lambda what, **_: Note("handle")))
    def test_and_one_that_calls(self) -> None:
        caller = Caller(tools=[{"functionDeclarations": [{"name": "get_weather", "behavior": "BLOCKING"}]}])
        caller.ask("what is the weather in paris")
        caller.respond({})
        caller.until(LATER)
        assert caller.notes == [
            *("turn_began", "tool_call", "tool_response"),
            *("first_audio", "generation_complete", "turn_complete"),
        ]


class TestQueue:
    @behaviour("turn.queue", off=patched("emulator.mind.waiting.MOST", 1000))
    def test_what_waits_is_bounded_and_what_is_dropped_is_counted(self) -> None:
        caller = Caller(NATIVE)
        for _ in range(80):
            caller.ask("hello")
        assert len(caller.events("turn_dropped")) == 80 - 1 - 64

    def test_a_turn_that_is_not_complete_waits_and_a_bare_completion_answers_it(self) -> None:
        caller = Caller()
        assert caller.send(clientContent=typed("hello", turnComplete=False)) == []
        assert caller.send(clientContent={"turnComplete": True}) == ["modelTurn"]
        caller.until(LATER)
        assert caller.said()[-1]["text"] == "hello how can i help you"
