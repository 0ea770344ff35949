"""The deciding parts without sockets: a conversation is fed events and a clock, and says what is to be done."""

import json
from typing import Any

import pytest

from emulator.actions import IssueHandle, Listen, Send
from emulator.conversation import Conversation
from emulator.errors import Refusal
from emulator.handles import Snapshot
from emulator.protocol import Audio, Decoder, Setup
from emulator.record import Archive, LinkFacts, LinkRecord
from emulator.scenario import named
from emulator.setup import accept
from emulator.speech import Pace
from emulator.vad import Sensitivity
from emulator.voice import Voice
from tests.support.speech import question

SUPPORT = named("support")
WORDS = "hello how can i help you sorry did not understand that it is sunny in paris london and twenty one degrees"
# Every word lasts a second at 24 kHz, so that times are easy to read.
VOICE = Voice({word: bytes(24000 * 2 - 2880) for word in WORDS.split()})
PACE = Pace(generation_speed=4.0, playback_speed=1.0, chunk=0.5)
WEATHER = {"name": "get_weather", "parameters": {"properties": {"city": {"type": "STRING"}}, "required": ["city"]}}


def link_record() -> LinkRecord:
    record = Archive(kept=1, items=1000, audio_limit=0).open("c", "support")
    return record.add_link(LinkFacts(0, "m", "/", "v1beta", {}, 0.0))


class Caller:
    """Speaks to a conversation and keeps what it does, message by message in short form."""

    def __init__(self, model: str = "gemini-3.8-live", snapshot: Snapshot | None = None, **setup: Any) -> None:
        self.decoder = Decoder("developer", "v1beta", strict=True)
        parsed = self.decoder.decode(json.dumps({"setup": {"model": f"models/{model}", **setup}}))
        assert isinstance(parsed, Setup)
        self.record = link_record()
        self.mind = Conversation(
            accept(parsed.body, backend="developer", api_version="v1beta"),
            scenario=SUPPORT,
            voice=VOICE,
            pace=PACE,
            sensitivity=Sensitivity(),
            gate=150.0,
            snapshot=snapshot or Snapshot(),
            record=self.record,
        )
        self.now = 0.0
        self.messages: list[dict[str, Any]] = []
        self.listening: list[Listen] = []
        self.snapshots: list[Snapshot] = []

    def _take(self, actions: list[Any]) -> None:
        for action in actions:
            match action:
                case Send(message):
                    self.messages.append(message)
                case Listen():
                    self.listening.append(action)
                case IssueHandle(snapshot):
                    self.messages.append({"sessionResumptionUpdate": {}})
                    self.snapshots.append(snapshot)

    def send(self, **message: Any) -> list[str]:
        self.messages.clear()
        self._take(self.mind.apply(self.decoder.decode(json.dumps(message)), self.now))
        return self.summary()

    def speak(self, name: str = "weather_paris") -> list[str]:
        """A whole question, with the silence that ends it."""
        self.messages.clear()
        for pcm in (question(name), bytes(24000)):
            self._hear(pcm)
        return self.summary()

    def _hear(self, pcm: bytes) -> None:
        self._take(self.mind.apply(Audio(pcm, "audio/pcm;rate=16000"), self.now))

    def begin_to_speak(self) -> list[str]:
        self.messages.clear()
        self._hear(question("weather_paris")[:32000])
        return self.summary()

    def understood(self, text: str | None) -> list[str]:
        self.messages.clear()
        self._take(self.mind.heard(self.listening[-1].number, text, self.now))
        return self.summary()

    def until(self, time: float) -> list[str]:
        """Everything that is due until ``time``."""
        self.messages.clear()
        while (deadline := self.mind.deadline) is not None and deadline <= time:
            self.now = max(self.now, deadline)
            self._take(self.mind.tick(self.now))
        self.now = time
        return self.summary()

    def respond(self, response: dict[str, Any], **fields: Any) -> list[str]:
        call = self.record.view()["tool_calls"][-1]
        entry = {"id": call["id"], "name": call["name"], "response": response, **fields}
        return self.send(tool_response={"functionResponses": [entry]})

    def said(self) -> list[dict[str, Any]]:
        said: list[dict[str, Any]] = self.record.view()["said"]
        return said

    def summary(self) -> list[str]:
        found: list[str] = []
        for message in self.messages:
            for kind, body in message.items():
                if kind == "serverContent":
                    names = [name for name in body if name not in ("outputTranscription", "interactionStatus")]
                else:
                    names = [kind] if kind != "usageMetadata" else []
                found.extend(name for name in names if not (name == "modelTurn" and found[-1:] == ["modelTurn"]))
        return found


def typed(text: str, **fields: Any) -> dict[str, Any]:
    return {"turns": [{"role": "user", "parts": [{"text": text}]}], "turnComplete": True, **fields}


GREETING_SECONDS = 6.0


class TestAnswers:
    def test_a_turn_is_produced_fast_and_completed_when_it_has_been_played(self) -> None:
        caller = Caller()
        assert caller.send(clientContent=typed("hello")) == ["modelTurn"]
        assert caller.until(GREETING_SECONDS / 4 - 0.2) == ["modelTurn"]
        assert caller.until(GREETING_SECONDS / 4) == ["modelTurn", "generationComplete"]
        assert caller.until(GREETING_SECONDS - 0.1) == []
        assert caller.until(GREETING_SECONDS) == ["turnComplete"]
        usage = caller.messages[0]["usageMetadata"]
        assert usage["responseTokenCount"] == 25 * GREETING_SECONDS
        assert caller.messages[0]["serverContent"] == {"turnComplete": True, "interactionStatus": "IDLE"}

    def test_a_handle_follows_the_turn_when_wanted(self) -> None:
        caller = Caller(sessionResumption={})
        caller.send(clientContent=typed("hello"))
        assert caller.until(GREETING_SECONDS)[-2:] == ["turnComplete", "sessionResumptionUpdate"]
        assert caller.snapshots[0].history == (("user", "hello"), ("model", "hello how can i help you"))

    def test_output_is_transcribed_with_the_frames_that_speak_it(self) -> None:
        caller = Caller(outputAudioTranscription={})
        caller.send(clientContent=typed("hello"))
        first = caller.messages[0]["serverContent"]
        assert first["outputTranscription"] == {"text": "hello "} and "modelTurn" in first
        caller.until(9)
        texts = [m["serverContent"].get("outputTranscription", {}).get("text", "") for m in caller.messages]
        assert "".join(texts) == "how can i help you "

    def test_an_empty_answer_still_completes_its_turn(self) -> None:
        caller = Caller()
        assert caller.send(clientContent=typed("stop")) == ["turnComplete"]
        assert caller.mind.deadline is None

    def test_what_nobody_understands_is_answered(self) -> None:
        caller = Caller()
        caller.send(clientContent=typed("colourless green ideas"))
        caller.until(10)
        assert caller.said()[-1]["text"] == "sorry i did not understand that"

    def test_a_turn_that_is_not_complete_waits_and_a_bare_completion_answers_it(self) -> None:
        caller = Caller()
        assert caller.send(clientContent=typed("hello", turnComplete=False)) == []
        assert caller.send(clientContent={"turnComplete": True}) == ["modelTurn"]
        caller.until(10)
        assert caller.said()[-1]["text"] == "hello how can i help you"

    def test_a_bare_completion_with_nothing_before_it_does_not_hang(self) -> None:
        caller = Caller()
        assert caller.send(clientContent={"turnComplete": True}) == ["modelTurn"]

    def test_seeded_history_is_not_answered_until_a_nudge_asks_for_it_once(self) -> None:
        caller = Caller(historyConfig={"initialHistoryInClientContent": True})
        assert caller.send(clientContent=typed("hello")) == []
        assert caller.send(realtimeInput={"text": "."}) == ["modelTurn"]
        assert caller.until(20)[-1] == "turnComplete"
        assert caller.mind.deadline is None
        assert [said["text"] for said in caller.said()] == ["hello how can i help you"]

    def test_pictures_are_counted_but_a_typed_turn_does_not_see_the_stream(self) -> None:
        caller = Caller()
        for _ in range(3):
            caller.send(realtimeInput={"video": {"data": "AAAA", "mimeType": "image/jpeg"}})
        caller.send(clientContent=typed("what do you see"))
        caller.until(20)
        caller.send(realtimeInput={"text": "what do you see"})
        caller.until(40)
        usage = caller.messages[-1]["usageMetadata"]
        assert [said["text"] for said in caller.said()] == ["i see zero pictures", "i see three pictures"]
        assert {"modality": "VIDEO", "tokenCount": 3 * 258} in usage["promptTokensDetails"]


class TestSpeech:
    def test_a_question_is_heard_transcribed_and_answered(self) -> None:
        caller = Caller()
        assert caller.speak() == []
        assert len(caller.listening) == 1
        assert caller.understood("hello") == ["inputTranscription", "modelTurn"]

    def test_speech_that_is_not_understood_is_answered_too(self) -> None:
        caller = Caller()
        caller.speak()
        assert caller.understood(None) == ["inputTranscription", "modelTurn"]
        assert caller.messages[0]["serverContent"]["inputTranscription"]["text"] == "unknown"

    def test_2_5_transcribes_word_by_word_and_only_when_asked(self) -> None:
        model = "gemini-2.5-flash-native-audio-preview-12-2025"
        silent, asked = Caller(model), Caller(model, inputAudioTranscription={})
        silent.speak()
        asked.speak()
        assert silent.understood("good morning") == ["modelTurn"]
        assert asked.understood("good morning") == ["inputTranscription", "inputTranscription", "modelTurn"]

    def test_barge_in_announces_interrupts_and_completes_without_generation_complete(self) -> None:
        caller = Caller(sessionResumption={})
        caller.send(clientContent=typed("hello"))
        caller.until(0.5)
        expected = ["voiceActivity", "interrupted", "turnComplete", "sessionResumptionUpdate"]
        assert caller.begin_to_speak() == expected
        activity = caller.messages[0]["voiceActivity"]
        assert activity["type"] == "ACTIVITY_START" and 0 < float(activity["audioOffset"].removesuffix("s")) < 0.5
        assert caller.until(20) == []
        # Two and a half seconds had been sent: the words that began in them were said, the others never.
        assert caller.said() == [
            {"text": "hello how can", "interrupted": True, "audio_seconds_sent": 2.5, "audio_seconds": 6.0}
        ]
        assert caller.snapshots[-1].history[-1] == ("model", "hello how can")

    def test_barge_in_while_the_answer_is_played_interrupts_too(self) -> None:
        caller = Caller()
        caller.send(clientContent=typed("hello"))
        caller.until(GREETING_SECONDS - 1)
        assert caller.begin_to_speak() == ["voiceActivity", "interrupted", "turnComplete"]

    def test_2_5_does_not_announce_barge_in(self) -> None:
        caller = Caller("gemini-2.5-flash-native-audio-preview-12-2025")
        caller.send(clientContent=typed("hello"))
        assert caller.begin_to_speak() == ["interrupted", "turnComplete"]

    def test_no_interruption_finishes_first_and_answers_then(self) -> None:
        caller = Caller(realtimeInputConfig={"activity_handling": "NO_INTERRUPTION"})
        caller.send(clientContent=typed("hello"))
        assert caller.speak() == []
        assert caller.understood("hello") == ["inputTranscription"]
        assert caller.until(GREETING_SECONDS) == ["modelTurn", "generationComplete", "turnComplete", "modelTurn"]

    def test_who_speaks_on_before_the_answer_begins_interrupts_it(self) -> None:
        caller = Caller()
        caller.speak()
        caller.begin_to_speak()
        expected = ["inputTranscription", "voiceActivity", "interrupted", "turnComplete"]
        assert caller.understood("hello") == expected
        assert caller.said() == []

    def test_audio_stream_end_ends_the_utterance_at_once(self) -> None:
        caller = Caller()
        caller.begin_to_speak()
        assert caller.listening == []
        caller.send(realtimeInput={"audioStreamEnd": True})
        assert len(caller.listening) == 1

    def test_manual_activity_hears_what_is_between_the_markers(self) -> None:
        caller = Caller(realtimeInputConfig={"automatic_activity_detection": {"disabled": True}})
        caller.speak()
        caller.send(realtimeInput={"activityStart": {}})
        caller._hear(bytes(6400))
        assert caller.listening == []
        caller.send(realtimeInput={"activityEnd": {}})
        assert [len(one.pcm) for one in caller.listening] == [6400]

    def test_markers_are_refused_where_detection_is_automatic_and_an_end_needs_a_start(self) -> None:
        with pytest.raises(Refusal, match="1007 Explicit activity control"):
            Caller().send(realtimeInput={"activityStart": {}})
        caller = Caller(realtimeInputConfig={"automatic_activity_detection": {"disabled": True}})
        with pytest.raises(Refusal, match="1007 No turn to complete"):
            caller.send(realtimeInput={"activityEnd": {}})


class TestTypedTurns:
    def test_text_interrupts_without_voice_activity_and_is_answered(self) -> None:
        for message in ({"clientContent": typed("hello")}, {"realtimeInput": {"text": "hello"}}):
            caller = Caller()
            caller.send(clientContent=typed("hello"))
            assert caller.send(**message) == ["interrupted", "turnComplete", "modelTurn"]

    def test_2_5_finishes_first(self) -> None:
        caller = Caller("gemini-2.5-flash-native-audio-preview-12-2025")
        caller.send(clientContent=typed("hello"))
        assert caller.send(clientContent=typed("hello")) == []
        assert caller.until(GREETING_SECONDS)[-2:] == ["turnComplete", "modelTurn"]

    def test_bad_roles_close(self) -> None:
        for turn in ({"parts": [{"text": "x"}]}, {"role": "system", "parts": [{"text": "x"}]}):
            with pytest.raises(Refusal, match="1007"):
                Caller().send(clientContent={"turns": [turn]})

    def test_a_second_setup_closes(self) -> None:
        with pytest.raises(Refusal, match="1007"):
            Caller().send(setup={"model": "models/gemini-3.8-live"})


def tools(**fields: Any) -> list[dict[str, Any]]:
    return [{"functionDeclarations": [{**WEATHER, **fields}]}]


RESULT = {"city": "paris", "condition": "sunny", "temperature_celsius": 21}
ASKED = typed("what is the weather in paris")


class TestCalls:
    def test_unset_behaviour_on_3_8_does_not_block(self) -> None:
        caller = Caller(tools=tools(), sessionResumption={})
        # No handle while the call runs.
        assert caller.send(clientContent=ASKED) == ["toolCall", "turnComplete"]
        assert caller.messages[0]["toolCall"]["functionCalls"][0]["args"] == {"city": "paris"}
        assert "interactionStatus" not in caller.messages[1]["serverContent"]
        assert caller.respond({"output": RESULT}) == ["modelTurn"]
        assert caller.until(30)[-2:] == ["turnComplete", "sessionResumptionUpdate"]
        assert caller.said()[-1]["text"] == "it is sunny in paris and twenty one degrees"

    def test_blocking_completes_the_turn_after_the_answer_only(self) -> None:
        caller = Caller(tools=tools(behavior="BLOCKING"))
        assert caller.send(clientContent=ASKED) == ["toolCall"]
        assert caller.until(5) == []
        assert caller.respond(RESULT) == ["modelTurn"]
        assert caller.until(30)[-2:] == ["generationComplete", "turnComplete"]

    def test_3_1_always_blocks_and_2_5_completes_twice(self) -> None:
        assert Caller("gemini-3.1-flash-live-preview", tools=tools()).send(clientContent=ASKED) == ["toolCall"]
        caller = Caller("gemini-2.5-flash-native-audio-preview-12-2025", tools=tools())
        assert caller.send(clientContent=ASKED) == ["toolCall", "turnComplete"]
        assert caller.respond(RESULT) == ["modelTurn"]
        assert caller.until(30)[-1] == "turnComplete"

    def test_extended_thinking_says_that_it_is_in_progress_before_it_calls(self) -> None:
        caller = Caller(
            "gemini-3.8-live-extended-thinking",
            tools=tools(behavior="NON_BLOCKING"),
            generationConfig={"thinkingConfig": {"thinking_level": "LOW"}},
        )
        assert caller.send(clientContent=ASKED) == ["turnComplete", "toolCall"]
        assert caller.messages[0]["serverContent"]["interactionStatus"] == "IN_PROGRESS"
        caller.respond(RESULT)
        caller.until(30)
        assert caller.messages[-1]["serverContent"]["interactionStatus"] == "IDLE"

    @pytest.mark.parametrize("wrapper", ["output", "result", None])
    def test_results_are_read_wrapped_or_not(self, wrapper: str | None) -> None:
        caller = Caller(tools=tools())
        caller.send(clientContent=ASKED)
        caller.respond({wrapper: RESULT} if wrapper else RESULT)
        caller.until(30)
        assert caller.said()[-1]["text"] == "it is sunny in paris and twenty one degrees"

    @pytest.mark.parametrize("response", [{"error": "no"}, {"output": {"error": "no"}}])
    def test_an_error_is_said_to_be_one(self, response: dict[str, Any]) -> None:
        caller = Caller(tools=tools())
        caller.send(clientContent=ASKED)
        caller.respond(response)
        caller.until(30)
        assert caller.said()[-1]["text"] == "sorry i could not find that"

    def test_a_tool_that_is_not_declared_is_apologised_for(self) -> None:
        caller = Caller()
        caller.send(clientContent=ASKED)
        caller.until(30)
        assert caller.said()[-1]["text"] == "sorry i can not do that"

    def test_barge_in_cancels_a_blocking_call_and_its_late_response_is_ignored(self) -> None:
        caller = Caller(tools=tools(behavior="BLOCKING"))
        caller.send(clientContent=ASKED)
        expected = ["voiceActivity", "interrupted", "toolCallCancellation", "turnComplete"]
        assert caller.begin_to_speak() == expected
        assert caller.respond(RESULT) == []
        assert caller.mind.deadline is None

    def test_a_response_while_the_caller_speaks_waits_until_it_is_quiet(self) -> None:
        caller = Caller(tools=tools())
        caller.send(clientContent=ASKED)
        caller.begin_to_speak()
        assert caller.respond(RESULT) == []
        caller.send(realtimeInput={"audioStreamEnd": True})
        assert caller.understood("hello") == ["inputTranscription", "modelTurn"]
        caller.until(60)
        assert [said["text"].split()[0] for said in caller.said()] == ["it", "hello"]

    def test_scheduling(self) -> None:
        outcomes = {}
        for scheduling in ("SILENT", "WHEN_IDLE", "INTERRUPT", "INTERRUPTED"):
            caller = Caller(tools=tools())
            caller.send(clientContent=ASKED)
            caller.send(clientContent=typed("hello"))
            outcomes[scheduling] = caller.respond(RESULT, scheduling=scheduling)
            caller.until(60)
            outcomes[scheduling] += [str(len(caller.said()))]
        interrupted = ["interrupted", "turnComplete", "modelTurn", "2"]
        assert outcomes == {
            "SILENT": ["1"],
            "WHEN_IDLE": ["2"],
            "INTERRUPT": interrupted,
            "INTERRUPTED": interrupted,
        }

    def test_arguments_satisfy_the_declaration(self) -> None:
        parameters = {
            "properties": {
                "city": {"type": "STRING", "enum": ["Paris", "London"]},
                "days": {"type": "INTEGER"},
                "unit": {"type": "STRING", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "days", "unit"],
        }
        caller = Caller(tools=tools(parameters=parameters))
        caller.send(clientContent=ASKED)
        args = caller.messages[0]["toolCall"]["functionCalls"][0]["args"]
        assert args == {"city": "Paris", "days": 0, "unit": "celsius"}

    def test_a_context_update_changes_the_tools_of_what_comes_after_it(self) -> None:
        caller = Caller()
        caller.send(contextUpdate={"tools": {"tools": tools()}})
        assert caller.send(clientContent=ASKED) == ["toolCall", "turnComplete"]
        caller.send(contextUpdate={"systemInstruction": {"parts": [{"text": "Be brief."}]}})
        assert caller.send(clientContent=ASKED) == ["toolCall", "turnComplete"]
        caller.send(contextUpdate={"tools": {"tools": []}})
        assert caller.send(clientContent=ASKED) == ["modelTurn"]


def test_a_snapshot_restores_history_and_pictures() -> None:
    caller = Caller(snapshot=Snapshot((("user", "a"), ("model", "b")), pictures=4), sessionResumption={})
    caller.send(realtimeInput={"text": "what do you see"})
    caller.until(30)
    assert caller.said()[-1]["text"] == "i see four pictures"
    assert [role for role, _ in caller.snapshots[-1].history] == ["user", "model", "user", "model"]
